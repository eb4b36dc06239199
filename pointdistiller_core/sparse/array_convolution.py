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

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

VALUES = 1 << 16  # of a part of the output: 256 kB


def convolve_relu(
    features: FloatArray, kernel: FloatArray, bias: FloatArray, rulebook: Rulebook
) -> FloatArray:
    """(R', C') features of the output, none below 0.

    Args:
        features: (R, C).
        kernel: (K, C, C') the weights of each cell of the kernel.
        bias: (C',).
        rulebook: which cells meet.
    """
    channels = len(bias)
    result: FloatArray = np.empty((rulebook.num_outputs, channels), np.float32)
    result[:] = bias
    # a row is one number of many bytes, which is written several times faster than rows
    row = np.dtype((np.void, channels * result.itemsize))
    rows = result.reshape(-1).view(row)
    size = max(VALUES // channels, 1)
    ends = np.arange(0, len(result) + size, size)
    parts = [np.searchsorted(outputs, ends).tolist() for _, outputs in rulebook.pairs]
    for part in range(len(ends) - 1):
        for (inputs, outputs), weights, bounds in zip(rulebook.pairs, kernel, parts, strict=True):
            own = slice(bounds[part], bounds[part + 1])
            if own.start == own.stop:
                continue
            if len(inputs) == len(features) == len(result):  # every cell reads itself
                result[own] += features[own] @ weights
                continue
            # `take` is faster than brackets
            products = features.take(inputs[own], axis=0) @ weights
            products += result.take(outputs[own], axis=0)
            np.put(rows, outputs[own], products.reshape(-1).view(row))
    return np.maximum(result, 0, out=result)
