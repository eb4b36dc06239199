# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where rays end: on surfaces, or behind windows and leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.simulated.meshes import Material, Mesh, merge

if TYPE_CHECKING:
    Array = NDArray[np.float64]
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

# Parts of the rays at a window that continue behind it, and that come back from it; KITTI's cars
# have holes at their windows.
THROUGH_GLASS, FROM_GLASS = 0.4, 0.1
THROUGH_LEAVES, LAYERS_OF_LEAVES = 0.4, 4
STEP = 0.01  # behind a surface, where a ray continues [m]


@dataclass(frozen=True)
class Hits:
    """Where each ray ends.

    Attributes:
        faces: (R,) of the target; -1 for none.
        ranges: (R,) from where the ray started [m].
        cosines: (R,) of the angle of incidence.
    """

    faces: IntArray
    ranges: Array
    cosines: Array


@dataclass(frozen=True)
class Target:
    """Everything that a ray may meet.

    Attributes:
        mesh: everything.
        owners: (F,) index of the object that each face is of; -1 for none.
        scene: the mesh, for casting.
    """

    mesh: Mesh
    owners: IntArray
    scene: EmbreeScene

    @classmethod
    def of(cls, static: Mesh, objects: Sequence[Mesh]) -> Target:
        """Build the target from static things and objects."""
        meshes = [static, *objects]
        mesh = merge(meshes)
        owners = np.repeat(np.arange(-1, len(objects)), [len(item.faces) for item in meshes])
        return cls(mesh, owners, _build(mesh))

    def cast(self, directions: FloatArray, starts: FloatArray) -> Hits:
        """Where rays end; starts and directions are (R, 3), directions of length 1."""
        return _cast(self.scene, directions, starts)

    def is_of(self, faces: IntArray, material: Material) -> NDArray[np.bool_]:
        """(n,) which faces, -1 for none, are of a material."""
        chosen: NDArray[np.bool_] = (faces >= 0) & (self.mesh.materials[faces] == material)
        return chosen

    def reflecting(self, faces: IntArray) -> NDArray[np.bool_]:
        """(n,) which faces, -1 for none, send light back where it comes from."""
        return self.is_of(faces, Material.PLATE) | self.is_of(faces, Material.SIGN)


def cast_alone(mesh: Mesh, directions: FloatArray) -> Hits:
    """Where rays from the origin end without anything else."""
    return _cast(_build(mesh), directions, np.zeros_like(directions))


def _build(mesh: Mesh) -> EmbreeScene:
    scene = EmbreeScene()
    TriangleMesh(scene, mesh.vertices[mesh.faces])
    return scene


def _cast(scene: EmbreeScene, directions: FloatArray, starts: FloatArray) -> Hits:
    hits = scene.run(starts, directions, output=1)
    faces = np.where(hits['geomID'] >= 0, hits['primID'], -1).astype(np.int64)
    x, y, z = np.asarray(hits['Ng'].T, np.float64, order='C')
    ahead, aside, up = np.asarray(directions.T, np.float64, order='C')
    lengths = np.sqrt(x * x + y * y + z * z)
    along = np.abs(x * ahead + y * aside + z * up)
    return Hits(faces, hits['tfar'].astype(np.float64), along / np.where(lengths > 0, lengths, 1))


def look_through_leaves(
    target: Target, directions: FloatArray, starts: FloatArray, rng: np.random.Generator
) -> Hits:
    """Cast rays; some of those that meet leaves continue behind them."""
    first = target.cast(directions, starts)
    hits = Hits(first.faces.copy(), first.ranges.copy(), first.cosines.copy())
    travelling = np.flatnonzero(target.is_of(first.faces, Material.FOLIAGE))
    for _ in range(LAYERS_OF_LEAVES):
        if not len(travelling):
            break
        travelling = travelling[rng.random(len(travelling)) < THROUGH_LEAVES]
        _go_on(target, hits, travelling, directions, starts)
        travelling = travelling[target.is_of(hits.faces[travelling], Material.FOLIAGE)]
    return hits


def look_through_glass(
    target: Target,
    directions: FloatArray,
    starts: FloatArray,
    first: Hits,
    rng: np.random.Generator,
) -> Hits:
    """`first`, but a ray that meets a window continues behind it, comes back or is lost."""
    hits = Hits(first.faces.copy(), first.ranges.copy(), first.cosines.copy())
    travelling: IntArray = np.arange(len(directions))
    for _ in range(2):  # into the cabin, and out of it
        there = hits.faces[travelling]
        at_glass = travelling[target.is_of(there, Material.GLASS)]
        fate = rng.random(len(at_glass))
        hits.faces[at_glass[(fate >= THROUGH_GLASS) & (fate < 1 - FROM_GLASS)]] = -1
        travelling = at_glass[fate < THROUGH_GLASS]
        if not len(travelling):
            break
        _go_on(target, hits, travelling, directions, starts)
    return hits


def _go_on(
    target: Target,
    hits: Hits,
    travelling: IntArray,
    directions: FloatArray,
    starts: FloatArray,
) -> None:
    """Let some rays continue behind what they hit; `hits` is changed."""
    ahead = directions[travelling]
    reached = ahead * (hits.ranges[travelling] + STEP)[:, None].astype(np.float32)
    behind = target.cast(ahead, starts[travelling] + reached)
    hits.faces[travelling] = behind.faces
    hits.cosines[travelling] = behind.cosines
    hits.ranges[travelling] += behind.ranges + STEP
