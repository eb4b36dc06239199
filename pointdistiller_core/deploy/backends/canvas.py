# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The input of a network: a map that is zero but for the pillars of one cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]


MAX_LEVEL = 255


class Canvas:
    """Memory for one cloud at a time. Only the cells of the cloud before are cleared.

    Attributes:
        array: (1, rows, columns, C) float32, or uint8 with a scale.
    """

    def __init__(self, shape: tuple[int, ...], scale: FloatArray | None = None) -> None:
        """Make an empty map.

        Args:
            shape: (1, rows, columns, C).
            scale: (C,) float32 value of one level of 8 bits, for each channel.
        """
        self.array: NDArray[Any] = np.zeros(shape, np.float32 if scale is None else np.uint8)
        # A cell is one number of many bytes: such are written several times faster than rows.
        self._cell = np.dtype((np.void, shape[-1] * self.array.itemsize))
        self._cells = self.array.reshape(-1).view(self._cell)
        self._levels = None if scale is None else 1 / scale
        self._used: IntArray = np.zeros(0, np.int64)

    def fill(self, features: FloatArray, cells: IntArray) -> None:
        """Replace the cloud that it holds.

        Args:
            features: (P, C) float32, at least 0.
            cells: (P,) `row * columns + column` of each pillar.
        """
        self._cells[self._used] = np.zeros((), self._cell)
        self._used = cells
        if self._levels is not None:
            features = np.rint(np.minimum(features * self._levels, MAX_LEVEL))
        rows = np.ascontiguousarray(features, self.array.dtype)
        self._cells[cells] = rows.reshape(-1).view(self._cell)
