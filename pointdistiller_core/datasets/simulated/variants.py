# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Road users in many variants: rounded cars with a cabin, loads, trailers, bags and prams.

As in `road_users`, each stands on z = 0, heads along +x, and is stretched to its box.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.simulated.meshes import (
    Material,
    Mesh,
    block,
    ellipsoid,
    merge,
    prism,
    sheet,
    tube,
)
from pointdistiller_core.datasets.simulated.road_users import CAR_SHAPES, car_wheels, pedestrian

if TYPE_CHECKING:
    Array = NDArray[np.float64]

NUM_VARIANTS = 64  # of each road user; each is built once


@cache
def detailed_car(variant: int) -> Mesh:
    """A passenger car of unit extents: a rounded body, a cabin with seats, lights, plates."""
    rng = np.random.default_rng(variant)
    shape = CAR_SHAPES[list(CAR_SHAPES)[variant % len(CAR_SHAPES)]]
    back, front, roof_back, roof_front, waist = (value + rng.normal(0, 0.015) for value in shape)
    back = max(back, -0.485)
    sill = rng.uniform(0.12, 0.19)
    body = _body(rng, sill=sill, waist=waist, windows=(back, front))
    glass = prism(
        [(back, waist), (front, waist), (roof_front, 0.96), (roof_back, 0.96)],
        0.455,
        Material.GLASS,
        top=0.78,
    )
    roof = _roof(roof_back, roof_front)
    parts = [body, glass, roof, *_pillars(back, front, roof_back, roof_front, waist)]
    parts += _cabin(front, back, waist, rng)
    parts += _bright_parts(waist)
    return merge([*parts, *car_wheels(0.30, rng.uniform(0.075, 0.09), rng.uniform(0.2, 0.24))])


def _body(
    rng: np.random.Generator, *, sill: float, waist: float, windows: tuple[float, float]
) -> Mesh:
    """The part below the windows; bonnet and boot fall off towards rounded ends."""
    x = np.array([-0.5, -0.485, -0.43, windows[0] + 0.02, -0.1, windows[1], 0.42, 0.485, 0.5])
    x.sort()
    nose, tail = rng.uniform(0.72, 0.9) * waist, rng.uniform(0.85, 1.0) * waist
    corner = rng.uniform(0.3, 0.42)
    half = np.interp(np.abs(x), [0, 0.40, 0.485, 0.5], [0.5, 0.49, 0.46, corner])
    top = np.interp(
        x, [-0.5, windows[0], windows[1], 0.47, 0.5], [tail, waist, waist, nose, nose * 0.8]
    )
    bottom = np.interp(np.abs(x), [0.42, 0.5], [sill, sill + 0.08])
    across = np.array([0.0, 0.88, 0.97, 1.0, 0.97, 0.9, 0.0])
    rise = np.array([0.0, 0.0, 0.25, 0.55, 0.85, 1.0, 1.02])
    y = np.concatenate([across, -across[::-1]]) * half[:, None]
    z = bottom[:, None] + np.concatenate([rise, rise[::-1]]) * (top - bottom)[:, None]
    grid = np.stack([np.broadcast_to(x[:, None], y.shape), y, z], axis=-1)
    ends = [_cap(grid[0]), _cap(grid[-1])]
    return merge([sheet(grid, Material.LACQUER), *ends])


def _cap(ring: Array) -> Mesh:
    """Close an end: a fan around the middle of a ring (n, 3)."""
    middle = np.broadcast_to(ring.mean(axis=0), ring.shape)
    return sheet(np.stack([ring, middle]), Material.LACQUER)


def _roof(back: float, front: float) -> Mesh:
    """A slightly arched roof."""
    x = np.linspace(back, front, 5)
    y = np.array([-0.36, -0.2, 0.0, 0.2, 0.36])
    arch = 1 - 0.03 * (np.linspace(-1, 1, 5)[:, None] ** 2 + np.linspace(-1, 1, 5) ** 2)
    grid = np.stack([*np.broadcast_arrays(x[:, None], y[None]), arch], axis=-1)
    return sheet(grid, Material.LACQUER)


def _pillars(
    back: float, front: float, roof_back: float, roof_front: float, waist: float
) -> list[Mesh]:
    """Posts between the windows, on both sides."""
    middle = (back + front) / 2
    foot = [(front, roof_front), (middle, (roof_back + roof_front) / 2), (back, roof_back)]
    return [
        tube((low, side * 0.455, waist), (high, side * 0.36, 0.96), 0.014, Material.LACQUER)
        for side in (-1, 1)
        for low, high in foot
    ]


def _cabin(front: float, back: float, waist: float, rng: np.random.Generator) -> list[Mesh]:
    """Seats with head rests, a dashboard, and sometimes people and luggage."""
    row = front - 0.24
    parts = [
        block((front - 0.09, -0.4, waist - 0.1), (front - 0.02, 0.4, waist + 0.04), Material.TRIM)
    ]
    for x in (row, max(row - 0.2, back + 0.06)):
        for y in (-0.22, 0.22):
            parts.append(
                block((x - 0.03, y - 0.14, 0.3), (x + 0.02, y + 0.14, 0.76), Material.CLOTH)
            )
            if rng.random() < 0.3:
                parts.append(ellipsoid((x + 0.03, y, 0.7), (0.03, 0.08, 0.16), Material.CLOTH))
    return parts


def _bright_parts(waist: float) -> list[Mesh]:
    """Plates and rear reflectors."""
    plates = [
        block((x, -0.14, 0.3), (x + 0.004, 0.14, 0.38), Material.PLATE) for x in (-0.504, 0.5)
    ]
    lights = [
        block((-0.503, y - 0.05, waist * 0.72), (-0.47, y + 0.05, waist * 0.85), Material.PLATE)
        for y in (-0.36, 0.36)
    ]
    return [*plates, *lights]


@cache
def detailed_van(variant: int) -> Mesh:
    """A delivery van or a minibus of unit extents."""
    rng = np.random.default_rng(variant)
    nose, brow = rng.uniform(0.36, 0.46), rng.uniform(0.2, 0.33)
    waist = rng.uniform(0.42, 0.52)
    body = prism(
        [(-0.49, 0.1), (0.46, 0.1), (0.5, 0.2), (0.49, waist - 0.06), (nose, waist), (brow, 0.98),
         (-0.47, 1.0), (-0.5, 0.9)],
        0.5,
        Material.LACQUER,
        top=0.93,
    )  # fmt: skip
    screen = prism(
        [(nose + 0.003, waist + 0.03), (nose + 0.01, waist + 0.03), (brow + 0.025, 0.9),
         (brow + 0.015, 0.9)],
        0.43,
        Material.GLASS,
    )  # fmt: skip
    parts = [body, screen, block((-0.503, -0.12, 0.25), (-0.499, 0.12, 0.31), Material.PLATE)]
    stop = brow - 0.02 if rng.random() < 0.5 else -0.45  # windows of a van, of a minibus
    for start in np.arange(brow - 0.16, stop - 0.16, -0.17).tolist():
        for y in (-0.492, 0.486):
            parts.append(block((start, y, 0.56), (start + 0.14, y + 0.006, 0.85), Material.GLASS))
    return merge([*parts, *car_wheels(0.32, 0.07, 0.16)])


@cache
def detailed_truck(variant: int) -> Mesh:
    """A lorry with a box, a flat bed or a tank, or a bus, of unit extents."""
    rng = np.random.default_rng(variant)
    wheels = car_wheels(0.36, 0.05, rng.uniform(0.24, 0.3))
    if variant % 4 == 0:
        panes = [
            block((x, y, 0.48), (x + 0.1, y + 0.006, 0.78), Material.GLASS)
            for x in np.arange(-0.47, 0.4, 0.12).tolist()
            for y in (-0.503, 0.497)
        ]
        front = block((0.497, -0.45, 0.35), (0.503, 0.45, 0.85), Material.GLASS)
        return merge(
            [block((-0.5, -0.5, 0.1), (0.5, 0.5, 1.0), Material.LACQUER), *panes, front, *wheels]
        )
    door = rng.uniform(0.24, 0.34)
    cab = prism(
        [(door, 0.12), (0.5, 0.12), (0.5, 0.45), (0.47, 0.85), (door, 0.9)], 0.49, Material.LACQUER
    )
    screen = block((0.495, -0.42, 0.5), (0.503, 0.42, 0.78), Material.GLASS)
    chassis = block((-0.48, -0.3, 0.14), (door, 0.3, 0.28), Material.METAL)
    loads = [
        block((-0.5, -0.5, 0.28), (door - 0.03, 0.5, 1.0), Material.METAL),
        merge(
            [
                block((-0.5, -0.5, 0.28), (door - 0.03, 0.5, 0.45), Material.METAL),
                block((-0.4, -0.4, 0.45), (0.05, 0.4, 1.0), Material.WOOD),
            ]
        ),
        tube((-0.5, 0, 0.64), (door - 0.04, 0, 0.64), 0.4, Material.METAL),
    ]
    return merge([cab, screen, chassis, loads[variant % 4 - 1], *wheels])


@cache
def trailer(variant: int) -> Mesh:
    """A trailer of unit extents: a caravan, a box or a flat one, with its drawbar."""
    rng = np.random.default_rng(variant)
    top = (1.0, 1.0, rng.uniform(0.6, 0.9))[variant % 3]
    body = block(
        (-0.5, -0.5, 0.22), (0.32, 0.5, top), (Material.LACQUER, Material.TRIM)[variant % 2]
    )
    parts = [body, tube((0.3, 0, 0.25), (0.5, 0, 0.25), 0.02, Material.METAL)]
    if variant % 3 == 0:
        parts += [
            block((-0.2, y, 0.5), (0.1, y + 0.01, 0.8), Material.GLASS) for y in (-0.51, 0.5)
        ]
    if top < 1:
        parts.append(block((-0.48, -0.02, top), (-0.46, 0.02, 1.0), Material.METAL))
    return merge([*parts, *car_wheels(0.07, 0.08, 0.3)[::3]])


def detailed_pedestrian(variant: int, stride: float) -> Mesh:
    """A person: in a coat, with a bag, a pack, an umbrella or a pram.

    Args:
        variant: of its things.
        stride: as of `pedestrian`.
    """
    rng = np.random.default_rng(variant)
    things = [
        ellipsoid((0, 0, 0.95), (0.2, 0.27, 0.55), Material.CLOTH),  # a coat
        ellipsoid((0.05, 0.32, 0.65), (0.17, 0.07, 0.2), Material.TRIM),  # a bag
        ellipsoid((-0.22, 0, 1.2), (0.13, 0.18, 0.27), Material.TRIM),  # a pack
        block((0.35, -0.2, 0.35), (0.75, 0.2, 0.85), Material.TRIM),  # a pram
    ]
    chosen = [
        things[number] for number in range(4) if rng.random() < (0.5, 0.35, 0.3, 0.06)[number]
    ]
    return merge([pedestrian(stride), *chosen])
