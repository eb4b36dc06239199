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
_PART = 1 << 16  # numbers that become levels at once: 256 kB stay in the cache


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
        self._levels: FloatArray | None = None if scale is None else np.float32(1) / scale
        self._part: FloatArray = np.empty((max(_PART // shape[-1], 1), shape[-1]), np.float32)
        self._used: IntArray = np.zeros(0, np.int64)

    def fill(self, features: FloatArray, cells: IntArray) -> None:
        """Replace its cloud.

        Args:
            features: (P, C) float32, at least 0.
            cells: (P,) `row * columns + column` of each pillar.
        """
        self._cells[self._used] = np.zeros((), self._cell)
        self._used = cells
        if self._levels is None:
            rows: NDArray[Any] = np.ascontiguousarray(features, np.float32)
        else:
            rows = self._round(features, self._levels)
        self._cells[cells] = rows.reshape(-1).view(self._cell)

    def _round(self, features: FloatArray, levels: FloatArray) -> NDArray[np.uint8]:
        """Levels of 8 bits (P, C)."""
        rounded: NDArray[np.uint8] = np.empty(features.shape, np.uint8)
        size = len(self._part)
        for first in range(0, len(features), size):
            own = features[first : first + size]
            part = np.multiply(own, levels, out=self._part[: len(own)])
            np.minimum(part, MAX_LEVEL, out=part)
            rounded[first : first + size] = np.rint(part, out=part)
        return rounded
