# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Things on pavements and verges, around the z axis, on z = 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pointdistiller_core.datasets.simulated.edges import bush, leafy_ball, tree
from pointdistiller_core.datasets.simulated.meshes import (
    Material,
    Mesh,
    block,
    foliage,
    merge,
    tube,
)
from pointdistiller_core.datasets.simulated.road_users import bicycle


def lamp(rng: np.random.Generator) -> Mesh:
    """A lamp post, or a mast."""
    height, radius = rng.uniform(4, 9), rng.uniform(0.06, 0.2)
    arm = tube((0, 0, height - 0.2), (rng.uniform(0.3, 1.5), 0, height), 0.04, Material.METAL)
    return merge([tube((0, 0, -0.2), (0, 0, height), radius, Material.METAL), arm])


def sign(rng: np.random.Generator) -> Mesh:
    """One to three bright signs on a post."""
    height = rng.uniform(2.0, 3.4)
    parts = [tube((0, 0, -0.2), (0, 0, height), rng.uniform(0.03, 0.05), Material.METAL)]
    for number in range(int(rng.integers(1, 4))):
        half, top = rng.uniform(0.15, 0.4), height - 0.65 * number
        parts.append(block((-0.06, -half, top - 0.6), (-0.04, half, top), Material.SIGN))
    return merge(parts)


def signal(rng: np.random.Generator) -> Mesh:
    """A traffic light, on some masts with another for those on foot."""
    top, radius = rng.uniform(2.8, 3.6), rng.uniform(0.05, 0.15)
    parts = [
        tube((0, 0, -0.2), (0, 0, top), radius, Material.METAL),
        block((-0.2, -0.16, top - 1), (0.1, 0.16, top), Material.RUBBER),
    ]
    if rng.random() < 0.5:
        low = rng.uniform(0.8, 1.8)
        parts.append(block((-0.15, -0.25, low), (0.15, 0.15, low + 0.6), Material.RUBBER))
    return merge(parts)


def bollards(rng: np.random.Generator) -> Mesh:
    """A row of posts up to the waist."""
    step, height, radius = rng.uniform(1, 2.5), rng.uniform(0.5, 1.1), rng.uniform(0.04, 0.12)
    material = (Material.METAL, Material.STONE)[rng.integers(2)]
    count = int(rng.integers(1, 6))
    return merge(
        [
            tube((x, 0, -0.1), (x, 0, height), radius, material)
            for x in (np.arange(count) - (count - 1) / 2) * step
        ]
    )


def bins(rng: np.random.Generator) -> Mesh:
    """One to four dustbins, as tall as children, or a container."""
    if rng.random() < 0.2:
        return block((-0.8, -0.6, 0.05), (0.8, 0.6, rng.uniform(1.2, 1.6)), Material.TRIM)
    wide, tall = rng.uniform(0.4, 0.65), rng.uniform(0.9, 1.15)
    return merge(
        [
            block((x, -wide / 2, 0.02), (x + wide, wide / 2, tall), Material.TRIM)
            for x in np.arange(int(rng.integers(1, 5))) * (wide + rng.uniform(0.05, 0.3))
        ]
    )


def cabinet(rng: np.random.Generator) -> Mesh:
    """A distribution box."""
    wide, deep, tall = rng.uniform(0.4, 1.8), rng.uniform(0.25, 0.5), rng.uniform(0.9, 1.6)
    return block((-wide / 2, -deep / 2, -0.1), (wide / 2, deep / 2, tall), Material.TRIM)


def bench(rng: np.random.Generator) -> Mesh:
    """A bench with a back."""
    half = rng.uniform(0.7, 1.1)
    return merge(
        [
            block((-half, -0.2, 0.4), (half, 0.25, 0.47), Material.WOOD),
            block((-half, 0.25, 0.5), (half, 0.3, 0.9), Material.WOOD),
            *(block((x, -0.15, 0), (x + 0.08, 0.25, 0.4), Material.METAL) for x in (-0.6, 0.5)),
        ]
    )


def column(rng: np.random.Generator) -> Mesh:
    """An advertising column."""
    radius = rng.uniform(0.3, 0.65)
    return tube((0, 0, -0.1), (0, 0, rng.uniform(2.2, 3.6)), radius, Material.CONCRETE)


def trunk(rng: np.random.Generator) -> Mesh:
    """One or two uneven stems, with twigs, ivy or a high crown on some."""
    tall = rng.uniform(2.4, 6.5)
    parts = []
    for _ in range(1 + int(rng.random() < 0.2)):
        heights = np.linspace(-0.2, tall, int(rng.integers(3, 7)))
        radii = np.exp(rng.uniform(np.log(0.12), np.log(0.45))) * rng.uniform(
            0.8, 1.3, len(heights)
        )
        middles = np.cumsum(rng.normal(0, 0.07, (len(heights), 2)), axis=0)
        knots = np.column_stack([middles, heights])
        parts += [
            tube(low, high, float(radius), Material.WOOD)
            for low, high, radius in zip(knots, knots[1:], radii, strict=False)
        ]
        for knot in knots[1 : 1 + int(rng.integers(0, 4))]:
            tip = knot + rng.normal(0, (0.4, 0.4, 0.2))
            parts.append(tube(knot, tip, rng.uniform(0.02, 0.06), Material.WOOD))
    if rng.random() < 0.3:
        half, reach = rng.uniform(0.5, 0.5 * tall), rng.uniform(0.2, 0.5)
        parts.append(foliage((0, 0, half), (reach, reach, half), rng, 60))
    if rng.random() < 0.4:
        parts.append(leafy_ball((0, 0, tall + 0.5), rng.uniform(0.8, 2.0, 3).tolist(), rng))
    return merge(parts)


def post(rng: np.random.Generator) -> Mesh:
    """What stands as tall as a person: a gate post, a ticket machine, a letter box on a leg."""
    tall, wide, deep = rng.uniform(1.0, 2.1), rng.uniform(0.25, 0.7), rng.uniform(0.15, 0.5)
    material = (Material.METAL, Material.STONE, Material.TRIM, Material.WOOD)[rng.integers(4)]
    head = block((-deep / 2, -wide / 2, 0), (deep / 2, wide / 2, tall), material)
    if (kind := rng.random()) < 0.4:
        return tube((0, 0, -0.1), (0, 0, tall), wide / 3, material)
    if kind < 0.7:
        return head
    leg = tall * rng.uniform(0.4, 0.75)
    stand = tube((0, 0, -0.1), (0, 0, leg), rng.uniform(0.03, 0.08), material)
    return merge([stand, head.scaled((1, 1, 1 - leg / tall)).placed((0, 0, leg))])


def shrub(rng: np.random.Generator) -> Mesh:
    """A slender plant, as tall as a person."""
    half, reach = rng.uniform(0.4, 1.15), rng.uniform(0.18, 0.5)
    return leafy_ball((0, 0, half), (reach, reach * rng.uniform(0.7, 1.3), half), rng)


def shelter(rng: np.random.Generator) -> Mesh:
    """A bus stop of glass."""
    half = rng.uniform(1.3, 2.2)
    return merge(
        [
            block((-half, 0.7, 0.2), (half, 0.73, 2.1), Material.GLASS),
            block((half, -0.5, 0.2), (half + 0.03, 0.7, 2.1), Material.GLASS),
            block((-half, -0.6, 2.25), (half, 0.8, 2.4), Material.METAL),
            block((-half * 0.7, 0.3, 0.42), (half * 0.7, 0.6, 0.48), Material.WOOD),
            *(tube((x, 0.75, 0), (x, 0.75, 2.3), 0.04, Material.METAL) for x in (-half, half)),
        ]
    )


def planter(rng: np.random.Generator) -> Mesh:
    """A tub with a bush."""
    half, tall = rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.7)
    tub = block((-half, -half, 0), (half, half, tall), Material.STONE)
    return merge([tub, bush(rng).filling((2 * half, 2 * half, 0.8)).placed((0, 0, tall))])


def barrier(rng: np.random.Generator) -> Mesh:
    """Boards of a building site, in a row."""
    length = rng.uniform(1.5, 8)
    return merge(
        [
            block((-length / 2, -0.02, 0.75), (length / 2, 0.02, 1.0), Material.SIGN),
            *(
                block((x, -0.25, 0), (x + 0.06, 0.25, 1.05), Material.TRIM)
                for x in np.arange(-length / 2, length / 2, 1.4).tolist()
            ),
        ]
    )


def parked_bicycles(count: int, rng: np.random.Generator) -> Mesh:
    """Bicycles without riders, side by side, as at a rack or at a wall."""
    step = rng.uniform(0.35, 0.8)
    return merge(
        [
            bicycle().placed((rng.normal(0, 0.1), number * step, 0), float(rng.normal(0, 0.12)))
            for number in range(count)
        ]
    )


FURNITURE: Mapping[str, Callable[[np.random.Generator], Mesh]] = {
    'lamp': lamp,
    'sign': sign,
    'signal': signal,
    'bollards': bollards,
    'bins': bins,
    'cabinet': cabinet,
    'bench': bench,
    'column': column,
    'trunk': trunk,
    'post': post,
    'shrub': shrub,
    'shelter': shelter,
    'planter': planter,
    'barrier': barrier,
    'tree': tree,
    'bush': bush,
}
