# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Edges of a street: hedges, walls, fences, houses, banks and woods.

Each is built from x = 0 to its length, from y = 0 away from the street, on z = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.simulated.meshes import (
    Material,
    Mesh,
    block,
    blocks,
    ellipsoid,
    merge,
    sheet,
    tube,
)

if TYPE_CHECKING:
    Array = NDArray[np.float64]

Edge: TypeAlias = tuple[Mesh, float]  # and its depth [m]
FLOOR, BASE = 2.9, -0.6  # height of a storey; where walls begin below the ground [m]
NUM_PLANTS = 64  # trees, and as many bushes, that are built once and stretched
GLAZED = 0.6  # part of the houses whose windows reflect; in the others curtains return beams
PORCH = 0.6  # depth of things in front of an edge, near the ground [m]


def hedge(length: float, rng: np.random.Generator) -> Edge:
    """A continuous hedge of leaves, up to twice as tall as a person."""
    height, depth = rng.uniform(0.7, 2.8), rng.uniform(0.6, 1.6)
    return leafy_wall(length, height, depth, rng, bump=rng.uniform(0.05, 0.25)), depth


def leafy_wall(
    length: float,
    height: float,
    depth: float,
    rng: np.random.Generator,
    *,
    bump: float,
    cell: float = 0.7,
) -> Mesh:
    """A bumpy wall of leaves, with its back.

    Args:
        length: along x [m].
        height: of its top [m].
        depth: along y [m].
        rng: source of chance.
        bump: deviation of its surface [m].
        cell: distance of its bumps [m].
    """
    x = np.linspace(0, length, max(2, round(length / cell)) + 1)
    # From the foot of the front over the top to the foot of the back.
    rise = np.linspace(0, 1, max(2, round(height / cell)) + 1)
    y = np.concatenate([np.zeros_like(rise), np.full_like(rise, depth)])
    z = np.concatenate([rise, rise[::-1]]) * height
    grid = np.stack(
        [np.broadcast_to(values, (len(x), len(y))) for values in (x[:, None], y, z)], axis=-1
    )
    noise = rng.normal(0, bump, grid.shape)
    noise[..., 2] *= z > 0.3
    return sheet(grid + noise, Material.FOLIAGE)


def wall(length: float, rng: np.random.Generator) -> Edge:
    """A wall of stone or plaster, with posts."""
    height, depth = rng.uniform(0.5, 2.4), rng.uniform(0.15, 0.4)
    material = (Material.STONE, Material.PLASTER)[rng.integers(2)]
    parts = [block((0, 0, BASE), (length, depth, height), material)]
    if rng.random() < 0.4:
        at = np.arange(0, length, rng.uniform(2.5, 5))
        ends = np.stack(
            [
                np.stack([at, np.full_like(at, -0.06), np.full_like(at, BASE)], -1),
                np.stack([at + 0.4, at * 0 + depth + 0.06, at * 0 + height + 0.15], -1),
            ],
            axis=1,
        )
        parts.append(blocks(ends, material))
    return merge(parts), depth


def fence(length: float, rng: np.random.Generator) -> Edge:
    """Bars with gaps, boards, or rails between posts, sometimes with leaves behind them."""
    height = rng.uniform(0.8, 2.0)
    material = (Material.WOOD, Material.METAL)[rng.integers(2)]
    kind = rng.choice(['bars', 'boards', 'rails'])
    width, step = {'bars': (0.04, 0.15), 'boards': (0.14, 0.2), 'rails': (0.08, 2.2)}[kind]
    at = np.arange(0, length, step)
    low = np.stack([at, at * 0, at * 0 + (0.0 if kind == 'rails' else 0.08)], -1)
    high = np.stack([at + width, at * 0 + 0.04, at * 0 + height], -1)
    rails = np.array(
        [[[0, -0.03, z * height - 0.05], [length, 0, z * height + 0.05]] for z in (0.35, 0.85)]
    )
    parts = [blocks(np.stack([low, high], axis=1), material), blocks(rails, material)]
    if rng.random() < 0.3:
        behind = leafy_wall(length, height * rng.uniform(0.7, 1.2), 0.8, rng, bump=0.15)
        parts.append(behind.placed((0, 0.5, 0)))
    return merge(parts), 0.3


def guard_rail(length: float, rng: np.random.Generator) -> Edge:
    """A crash barrier."""
    at = np.arange(0.5, length, rng.choice([2.0, 4.0]))
    zero = np.zeros_like(at)
    posts = np.stack(
        [np.stack([at, zero + 0.05, zero], -1), np.stack([at + 0.1, zero + 0.15, zero + 0.7], -1)],
        axis=1,
    )
    beam = np.array([[[0, 0, 0.45], [length, 0.08, 0.75]]])
    return merge([blocks(beam, Material.METAL), blocks(posts, Material.METAL)]), 0.3


def house(length: float, rng: np.random.Generator) -> Edge:
    """A front with windows, doors, balconies, porches and pipes."""
    depth = rng.uniform(7, 13)
    floors = int(rng.integers(1, 5))
    height = floors * FLOOR + rng.uniform(0.3, 2)
    material = (Material.PLASTER, Material.STONE, Material.CONCRETE)[rng.integers(3)]
    parts = [block((0, 0, BASE), (length, depth, height), material)]
    windows = _windows(length, floors, rng)
    if len(windows) and rng.random() < GLAZED:
        parts.append(blocks(windows, Material.GLASS))
    parts.append(_attachments(length, height, rng))
    return merge(parts), depth


def _windows(length: float, floors: int, rng: np.random.Generator) -> Array:
    """(n, 2, 3) bounds of panes just before the front, and doors among them."""
    width, gap, tall = rng.uniform(0.8, 2.2), rng.uniform(0.8, 2.5), rng.uniform(1.0, 1.7)
    at = np.arange(gap, length - width, width + gap)
    sills = np.arange(floors) * FLOOR + rng.uniform(0.6, 1.1)
    x, z = (values.ravel() for values in np.meshgrid(at, sills))
    bounds: Array = np.stack(
        [
            np.stack([x, np.full_like(x, -0.02), z], -1),
            np.stack([x + width, x * 0 + 0.01, z + tall], -1),
        ],
        axis=1,
    )
    return bounds


def _attachments(length: float, height: float, rng: np.random.Generator) -> Mesh:
    """Steps, porches, balconies, bay windows and down pipes before a front."""
    bounds = []
    for _ in range(int(rng.integers(1, 3 + int(length / 5)))):
        x, kind = rng.uniform(0, max(length - 2, 0.1)), rng.integers(4)
        wide, out = rng.uniform(0.8, 3), rng.uniform(0.15, PORCH)
        bottom, top = [
            (0.0, rng.uniform(0.2, 0.7)),  # steps
            (0.0, min(height, rng.uniform(2.2, 6))),  # a bay, a porch
            (FLOOR, FLOOR + 1.1),  # a balcony
            (0.0, height),  # a pipe
        ][kind]
        if kind == 2:
            out *= 2
        if kind == 3:
            wide, out = 0.12, 0.12
        bounds.append([[x, -out, bottom], [min(x + wide, length), 0, top]])
    return blocks(np.array(bounds), Material.TRIM)


def garden(length: float, rng: np.random.Generator) -> Edge:
    """A low hedge, wall or fence, and a house behind a front garden."""
    low = (hedge, wall, fence, None)[rng.integers(4)]
    parts, back = [], 0.0
    if low is not None:
        gate = rng.uniform(0.2, 0.8) * length
        for start, stop in ((0.0, gate), (gate + rng.uniform(1, 3), length)):
            if stop - start > 0.8:
                mesh, back = low(stop - start, rng)
                parts.append(mesh.scaled((1, 1, rng.uniform(0.4, 0.8))).placed((start, 0, 0)))
    setback = back + rng.uniform(2, 7)
    part = rng.uniform(0.6, 1.0) * length
    front, depth = house(part, rng)
    parts.append(front.placed((rng.uniform(0, length - part), setback, 0)))
    parts += [
        bush(rng).placed((rng.uniform(0, length), rng.uniform(back + 0.5, setback), 0))
        for _ in range(int(rng.integers(0, 4)))
    ]
    return merge(parts), setback + depth


def bank(length: float, rng: np.random.Generator) -> Edge:
    """An embankment that rises from the road, with brush and trees on it."""
    depth, height = rng.uniform(2.5, 9), rng.uniform(0.8, 4.5)
    x = np.linspace(0, length, max(2, round(length / 1.5)) + 1)
    part = np.array([0, 0.15, 0.35, 0.6, 0.85, 1.0, 1.8])
    rise = np.minimum(part, 1) ** rng.uniform(0.8, 1.3) * height
    grid = np.stack(
        [
            np.broadcast_to(values, (len(x), len(part)))
            for values in (x[:, None], part * depth, rise)
        ],
        axis=-1,
    )
    bumps = rng.normal(0, rng.uniform(0.04, 0.18), grid.shape) * [0, 1, 1]
    parts = [sheet(grid + bumps, (Material.MEADOW, Material.FOLIAGE)[rng.integers(2)])]
    for _ in range(int(rng.integers(0, 2 + int(length / 5)))):
        at = rng.uniform(0.2, 1.5)
        plant = tree(rng) if rng.random() < 0.4 else bush(rng)
        level = float(np.interp(at, part, rise)) - 0.1
        parts.append(plant.placed((rng.uniform(0, length), at * depth, level)))
    return merge(parts), depth


def wood(length: float, rng: np.random.Generator) -> Edge:
    """Trees and brush, dense enough to hide everything behind after some metres."""
    depth = rng.uniform(6, 14)
    count = int(length * rng.uniform(0.5, 1.1))
    parts = [
        plant.placed((rng.uniform(0, length), rng.uniform(0.5, depth), 0))
        for plant in (tree(rng) if rng.random() < 0.55 else bush(rng) for _ in range(count + 1))
    ]
    back = leafy_wall(length, rng.uniform(4, 8), 1.0, rng, bump=0.5, cell=2.0)
    return merge([*parts, back.placed((0, depth, 0))]), depth + 1


def meadow(length: float, rng: np.random.Generator) -> Edge:
    """Open ground with a few bushes and trees far apart."""
    parts = [
        plant.placed((rng.uniform(0, length), rng.uniform(1, 15), 0))
        for plant in (
            tree(rng) if rng.random() < 0.4 else bush(rng)
            for _ in range(1 + int(rng.poisson(length / 12)))
        )
    ]
    return merge(parts), 0.5


def tree(rng: np.random.Generator) -> Mesh:
    """A trunk and a crown of leaves around the z axis."""
    return _grown(_tree(int(rng.integers(NUM_PLANTS))), rng)


def bush(rng: np.random.Generator) -> Mesh:
    """One to three balls of leaves on the ground."""
    return _grown(_bush(int(rng.integers(NUM_PLANTS))), rng)


def _grown(plant: Mesh, rng: np.random.Generator) -> Mesh:
    """A plant of another size, turned."""
    factors = rng.uniform(0.75, 1.35, 3)
    return plant.scaled(factors.tolist()).placed((0, 0, 0), float(rng.uniform(0, 2 * np.pi)))


@cache
def _tree(variant: int) -> Mesh:
    rng = np.random.default_rng(variant)
    bole, thick = rng.uniform(1.5, 3.3), rng.uniform(0.07, 0.3)
    reach, tall = rng.uniform(1.0, 2.8), rng.uniform(1.0, 2.8)
    lean = rng.normal(0, 0.15, 2)
    trunk = tube((0, 0, -0.3), (*lean, bole + tall * 0.5), thick, Material.WOOD)
    radii = (reach, reach * rng.uniform(0.7, 1.2), tall)
    return merge([trunk, leafy_ball((*lean, bole + tall * 0.8), radii, rng)])


@cache
def _bush(variant: int) -> Mesh:
    rng = np.random.default_rng(variant)
    radius = rng.uniform(0.3, 1.2)
    return merge(
        [
            leafy_ball(
                (*rng.normal(0, radius / 2, 2), radius * rng.uniform(0.2, 0.8)),
                (radius * rng.uniform(0.5, 1.1, 3)).tolist(),
                rng,
            )
            for _ in range(1 + variant % 3)
        ]
    )


def leafy_ball(center: Sequence[float], radii: Sequence[float], rng: np.random.Generator) -> Mesh:
    """A bumpy ellipsoid of leaves."""
    ball = ellipsoid((0, 0, 0), radii, Material.FOLIAGE)
    bumps = 1 + rng.normal(0, 0.18, (len(ball.vertices), 1))
    return ball.mapped(lambda vertices: vertices * bumps + np.asarray(center))


EDGES: Mapping[str, Callable[[float, np.random.Generator], Edge]] = {
    'hedge': hedge,
    'wall': wall,
    'fence': fence,
    'guard_rail': guard_rail,
    'house': house,
    'garden': garden,
    'bank': bank,
    'wood': wood,
    'meadow': meadow,
}
