# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Slender things that stand alone in a sweep: what may be taken for people."""

from __future__ import annotations

from collections.abc import Iterator
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

HEIGHTS = {'lower than people': 0.4, 'as tall as people': 1.2, 'taller than people': 2.3}
"""Kinds of things, and the least height [m] above the road of their highest point."""
HIGHEST = 2.7  # [m] above the road; points above it do not count, so crowns of trees do not either
NEAREST, FARTHEST = 5.0, 40.0  # [m] from the sensor
CELL = 0.25  # [m] edge; things whose cells touch, also at a corner, are one
WIDEST = 1.2  # [m] largest extent along x or y
FEWEST_POINTS = 10


def count_free_standing(
    points: FloatArray, above: FloatArray, boxes: FloatArray
) -> dict[str, float]:
    """Number of things of each kind of `HEIGHTS` that no label stands for.

    Args:
        points: (N, 2 or more) x, y [m] of a sweep.
        above: (N,) heights of the points above the road [m]; NaN if there is no road.
        boxes: (G, 7) labels.

    Returns:
        By kind; NaN without a road.
    """
    if not np.isfinite(above).all():
        return dict.fromkeys(HEIGHTS, math.nan)
    counts = dict.fromkeys(HEIGHTS, 0.0)
    distances = np.hypot(points[:, 0], points[:, 1])
    chosen = (above > HEIGHTS['lower than people']) & (above < HIGHEST)
    chosen &= (distances > NEAREST) & (distances < FARTHEST)
    places, heights = points[chosen, :2], above[chosen]
    for thing in _things(places):
        low, high = places[thing].min(axis=0), places[thing].max(axis=0)
        gaps = np.hypot(*(boxes[:, :2] - (low + high) / 2).T)
        if (gaps < np.maximum(boxes[:, 3] / 2, WIDEST / 2)).any():
            continue
        top = heights[thing].max()
        counts[
            max((name for name in HEIGHTS if top >= HEIGHTS[name]), key=HEIGHTS.__getitem__)
        ] += 1
    return counts


def _things(places: FloatArray) -> Iterator[IntArray]:
    """Indices of the points (N, 2) of each thing that is slender and has enough of them."""
    if not len(places):
        return
    size = math.ceil(2 * FARTHEST / CELL)
    cells = np.floor((places + FARTHEST) / CELL).astype(np.int64)
    grid: IntArray = np.full((size + 2, size + 2), -1, np.int64)  # with a margin that stays empty
    rows, columns = cells[:, 0] + 1, cells[:, 1] + 1
    grid[rows, columns] = np.arange(len(places))  # any number that no other cell has
    filled = grid >= 0
    for _ in range(math.ceil(WIDEST / CELL) + 1):  # so far a slender thing reaches at most
        grid = np.where(filled, _around(grid, np.maximum), -1)
    # What reaches farther has several numbers by now, side by side.
    none = len(places)
    least = _around(np.where(filled, grid, none), np.minimum)
    open_ = np.unique(grid[filled & ((_around(grid, np.maximum) != grid) | (least != grid))])
    numbers = grid[rows, columns]
    order = np.argsort(numbers, kind='stable')
    found, starts = np.unique(numbers[order], return_index=True)
    for number, thing in zip(found, np.split(order, starts[1:]), strict=True):
        if len(thing) < FEWEST_POINTS or number in open_:
            continue
        if np.ptp(places[thing], axis=0).max() <= WIDEST:
            yield thing


def _around(grid: IntArray, best: np.ufunc) -> IntArray:
    """The best number of each cell and its eight neighbors."""
    padded = np.pad(grid, 1, mode='edge')
    across = best.reduce([padded[:-2], padded[1:-1], padded[2:]])
    result: IntArray = best.reduce([across[:, :-2], across[:, 1:-1], across[:, 2:]])
    return result
