# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Runs as a few files of bounded size with checksums, to carry them to another machine.

`NAME.pack.json` lists the parts `NAME.part-000`, ...; joined, these are a tar archive. A pack
holds a run's configuration and records, and its bundle or, without one, its newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import io
import json
from pathlib import Path, PurePosixPath
import tarfile
from typing import Any, Literal

import torch
from torch import Tensor

from pointdistiller_core.deploy.bundle import INFO_FILE, WEIGHTS_FILE, load_bundle, pack_weights
from pointdistiller_core.deploy.bundle_format import (
    BundleInfo,
    digests,
    format_info,
    read_verified,
)
from pointdistiller_core.deploy.torch_files import load_torch_file
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.files import named_refusals, new_folder, write_text
from pointdistiller_core.training.checkpoint import TRAINING_FILE, list_checkpoints
from pointdistiller_core.training.run import (
    CONFIG_FILE,
    FEATURES_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    RUN_FILE,
)

PART_SIZE = 15 * 2**20  # [bytes]
MANIFEST_SUFFIX = '.pack.json'
RECORDS = (CONFIG_FILE, RUN_FILE, HISTORY_FILE, METRICS_FILE, FEATURES_FILE)

Optimizer = Literal['full', 'half', 'none']


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        manifest: the file that lists the parts.
        parts: the files.
        size: of all parts together [bytes].
        left_out: names of the run's files and folders that were not packed.
    """

    manifest: Path
    parts: tuple[Path, ...]
    size: int
    left_out: tuple[str, ...] = ()


def pack_run(
    run: Path,
    target: Path,
    *,
    optimizer: Optimizer = 'full',
    half: bool = False,
    part_size: int = PART_SIZE,
) -> Packed:
    """Pack a run into parts.

    Args:
        run: its folder.
        target: folder of the parts; may hold others.
        optimizer: keep its state, round it to bfloat16, or leave it out; a resumed run then begins
            with a fresh one.
        half: round weights to float16 where they fit.
        part_size: most bytes of a part.

    Raises:
        CheckpointError: no run, or a damaged one.
        WriteError: the file system refuses.
    """
    files, left_out = collect_run(run, optimizer=optimizer, half=half)
    packed = pack_files(files, target, run.name, part_size=part_size)
    return Packed(packed.manifest, packed.parts, packed.size, left_out)


def collect_run(
    run: Path, *, optimizer: Optimizer = 'full', half: bool = False
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The files of a run that are packed, by name, and the names of the rest."""
    files = {name: _read(run / name) for name in RECORDS if (run / name).is_file()}
    if not {CONFIG_FILE, RUN_FILE} <= files.keys():
        raise CheckpointError(f'{run}: no run: it has no {CONFIG_FILE} or no {RUN_FILE}')
    bundle = run / 'bundle'
    folders = [bundle] if bundle.exists() else list_checkpoints(run)[-1:]
    for folder in folders:
        place = folder.relative_to(run).as_posix()
        content = _pack_bundle(folder, optimizer=optimizer, half=half)
        files |= {f'{place}/{name}': data for name, data in content.items()}
    kept = {PurePosixPath(name).parts[0] for name in files}
    left_out = [file.name for file in run.iterdir() if file.name not in kept]
    left_out += [
        checkpoint.relative_to(run).as_posix()
        for checkpoint in list_checkpoints(run)
        if checkpoint not in folders and 'checkpoints' in kept
    ]
    return files, tuple(sorted(left_out))


def _pack_bundle(folder: Path, *, optimizer: Optimizer, half: bool) -> dict[str, bytes]:
    """The files of a bundle or a checkpoint, rounded as asked for."""
    info, weights = load_bundle(folder)
    files = {
        name: read_verified(folder, name, info) for name in info.sha256 if name != WEIGHTS_FILE
    }
    files[WEIGHTS_FILE] = (
        pack_weights(weights, half=True) if half else read_verified(folder, WEIGHTS_FILE, info)
    )
    if TRAINING_FILE in files:
        saved = load_torch_file(files[TRAINING_FILE], where=folder / TRAINING_FILE)
        files[TRAINING_FILE] = _pack_training(saved, optimizer=optimizer, half=half)
    packed = {'weights': 'float16' if half else 'as saved', 'optimizer': optimizer}
    training = info.training | ({'packed': packed} if half or optimizer != 'full' else {})
    changed: BundleInfo = info.model_copy(update={'sha256': digests(files), 'training': training})
    return {INFO_FILE: format_info(changed).encode(), **files}


def _pack_training(before: dict[str, Any], *, optimizer: Optimizer, half: bool) -> bytes:
    saved = dict(before)
    if optimizer == 'none':
        saved['optimizer'] = None
    elif optimizer == 'half':
        # bfloat16, because squares of gradients would vanish in float16. Adam's counters are kept.
        saved['optimizer'] = _rounded(saved['optimizer'], torch.bfloat16)
    if half:
        saved |= {
            name: _rounded(saved[name], torch.float16) for name in ('companions', 'detector')
        }
    packed = io.BytesIO()
    torch.save(saved, packed)
    return packed.getvalue()


def _rounded(value: Any, dtype: torch.dtype) -> Any:
    """Nested values with their float tensors in another type, if that can hold them."""
    if isinstance(value, dict):
        return {key: _rounded(child, dtype) for key, child in value.items()}
    if isinstance(value, list):
        return [_rounded(child, dtype) for child in value]
    if isinstance(value, Tensor) and value.is_floating_point() and value.dim():
        rounded = value.to(dtype)
        return rounded if rounded.isfinite().all() else value
    return value


def pack_files(
    files: Mapping[str, bytes], target: Path, name: str, *, part_size: int = PART_SIZE
) -> Packed:
    """Pack files into `NAME.part-000`, ... and `NAME.pack.json`, which is written last.

    Args:
        files: content by relative POSIX path.
        target: folder of the parts.
        name: of the pack.
        part_size: most bytes of a part.

    Raises:
        WriteError: the file system refuses.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    content = archive.getvalue()
    parts: list[Path] = []
    with named_refusals(target):
        target.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(content), part_size):
            parts.append(target / f'{name}.part-{len(parts):03d}')
            parts[-1].write_bytes(content[start : start + part_size])
    manifest = target / f'{name}{MANIFEST_SUFFIX}'
    values = {
        'parts': {part.name: _digest(part.read_bytes()) for part in parts},
        'sha256': _digest(content),
    }
    write_text(manifest, json.dumps(values, indent=2) + '\n')
    return Packed(manifest, tuple(parts), len(content))


def unpack_files(manifest: Path) -> dict[str, bytes]:
    """The files of a pack, after checking that all of it is intact.

    Raises:
        CheckpointError: a part is missing or altered, or a name leads out of the folder.
    """
    if manifest.is_dir():
        lists = sorted(file.name for file in manifest.glob(f'*{MANIFEST_SUFFIX}'))
        found = f': {", ".join(lists)}' if lists else ', which this one lacks'
        raise CheckpointError(f'{manifest}: is a folder; give a *{MANIFEST_SUFFIX} in it{found}')
    try:
        values = json.loads(_read(manifest))
        parts, total = dict(values['parts']), str(values['sha256'])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f'{manifest}: no list of parts; give a *{MANIFEST_SUFFIX}'
        ) from error
    content = b''.join(_read_part(manifest.parent / name, parts[name]) for name in sorted(parts))
    if _digest(content) != total:
        raise CheckpointError(f'{manifest}: its parts do not make the whole; carry them again')
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode='r:') as tar:
            for entry in tar:
                whole = entry.isfile() and not entry.issparse()  # a sparse file may claim any size
                stream = tar.extractfile(entry) if whole else None
                path = PurePosixPath(entry.name)
                if stream is None or path.is_absolute() or '..' in path.parts:
                    raise CheckpointError(f'{manifest}: refuses the entry {entry.name!r}')
                files[entry.name] = stream.read()
    except tarfile.TarError as error:
        raise CheckpointError(f'{manifest}: its parts are no archive: {error}') from error
    return files


def unpack_run(manifest: Path, run: Path) -> None:
    """Unpack a run into a new folder, which can then be resumed.

    Raises:
        CheckpointError: a part is missing or altered.
        WriteError: the folder exists already.
    """
    write_files(unpack_files(manifest), run)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a new folder, which appears only when it is complete.

    Raises:
        WriteError: the folder exists already, or the file system refuses.
    """
    with new_folder(folder) as aside:
        for name, data in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(data)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f'{file}: cannot be read: {error.strerror}') from error


def _read_part(file: Path, digest: str) -> bytes:
    content = _read(file)
    if _digest(content) != digest:
        raise CheckpointError(f'{file}: truncated or altered; carry it again')
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
