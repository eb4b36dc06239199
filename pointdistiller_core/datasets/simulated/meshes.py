# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes, composed of simple solids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array = NDArray[np.float32]
    IntArray = NDArray[np.int32]


class Material(IntEnum):
    """Material of a surface; the sensor knows how much light each returns."""

    PAINT = 0
    GLASS = 1
    RUBBER = 2
    PLATE = 3
    CLOTH = 4
    SKIN = 5
    METAL = 6
    WOOD = 7
    LEAVES = 8
    CONCRETE = 9
    ASPHALT = 10
    GRASS = 11
    # Of streets of other kinds than the plain one.
    FOLIAGE = 12
    MEADOW = 13
    PLASTER = 14
    STONE = 15
    LACQUER = 16
    TRIM = 17
    SIGN = 18


@dataclass(frozen=True)
class Mesh:
    """Triangles with a material each.

    Attributes:
        vertices: (V, 3) float32 x, y, z [m].
        faces: (F, 3) int32 vertices of each triangle.
        materials: (F,) int32 `Material` of each triangle.
    """

    vertices: Array
    faces: IntArray
    materials: IntArray

    def placed(self, position: Sequence[float], yaw: float = 0.0, pitch: float = 0.0) -> Mesh:
        """Turned about y by `pitch`, then about z by `yaw`, then moved by `position` [m, rad]."""
        turned = self.vertices @ rotation(yaw, pitch).T + np.asarray(position, np.float32)
        return replace(self, vertices=turned.astype(np.float32))

    def filling(self, size: Sequence[float]) -> Mesh:
        """Stretched to the extents `size` [m], standing on z = 0 around the z axis."""
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
        scale = np.asarray(size) / (high - low)
        return replace(self, vertices=((self.vertices - origin) * scale).astype(np.float32))

    def scaled(self, factors: Sequence[float]) -> Mesh:
        """Stretched along x, y and z about the origin."""
        return replace(self, vertices=self.vertices * np.asarray(factors, np.float32))

    def mapped(self, change: Callable[[Array], NDArray[np.floating[Any]]]) -> Mesh:
        """With its vertices (V, 3) [m] changed by `change`."""
        return replace(self, vertices=np.asarray(change(self.vertices), np.float32))


def rotation(yaw: float, pitch: float = 0.0) -> NDArray[np.float64]:
    """(3, 3) turn about y by `pitch` [rad], nose up, then about z by `yaw`."""
    cos, sin, up, over = np.cos(yaw), np.sin(yaw), np.sin(pitch), np.cos(pitch)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    tilted: NDArray[np.float64] = turn @ np.array([[over, 0, -up], [0, 1, 0], [up, 0, over]])
    return tilted


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """All meshes as one, their faces in the order given."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
        np.concatenate([mesh.materials for mesh in meshes]),
    )


# --- solids ----------------------------------------------------------------------------------


def prism(
    outline: Sequence[tuple[float, float]],
    half_width: float,
    material: Material,
    *,
    top: float = 1.0,
) -> Mesh:
    """A convex outline in x, z, drawn out along y.

    Args:
        outline: (x, z) corners [m], counter-clockwise seen from -y.
        half_width: half extent along y [m] at the lowest corner.
        material: of all faces.
        top: width at the highest corner as a part of that at the lowest.
    """
    corners = np.array(outline, np.float32)
    height = corners[:, 1] - corners[:, 1].min()
    half = half_width * (1 - (1 - top) * height / max(float(height.max()), 1e-6))
    left = np.stack([corners[:, 0], half, corners[:, 1]], axis=1)
    count = len(corners)
    ring = np.arange(count)
    following = np.roll(ring, -1)
    band = np.concatenate(
        [
            np.stack([ring, following, ring + count], axis=1),
            np.stack([following, following + count, ring + count], axis=1),
        ]
    )
    fan = np.stack([np.zeros(count - 2, int), ring[1:-1], ring[2:]], axis=1)
    faces = np.concatenate([band, fan, fan + count]).astype(np.int32)
    materials = np.full(len(faces), material, np.int32)
    vertices = np.concatenate([left, left * np.array([1, -1, 1])]).astype(np.float32)
    return Mesh(vertices, faces, materials)


def block(low: Sequence[float], high: Sequence[float], material: Material) -> Mesh:
    """A cuboid between two corners [m]."""
    vertices, faces = _unit_solid('box')
    start, stop = np.array(low), np.array(high)
    return _solid(vertices * (stop - start) + (start + stop) / 2, faces, material)


def tube(start: Sequence[float], stop: Sequence[float], radius: float, material: Material) -> Mesh:
    """A closed six-sided cylinder between two points [m]."""
    vertices, faces = _unit_solid('cylinder')
    a, b = np.asarray(start, np.float64), np.asarray(stop, np.float64)
    axis = (b - a) / np.linalg.norm(b - a)
    helper = np.array([0.0, 1.0, 0.0]) if abs(axis[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    across = _cross(helper, axis)
    across /= np.linalg.norm(across)
    frame = np.stack([radius * across, radius * _cross(axis, across), b - a])
    return _solid(vertices @ frame + (a + b) / 2, faces, material)


def ellipsoid(center: Sequence[float], radii: Sequence[float], material: Material) -> Mesh:
    """A faceted ellipsoid around a point [m]."""
    vertices, faces = _unit_solid('sphere')
    return _solid(vertices * np.asarray(radii) + np.asarray(center), faces, material)


def foliage(
    center: Sequence[float], radii: Sequence[float], rng: np.random.Generator, num_leaves: int
) -> Mesh:
    """Loose leaves that fill an ellipsoid [m], so that a beam sees into it."""
    directions = rng.normal(size=(num_leaves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    middles = directions * rng.uniform(0.35, 1.0, (num_leaves, 1)) * np.asarray(radii) + center
    # Of such a size that all leaves, side by side, would cover the ellipsoid once.
    size = 1.2 * float(np.linalg.norm(radii)) / num_leaves**0.5
    corners = middles[:, None] + size * rng.normal(size=(num_leaves, 3, 3))
    faces = np.arange(3 * num_leaves, dtype=np.int32).reshape(-1, 3)
    return _solid(corners.reshape(-1, 3), faces, Material.LEAVES)


def _cross(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cross product of two vectors (3,), without the overhead of NumPy's."""
    (a, b, c), (x, y, z) = first.tolist(), second.tolist()
    return np.array([b * z - c * y, c * x - a * z, a * y - b * x])


@cache
def _unit_solid(name: str) -> tuple[NDArray[np.float64], IntArray]:
    """Vertices and faces of a solid around the origin: extents 1, or radius 1 and length 1."""
    from trimesh import creation  # slow to import, and only needed where something is simulated

    solids: Mapping[str, Callable[[], Any]] = {
        'box': creation.box,
        'cylinder': lambda: creation.cylinder(radius=1, height=1, sections=6),
        'sphere': lambda: creation.icosphere(subdivisions=1),
    }
    solid = solids[name]()
    return np.array(solid.vertices), np.array(solid.faces, np.int32)


def _solid(vertices: NDArray[np.float64], faces: IntArray, material: Material) -> Mesh:
    materials = np.full(len(faces), material, np.int32)
    return Mesh(vertices.astype(np.float32), faces, materials)


def quad(corners: Sequence[Sequence[float]], material: Material) -> Mesh:
    """Two triangles between four corners [m], in their order around it."""
    return Mesh(
        np.array(corners, np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.full(2, material, np.int32),
    )


def blocks(bounds: NDArray[np.floating[Any]], material: Material) -> Mesh:
    """Cuboids, all at once: bounds (n, 2, 3), lowest and highest corner [m]."""
    vertices, faces = _unit_solid('box')
    low, high = bounds[:, :1], bounds[:, 1:]
    corners = vertices * (high - low) + (low + high) / 2
    starts = len(vertices) * np.arange(len(bounds))[:, None, None]
    return _solid(corners.reshape(-1, 3), (faces + starts).reshape(-1, 3), material)


def sheet(grid: NDArray[np.floating[Any]], material: Material) -> Mesh:
    """The surface between the points of a grid (rows, columns, 3) [m]."""
    index = np.arange(grid.shape[0] * grid.shape[1], dtype=np.int32).reshape(grid.shape[:2])
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)
    return _solid(grid.reshape(-1, 3).astype(np.float64), faces, material)
