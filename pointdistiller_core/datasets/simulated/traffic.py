# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Road users of a street, in street coordinates: parked, driving, walking, in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pointdistiller_core.config.simulation import StreetsConfig
from pointdistiller_core.datasets.simulated.corridor import MOUTH, draw_count
from pointdistiller_core.datasets.simulated.ground import Bend
from pointdistiller_core.datasets.simulated.placement import Placer, room_of
from pointdistiller_core.datasets.simulated.recipes import BAY, PARKING_LANE, Side, Street
from pointdistiller_core.datasets.simulated.road_users import CAR_SHAPES
from pointdistiller_core.datasets.simulated.scene import SIZES, SPEEDS, Actor
from pointdistiller_core.datasets.simulated.variants import NUM_VARIANTS
from pointdistiller_core.geometry.transforms import wrap_angle

PARKED = {'Car': 0.91, 'Van': 0.06, 'Truck': 0.015, 'Misc': 0.015}
DRIVING = {'Car': 0.92, 'Van': 0.08}
SPREAD = {'Car': 1.0, 'Van': 1.0, 'Truck': 1.0, 'Misc': 1.0, 'Pedestrian': 1.2, 'Cyclist': 1.0}
ANGLES = (np.pi / 2, np.pi / 2, np.pi / 3, np.pi / 4)  # of parking places off the street
IN_LANE, WALKING_AWAY, CROSSING = 0.35, 0.22, 0.46  # parts of cyclists and pedestrians
TURNING, IN_CROSS_STREET = 0.12, 0.2  # parts of the cars of a street with a cross street
PLACES = 12  # proposed for one road user


@dataclass(frozen=True)
class _Way:
    """Place and motion of a road user, street coordinates."""

    along: float
    across: float
    yaw: float
    moving: bool


class _Traffic:
    """Fills a street with road users, none of which touches another."""

    def __init__(self, street: Street, placer: Placer, rng: np.random.Generator) -> None:
        self.street = street
        self.actors: list[Actor] = []
        self._placer = placer
        self.rng = rng

    def add(self, name: str, way: _Way, *, clearance: float = 0.4) -> Actor | None:
        """Add a road user, if its way is free."""
        rng, (mean, deviation) = self.rng, SIZES[name]
        spread = 2.2 * SPREAD[name]
        drawn = np.clip(rng.normal(0, SPREAD[name], 3), -spread, spread)
        length, width, height = (mean + drawn * np.array(deviation)).tolist()
        speed = float(SPEEDS[name] * rng.uniform(0.4, 1.2)) if way.moving else 0.0
        velocity = speed * float(np.cos(way.yaw)), speed * float(np.sin(way.yaw))
        room = room_of(length, width, way.yaw)
        place = way.along, way.across
        if not self._placer.try_place(place, room, velocity, clearance=clearance):
            return None
        actor = Actor(
            track_id=len(self.actors),
            name=name,
            size=(length, width, height),
            position=place,
            yaw=float(wrap_angle(way.yaw)),
            speed=speed,
            shape=next(iter(CAR_SHAPES)),
            phase=float(rng.uniform(0, 2 * np.pi)),
            variant=int(rng.integers(NUM_VARIANTS)),
        )
        self.actors.append(actor)
        return actor

    def along(self) -> float:
        """A place along the street, more often near the sensor than far away."""
        low, high = self.street.along
        if self.rng.random() < 0.5:
            return float(np.clip(self.rng.normal(14, 18), low, high))
        return float(self.rng.uniform(low, high))


def fill_street(
    street: Street, config: StreetsConfig, placer: Placer, rng: np.random.Generator
) -> list[Actor]:
    """Road users of a street, in street coordinates."""
    if rng.random() < config.empty:
        return []
    traffic, factors = _Traffic(street, placer, rng), street.recipe.factors
    counts = {
        name: draw_count(getattr(config, name), factors.get(name, 1.0), rng)
        for name in ('cars', 'trucks', 'trailers', 'cyclists', 'pedestrians')
    }
    _drive(traffic, counts)
    taken = rng.uniform(*config.parked)
    for side in street.sides:
        if side.parking:
            _park_along(traffic, side, taken)
        for row in side.rows:
            _park_in_row(traffic, side, row, rng.uniform(*config.parked))
    _ride(traffic, counts['cyclists'])
    _walk(traffic, counts['pedestrians'])
    return traffic.actors


def _drive(traffic: _Traffic, counts: dict[str, int]) -> None:
    """Cars, lorries and trailers on the carriageway and in cross streets."""
    names = [
        *['Truck'] * counts['trucks'],
        *['Misc'] * counts['trailers'],
        *[_pick_name(DRIVING, traffic.rng) for _ in range(counts['cars'])],
    ]
    for name in names:
        _until_added(traffic, name, _lane)


def _lane(traffic: _Traffic) -> _Way:
    """A place in a lane; right-hand traffic: the right lane has negative `across`."""
    rng, street = traffic.rng, traffic.street
    onward = rng.random() < 0.5
    yaw = (0.0 if onward else -np.pi) + rng.normal(0, 0.03)
    moving = bool(rng.random() < 0.8)
    if street.crossings and rng.random() < TURNING:
        middle, half = street.crossings[0]
        turn = float(rng.choice([-1, 1])) * rng.uniform(0.3, 1.3)
        return _Way(middle + rng.uniform(-half, half), rng.uniform(-4, 4), yaw + turn, moving)
    if street.crossings and rng.random() < IN_CROSS_STREET:
        middle, half = street.crossings[0]
        across = rng.uniform(-MOUTH + 5, MOUTH - 5)
        offset = half / 2 * (1 if onward else -1)
        return _Way(middle + offset, across, yaw + np.pi / 2, moving)
    lane = rng.uniform(1.5, max(street.lanes - 1.2, 1.6))
    return _Way(traffic.along(), lane * (-1 if onward else 1), yaw, moving)


def _park_along(traffic: _Traffic, side: Side, taken: float) -> None:
    """Cars one behind the other at the kerb, most of them with the traffic of that side."""
    rng = traffic.rng
    at, last = traffic.street.along
    across = side.sign * (side.kerb - PARKING_LANE / 2 + rng.normal(0.1, 0.15))
    while at < last:
        at += rng.uniform(0.4, 1.4)
        if rng.random() >= taken:
            at += 5.0
            continue
        name = _pick_name(PARKED, rng)
        half = SIZES[name][0][0] / 2
        with_traffic = rng.random() < 0.85
        yaw = (0.0 if (side.sign < 0) == with_traffic else -np.pi) + rng.normal(0, 0.03)
        way = _Way(at + half, across + rng.normal(0, 0.1), yaw, moving=False)
        added = traffic.add(name, way, clearance=0.15)
        at += added.size[0] if added else 2.0


def _park_in_row(traffic: _Traffic, side: Side, across: float, taken: float) -> None:
    """Cars side by side in places across the street, or oblique to it."""
    rng = traffic.rng
    angle = float(rng.choice(ANGLES))
    length, width, _ = SIZES['Car'][0]
    step = 2 * room_of(length, width, angle)[0] + 0.8
    for at in np.arange(*traffic.street.along, step):
        if rng.random() >= taken:
            continue
        turn = angle if rng.random() < 0.7 else angle + np.pi
        place = side.sign * (across + rng.normal(0, 0.15) * BAY / 5)
        yaw = turn + rng.normal(0, 0.04)
        name = 'Van' if rng.random() < 0.05 else 'Car'
        traffic.add(name, _Way(float(at), place, yaw, moving=False), clearance=0.1)


def _ride(traffic: _Traffic, count: int) -> None:
    """Cyclists in lanes, on pavements, crossing the street, and a few standing."""
    for _ in range(count):
        _until_added(traffic, 'Cyclist', _cycle_way)


def _cycle_way(traffic: _Traffic) -> _Way:
    rng, street = traffic.rng, traffic.street
    side = street.sides[rng.integers(2)]
    onward = (side.sign < 0) == (rng.random() < 0.85)
    yaw = (0.0 if onward else -np.pi) + rng.normal(0, 0.12)
    if rng.random() < IN_LANE:
        across = side.sign * rng.uniform(max(side.kerb - 2, 1), side.kerb)
    elif rng.random() < 0.45:
        across, yaw = rng.uniform(-8, 8), float(rng.choice([-1, 1])) * rng.uniform(0.6, 2.5)
    else:
        across = side.sign * rng.uniform(side.kerb, max(side.front - 0.5, side.kerb + 0.5))
    return _Way(traffic.along(), across, yaw, moving=bool(rng.random() < 0.85))


def _walk(traffic: _Traffic, count: int) -> None:
    """Pedestrians alone and in groups: along the pavements, crossing the street, in between."""
    while count > 0:
        first = _until_added(traffic, 'Pedestrian', _path)
        count -= 1
        size = min(count, int(traffic.rng.geometric(0.5)) - 1)
        if first is None or not size:
            continue
        for way in _beside_one_another(first, size, traffic.rng):
            if traffic.add('Pedestrian', way, clearance=-0.1) is not None:
                count -= 1


def _path(traffic: _Traffic) -> _Way:
    rng, street = traffic.rng, traffic.street
    side = street.sides[rng.integers(2)]
    moving = bool(rng.random() < 0.8)
    chance = rng.random()
    if chance < WALKING_AWAY:
        across = side.sign * rng.uniform(side.kerb, side.front - 0.3)
        yaw = float(rng.choice([0, np.pi])) + rng.normal(0, 0.25)
    elif chance < WALKING_AWAY + CROSSING:
        reach = max(side.front - 0.3, 5.0)
        across = rng.uniform(-reach, reach)
        yaw = float(rng.choice([-1, 1])) * np.pi / 2 + rng.normal(0, 0.4)
    else:
        across = side.sign * rng.uniform(side.kerb - 2, side.front - 0.3)
        yaw = rng.uniform(-np.pi, np.pi)
    return _Way(traffic.along(), across, yaw, moving)


def _beside_one_another(first: Actor, count: int, rng: np.random.Generator) -> Iterator[_Way]:
    """People who walk or stand with another one."""
    left = np.array([-np.sin(first.yaw), np.cos(first.yaw)])
    ahead = np.array([left[1], -left[0]])
    for number in range(1, count + 1):
        offset = left * number * rng.uniform(0.65, 0.95) + ahead * rng.normal(0, 0.3)
        place = np.array(first.position) + offset
        facing = 0.0 if first.speed > 0 else rng.uniform(-np.pi, np.pi)
        yaw = first.yaw + facing + rng.normal(0, 0.15)
        yield _Way(float(place[0]), float(place[1]), yaw, moving=first.speed > 0)


def _until_added(
    traffic: _Traffic, name: str, propose: Callable[[_Traffic], _Way]
) -> Actor | None:
    """Propose ways until one is free; None if the street is full."""
    for _ in range(PLACES):
        if (actor := traffic.add(name, propose(traffic))) is not None:
            return actor
    return None


def _pick_name(weights: dict[str, float], rng: np.random.Generator) -> str:
    parts = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=parts / parts.sum()))


def to_world(actor: Actor, street_bend: Bend) -> Actor:
    """A road user of street coordinates in the world frame."""
    along, across = actor.position
    x, y = street_bend.to_world(np.array(along), np.array(across))
    yaw = float(wrap_angle(actor.yaw + along * street_bend.curvature))
    return replace(actor, position=(float(x), float(y)), yaw=yaw)
