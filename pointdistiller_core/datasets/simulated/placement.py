# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Places that stay free."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CLEARANCE = 0.4  # between any two objects [m]
PROPOSALS = 30  # proposed places before something is left out


class Placer:
    """Finds places that stay free; objects are kept as rectangles along x and y."""

    def __init__(
        self, rng: np.random.Generator, *, x_range: tuple[float, float], duration_s: float = 0.0
    ) -> None:
        self.rng = rng
        self.x_range = x_range
        self._duration_s = duration_s
        self._taken: list[tuple[float, ...]] = []  # x, y, half extents, velocity

    def stand(
        self, place: tuple[float, float], room: tuple[float, float], velocity: tuple[float, float]
    ) -> None:
        """Take a place from now on."""
        self._taken.append((*place, *room, *velocity))

    def claim(
        self,
        lateral: Callable[[], float],
        room: tuple[float, float],
        velocity: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[float, float] | None:
        """A place with y from `lateral`, or None if the street is full.

        Args:
            lateral: proposes a distance from the middle of the street [m].
            room: half extents along x and y [m].
            velocity: along x and y [m/s]; the way must be free, too.
        """
        for _ in range(PROPOSALS):
            place = self._along(), lateral()
            if self.try_place(place, room, velocity):
                return place
        return None

    def try_place(
        self,
        place: tuple[float, float],
        room: tuple[float, float],
        velocity: tuple[float, float] = (0.0, 0.0),
        *,
        clearance: float = CLEARANCE,
    ) -> bool:
        """Take a place if it and the way from there are free, and say whether they were.

        Args:
            place: middle, along and across the street [m].
            room: half extents [m].
            velocity: [m/s].
            clearance: to everything else [m].
        """
        if self._meets(place, room, velocity, clearance):
            return False
        self.stand(place, room, velocity)
        return True

    def _meets(
        self,
        place: tuple[float, float],
        room: tuple[float, float],
        velocity: tuple[float, float],
        clearance: float,
    ) -> bool:
        """Whether it touches anything, at any time of the drive."""
        taken = np.array(self._taken).reshape(-1, 3, 2)
        offset, reach = taken[:, 0] - place, taken[:, 1] + room + clearance
        drift = taken[:, 2] - velocity
        drift = np.where(np.abs(drift) < 1e-9, 1e-9, drift)  # at rest: together always or never
        first, second = (-reach - offset) / drift, (reach - offset) / drift
        begin = np.minimum(first, second).max(axis=1, initial=0.0)
        end = np.maximum(first, second).min(axis=1, initial=self._duration_s)
        return bool((begin <= end).any())

    def _along(self) -> float:
        """More often near the sensor and ahead of it than far away or behind."""
        low, high = self.x_range
        if self.rng.random() < 0.65:
            return float(self.rng.uniform(4, high - 30))
        return float(self.rng.uniform(low, high))

    def sided(self, low: float, high: float) -> float:
        """A distance from the middle of the street, on either side."""
        return float(self.rng.choice([-1, 1]) * self.rng.uniform(low, high))


def room_of(length: float, width: float, yaw: float) -> tuple[float, float]:
    """Half extents along x and y of a turned rectangle [m]."""
    cos, sin = abs(float(np.cos(yaw))), abs(float(np.sin(yaw)))
    return (length * cos + width * sin) / 2, (length * sin + width * cos) / 2
