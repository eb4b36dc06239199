# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Past sweeps merged into the newest, where the sensor is now."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import AGE, DetectorConfig
from pointdistiller_core.geometry.poses import NANOSECONDS
from pointdistiller_core.geometry.transforms import invert_rigid
from pointdistiller_core.pointcloud.sensors import BLOCK

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    Matrix = NDArray[np.float64]


class PastSweep(NamedTuple):
    """A sweep before the newest.

    Attributes:
        points: (N, 5) float32 x, y, z [m], intensity, 1, in the frame of the sensor then; finite
            and with a return; see `to_past`.
        age_s: before the newest [s].
        now_from_then: (4, 4) to the frame of the sensor now.
    """

    points: FloatArray
    age_s: float
    now_from_then: Matrix


def to_past(points: FloatArray) -> FloatArray:
    """The points (N, 4) of a sweep as `PastSweep` holds them: a product then moves them, too."""
    homogeneous = np.empty((len(points), 5), np.float32)
    homogeneous[:, :4], homogeneous[:, 4] = points, 1
    return homogeneous


def merge_sweeps(
    points: FloatArray, past: Sequence[PastSweep], *, with_age: bool = True
) -> FloatArray:
    """The points of all sweeps in the frame of the newest, newest sweep first.

    Args:
        points: (N, 4) float32 x, y, z [m], intensity of the newest sweep.
        past: those before it, newest first.
        with_age: whether the points get a column with the age of their sweep [s].

    Returns:
        (M, 4) or (M, 5); `points` itself if there is nothing to add.
    """
    if not past and not with_age:
        return points
    width = 5 if with_age else 4
    num_points = len(points) + sum(len(sweep.points) for sweep in past)
    merged = np.empty((num_points, width), np.float32)
    begin = len(points)
    merged[:begin, :4], merged[:begin, 4:] = points, 0
    for sweep in past:
        end = begin + len(sweep.points)
        _move_into(merged[begin:end], sweep)
        begin = end
    return merged


def one_sweep(points: FloatArray, model: DetectorConfig) -> FloatArray:
    """The points (N, 4) of a single sweep, with the columns that a detector expects."""
    return merge_sweeps(points, (), with_age=AGE in model.point_features)


def _move_into(moved: FloatArray, sweep: PastSweep) -> None:
    """Write a past sweep as it is seen now; block after block, as `move_points` does."""
    matrix = np.zeros((5, moved.shape[1]), np.float32)
    matrix[:3, :3] = sweep.now_from_then[:3, :3].T
    matrix[3, 3] = 1
    matrix[4, :3], matrix[4, 4:] = sweep.now_from_then[:3, 3], sweep.age_s
    for begin in range(0, len(moved), BLOCK):
        block = slice(begin, begin + BLOCK)
        np.matmul(sweep.points[block], matrix, out=moved[block])


@dataclass(frozen=True)
class _Kept:
    points: FloatArray
    stamp_ns: int
    world_from_sensor: Matrix


class SweepBuffer:
    """The last sweeps of a sensor that moves; not thread-safe.

    It forgets them when the time does not go forward.

    Args:
        count: sweeps that are merged, the newest included.
        max_age_s: older ones are forgotten [s].
        with_age: see `merge_sweeps`.

    Attributes:
        num_merged: sweeps in the last cloud.
        restarts: how often the time did not go forward.
    """

    def __init__(self, count: int, max_age_s: float, *, with_age: bool) -> None:
        self.num_merged = self.restarts = 0
        self._max_age_ns, self._with_age = round(max_age_s * NANOSECONDS), with_age
        self._kept: deque[_Kept] = deque(maxlen=max(count - 1, 0))  # newest first

    def add(
        self, points: FloatArray, stamp_ns: int, world_from_sensor: Matrix | None
    ) -> FloatArray:
        """Add the newest sweep.

        Args:
            points: (N, 4) float32 x, y, z [m], intensity; finite and with a return.
            stamp_ns: when it was taken [ns].
            world_from_sensor: (4, 4) where it was taken, in a frame that does not move; without
                it the sweep stays alone, and is not merged into later ones.

        Returns:
            See `merge_sweeps`.
        """
        if self._kept and stamp_ns <= self._kept[0].stamp_ns:
            self._kept.clear()
            self.restarts += 1
        while self._kept and stamp_ns - self._kept[-1].stamp_ns > self._max_age_ns:
            self._kept.pop()
        if world_from_sensor is None:
            self.num_merged = 1
            return merge_sweeps(points, (), with_age=self._with_age)
        now_from_world = invert_rigid(world_from_sensor)
        past = [
            PastSweep(
                kept.points,
                (stamp_ns - kept.stamp_ns) / NANOSECONDS,
                now_from_world @ kept.world_from_sensor,
            )
            for kept in self._kept
        ]
        self.num_merged = 1 + len(past)
        merged = merge_sweeps(points, past, with_age=self._with_age)
        if self._kept.maxlen:
            self._kept.appendleft(_Kept(to_past(points), stamp_ns, world_from_sensor))
        return merged
