# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What stands still along a street, in street coordinates: along, across, up [m]."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pointdistiller_core.config.simulation import CrowdConfig, StreetsConfig
from pointdistiller_core.datasets.simulated.edges import (
    EDGES,
    PORCH,
    hedge,
    house,
    leafy_wall,
    meadow,
    wall,
    wood,
)
from pointdistiller_core.datasets.simulated.furniture import FURNITURE, parked_bicycles
from pointdistiller_core.datasets.simulated.meshes import Mesh
from pointdistiller_core.datasets.simulated.placement import Placer
from pointdistiller_core.datasets.simulated.recipes import Side, Span, Street, Weights

BEYOND = 18.0  # length of edges beyond the populated street [m]
GATE = 0.12  # chance of a gap in an edge
STEP_BACK = 0.15  # chance of an edge that stands back from the others
MOUTH = 40.0  # length of cross streets to both sides [m]
LAYER = 14.0  # distance from the front of one layer of edges to the next [m]


def lay_edges(street: Street, placer: Placer, rng: np.random.Generator) -> list[Mesh]:
    """The edges of a street on both sides, and behind them; nothing else may stand there."""
    meshes: list[Mesh] = []
    for side in street.sides:
        for start, stop in _stretches(street, rng):
            if rng.random() < GATE:
                continue
            front = side.front + abs(rng.normal(0, 0.5))
            if rng.random() < STEP_BACK:
                front += rng.uniform(2, 9)
            edge = EDGES[_pick(street.recipe.edges, rng)](stop - start, rng)
            meshes.append(_beside(edge[0], side.sign, (start, stop), front))
            _reserve(placer, side.sign, (start, stop), (front - PORCH, front + edge[1]))
        meshes += _layer_behind(street, side, rng)
    for crossing in street.crossings:
        meshes += _lay_cross_street(street, crossing, placer, rng)
    if street.ends:
        meshes += _close(street, street.ends, placer, rng)
    return meshes


def _stretches(street: Street, rng: np.random.Generator) -> Iterator[Span]:
    """Pieces of 4 to 40 m along a side, without the mouths of cross streets."""
    at, last = street.along[0] - BEYOND, street.along[1] + BEYOND
    mouths = [(middle - half, middle + half) for middle, half in street.crossings]
    while at < last:
        stop = min(at + float(np.clip(4 + rng.exponential(13), 4, 40)), last)
        for low, high in mouths:
            if at < high and stop > low:
                stop = low if at < low - 1 else high
        if stop - at > 1 and not any(low - 0.1 <= at < high for low, high in mouths):
            yield at, stop
        at = stop


def _beside(mesh: Mesh, sign: int, span: Span, front: float) -> Mesh:
    """An edge on the left (+1) or on the right (-1) of the street."""
    if sign > 0:
        return mesh.placed((span[0], front, 0))
    return mesh.placed((span[1], -front, 0), np.pi)


def _reserve(placer: Placer, sign: int, along: Span, across: Span) -> None:
    """Keep a rectangle free of other things; `across` is from the middle of the street."""
    (start, stop), (near, far) = along, across
    place = ((start + stop) / 2, sign * (near + far) / 2)
    placer.stand(place, ((stop - start) / 2, (far - near) / 2), (0.0, 0.0))


def _layer_behind(street: Street, side: Side, rng: np.random.Generator) -> list[Mesh]:
    """Houses, trees and hedges seen through gaps and above low edges."""
    front = side.front + LAYER + rng.uniform(0, 12)
    meshes = []
    for start, stop in _stretches(street, rng):
        build = (house, wood, hedge, meadow, None)[rng.choice(5, p=(0.35, 0.25, 0.15, 0.1, 0.15))]
        if build is not None:
            mesh = build(stop - start, rng)[0]
            meshes.append(_beside(mesh, side.sign, (start, stop), front + rng.uniform(0, 4)))
    return meshes


def _lay_cross_street(
    street: Street, crossing: Span, placer: Placer, rng: np.random.Generator
) -> list[Mesh]:
    """The edges of a cross street, on both sides of it and of the street."""
    middle, half = crossing
    meshes = []
    for side in street.sides:
        for turn in (1, -1):
            at = side.front + 1.5
            while at < MOUTH:
                length = float(rng.uniform(5, 16))
                build = (house, wall, hedge)[rng.integers(3)]
                if rng.random() > GATE:
                    mesh, depth = build(length, rng)
                    # Local x goes across the street, local y away from the cross street.
                    low = at if side.sign > 0 else -at - length
                    start = low if turn > 0 else low + length
                    meshes.append(mesh.placed((middle - turn * half, start, 0), turn * np.pi / 2))
                    bounds = middle - turn * (half - PORCH), middle - turn * (half + depth)
                    along = (min(bounds), max(bounds))
                    _reserve(placer, side.sign, along, (at, at + length))
                at += length
    return meshes


def _close(street: Street, ends: Span, placer: Placer, rng: np.random.Generator) -> list[Mesh]:
    """Houses and walls across both ends of a courtyard."""
    meshes = []
    left, right = street.sides[0].front, street.sides[1].front
    for end, turn in zip(ends, (1, -1), strict=True):
        at = -right
        while at < left:
            length = min(float(rng.uniform(6, 14)), left - at + 1)
            mesh, depth = (house, wall, hedge)[rng.integers(3)](length, rng)
            start = at if turn > 0 else at + length
            meshes.append(mesh.placed((end, start, 0), turn * np.pi / 2))
            near, far = end + turn * PORCH, end - turn * depth
            room = (abs(near - far) / 2, length / 2)
            placer.stand(((near + far) / 2, at + length / 2), room, (0.0, 0.0))
            at += length
    return meshes


def lay_background(street: Street, config: StreetsConfig, rng: np.random.Generator) -> list[Mesh]:
    """Distant woods and houses all round, which close the view."""
    left, right, back, ahead = rng.uniform(*config.background, size=4)
    low, high = min(-back, street.along[0] - 3), max(ahead, street.along[1] + 3)
    left, right = max(left, MOUTH + 5), max(right, MOUTH + 5)
    runs = [
        ((low, left), 0.0, high - low),
        ((high, -right), np.pi, high - low),
        ((low, -right), np.pi / 2, left + right),
        ((high, left), -np.pi / 2, left + right),
    ]
    meshes = []
    for start, yaw, length in runs:
        direction = np.array([np.cos(yaw), np.sin(yaw)])
        at = 0.0
        while at < length:
            piece = float(rng.uniform(8, 25))
            if rng.random() > street.recipe.open_view:
                place = np.asarray(start) + at * direction
                mesh = _far_piece(piece, rng).placed((0, rng.uniform(0, 6), 0))
                meshes.append(mesh.placed((*place, -1.0), yaw))
            at += piece
    return meshes


def _far_piece(length: float, rng: np.random.Generator) -> Mesh:
    if rng.random() < 0.35:
        return house(length, rng)[0]
    return leafy_wall(length, rng.uniform(5, 14), 2.0, rng, bump=rng.uniform(0.3, 0.9), cell=2.5)


def lay_furniture(
    street: Street, config: StreetsConfig, placer: Placer, rng: np.random.Generator
) -> list[Mesh]:
    """Posts, signs, bins, trees, and bicycles without riders on the verges."""
    length = street.along[1] - street.along[0]
    factors = street.recipe.factors
    per_100_m = rng.integers(config.furniture[0], config.furniture[1] + 1)
    count = round(per_100_m * factors.get('furniture', 1.0) * length / 100)
    meshes = []
    for _ in range(count):
        mesh = FURNITURE[_pick(street.recipe.furniture, rng)](rng)
        meshes += _on_verge(mesh, street, placer, rng)
    for _ in range(draw_count(config.bicycles, factors.get('bicycles', 1.0), rng)):
        meshes += _on_verge(parked_bicycles(int(rng.integers(1, 6)), rng), street, placer, rng)
    return meshes


def _on_verge(mesh: Mesh, street: Street, placer: Placer, rng: np.random.Generator) -> list[Mesh]:
    """A thing somewhere between kerb and edge, if there is a place; along or across the street."""
    side = street.sides[rng.integers(2)]
    yaw = float(rng.choice([0, np.pi / 2, np.pi, -np.pi / 2]) + rng.normal(0, 0.05))
    turned = mesh.placed((0, 0, 0), yaw)
    room = np.minimum(np.abs(turned.vertices[turned.vertices[:, 2] < 2]).max(axis=0)[:2], 4.0)
    low, high = side.kerb + room[1] + 0.1, max(side.front - room[1], side.kerb + room[1] + 0.2)
    place = (rng.uniform(*street.along), side.sign * rng.uniform(low, high))
    if not placer.try_place(place, (float(room[0]), float(room[1])), clearance=0.1):
        return []
    return [turned.placed((*place, 0))]


def draw_count(crowd: CrowdConfig, factor: float, rng: np.random.Generator) -> int:
    """Draw a number; `factor` multiplies the chance of any. Small numbers are frequent."""
    if rng.random() >= crowd.chance * factor:
        return 0
    low, high = crowd.count
    return low + int((high - low + 1) * rng.random() ** 2)


def _pick(weights: Weights, rng: np.random.Generator) -> str:
    parts = np.array(list(weights.values()), np.float64)
    return str(list(weights)[rng.choice(len(parts), p=parts / parts.sum())])
