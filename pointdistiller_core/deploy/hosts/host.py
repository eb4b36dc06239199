# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A host turns a cloud into the input of a dense network, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pointdistiller_core.records import Cut, Places

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Arrays = Mapping[str, FloatArray]

Shape = tuple[int, ...]


class Prepared(Protocol):
    """One cloud, cropped to the range and grouped as its family does it."""

    @property
    def cuts(self) -> Mapping[str, Cut]:
        """Numbers that the caps kept and dropped; `points` are those in range."""
        ...

    def __len__(self) -> int:
        """Number of voxels; without any there is nothing to detect."""
        ...


class Host(Protocol):
    """The part of a family before its dense network; several threads may call it at once."""

    def __init__(self, config: Any, arrays: Arrays, num_threads: int = 1) -> None:
        """Take the family's configuration and arrays of the shapes that `shapes` names.

        Its numbers have the same bits for any number of threads.
        """
        ...

    @staticmethod
    def shapes(config: Any) -> dict[str, Shape]:
        """Name and shape of each float32 array that a bundle keeps for the host."""
        ...

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """C, H, W of the map that the dense network reads."""
        ...

    @property
    def engine(self) -> str | None:
        """`numba` or `numpy`, which computes what Numba may compile; None if that is nothing."""
        ...

    def prepare(self, points: FloatArray) -> Prepared:
        """Crop and group a cloud (N, F), which must be finite."""
        ...

    def encode(self, prepared: Any) -> tuple[FloatArray, IntArray]:
        """The cells of the map that are not zero; there must be at least one.

        Returns:
            (R, C) float32 features, at least 0, and (R,) int64 cells `row * W + column`, each of
            them once.
        """
        ...

    def places(self, prepared: Any) -> Places:
        """The places of this cloud, for their importance."""
        ...
