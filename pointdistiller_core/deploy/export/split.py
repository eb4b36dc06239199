# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The part of a detector that another library runs, and its host's arrays; one per family."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from pointdistiller_core.config import AnchorDetectorConfig
from pointdistiller_core.deploy.backends.anchor_decoder import AnchorDecoder
from pointdistiller_core.deploy.export.bev_network import BevNetwork
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
    config = detector.config
    check_family(name := config.name)
    if isinstance(config, AnchorDetectorConfig) and len(config.head_strides) > 1:
        raise ConfigError(f'{name} with several maps of the head runs in torch only')
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
    """The host runs the pillar encoder, with its norm folded in."""
    scale, shift = _scale_and_shift(detector.encoder.norm)
    weights = detector.encoder.linear.weight.double().T * scale  # (F + 6, C), `point_features`
    num_columns = len(detector.config.point_features)
    columns, from_mean, from_center = torch.split(weights, [num_columns, 3, 3])
    position = columns[:3]
    host = {
        'offset_weights': torch.cat([position + from_mean + from_center, columns[3:]]),
        'center_weights': position,
        'mean_weights': from_mean,
        'shift': shift,
    }
    return _split_map(detector, host)


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
    config, anchors = detector.config, detector.head.anchors.cpu()
    ((height, width),) = config.head_shapes
    cells = anchors.view(height, width, -1, 7)
    tensors = {
        **host,
        'anchor_xs': cells[0, :, 0, 0],
        'anchor_ys': cells[:, 0, 0, 1],
        'anchor_shapes': cells[0, 0, :, 2:],
    }
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    found = AnchorDecoder(config, arrays).anchors_at(np.arange(len(anchors)))
    assert np.array_equal(found, anchors.numpy())
    channels, height, width = HOSTS[config.name](config, arrays).map_shape
    return Split(BevNetwork(detector), arrays, torch.zeros(1, height, width, channels))


def _array(tensor: Tensor) -> FloatArray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


SPLITS: dict[str, Callable[[Any], Split]] = {
    'pointpillars': _split_pointpillars,
    'second': _split_second,
}
