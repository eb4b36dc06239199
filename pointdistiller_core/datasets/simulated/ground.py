# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The ground that everything stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.simulated.meshes import Material, Mesh

if TYPE_CHECKING:
    Array = NDArray[np.float64]

GROUND_CELL = 2.0  # [m]
KERB = 5.5  # from the middle of the street to the sidewalk [m]


@dataclass(frozen=True)
class Ground:
    """Gentle waves on a slope.

    Attributes:
        slope: rise along x and y [m/m].
        waves: (n, 4) amplitude [m], wave numbers along x and y [rad/m], phase [rad].
    """

    slope: Array
    waves: Array

    def height(self, x: Array, y: Array) -> Array:
        """The height [m] at places of any shape; 0 at the origin."""
        here = self._waves(x, y) + self.slope[0] * x + self.slope[1] * y
        origin: Array = self._waves(np.zeros(1), np.zeros(1))
        relative: Array = here - origin[0]
        return relative

    def _waves(self, x: Array, y: Array) -> Array:
        amplitude, along_x, along_y, phase = self.waves.T
        angle = x[..., None] * along_x + y[..., None] * along_y + phase
        total: Array = (amplitude * np.sin(angle)).sum(axis=-1)
        return total

    def mesh(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> Mesh:
        """Asphalt between the kerbs, grass beyond."""
        x, y = (
            np.arange(low, high + GROUND_CELL, GROUND_CELL) for low, high in (x_range, y_range)
        )
        grid_x, grid_y = np.meshgrid(x, y, indexing='ij')
        corners = np.stack([grid_x, grid_y, self.height(grid_x, grid_y)], axis=-1)
        index = np.arange(grid_x.size, dtype=np.int32).reshape(grid_x.shape)
        a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
        faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)
        middle = corners.reshape(-1, 3)[faces].mean(axis=1)[:, 1]
        materials = np.where(np.abs(middle) < KERB + 4, Material.ASPHALT, Material.GRASS)
        return Mesh(corners.reshape(-1, 3).astype(np.float32), faces, materials.astype(np.int32))


def random_ground(rng: np.random.Generator) -> Ground:
    """Waves of 1 to 12 cm on a slope of about 0.3 degrees."""
    waves = np.stack(
        [
            rng.uniform(0.01, 0.12, 6),
            rng.normal(0, 0.12, 6),
            rng.normal(0, 0.12, 6),
            rng.uniform(0, 2 * np.pi, 6),
        ],
        axis=1,
    )
    return Ground(slope=rng.normal(0, 0.006, 2), waves=waves)
