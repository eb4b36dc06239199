# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several sensors as one: which belong together, and their points in one frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.returns import find_returns

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

CloudT = TypeVar('CloudT')
MOST_WAITING = 64  # sets of clouds that wait for another sensor
BLOCK = 4096  # points moved at once


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
        first_match: a set comes out as soon as it is complete, even if a nearer cloud may follow.

    Attributes:
        unused: clouds of other sensors that are not in any set.
    """

    def __init__(
        self, sensors: Sequence[str], tolerance_ns: int, *, first_match: bool = False
    ) -> None:
        self._sensors, self._tolerance_ns = tuple(sensors), tolerance_ns
        self._first_match = first_match
        self._firsts: deque[tuple[int, CloudT]] = deque()
        self._others: dict[str, deque[tuple[int, CloudT]]] = {
            sensor: deque() for sensor in self._sensors[1:]
        }
        self._newest = dict.fromkeys(self._sensors, -1)
        self.unused = 0

    @property
    def waiting(self) -> CloudT | None:
        """The cloud of the first sensor that has waited longest for the others, if any waits."""
        return self._firsts[0][1] if self._firsts else None

    def add(self, sensor: str, stamp_ns: int, cloud: CloudT) -> Iterator[CloudSet[CloudT]]:
        """Add a cloud; the stamps of each sensor rise. Returns the finished sets."""
        self._newest[sensor] = stamp_ns
        own = self._firsts if sensor == self._sensors[0] else self._others[sensor]
        own.append((stamp_ns, cloud))
        while self._firsts and (
            len(self._firsts) > MOST_WAITING or self._is_settled(self._firsts[0][0])
        ):
            yield self.take()

    def all_waiting(self) -> list[tuple[int, str, CloudT]]:
        """Stamp, sensor and cloud of all that is in no set so far, by their stamps."""
        queues = {self._sensors[0]: self._firsts, **self._others} if self._sensors else {}
        found = [(*entry, name) for name, waiting in queues.items() for entry in waiting]
        found.sort(key=lambda entry: entry[0])
        return [(stamp_ns, name, cloud) for stamp_ns, cloud, name in found]

    def rest(self) -> Iterator[CloudSet[CloudT]]:
        """The remaining sets, at the end."""
        while self._firsts:
            yield self.take()
        self.unused += sum(map(len, self._others.values()))

    def _is_settled(self, stamp_ns: int) -> bool:
        """Whether every other sensor has a cloud at or after a stamp, or surely none near."""
        newest = max(self._newest.values())
        # Sensors record with different delays; after half a second a cloud is not late but lost.
        late = newest > stamp_ns + self._tolerance_ns + 500_000_000
        if late or (self._first_match and self._is_complete(stamp_ns)):
            return True
        return all(self._newest[sensor] >= stamp_ns for sensor in self._others)

    def _is_complete(self, stamp_ns: int) -> bool:
        """Whether a cloud of every other sensor is within the tolerance."""
        return all(
            any(abs(other_ns - stamp_ns) <= self._tolerance_ns for other_ns, _ in waiting)
            for waiting in self._others.values()
        )

    def take(self) -> CloudSet[CloudT]:
        """The set of the cloud that waits longest, with what there is."""
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
        low, high = np.array([self.low, self.high], np.float32)
        x = points[:, 0]
        near = np.flatnonzero((x >= low[0]) & (x <= high[0]))  # few, mostly
        y, z = points.take(near, axis=0)[:, 1:3].T
        inside = near[(y >= low[1]) & (y <= high[1]) & (z >= low[2]) & (z <= high[2])]
        if not len(inside):
            return points
        kept = np.ones(len(points), np.bool_)
        kept[inside] = False
        return points.compress(kept, axis=0)


def usable_points(points: FloatArray) -> tuple[FloatArray, dict[str, int]]:
    """The points (N, F) of a sensor that may be moved to another frame, in its own frame.

    Returns:
        The finite ones that have a return, and the numbers of the others by the names of
        `Detector`'s counts.
    """
    returns = find_returns(points)
    returned = points if returns.all() else points.compress(returns, axis=0)
    counts = {'points_without_return': len(points) - len(returned), 'points_not_finite': 0}
    with np.errstate(over='ignore', invalid='ignore'):
        total = returned.sum()
    if np.isfinite(total):  # if it is, all values are, unless they are huge
        return returned, counts
    finite = returned.compress(np.isfinite(returned).all(axis=1), axis=0)
    return finite, counts | {'points_not_finite': len(returned) - len(finite)}


def move_points(target_from_sensor: NDArray[np.float64], points: FloatArray) -> FloatArray:
    """Points (N, F) float32 x, y, z [m], ... in another frame; the same array for an identity.

    A point that is not finite may lose its other columns, too.
    """
    if (target_from_sensor == np.eye(4)).all():
        return points
    moved = np.empty_like(points)
    _move_into(moved, target_from_sensor, points)
    return moved


def join_points(parts: Sequence[tuple[NDArray[np.float64], FloatArray]]) -> FloatArray:
    """Points of several sensors in one frame.

    Args:
        parts: at least one; (4, 4) `target_from_sensor` and (N, F) float32 points of each sensor.

    Returns:
        All points, sensor after sensor; the same array if there is one part with an identity.
    """
    if len(parts) == 1:
        return move_points(*parts[0])
    joined = np.empty((sum(len(points) for _, points in parts), parts[0][1].shape[1]), np.float32)
    begin = 0
    for target_from_sensor, points in parts:
        part = joined[begin : begin + len(points)]
        if (target_from_sensor == np.eye(4)).all():
            part[...] = points
        else:
            _move_into(part, target_from_sensor, points)
        begin += len(points)
    return joined


def _move_into(
    moved: FloatArray, target_from_sensor: NDArray[np.float64], points: FloatArray
) -> None:
    """Write moved points (N, F) to an array of that shape.

    Block after block, which stay in the processor's cache and in this thread: matrix products of
    so few rows are not shared among threads.
    """
    width = points.shape[1]
    turn, shift = np.eye(width, dtype=np.float32), np.zeros((BLOCK, width), np.float32)
    turn[:3, :3], shift[:, :3] = target_from_sensor[:3, :3].T, target_from_sensor[:3, 3]
    with np.errstate(over='ignore', invalid='ignore'):
        for begin in range(0, len(points), BLOCK):
            part = moved[begin : begin + BLOCK]
            np.matmul(points[begin : begin + BLOCK], turn, out=part)
            part += shift[: len(part)]
