# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The input of a network: a map that is zero except for the pillars of one cloud."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import MAX_MAP_VALUES
from pointdistiller_core.errors import CheckpointError

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

        Raises:
            CheckpointError: no such map can be made, or it does not fit the scale.
        """
        sizes = [size for size in shape if isinstance(size, int) and size > 0]  # or a name
        if len(sizes) < 4 or len(shape) > 4 or math.prod(sizes) > MAX_MAP_VALUES:
            raise CheckpointError(f'the network in the bundle takes maps of {shape}')
        if scale is not None and not (
            scale.shape == shape[3:] and np.isfinite(scale).all() and (scale > 0).all()
        ):
            raise CheckpointError(
                f'the network in the bundle scales its {shape[3]} maps by {scale}'
            )
        self.array: NDArray[Any] = np.zeros(shape, np.float32 if scale is None else np.uint8)
        # A cell is one number of many bytes, which is written several times faster than rows.
        self._cell = np.dtype((np.void, shape[-1] * self.array.itemsize))
        self._cells = self.array.reshape(-1).view(self._cell)
        self._levels = None if scale is None else 1 / scale
        self._used: IntArray = np.zeros(0, np.int64)

    def fill(self, features: FloatArray, cells: IntArray) -> None:
        """Replace its cloud.

        Args:
            features: (P, C) float32, at least 0.
            cells: (P,) `row * columns + column` of each pillar.
        """
        self._cells[self._used] = np.zeros((), self._cell)
        self._used = cells
        values = features
        if self._levels is not None:
            values = (features * self._levels).astype(np.float32, copy=False)
            np.minimum(values, MAX_LEVEL, out=values)
            np.rint(values, out=values)
        rows = np.ascontiguousarray(values, self.array.dtype)
        self._cells[cells] = rows.reshape(-1).view(self._cell)
