# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle on the disk: `bundle.json`, and files with checksums beside it; needs no torch.

`model.safetensors` holds the weights; an export adds the files of other backends. To run one of
these, only `bundle.json` and its files are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, SerializeAsAny, model_validator

from pointdistiller_core import __version__
from pointdistiller_core.config import Config, DetectorConfig, Length, move_keys, parse_config
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.files import replace_files, shipped_files, write_text

FORMAT_VERSION = 2
INFO_FILE = 'bundle.json'
DIGEST = 'info_sha256'  # key of `bundle.json`: checksum of the rest
MAX_INFO_SIZE = 2**24  # bytes of `bundle.json`
WEIGHTS_FILE = 'model.safetensors'
COPY_AGAIN = 'copy the bundle again from where it came'  # the remedy of damage
# Shipped; what runs if none is given, and the teacher that it is compared with.
DEFAULT_BUNDLE, DEFAULT_TEACHER = 'lidar_4x', 'lidar_teacher'


class BundleInfo(Config):
    """The content of `bundle.json`: how the detector is built, what it expects, its origin."""

    format_version: int = FORMAT_VERSION
    package_version: str = __version__
    model: SerializeAsAny[DetectorConfig] = Field(
        description='architecture, classes, columns of a cloud, grid, anchors and thresholds'
    )
    intensity_range: tuple[float, float] = Field(
        (0.0, 1.0),
        description='of the training clouds; input must have their scale',
    )
    intensity_assumed: bool = Field(
        True, description='whether nobody has measured or said what intensity_range is'
    )
    sensor_height: Length = Field(1.73, description='of the training sensor, above ground [m]')
    training: dict[str, JsonValue] = Field(default_factory=dict, description='how it was trained')
    sha256: dict[str, str] = Field(default_factory=dict, description='of each file beside this')

    @model_validator(mode='after')
    def _check_intensity(self) -> BundleInfo:
        low, high = self.intensity_range
        if low > high:
            raise ValueError(f'intensity_range {low:g} to {high:g}: the least comes first')
        return self

    @property
    def level_at(self) -> float | None:
        """Height above the ground [m] to which clouds are levelled first; None if they are not."""
        return self.sensor_height if self.model.levelled else None

    @property
    def intensity_text(self) -> str:
        """The range of the intensity as text."""
        low, high = self.intensity_range
        return f'{low:.4g} to {high:.4g}' + (' (assumed)' if self.intensity_assumed else '')


def nest_model(values: Any) -> Any:
    """From format 1 to 2: the stages of a model nest, and it names a cloud's columns."""
    moved = {'point_features': 'model.point_features'}
    return {**move_keys(move_keys(values), moved), 'format_version': 2}


UPGRADES: Mapping[int, Callable[[Any], Any]] = {1: nest_model}
"""From what `bundle.json` says in a format to what it would say in the next."""


def shipped_bundles() -> dict[str, Path]:
    """The bundles that come with the package, by name."""
    return {file.parent.name: file.parent for file in shipped_files(f'weights/*/{INFO_FILE}')}


def named_folder(path: Path | str) -> Path:
    """The folder at a path or, if nothing is there, of the shipped bundle of that name."""
    path = Path(path)
    return path if path.exists() else shipped_bundles().get(str(path), path)


def find_bundle(path: Path | str) -> Path:
    """The bundle at a path: the path itself, or a run's final bundle or newest checkpoint.

    Args:
        path: folder; or the name of a shipped bundle, unless there is a folder of that name.

    Raises:
        CheckpointError: there is none.
    """
    path = named_folder(path)
    checkpoints = sorted(path.glob('checkpoints/epoch_*'), reverse=True)
    for folder in (path, path / 'bundle', *checkpoints):
        if (folder / INFO_FILE).is_file():
            return folder
    if not path.is_dir():
        raise CheckpointError(
            f'{path}: no such folder, and no bundle of that name is shipped; give a bundle, the '
            f'folder of a run, or one of {sorted(shipped_bundles())}'
        )
    raise CheckpointError(f'{path}: neither a bundle ({INFO_FILE}) nor a run with a checkpoint')


def read_info(folder: Path) -> BundleInfo:
    """The description of a bundle, without reading its weights.

    Raises:
        CheckpointError: missing, malformed, altered or from a newer version.
    """
    file = folder / INFO_FILE
    try:
        if (size := file.stat().st_size) > MAX_INFO_SIZE:
            raise CheckpointError(f'{file}: {size} bytes are too many for the facts of a bundle')
        content = file.read_bytes()
        values = json.loads(content, object_pairs_hook=_no_key_twice)
    except OSError as error:
        raise CheckpointError(f'{file}: cannot be read: {error.strerror}') from error
    except RecursionError as error:
        raise CheckpointError(f'{file}: altered: nested too deeply') from error
    except ValueError as error:
        raise CheckpointError(
            f'{file}: not valid JSON, truncated or altered: {error}; {COPY_AGAIN}'
        ) from error
    version = values.get('format_version') if isinstance(values, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointError(f'{file}: not a bundle: it has no format_version')
    if version > FORMAT_VERSION:  # first, because a newer format has other keys
        raise CheckpointError(
            f'{file}: bundle format {version}, but this version of pointdistiller reads up to '
            f'format {FORMAT_VERSION}; update pointdistiller'
        )
    digest = values.pop(DIGEST, None)  # bundles of earlier versions have none
    if digest is not None and digest != _info_digest(content):
        raise CheckpointError(
            f'{file}: altered: its {DIGEST} is {digest}, which does not fit the rest of it. '
            'Only model.detection may be edited by hand, for exported files know the rest; '
            + COPY_AGAIN
        )
    for older in range(version, FORMAT_VERSION):
        values = UPGRADES[older](values)
    try:
        return parse_config(BundleInfo, values, where=str(file))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def read_verified(folder: Path, name: str, info: BundleInfo) -> bytes:
    """The content of a bundle's file.

    Raises:
        CheckpointError: it is missing or was altered.
    """
    file = folder / name
    try:
        if file.exists() and not file.is_file():  # a pipe would block, a device never ends
            raise CheckpointError(f'{file}: not a file')
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f'{file}: is missing; {COPY_AGAIN}') from error
    except OSError as error:
        raise CheckpointError(f'{file}: cannot be read: {error.strerror}') from error
    if hashlib.sha256(content).hexdigest() != info.sha256.get(name):
        raise CheckpointError(
            f'{file}: truncated or altered: its checksum is not the one in {INFO_FILE}; '
            + COPY_AGAIN
        )
    return content


def add_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Add files to a bundle, or replace them, with their checksums.

    They are on the disk before the bundle names them. While files are replaced, the bundle does
    not name them. So whatever happens, all files that it names are intact.

    Raises:
        WriteError: the file system refuses; all files that the bundle names are intact.
    """
    info = read_info(folder)
    others = {name: digest for name, digest in info.sha256.items() if name not in files}
    with replace_files(folder, files):
        if others != info.sha256:
            write_info(folder, info.model_copy(update={'sha256': others}))
    write_info(folder, info.model_copy(update={'sha256': others | digests(files)}))


def write_info(folder: Path, info: BundleInfo) -> None:
    """Write or replace `bundle.json`, completely or not at all."""
    write_text(folder / INFO_FILE, format_info(info))


def format_info(info: BundleInfo) -> str:
    """The content of `bundle.json`, its own checksum included."""
    values = info.model_dump(mode='json')
    values[DIGEST] = _info_digest(json.dumps(values))
    return json.dumps(values, indent=2) + '\n'


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Checksum of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _no_key_twice(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f'keys twice: {sorted({name for name in names if names.count(name) > 1})}'
        )
    return values


def _info_digest(content: bytes | str) -> str:
    """Checksum of `bundle.json` without itself and `model.detection`.

    Layout, order of keys and `1` for `1.0` do not matter, because editors change them.
    """
    values = json.loads(content, parse_int=float)
    values.pop(DIGEST, None)
    if isinstance(model := values.get('model'), dict):
        model.pop('detection', None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
