# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Whole numbers in order; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    IntArray = NDArray[np.int64]


def sort_with_order(values: IntArray) -> tuple[IntArray, IntArray]:
    """The values, ascending, and the index of each in the input; equal ones in their order.

    They are not below 0. Sorting numbers takes half as long as sorting their indices by them.
    """
    bits = max(len(values) - 1, 0).bit_length()
    if len(values) and int(values.max()) >> (62 - bits):
        order = np.argsort(values, kind='stable')
        return values[order], order
    both = np.sort(values << bits | np.arange(len(values)))
    return both >> bits, both & ((1 << bits) - 1)
