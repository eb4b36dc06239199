# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Kinds of streets, and one street drawn from its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.simulated.ground import Bend, StreetGround

if TYPE_CHECKING:
    Array = NDArray[np.float64]

Span: TypeAlias = tuple[float, float]
Weights: TypeAlias = Mapping[str, float]

PARKING_LANE, BAY, AISLE = 2.2, 5.2, 6.0  # widths [m]
LEAST_FRONT = 4.6  # shortest distance of edges from the middle of the street [m]


@dataclass(frozen=True)
class Recipe:
    """Common properties of streets of a kind; lengths in metres.

    Attributes:
        edges: weights of their edges, by names of `EDGES`.
        lanes: half width without parking lanes.
        verge: width of pavement or grass between kerb and edge.
        kerb: chance of a kerb.
        parking: chance of a parking lane, on each side.
        crossing: chance of a cross street.
        closed: chance that the street ends after 12 to 35 m.
        lots: chance of rows of parking places beside the street, on each side.
        open_view: part of the background that is missing.
        furniture: weights of things on the verge, by names of `FURNITURE`.
        factors: on the chances of road users and on the number of pieces of furniture.
    """

    edges: Weights
    lanes: Span
    verge: Span
    furniture: Weights
    kerb: float = 0.8
    parking: float = 0.0
    crossing: float = 0.3
    closed: float = 0.0
    lots: float = 0.0
    open_view: float = 0.04
    factors: Weights = field(default_factory=dict)


IN_TOWN = {
    'lamp': 3, 'sign': 3, 'signal': 1, 'bollards': 2, 'bins': 2, 'cabinet': 1.5, 'bench': 1,
    'column': 0.4, 'shelter': 0.4, 'planter': 1, 'barrier': 0.4, 'tree': 3, 'bush': 1,
    'trunk': 8, 'post': 4, 'shrub': 2,
}  # fmt: skip
OUT_OF_TOWN = {
    'lamp': 1, 'sign': 2, 'bollards': 2, 'barrier': 0.3, 'tree': 4, 'bush': 4,
    'trunk': 8, 'post': 2, 'shrub': 3,
}  # fmt: skip

RECIPES: Mapping[str, Recipe] = {
    'residential': Recipe(
        edges={'garden': 5, 'hedge': 3, 'wall': 2, 'fence': 2, 'house': 1.5, 'bank': 0.5},
        lanes=(3.0, 4.0),
        verge=(0.8, 3.0),
        furniture=IN_TOWN,
        parking=0.7,
        crossing=0.5,
        factors={'trucks': 0.6},
    ),
    'city': Recipe(
        edges={'house': 8, 'wall': 1, 'fence': 0.7, 'hedge': 0.7},
        lanes=(3.2, 6.5),
        verge=(1.8, 5.0),
        furniture=IN_TOWN,
        parking=0.55,
        crossing=0.5,
        factors={'pedestrians': 1.5, 'cyclists': 1.3, 'bicycles': 1.5},
    ),
    'road': Recipe(
        edges={
            'bank': 3,
            'wood': 2,
            'hedge': 2,
            'guard_rail': 1.5,
            'wall': 1.5,
            'fence': 1,
            'meadow': 1.5,
            'house': 1,
        },
        lanes=(3.6, 8.0),
        verge=(0.8, 6.0),
        furniture=OUT_OF_TOWN,
        kerb=0.6,
        parking=0.08,
        factors={'pedestrians': 0.3, 'cyclists': 0.6, 'bicycles': 0.1, 'trucks': 1.4},
        open_view=0.08,
    ),
    'country': Recipe(
        edges={'wood': 4, 'bank': 3, 'hedge': 3, 'meadow': 2, 'fence': 1, 'guard_rail': 0.5},
        lanes=(2.8, 4.0),
        verge=(0.6, 3.0),
        furniture=OUT_OF_TOWN,
        kerb=0.1,
        crossing=0.15,
        factors={
            'cars': 0.7,
            'pedestrians': 0.2,
            'cyclists': 0.5,
            'bicycles': 0.0,
            'furniture': 0.6,
        },
        open_view=0.12,
    ),
    'junction': Recipe(
        edges={'house': 4, 'garden': 2, 'hedge': 2, 'wall': 1.5, 'fence': 1, 'bank': 0.5},
        lanes=(3.4, 7.0),
        verge=(1.5, 5.0),
        furniture={**IN_TOWN, 'signal': 5},
        parking=0.3,
        crossing=1.0,
        factors={'cars': 1.2, 'pedestrians': 1.4, 'cyclists': 1.3},
    ),
    'courtyard': Recipe(
        edges={'house': 5, 'wall': 2, 'hedge': 1, 'fence': 1},
        lanes=(3.0, 5.0),
        verge=(2.5, 9.0),
        furniture=IN_TOWN,
        kerb=0.4,
        parking=0.4,
        crossing=0.2,
        closed=0.8,
        factors={'cars': 0.5, 'pedestrians': 1.5, 'cyclists': 1.2, 'trucks': 0.4},
    ),
    'car_park': Recipe(
        edges={'house': 2, 'hedge': 2, 'fence': 2, 'wall': 1, 'wood': 1},
        lanes=(3.0, 4.0),
        verge=(0.8, 2.0),
        furniture=IN_TOWN,
        kerb=0.5,
        parking=0.2,
        lots=0.75,
        factors={'pedestrians': 1.2, 'furniture': 0.7},
    ),
}


@dataclass(frozen=True)
class Side:
    """One side of a street, all distances from its middle [m].

    Attributes:
        sign: +1 left, -1 right.
        kerb: where the carriageway ends, its parking lane included.
        parking: whether there is a lane for parking along the kerb.
        rows: middles of rows of parking places beside the street.
        front: where the edge begins.
        hill: how much the land rises beyond, per metre.
    """

    sign: int
    kerb: float
    parking: bool
    rows: tuple[float, ...]
    front: float
    hill: float


@dataclass(frozen=True)
class Street:
    """A street drawn from a recipe.

    Attributes:
        recipe: its kind.
        along: from, to [m] where road users are.
        lanes: half width of the carriageway without parking lanes [m].
        sides: left, right.
        crossings: middle along the street and half width of cross streets [m].
        ends: where it is closed, if anywhere [m].
    """

    recipe: Recipe
    along: Span
    lanes: float
    sides: tuple[Side, Side]
    crossings: tuple[Span, ...]
    ends: Span | None


def draw_street(recipe: Recipe, along: Span, rng: np.random.Generator) -> Street:
    """Draw a street of a kind, with road users along `along` [m]."""
    lanes = rng.uniform(*recipe.lanes)
    crossings = []
    if rng.random() < recipe.crossing:
        crossings.append((float(rng.uniform(-20, 40)), float(rng.uniform(3, 7))))
    ends = None
    if rng.random() < recipe.closed:
        ends = -float(rng.uniform(12, 30)), float(rng.uniform(15, 40))
        along = max(along[0], ends[0] + 3), min(along[1], ends[1] - 3)
    sides = _draw_side(recipe, lanes, 1, rng), _draw_side(recipe, lanes, -1, rng)
    return Street(recipe, along, lanes, sides, tuple(crossings), ends)


def _draw_side(recipe: Recipe, lanes: float, sign: int, rng: np.random.Generator) -> Side:
    parking = bool(rng.random() < recipe.parking)
    kerb = lanes + (PARKING_LANE if parking else 0.0)
    front = kerb + rng.uniform(*recipe.verge)
    rows: list[float] = []
    if rng.random() < recipe.lots:
        for _ in range(int(rng.integers(1, 4))):
            rows.append(front + BAY / 2)
            front += BAY + (AISLE if len(rows) % 2 else 0.0)
    front = max(front, LEAST_FRONT)
    return Side(sign, kerb, parking, tuple(rows), front, float(rng.normal(0, 0.04)))


def draw_ground(street: Street, bend: float, rng: np.random.Generator) -> StreetGround:
    """The cross section of a street, on a gentle slope."""
    recipe = street.recipe
    kerb = float(rng.uniform(0.06, 0.16)) if rng.random() < recipe.kerb else 0.0
    ditch = 0.0 if kerb else float(rng.uniform(-0.3, 0.05))
    crown = float(rng.uniform(0, 0.06))
    stations, levels = [0.0], [crown]
    for side in street.sides:
        at = [side.kerb, side.kerb + 0.06, side.front, side.front + 3, side.front + 90]
        rise = [0.0, kerb, kerb + ditch, kerb + ditch * 0.5, kerb + side.hill * 90]
        stations += [side.sign * place for place in at]
        levels += rise
    order = np.argsort(stations)
    count = 5
    waves = np.stack(
        [
            rng.uniform(0.003, 0.02, count),
            rng.normal(0, 0.12, count),
            rng.normal(0, 0.12, count),
            rng.uniform(0, 2 * np.pi, count),
        ],
        axis=1,
    )
    return StreetGround(
        slope=rng.normal(0, (0.007, 0.01)),
        waves=waves,
        crest=float(rng.normal(0, 0.0004)),
        stations=np.array(stations)[order],
        levels=np.array(levels)[order],
        bend=Bend(bend),
    )


def draw_bend(largest: float, rng: np.random.Generator) -> float:
    """Curvature [1/m]: half of the streets are straight."""
    return float(rng.uniform(-largest, largest)) if rng.random() < 0.5 else 0.0
