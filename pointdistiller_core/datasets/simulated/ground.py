# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The ground that everything stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.simulated.meshes import Material, Mesh, sheet

if TYPE_CHECKING:
    Array = NDArray[np.float64]

GROUND_CELL, STREET_CELL = 2.0, 3.0  # [m]
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


@dataclass(frozen=True)
class Bend:
    """Street coordinates (along, across) [m] to x, y of the world, and back: a circle's arc.

    Attributes:
        curvature: [1/m], positive to the left; what lies farther across than its inverse has no
            place.
    """

    curvature: float = 0.0

    def to_world(self, along: Array, across: Array) -> tuple[Array, Array]:
        """x, y [m] of places of any shape."""
        if self.curvature == 0:
            return along, across
        radius = 1 / self.curvature
        angle = along * self.curvature
        return (radius - across) * np.sin(angle), radius - (radius - across) * np.cos(angle)

    def to_street(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Along, across [m]: the inverse of `to_world`."""
        if self.curvature == 0:
            return x, y
        radius = 1 / self.curvature
        side = np.sign(radius)
        angle = np.arctan2(side * x, side * (radius - y))
        return angle * radius, radius - side * np.hypot(x, radius - y)


@dataclass(frozen=True)
class StreetGround(Ground):
    """A street's cross section on gentle waves, over a crest or through a dip.

    Attributes:
        crest: curvature along the street [1/m].
        stations: (n,) places across [m], ascending.
        levels: (n,) height of the cross section there [m].
        bend: of the street.
    """

    crest: float
    stations: Array
    levels: Array
    bend: Bend

    def height(self, x: Array, y: Array) -> Array:
        """The height [m] at places of the world, of any shape; 0 at the origin."""
        return self.street_height(*self.bend.to_street(x, y))

    def street_height(self, along: Array, across: Array) -> Array:
        """The height [m] at places along and across the street."""
        flat = super().height(along, across)
        near = np.clip(along, -60, 60)  # beyond, the crest continues straight
        hill = self.crest * near * (along - near / 2)
        total: Array = flat + hill + np.interp(across, self.stations, self.levels)
        return total

    def street_mesh(
        self,
        along_range: tuple[float, float],
        half_width: float,
        materials: Callable[[Array, Array], NDArray[np.int32]],
    ) -> Mesh:
        """The ground in street coordinates, fine where the cross section has its stations.

        Args:
            along_range: from, to [m].
            half_width: how far across [m].
            materials: maps the middles of faces along and across to their (F,) `Material`.
        """
        along = np.arange(along_range[0], along_range[1] + STREET_CELL, STREET_CELL)
        coarse = np.arange(-half_width, half_width + 1, 2 * STREET_CELL)
        inner = self.stations[np.abs(self.stations) < half_width]
        across = np.unique(np.round(np.concatenate([coarse, inner]), 3))
        grid = np.stack(np.meshgrid(along, across, indexing='ij'), axis=-1)
        heights = self.street_height(grid[..., 0], grid[..., 1])
        mesh = sheet(np.concatenate([grid, heights[..., None]], axis=-1), Material.ASPHALT)
        middles = mesh.vertices[mesh.faces].mean(axis=1).astype(np.float64)
        return replace(mesh, materials=materials(middles[:, 0], middles[:, 1]))
