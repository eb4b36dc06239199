# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several sensors as one: which belong together, and their points in one frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

CloudT = TypeVar('CloudT')
MOST_WAITING = 64  # sets of clouds that wait for another sensor


@dataclass(frozen=True)
class CloudSet(Generic[CloudT]):
    """Clouds of one moment.

    Attributes:
        stamp_ns: of the first sensor's cloud [ns].
        clouds: one for each sensor, in their order; None for a sensor without a cloud at this
            moment.
    """

    stamp_ns: int
    clouds: tuple[CloudT | None, ...]

    @property
    def complete(self) -> bool:
        """Whether every sensor has a cloud."""
        return all(cloud is not None for cloud in self.clouds)


class CloudSets(Generic[CloudT]):
    """Puts the clouds of several sensors together by their stamps.

    The first sensor gives the pace: each of its clouds makes a set, with the nearest cloud of each
    other sensor, if that is within the tolerance. A set comes out when no nearer cloud can follow.

    Args:
        sensors: their names, the first one gives the pace.
        tolerance_ns: between the stamps of a set [ns].

    Attributes:
        unused: clouds of other sensors that are not in any set.
    """

    def __init__(self, sensors: Sequence[str], tolerance_ns: int) -> None:
        self._sensors, self._tolerance_ns = tuple(sensors), tolerance_ns
        self._firsts: deque[tuple[int, CloudT]] = deque()
        self._others: dict[str, deque[tuple[int, CloudT]]] = {
            sensor: deque() for sensor in self._sensors[1:]
        }
        self._newest = dict.fromkeys(self._sensors, -1)
        self.unused = 0

    def add(self, sensor: str, stamp_ns: int, cloud: CloudT) -> Iterator[CloudSet[CloudT]]:
        """Add a cloud; the stamps of each sensor rise. Returns the finished sets."""
        self._newest[sensor] = stamp_ns
        own = self._firsts if sensor == self._sensors[0] else self._others[sensor]
        own.append((stamp_ns, cloud))
        while self._firsts and (
            len(self._firsts) > MOST_WAITING or self._is_settled(self._firsts[0][0])
        ):
            yield self._take()

    def rest(self) -> Iterator[CloudSet[CloudT]]:
        """The remaining sets, at the end."""
        while self._firsts:
            yield self._take()
        self.unused += sum(map(len, self._others.values()))

    def _is_settled(self, stamp_ns: int) -> bool:
        """Whether every other sensor has a cloud at or after a stamp, or surely none near."""
        newest = max(self._newest.values())
        # Sensors record with different delays; after half a second a cloud is not late but lost.
        late = newest > stamp_ns + self._tolerance_ns + 500_000_000
        return late or all(self._newest[sensor] >= stamp_ns for sensor in self._others)

    def _take(self) -> CloudSet[CloudT]:
        stamp_ns, cloud = self._firsts.popleft()
        others = [self._nearest(waiting, stamp_ns) for waiting in self._others.values()]
        return CloudSet(stamp_ns, (cloud, *others))

    def _nearest(self, waiting: deque[tuple[int, CloudT]], stamp_ns: int) -> CloudT | None:
        """Take the cloud nearest to a stamp; it and older ones are removed."""
        while len(waiting) > 1 and abs(waiting[1][0] - stamp_ns) <= abs(waiting[0][0] - stamp_ns):
            waiting.popleft()
            self.unused += 1
        if waiting and abs(waiting[0][0] - stamp_ns) <= self._tolerance_ns:
            return waiting.popleft()[1]
        return None


@dataclass(frozen=True)
class EgoBox:
    """An upright box whose points are dropped: the vehicle itself, as its own sensor sees it.

    Attributes:
        low: (3,) x, y, z [m], frame of the points.
        high: (3,) x, y, z [m].
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def outside(self, points: FloatArray) -> FloatArray:
        """The points (N, 3 or more) outside the box; the same array if all are."""
        x = points[:, 0]
        inside = (x >= self.low[0]) & (x <= self.high[0])
        for axis in (1, 2):
            values = points[:, axis]
            inside &= (values >= self.low[axis]) & (values <= self.high[axis])
        return points.compress(~inside, axis=0) if inside.any() else points


def move_points(target_from_sensor: NDArray[np.float64], points: FloatArray) -> FloatArray:
    """Points (N, C) float32 x, y, z [m], ... in another frame; the same array for an identity."""
    if (target_from_sensor == np.eye(4)).all():
        return points
    motion = target_from_sensor.astype(np.float32)
    moved = points.copy()
    with np.errstate(over='ignore', invalid='ignore'):
        for axis in range(3):
            moved[:, axis] = _moved_axis(points, motion[axis])
    return moved


def _moved_axis(points: FloatArray, row: NDArray[Any]) -> FloatArray:
    a, b, c, d = row
    moved: FloatArray = a * points[:, 0] + b * points[:, 1] + c * points[:, 2] + d
    return moved
