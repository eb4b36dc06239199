# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What surfaces return: how much light, from which depth, and where nothing comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config.simulation import SurfacesConfig
from pointdistiller_core.datasets.simulated.meshes import Material, Mesh

if TYPE_CHECKING:
    Array = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

# Part of the light that each material returns at a right angle, its spread from object to object,
# and how glossy it is: the intensity goes with cos(incidence) ** gloss. As KITTI's sweeps show it.
REFLECTIVITY = {
    Material.PAINT: (0.28, 0.26, 1.2),
    Material.GLASS: (0.08, 0.03, 2.0),
    Material.RUBBER: (0.10, 0.03, 0.3),
    Material.PLATE: (1.30, 0.0, 0.3),
    Material.CLOTH: (0.40, 0.12, 0.2),
    Material.SKIN: (0.45, 0.05, 0.2),
    Material.METAL: (0.38, 0.15, 0.8),
    Material.WOOD: (0.35, 0.08, 0.2),
    Material.LEAVES: (0.36, 0.08, 0.2),
    Material.CONCRETE: (0.38, 0.10, 0.2),
    Material.ASPHALT: (0.29, 0.04, 0.06),
    Material.GRASS: (0.38, 0.05, 0.06),
    Material.FOLIAGE: (0.36, 0.08, 0.2),
    Material.MEADOW: (0.36, 0.06, 0.06),
    Material.PLASTER: (0.42, 0.14, 0.2),
    Material.STONE: (0.32, 0.10, 0.2),
    Material.LACQUER: (0.34, 0.20, 1.6),
    Material.TRIM: (0.25, 0.15, 0.4),
    Material.SIGN: (1.10, 0.20, 0.3),
}
NUM_PLAIN = Material.GRASS + 1  # materials of plain streets
LEAVES_DEPTH, BLADES = 0.28, 0.035  # mean depth into leaves, height of grass [m]
LONGEST_BLADE = 1.5  # along a beam [m]
DARKEST = 0.05  # reflectivity of lacquer of a dark car
HOLE = (0.2, 0.5)  # radius [m]
ROOF, SILL, FRAYED = 0.12, (0.2, 0.5), 0.04  # parts of the height of a car


def draw_response(mesh: Mesh, owners: IntArray, rng: np.random.Generator) -> tuple[Array, Array]:
    """Reflectivity and gloss (F,) of each face; one draw for each object and material."""
    means, deviations, gloss = np.array([REFLECTIVITY[material] for material in Material]).T
    draws = rng.normal(0, 1, (owners.max() + 2, NUM_PLAIN))
    if mesh.materials.max(initial=0) >= NUM_PLAIN:  # in this order plain streets do not change
        further = rng.normal(0, 1, (len(draws), len(Material) - NUM_PLAIN))
        draws = np.concatenate([draws, further], axis=1)
    values: Array = (
        means[mesh.materials] + deviations[mesh.materials] * draws[owners, mesh.materials]
    )
    return np.maximum(values, 0.03), gloss[mesh.materials]


def darken(
    reflectivity: Array,
    materials: NDArray[np.int32],
    owners: IntArray,
    part: float,
    rng: np.random.Generator,
) -> Array:
    """`reflectivity` (F,) with the lacquer of a part of the objects almost black."""
    is_dark = rng.random(owners.max() + 2) < part
    chosen = is_dark[owners] & (materials == Material.LACQUER)
    return np.where(chosen, DARKEST, reflectivity)


def depth_into(
    faces: IntArray, materials: NDArray[np.int32], rays: FloatArray, rng: np.random.Generator
) -> Array:
    """(R,) distance of a return behind the surface that its ray meets [m].

    Leaves return from within, blades of grass before the ground.
    """
    depths: Array = np.zeros(len(faces))
    met = np.where(faces >= 0, materials[faces], -1)
    leaves = np.flatnonzero(met == Material.FOLIAGE)
    if len(leaves):
        depths[leaves] = rng.exponential(LEAVES_DEPTH, len(leaves))
    grass = np.flatnonzero(met == Material.MEADOW)
    if len(grass):
        steepness = np.maximum(np.abs(rays[grass, 2]), 1e-3)
        blades = rng.exponential(BLADES, len(grass)) / steepness
        depths[grass] = -np.minimum(blades, LONGEST_BLADE)
    return depths


def find_holes(
    directions: FloatArray,
    ranges: Array,
    owners: IntArray,
    objects: Sequence[Mesh],
    *,
    lacquered: Sequence[bool],
    config: SurfacesConfig,
    rng: np.random.Generator,
) -> BoolArray:
    """Returns of cars lost to mirroring: in spheres, on roofs, at sills.

    Args:
        directions: (R, 3) of the rays.
        ranges: (R,) of the returns [m], any for rays without one.
        owners: (R,) object of each, -1 for none.
        objects: their meshes.
        lacquered: which of them are lacquered, as cars are.
        config: how much is lost.
        rng: source of chance.

    Returns:
        (R,) bool.
    """
    lost: BoolArray = np.zeros(len(owners), np.bool_)
    if not (config.holes[1] or config.lost_roofs or config.lost_sills):
        return lost
    owned = np.flatnonzero(owners >= 0)
    order = owned[np.argsort(owners[owned], kind='stable')]
    starts = np.searchsorted(owners[order], np.arange(len(objects) + 1))
    for index, mesh in enumerate(objects):
        of_object = order[starts[index] : starts[index + 1]]
        if lacquered[index]:
            places = directions[of_object] * ranges[of_object, None]
            lost[of_object] = _holes_of(places, mesh, config, rng)
    return lost


def _holes_of(
    places: Array, mesh: Mesh, config: SurfacesConfig, rng: np.random.Generator
) -> BoolArray:
    """(n,) which of the returns of one object are lost."""
    bottom, top = mesh.vertices[:, 2].min(), mesh.vertices[:, 2].max()
    centers = mesh.vertices[rng.integers(len(mesh.vertices), size=config.holes[1])]
    count = rng.integers(config.holes[0], config.holes[1] + 1)
    radii = rng.uniform(*HOLE, (len(centers), 1))
    sill = rng.uniform(*SILL) if rng.random() < config.lost_sills else -1.0
    roof = 1 - ROOF if rng.random() < config.lost_roofs else 2.0
    distances = np.linalg.norm(places - centers[:count, None], axis=2)
    part = (places[:, 2] - bottom) / (top - bottom)
    part += rng.normal(0, FRAYED, len(part))
    lost: BoolArray = (distances < radii[:count]).any(axis=0) | (part < sill) | (part > roof)
    return lost
