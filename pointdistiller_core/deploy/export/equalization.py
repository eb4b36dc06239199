# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Channels of similar ranges, so that eight bits suffice (Nagel et al., ICCV 2019, section 4.1).

Eight bits share one range per map, of which a channel of small values uses little. Stretching it
costs the weights that read it as much, hence the square root. Outputs do not change: ReLU keeps a
positive factor, and the next convolution undoes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, nn

from pointdistiller_core.deploy.export.bev_network import BevNetwork

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

# A channel whose largest value is a smaller part of its map's is not stretched further: values
# that calibration hardly saw must not decide anything.
SMALLEST_PART = 1e-3


def equalize(network: BevNetwork, canvases: Iterable[FloatArray]) -> FloatArray:
    """Scale the channels of a network, in place.

    Args:
        network: the network; its outputs do not change.
        canvases: (1, rows, columns, C) inputs to learn the largest values from.

    Returns:
        (C,) divisors of the channels of the input from now on; the largest value of the canvases
        becomes 1.
    """
    inputs, peaks = _find_peaks(network, canvases)
    scale = _factors(inputs) * inputs.max()
    _multiply_inputs(network.stages[0][0], scale)
    for maps in network.maps():
        largest = [peaks[conv].reshape(-1, maps.channels).amax(0) for conv in maps.producers]
        factors = _factors(torch.stack(largest).amax(0))
        for conv in maps.producers:
            _divide_outputs(conv, factors.repeat(conv.out_channels // maps.channels))
        for reader in maps.readers:
            _multiply_inputs(reader, factors)
    return scale.numpy()


def _find_peaks(
    network: BevNetwork, canvases: Iterable[FloatArray]
) -> tuple[Tensor, dict[nn.Module, Tensor]]:
    """(C,) largest values of the input, and (channels,) of every convolution, at least 0."""
    inputs = torch.tensor(1e-6)  # clouds without points have no largest value
    peaks: dict[nn.Module, Tensor] = {}

    def record(conv: nn.Module, _: object, output: Tensor) -> None:
        peaks[conv] = torch.maximum(peaks.get(conv, torch.zeros(())), output.amax((0, 2, 3)))

    producers = (conv for maps in network.maps() for conv in maps.producers)
    hooks = [conv.register_forward_hook(record) for conv in producers]
    with torch.inference_mode():
        for canvas in map(torch.from_numpy, canvases):
            inputs = torch.maximum(inputs, canvas.amax((0, 1, 2)))
            network(canvas)
    for hook in hooks:
        hook.remove()
    return inputs, peaks


def _factors(peaks: Tensor) -> Tensor:
    """(C,) divisors for channels with these largest values; 1 for one that is always zero."""
    parts = (peaks / peaks.max()).clamp(min=SMALLEST_PART)
    return torch.where(peaks > 0, parts, torch.ones_like(parts)).sqrt()


def _multiply_inputs(conv: nn.Conv2d, factors: Tensor) -> None:
    """Multiply the weights of a convolution for each channel of its input."""
    conv.weight.mul_(factors[:, None, None])


def _divide_outputs(conv: nn.Conv2d, factors: Tensor) -> None:
    assert conv.bias is not None
    conv.weight.div_(factors[:, None, None, None])
    conv.bias.div_(factors)
