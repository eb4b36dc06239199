# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution in NumPy, for detection: gather, multiply, add, as in `convolution`.

Memory is the bottleneck, so all cells of the kernel are done for a part of the output that fits
into a core's cache, and then for the next part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.sparse.sites import Rulebook
from pointdistiller_core.sparse.team import Team

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

VALUES = 1 << 16  # of a part of the output: 256 kB


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
    channels = len(bias)
    result: FloatArray = np.empty((rulebook.num_outputs, channels), np.float32)
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
        np.maximum(own, 0, out=own)

    (team or Team()).share(convolve_part, len(bounds[0]) - 1)
    return result
