# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution for training, compiled: the numbers of `array_convolution` up to rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.compiled.compiler import LANES, compiled
from pointdistiller_core.sparse.array_convolution import MOST_SUMS
from pointdistiller_core.sparse.compiled_blocks import (
    ROWS,
    add_outer_products,
    add_products,
    flat,
    with_zeros,
)
from pointdistiller_core.sparse.sites import Rulebook
from pointdistiller_core.sparse.team import Team

if TYPE_CHECKING:
    from pointdistiller_core.sparse.array_convolution import FloatArray

    Array = NDArray[Any]

SIZE = 2048  # outputs of a part


def convolve(
    features: FloatArray, kernel: FloatArray, rulebook: Rulebook, team: Team | None = None
) -> FloatArray:
    """See `array_convolution.convolve`."""
    channels, kernel = kernel.shape[2], with_zeros(kernel, LANES)
    result: FloatArray = np.zeros((rulebook.num_outputs, kernel.shape[2]), np.float32)
    values, weights, sums = flat(features), flat(kernel), result.reshape(-1)
    inputs, outputs, bounds = rulebook.joined_pairs(SIZE)

    def convolve_part(part: int) -> None:
        ends = bounds[part], bounds[part + 1]
        _convolve(values, weights, sums, inputs, outputs, *ends, *kernel.shape[1:])

    (team or Team()).share(convolve_part, len(bounds) - 1)
    return np.ascontiguousarray(result[:, :channels])


def kernel_gradient(
    features: FloatArray, gradient: FloatArray, rulebook: Rulebook, team: Team | None = None
) -> FloatArray:
    """See `array_convolution.kernel_gradient`."""
    before, behind = features.shape[1], gradient.shape[1]
    features, gradient = with_zeros(features, ROWS), with_zeros(gradient, LANES)
    values, slopes = flat(features), flat(gradient)
    inputs, outputs, bounds = rulebook.joined_pairs(SIZE)
    num_parts = len(bounds) - 1
    num_sums = max(min(MOST_SUMS, num_parts), 1)
    channels = features.shape[1], gradient.shape[1]
    sums: FloatArray = np.zeros((num_sums, len(rulebook.pairs), *channels), np.float32)

    def add_parts(number: int) -> None:
        own = sums[number].reshape(-1)
        for part in range(number, num_parts, num_sums):
            ends = bounds[part], bounds[part + 1]
            _add_gradient(values, slopes, own, inputs, outputs, *ends, *channels)

    (team or Team()).share(add_parts, num_sums)
    return np.ascontiguousarray(sums.sum(axis=0)[:, :before, :behind])


@compiled('void(f4[::1], f4[::1], f4[::1], i4[::1], i4[::1], i8[::1], i8[::1], i8, i8)')
def _convolve(
    features: Array,
    weights: Array,
    result: Array,
    inputs: Array,
    outputs: Array,
    begins: Array,
    ends: Array,
    before: int,
    behind: int,
) -> None:
    """Add the products of the pairs between `begins` and `ends` of each cell of the kernel."""
    for k in range(len(begins)):
        weight = k * before * behind
        add_products(
            features, weights, result, inputs, outputs, begins[k], ends[k], weight, before, behind
        )


@compiled('void(f4[::1], f4[::1], f4[::1], i4[::1], i4[::1], i8[::1], i8[::1], i8, i8)')
def _add_gradient(
    features: Array,
    gradient: Array,
    result: Array,
    inputs: Array,
    outputs: Array,
    begins: Array,
    ends: Array,
    before: int,
    behind: int,
) -> None:
    """Add the outer products of the pairs between `begins` and `ends` of each cell."""
    for k in range(len(begins)):
        weight = k * before * behind
        add_outer_products(
            features, gradient, result, inputs, outputs, begins[k], ends[k], weight, before, behind
        )
