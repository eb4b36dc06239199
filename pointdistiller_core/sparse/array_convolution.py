# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution in NumPy, for detection and for training on a CPU: gather, multiply, add.

Memory is the bottleneck, so all cells of the kernel are done for a part of the output that fits
into a core's cache, and then for the next part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.sparse.sites import Rulebook, Sites
from pointdistiller_core.sparse.team import Team

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

VALUES = 1 << 16  # of a part of the output: 256 kB
MOST_SUMS = 8  # of a kernel's gradient, each over some of the parts


def convolve_relu(
    features: FloatArray,
    kernel: FloatArray,
    bias: FloatArray,
    rulebook: Rulebook,
    team: Team | None = None,
) -> FloatArray:
    """(R', C') features of the output, none below 0; the same bits for any number of threads.

    Args:
        features: (R, C).
        kernel: (K, C, C') the weights of each cell of the kernel.
        bias: (C',).
        rulebook: which cells meet.
        team: shares the parts; None is the calling thread alone.
    """
    return _convolve(features, kernel, bias, rulebook, team, least=0.0)


def convolve(
    features: FloatArray, kernel: FloatArray, rulebook: Rulebook, team: Team | None = None
) -> FloatArray:
    """(R', C') features of the output, see `convolve_relu`."""
    return _convolve(features, kernel, np.zeros(1, features.dtype), rulebook, team, least=None)


def kernel_gradient(
    features: FloatArray, gradient: FloatArray, rulebook: Rulebook, team: Team | None = None
) -> FloatArray:
    """(K, C, C') gradient of the kernel; the same bits for any number of threads.

    Args:
        features: (R, C) of the input.
        gradient: (R', C') of the output.
        rulebook: which cells meet.
        team: shares the parts; None is the calling thread alone.
    """
    channels = gradient.shape[1]
    size = max(VALUES // channels, 1)
    bounds = rulebook.bounds(size)
    num_parts = len(bounds[0]) - 1
    num_sums = max(min(MOST_SUMS, num_parts), 1)
    sums = np.zeros((num_sums, len(bounds), features.shape[1], channels), features.dtype)

    def add_parts(number: int) -> None:
        for part in range(number, num_parts, num_sums):
            first = part * size
            own = gradient[first : first + size]
            cells = zip(rulebook.pairs, sums[number], bounds, strict=True)
            for (inputs, outputs), total, ends in cells:
                mine = slice(ends[part], ends[part + 1])
                if mine.start == mine.stop:
                    continue
                if len(inputs) == len(features) == len(gradient):  # every cell reads itself
                    total += features[mine].T @ own
                    continue
                places = outputs[mine] - first
                total += features.take(inputs[mine], axis=0).T @ own.take(places, axis=0)

    (team or Team()).share(add_parts, num_sums)
    result: FloatArray = sums.sum(axis=0)
    return result


def stack_layers(features: FloatArray, sites: Sites) -> tuple[FloatArray, IntArray]:
    """The features of each column, channel by channel and then layer, and its cell of the map.

    Args:
        features: (R, C) of sites of one frame.
        sites: in n columns.

    Returns:
        (n, C * layers), and (n,) `row * columns + column`.
    """
    depth, _, width = sites.shape
    rows, columns = sites.columns
    stacked = np.zeros((len(rows), features.shape[1], depth), np.float32)
    for layer in range(depth):
        own = np.flatnonzero(sites.layers == layer)
        stacked[sites.column_of_site.take(own), :, layer] = features.take(own, axis=0)
    by_channel = stacked.reshape(len(rows), features.shape[1] * depth)
    return by_channel, rows * width + columns


def _convolve(
    features: FloatArray,
    kernel: FloatArray,
    bias: FloatArray,
    rulebook: Rulebook,
    team: Team | None,
    *,
    least: float | None,
) -> FloatArray:
    channels = kernel.shape[2]
    result: FloatArray = np.empty((rulebook.num_outputs, channels), features.dtype)
    size = max(VALUES // channels, 1)
    bounds = rulebook.bounds(size)

    def convolve_part(part: int) -> None:
        first = part * size
        own = result[first : first + size]
        own[:] = bias
        # a row is one number of many bytes, which is written several times faster than rows
        row = np.dtype((np.void, channels * own.itemsize))
        rows = own.reshape(-1).view(row)
        for (inputs, outputs), weights, ends in zip(rulebook.pairs, kernel, bounds, strict=True):
            mine = slice(ends[part], ends[part + 1])
            if mine.start == mine.stop:
                continue
            if len(inputs) == len(features) == len(result):  # every cell reads itself
                own += features[mine] @ weights
                continue
            # `take` is faster than brackets
            products = features.take(inputs[mine], axis=0) @ weights
            places = outputs[mine] - first
            products += own.take(places, axis=0)
            np.put(rows, places, products.reshape(-1).view(row))
        if least is not None:
            np.maximum(own, least, out=own)

    (team or Team()).share(convolve_part, len(bounds[0]) - 1)
    return result
