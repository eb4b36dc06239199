# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The bundle: a folder that holds a trained detector and all that is needed to use it rightly.

`bundle.json` describes it (`BundleInfo`), `model.safetensors` holds its weights. Weights are data:
nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
from pathlib import Path

from pydantic import Field, JsonValue
from safetensors import SafetensorError
import safetensors.torch
import torch
from torch import Tensor, nn

from pointdistiller_core import __version__
from pointdistiller_core.config import Config, ModelConfig, Positive, parse_config
from pointdistiller_core.deploy.atomic import new_folder
from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import PointPillars, build_detector

FORMAT_VERSION = 1
INFO_FILE = 'bundle.json'
WEIGHTS_FILE = 'model.safetensors'
SHOWN_NAMES = 10  # of each kind, in a report of weights that do not fit


class BundleInfo(Config):
    """What `bundle.json` says: how the detector is built, what it expects, where it comes from."""

    format_version: int = FORMAT_VERSION
    package_version: str = __version__
    model: ModelConfig = Field(description='architecture, classes, grid, anchors and thresholds')
    point_features: tuple[str, ...] = ('x', 'y', 'z', 'intensity')
    intensity_range: tuple[float, float] = Field(
        (0.0, 1.0), description='of the training clouds; input must be scaled to it'
    )
    sensor_height: Positive = Field(1.73, description='of the training sensor, above ground [m]')
    training: dict[str, JsonValue] = Field(default_factory=dict, description='how it was trained')
    sha256: dict[str, str] = Field(default_factory=dict, description='of each file beside this')


def save_bundle(folder: Path, model: nn.Module, info: BundleInfo, *, half: bool = False) -> None:
    """Save a detector as a new bundle, in one step.

    Args:
        folder: must not exist yet.
        model: its weights are stored, from any device.
        info: `info.model` must be the configuration that `model` was built from.
        half: store float16 weights, half the size; they are used as float32 all the same.

    Raises:
        CheckpointError: the folder exists, or the file system refuses; nothing is left behind.
    """
    with new_folder(folder) as aside:
        write_bundle(aside, model, info, half=half)


def write_bundle(
    folder: Path,
    model: nn.Module,
    info: BundleInfo,
    *,
    half: bool = False,
    others: Mapping[str, bytes] | None = None,
) -> None:
    """Write the files of a bundle, and other files with it, into an existing folder."""
    files = {WEIGHTS_FILE: _pack(model.state_dict(), half=half), **(others or {})}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    info = info.model_copy(update={'sha256': digests})
    text = json.dumps(info.model_dump(mode='json'), indent=2)
    (folder / INFO_FILE).write_text(text + '\n', encoding='utf-8')


def load_bundle(path: Path | str) -> tuple[BundleInfo, dict[str, Tensor]]:
    """Read a bundle, or the bundle of a run folder, after checking that it is intact.

    Returns:
        What it says about itself, and its weights (float32, on the CPU).

    Raises:
        CheckpointError: a file is missing, truncated or altered, or from a newer version.
    """
    folder = find_bundle(path)
    info = read_info(folder)
    content = read_verified(folder, WEIGHTS_FILE, info)
    try:
        state = safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(f'{folder / WEIGHTS_FILE}: not safetensors: {error}') from error
    return info, {name: _to_single(tensor) for name, tensor in state.items()}


def load_detector_model(path: Path | str, device: torch.device | str = 'cpu') -> PointPillars:
    """The detector of a bundle or run folder, with its weights, in evaluation mode.

    Raises:
        CheckpointError: the bundle is damaged, or its weights do not fit its own configuration.
        ConfigError: no such device on this machine.
    """
    device = find_device(device)
    info, state = load_bundle(path)
    model = build_detector(info.model)
    load_weights(model, state, where=str(path))
    return model.to(device).eval()


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Fill a model with weights, every one and no other.

    Args:
        model: gets the weights.
        state: name to tensor.
        where: what the error message starts with.

    Raises:
        CheckpointError: lists the missing, unexpected and differently shaped names.
    """
    expected = model.state_dict()
    shapes = {
        name: f'{name} {tuple(state[name].shape)}, not {tuple(tensor.shape)}'
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    }
    problems = {
        'missing': sorted(expected.keys() - state.keys()),
        'unexpected': sorted(state.keys() - expected.keys()),
        'of another shape': sorted(shapes.values()),
    }
    if lines := [_listed(kind, names) for kind, names in problems.items() if names]:
        report = '\n'.join(lines)
        raise CheckpointError(f'{where}: weights of another architecture:\n{report}')
    model.load_state_dict(dict(state))


def save_imported_bundle(
    folder: Path, config: ModelConfig, state: Mapping[str, Tensor], *, source: Path
) -> None:
    """Save another project's weights as a new bundle.

    Args:
        folder: must not exist yet.
        config: the architecture that the weights belong to.
        state: name to tensor, in our names.
        source: the file that they come from; its name is kept.

    Raises:
        CheckpointError: the weights do not fit the configuration, or saving fails.
    """
    model = build_detector(config)
    load_weights(model, state, where=str(source))
    save_bundle(folder, model, BundleInfo(model=config, training={'imported_from': source.name}))


def find_bundle(path: Path | str) -> Path:
    """The bundle at a path: itself, or a run's final bundle, or else its newest checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    checkpoints = sorted(path.glob('checkpoints/epoch_*'), reverse=True)
    for folder in (path, path / 'bundle', *checkpoints):
        if (folder / INFO_FILE).is_file():
            return folder
    if not path.is_dir():
        raise CheckpointError(f'{path}: no such folder; give a bundle or the folder of a run')
    raise CheckpointError(f'{path}: neither a bundle ({INFO_FILE}) nor a run with a checkpoint')


def read_info(folder: Path) -> BundleInfo:
    """What a bundle says about itself, without reading its weights.

    Raises:
        CheckpointError: missing, malformed or from a newer version.
    """
    file = folder / INFO_FILE
    try:
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(f'{file}: cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise CheckpointError(f'{file}: not valid JSON, truncated or altered: {error}') from error
    version = values.get('format_version') if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(f'{file}: not a bundle: it has no format_version')
    if version > FORMAT_VERSION:  # before anything else is judged: a newer format has other keys
        raise CheckpointError(
            f'{file}: bundle format {version}, but this version of pointdistiller reads up to '
            f'format {FORMAT_VERSION}; update pointdistiller'
        )
    try:
        return parse_config(BundleInfo, values, where=str(file))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def read_verified(folder: Path, name: str, info: BundleInfo) -> bytes:
    """The content of a bundle's file.

    Raises:
        CheckpointError: it is missing, or not what was saved.
    """
    file = folder / name
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f'{file}: cannot be read: {error.strerror}') from error
    if hashlib.sha256(content).hexdigest() != info.sha256.get(name):
        raise CheckpointError(
            f'{file}: truncated or altered: its checksum is not the one in {INFO_FILE}; '
            'copy the bundle again from where it came'
        )
    return content


def _pack(state: Mapping[str, Tensor], *, half: bool) -> bytes:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if half:
        tensors = {name: _to_half(tensor) for name, tensor in tensors.items()}
    return safetensors.torch.save(tensors)


def _to_half(tensor: Tensor) -> Tensor:
    """Float16 where it can hold every value: running variances may exceed its 65504."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if half.isfinite().all() else tensor


def _to_single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _listed(kind: str, names: list[str]) -> str:
    more = f', and {len(names) - SHOWN_NAMES} more' if len(names) > SHOWN_NAMES else ''
    return f'  {kind} ({len(names)}): {", ".join(names[:SHOWN_NAMES])}{more}'
