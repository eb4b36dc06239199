# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Light of retro-reflectors that comes back to rays beside them."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

# Up to here a halo is at its strongest [m]; beyond, it weakens with the square of the range.
STRONG_RANGE = 30.0


@dataclass(frozen=True)
class Halo:
    """Rays that get light of a reflector which they do not meet.

    Attributes:
        rays: (n,) ascending.
        sources: (n,) the ray whose echo it is, that of the nearest reflector.
        strengths: (n,) in (0, 1]: 1 on the outline of the reflector, 0 where the halo ends.
    """

    rays: IntArray
    sources: IntArray
    strengths: Array


def find_halo(
    directions: FloatArray,
    bright: IntArray,
    ranges: Array,
    *,
    width: float,
    rng: np.random.Generator,
) -> Halo:
    """The rays around bright echoes that get their light, by chance.

    The chance is the strength of the halo at the ray.

    Args:
        directions: (R, 3) unit vectors of the rays, in any order.
        bright: (B,) ascending rays that meet a reflector.
        ranges: (R,) of the echoes [m].
        width: of the halo [rad].
        rng: source of chance.
    """
    sources, rays, angles = _pairs_within(directions, bright, width)
    strengths = (1 - angles / width) * np.minimum((STRONG_RANGE / ranges[sources]) ** 2, 1)
    order = np.argsort(strengths, kind='stable')  # of several assignments the last one holds
    nearest = np.full(len(directions), -1, np.int64)
    nearest[rays[order]] = order
    nearest[bright] = -1
    reached = np.flatnonzero(nearest >= 0)
    chosen = nearest[reached]
    lit = rng.random(len(reached)) < strengths[chosen]
    return Halo(reached[lit], sources[chosen[lit]], strengths[chosen[lit]])


def _pairs_within(
    directions: FloatArray, bright: IntArray, width: float
) -> tuple[IntArray, IntArray, Array]:
    """Bright rays, rays less than `width` [rad] beside them, and the angles between both [rad]."""
    azimuths = np.arctan2(directions[:, 1], directions[:, 0]).astype(np.float64)
    order = np.argsort(azimuths, kind='stable')
    # Three turns, so that the neighbors on the other side of the seam are neighbors, too.
    turns = (azimuths[order] + 2 * np.pi * np.array([[-1.0], [0.0], [1.0]])).ravel()
    level = np.hypot(directions[bright, 0], directions[bright, 1])
    reach = np.minimum(width / np.maximum(level, 1e-6), math.pi)  # wider near the zenith
    first = np.searchsorted(turns, azimuths[bright] - reach)
    counts = np.searchsorted(turns, azimuths[bright] + reach, side='right') - first
    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    rays = order[(np.repeat(first, counts) + steps) % len(order)]
    sources = np.repeat(bright, counts)
    steep = np.abs(directions[rays, 2] - directions[sources, 2]) <= width  # cheap, drops most
    rays, sources = rays[steep], sources[steep]
    # Chords: the cosine of a small angle has too few digits in float32.
    apart = np.linalg.norm(directions[rays] - directions[sources], axis=1).astype(np.float64)
    near = apart < width
    return sources[near], rays[near], apart[near]
