# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Streets as corridors: bounded on both sides, closed far away, with road users in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SceneConfig
from pointdistiller_core.datasets.simulated.corridor import (
    lay_background,
    lay_edges,
    lay_furniture,
)
from pointdistiller_core.datasets.simulated.ground import StreetGround
from pointdistiller_core.datasets.simulated.meshes import Material, Mesh, merge
from pointdistiller_core.datasets.simulated.placement import Placer
from pointdistiller_core.datasets.simulated.plain_street import build_plain_street
from pointdistiller_core.datasets.simulated.recipes import (
    RECIPES,
    Recipe,
    Street,
    draw_bend,
    draw_ground,
    draw_street,
)
from pointdistiller_core.datasets.simulated.scene import EGO_PLACE, Scene
from pointdistiller_core.datasets.simulated.traffic import fill_street, to_world

if TYPE_CHECKING:
    Array = NDArray[np.float64]

EGO_ROOM = (3.2, 1.1)  # half extents that are kept free around the sensor's vehicle [m]
EGO_LANE = (-2.1, -1.5)  # its place across the street [m]
GROUND_REACH = 88.0  # extent of the ground beyond the populated street, and to both sides [m]
DASH = 4.0  # length of a marking, and of the gap after it [m]


def build_scene(
    config: SceneConfig, rng: np.random.Generator, *, duration_s: float = 0.0
) -> Scene:
    """A scene of one of the configured kinds.

    Args:
        config: kinds of scenes, and numbers of things.
        rng: source of all chance.
        duration_s: how long the sensor drives along x; the street is longer by that.
    """
    kinds = list(config.kinds)
    # With one kind nothing is drawn, so that a plain street does not change.
    weights = np.array(list(config.kinds.values()))
    kind = kinds[0 if len(kinds) == 1 else rng.choice(len(kinds), p=weights / weights.sum())]
    if kind == 'plain':
        return build_plain_street(config, rng, duration_s=duration_s)
    return _build_street(kind, RECIPES[kind], config, rng, duration_s)


def _build_street(
    kind: str, recipe: Recipe, config: SceneConfig, rng: np.random.Generator, duration_s: float
) -> Scene:
    path_length = config.ego_speed * duration_s
    street = draw_street(recipe, (-config.extent, config.extent + path_length), rng)
    # In a drive, road users move straight.
    bend = draw_bend(config.streets.bend, rng) if duration_s == 0 else 0.0
    ground = draw_ground(street, bend, rng)
    placer = Placer(rng, x_range=street.along, duration_s=duration_s)
    placer.stand(EGO_PLACE, EGO_ROOM, (config.ego_speed, 0.0))
    still = lay_edges(street, placer, rng)
    actors = fill_street(street, config.streets, placer, rng)
    still += lay_furniture(street, config.streets, placer, rng)
    still += lay_background(street, config.streets, rng)
    floor = ground.street_mesh(
        (street.along[0] - GROUND_REACH, street.along[1] + GROUND_REACH),
        GROUND_REACH,
        lambda along, across: _paving(street, along, across),
    )
    static = merge([_on_ground(floor, ground, lift=False), _on_ground(merge(still), ground)])
    return Scene(
        ground,
        static,
        tuple(to_world(actor, ground.bend) for actor in actors),
        kind=kind,
        ego_lane=EGO_LANE,
    )


def _on_ground(mesh: Mesh, ground: StreetGround, *, lift: bool = True) -> Mesh:
    """A mesh of street coordinates in the world; with `lift` its heights are above the ground."""

    def change(vertices: NDArray[np.float32]) -> Array:
        places: Array = vertices.astype(np.float64)
        along, across = places[:, 0], places[:, 1]
        level = ground.street_height(along, across) if lift else 0.0
        return np.stack([*ground.bend.to_world(along, across), places[:, 2] + level], axis=1)

    return mesh.mapped(change)


def _paving(street: Street, along: Array, across: Array) -> NDArray[np.int32]:
    """(F,) material of the ground by the middles of its faces [m]."""
    left, right = street.sides
    outside = np.where(across > 0, across - left.kerb, -across - right.kerb)
    front = np.where(across > 0, left.front, right.front)
    lots = np.where(across > 0, len(left.rows), len(right.rows)) > 0
    paved = (np.abs(across) < front) & ((street.recipe.kerb > 0.5) | lots)
    beyond = np.where(paved, Material.CONCRETE, Material.MEADOW)
    for middle, half in street.crossings:
        beyond = np.where(np.abs(along - middle) < half, Material.ASPHALT, beyond)
    return np.where(outside < 0, Material.ASPHALT, beyond).astype(np.int32)
