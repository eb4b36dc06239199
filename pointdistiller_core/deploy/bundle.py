# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The bundle: a folder with a trained detector and everything needed to use it.

`bundle.json` describes it (`BundleInfo`), `model.safetensors` holds its weights. Weights are data;
nothing is unpickled. The parts that need no torch are in `bundle_format`.
"""

from __future__ import annotations

from collections.abc import Mapping
import math
from pathlib import Path

from safetensors import SafetensorError
import safetensors.torch
import torch
from torch import Tensor, nn

from pointdistiller_core.config import DetectorConfig
from pointdistiller_core.deploy.bundle_format import (
    FORMAT_VERSION,
    INFO_FILE,
    WEIGHTS_FILE,
    BundleInfo,
    digests,
    find_bundle,
    read_info,
    read_verified,
    write_info,
)
from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.files import new_folder
from pointdistiller_core.models import AnyDetector, build_detector, sketch_detector

__all__ = [
    'FORMAT_VERSION',
    'INFO_FILE',
    'WEIGHTS_FILE',
    'BundleInfo',
    'build_with_weights',
    'check_numbers',
    'find_bundle',
    'load_bundle',
    'load_detector_model',
    'load_weights',
    'pack_weights',
    'read_info',
    'read_verified',
    'save_bundle',
    'save_imported_bundle',
    'write_bundle',
]

UNKNOWN_TYPE = (LookupError, TypeError, ValueError, RuntimeError)  # of numbers, to safetensors
SPARE_WEIGHTS = 2**24  # more than a file has: its names are then compared anyway
SHOWN_NAMES = 10  # of each kind, in a report of weights that do not fit


def save_bundle(folder: Path, model: nn.Module, info: BundleInfo, *, half: bool = False) -> None:
    """Save a detector as a new bundle, completely or not at all.

    Args:
        folder: must not exist yet.
        model: its weights are stored, from any device.
        info: `info.model` must be the configuration that `model` was built from.
        half: store float16 weights, half the size; they are still used as float32.

    Raises:
        CheckpointError: a weight is not finite.
        WriteError: the folder exists, or the file system refuses; nothing is left behind.
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
    """Write the files of a bundle, and other files with it, into an existing folder.

    Raises:
        CheckpointError: a weight is not finite.
    """
    check_numbers(model.state_dict(), where='not saved')
    files = {WEIGHTS_FILE: pack_weights(model.state_dict(), half=half), **(others or {})}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_info(folder, info.model_copy(update={'sha256': digests(files)}))


def load_bundle(path: Path | str) -> tuple[BundleInfo, dict[str, Tensor]]:
    """Read a bundle, or the bundle of a run folder, after checking that it is intact.

    Returns:
        Its description, and its weights (float32, on the CPU).

    Raises:
        CheckpointError: a file is missing, truncated or altered, or from a newer version, or a
            weight is not finite.
    """
    folder = find_bundle(path)
    info = read_info(folder)
    content = read_verified(folder, WEIGHTS_FILE, info)
    try:
        state = safetensors.torch.load(content)
    except (SafetensorError, *UNKNOWN_TYPE) as error:
        raise CheckpointError(f'{folder / WEIGHTS_FILE}: not safetensors: {error}') from error
    weights = {name: _to_single(tensor) for name, tensor in state.items()}
    check_numbers(weights, where=str(folder / WEIGHTS_FILE))
    return info, weights


def check_numbers(state: Mapping[str, Tensor], *, where: str) -> None:
    """Check that weights are finite, and variances not negative.

    Raises:
        CheckpointError: some are NaN or infinite; lists the names.
    """
    names = sorted(
        name
        for name, tensor in state.items()
        if not tensor.isfinite().all() or (name.endswith('running_var') and (tensor < 0).any())
    )
    if names:
        raise CheckpointError(
            f'{where}: weights that are NaN or infinite, or negative variances, of a training '
            'that went astray; use an earlier checkpoint or a lower learning rate:\n'
            + _listed('no numbers', names)
        )


def load_detector_model(path: Path | str, device: torch.device | str = 'cpu') -> AnyDetector:
    """The detector of a bundle or run folder, with its weights, in evaluation mode.

    Raises:
        CheckpointError: the bundle is damaged, or its weights do not fit its own configuration.
        ConfigError: no such device on this machine.
    """
    device = find_device(device)
    info, state = load_bundle(path)
    return build_with_weights(info.model, state, where=str(path)).to(device).eval()


def build_with_weights(
    config: DetectorConfig, state: Mapping[str, Tensor], *, where: str
) -> AnyDetector:
    """A detector with these weights; memory is not taken before it is clear that they fit.

    Raises:
        CheckpointError: see `load_weights`.
    """
    found, expected = (
        sum(tensor.numel() for tensor in weights.values())
        for weights in (state, sketch_detector(config).state_dict())
    )
    if expected > found + SPARE_WEIGHTS:
        raise CheckpointError(
            f'{where}: weights of another architecture: {found} numbers for a network of '
            f'{expected}'
        )
    model = build_detector(config)
    load_weights(model, state, where=where)
    return model


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Fill a model with weights; all of them and no others must be there.

    Args:
        model: gets the weights.
        state: name to tensor.
        where: what the error message starts with.

    Raises:
        CheckpointError: lists the missing, unexpected and differently shaped names, and those of
            another kind of numbers.
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
        'of another type': sorted(
            f'{name} {state[name].dtype}, not {tensor.dtype}'
            for name, tensor in expected.items()
            if name in state and not _fits(state[name], tensor)
        ),
    }
    if lines := [_listed(kind, names) for kind, names in problems.items() if names]:
        report = '\n'.join(lines)
        raise CheckpointError(f'{where}: weights of another architecture:\n{report}')
    model.load_state_dict(dict(state))


def _fits(tensor: Tensor, expected: Tensor) -> bool:
    """Whether it holds real numbers; a counter may be an integer or real."""
    if expected.is_floating_point():
        return tensor.is_floating_point()
    return not tensor.is_complex() and tensor.dtype != torch.bool


def save_imported_bundle(
    folder: Path,
    config: DetectorConfig,
    state: Mapping[str, Tensor],
    *,
    source: Path,
    intensity_range: tuple[float, float] | None = None,
) -> None:
    """Save another project's weights as a new bundle.

    Args:
        folder: must not exist yet.
        config: the architecture that the weights belong to.
        state: name to tensor, in our names.
        source: the file that the weights come from; its name is kept.
        intensity_range: least and largest intensity of the clouds that they were trained on; None
            assumes 0 to 1.

    Raises:
        CheckpointError: the weights do not fit the configuration, or saving fails.
        ConfigError: the range of the intensity is not valid.
    """
    low, high = intensity_range or (0.0, 1.0)
    if not (-math.inf < low < high < math.inf):
        raise ConfigError(f'intensity range {low:g} to {high:g}: give the least one first')
    model = build_with_weights(config, state, where=str(source))
    info = BundleInfo(
        model=config,
        training={'imported_from': source.name},
        intensity_range=(low, high),
        intensity_assumed=intensity_range is None,
    )
    save_bundle(folder, model, info)


def pack_weights(state: Mapping[str, Tensor], *, half: bool) -> bytes:
    """Weights as safetensors; with `half` as float16 if that can hold every value."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if half:
        tensors = {name: _to_half(tensor) for name, tensor in tensors.items()}
    return safetensors.torch.save(tensors)


def _to_half(tensor: Tensor) -> Tensor:
    """Float16 if it can hold every value; running variances may exceed its limit of 65504."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if half.isfinite().all() else tensor


def _to_single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _listed(kind: str, names: list[str]) -> str:
    more = f', and {len(names) - SHOWN_NAMES} more' if len(names) > SHOWN_NAMES else ''
    return f'  {kind} ({len(names)}): {", ".join(names[:SHOWN_NAMES])}{more}'
