# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The part of a detector that another library runs, and its host's arrays; one per family."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, nn

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.deploy.backends.anchor_decoder import AnchorDecoder, anchor_names
from pointdistiller_core.deploy.export.bev_network import BevNetwork, build_network
from pointdistiller_core.deploy.hosts import HOSTS
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnchorDetector, AnyDetector, PointPillars, Second
from pointdistiller_core.models.stages.batch_norm import BatchNormRows

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]


class Split(NamedTuple):
    """A detector in two.

    Attributes:
        network: everything behind `encode`.
        arrays: what `Host` and `AnchorDecoder` need, by the names of their `shapes`.
        example: (1, H, W, C) input of the network.
    """

    network: BevNetwork
    arrays: dict[str, FloatArray]
    example: Tensor


def split_detector(detector: AnyDetector) -> Split:
    """A detector in two parts, which share no weight with it.

    Raises:
        ConfigError: there is no split for detectors of its family.
    """
    name = detector.config.name
    check_family(name)
    return SPLITS[name](detector)


def check_family(name: str) -> None:
    """Check that detectors of a family can be exported.

    Raises:
        ConfigError: they cannot.
    """
    if name not in SPLITS:
        raise ConfigError(
            f'{name} cannot be exported, only {" and ".join(sorted(SPLITS))} can; it runs in '
            'torch as it is'
        )


def make_canvas(detector: AnchorDetector, points: FloatArray) -> FloatArray:
    """(1, H, W, C) input of a split's network for one cloud (N, F)."""
    with torch.inference_mode():
        # a bag's clouds may be read-only, which torch does not like
        prepared = detector.prepare([torch.from_numpy(np.require(points, np.float32, ['C', 'W']))])
        return detector.encode(prepared).permute(0, 2, 3, 1).contiguous().numpy()


def _split_pointpillars(detector: PointPillars) -> Split:
    """The host runs the pillar encoder, with its norms folded in."""
    encoder, config = detector.encoder, detector.config
    if encoder.hidden is None:
        return _split_map(detector, _fold_points(encoder.linear, encoder.norm, config))
    hidden = _fold_points(encoder.hidden.linear, encoder.hidden.norm, config)
    scale, shift = _scale_and_shift(encoder.norm)
    own, common = (encoder.linear.weight.double().T * scale).chunk(2)
    host = {f'hidden.{name}': array for name, array in hidden.items()}
    return _split_map(
        detector, {**host, 'own_weights': own, 'common_weights': common, 'shift': shift}
    )


def _fold_points(
    linear: nn.Linear, norm: BatchNormRows, config: PointPillarsConfig
) -> dict[str, Tensor]:
    """The layer that reads the points, as `PillarHost` has it; columns not read weigh nothing."""
    scale, shift = _scale_and_shift(norm)
    weights = linear.weight.double().T * scale  # (inputs, C), of `point_features`
    columns = config.encoder_columns
    read, from_mean, from_center = torch.split(
        weights, [len(columns), 3, len(config.encoder.center_axes)]
    )
    offsets = weights.new_zeros(len(config.point_features), weights.shape[1])
    offsets[list(columns)] = read
    position = offsets[:3].clone()
    offsets[:3] += from_mean
    offsets[: len(from_center)] += from_center
    return {
        'offset_weights': offsets,
        'center_weights': position,
        'mean_weights': from_mean,
        'shift': shift,
    }


def _split_second(detector: Second) -> Split:
    """The host runs the sparse middle, with its norms folded in."""
    host = {}
    for n, block in enumerate(detector.encoder.blocks):
        scale, host[f'middle.{n}.bias'] = _scale_and_shift(block.norm)
        weights = block.conv.weight.double().flatten(1, 3).permute(1, 2, 0)  # (K, C, C')
        host[f'middle.{n}.kernel'] = weights * scale
    return _split_map(detector, host)


def _scale_and_shift(norm: BatchNormRows) -> tuple[Tensor, Tensor]:
    """(C,) factor and (C,) summand of a norm in evaluation, float64."""
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _split_map(detector: AnchorDetector, host: dict[str, Tensor]) -> Split:
    """An anchor detector behind a map that the host makes with these arrays."""
    config, tensors, parts = detector.config, dict(host), []
    by_map = torch.split(detector.head.anchors.cpu(), list(detector.head.sizes))
    for level, (anchors, shape) in enumerate(zip(by_map, config.head_shapes, strict=True)):
        cells = anchors.view(*shape, -1, 7)
        own = (cells[0, :, 0, 0], cells[:, 0, 0, 1], cells[0, 0, :, 2:])
        tensors |= zip(anchor_names(level), own, strict=True)
        parts.append(_array(anchors))
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    decoder = AnchorDecoder(config, arrays)
    for grid, part in zip(decoder.grids, parts, strict=True):
        assert np.array_equal(grid.anchors_at(np.arange(len(part))), part)
    channels, height, width = HOSTS[config.name](config, arrays).map_shape
    return Split(build_network(detector), arrays, torch.zeros(1, height, width, channels))


def _array(tensor: Tensor) -> FloatArray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


SPLITS: dict[str, Callable[[Any], Split]] = {
    'pointpillars': _split_pointpillars,
    'second': _split_second,
}
