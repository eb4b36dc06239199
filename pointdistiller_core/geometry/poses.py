# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Poses that move in time, and trees of frames."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import PointDistillerError
from pointdistiller_core.geometry.transforms import (
    invert_rigid,
    quaternion_from_rotation,
    rotation_from_quaternion,
)

if TYPE_CHECKING:
    Matrix: TypeAlias = NDArray[np.float64]

NANOSECONDS = 1_000_000_000
FIXED_FRAMES = ('odom', 'map', 'world', 'earth')  # the first that exists; odom does not jump
LEAST_NORM = 1e-6  # of a quaternion; a shorter one has no direction


class TransformError(PointDistillerError):
    """Frames are not connected, or not at the time asked for."""


@dataclass(frozen=True)
class Pose:
    """A rotation and a translation `target_from_source`.

    Attributes:
        values: x, y, z [m], then a unit quaternion x, y, z, w.
    """

    values: tuple[float, ...]

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Pose:
        """From x, y, z [m] and a quaternion x, y, z, w of any length.

        Raises:
            ValueError: a number is not finite, or the quaternion is zero.
        """
        numbers = tuple(map(float, values))
        norm = float(np.linalg.norm(numbers[3:]))
        if len(numbers) != 7 or not np.isfinite(numbers).all() or norm < LEAST_NORM:
            raise ValueError(f'{numbers} is no pose x, y, z, qx, qy, qz, qw')
        if abs(norm - 1) > 1e-12:  # otherwise it keeps every bit
            numbers = (*numbers[:3], *(value / norm for value in numbers[3:]))
        return cls(numbers)

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.floating[Any]]) -> Pose:
        """From (4, 4)."""
        quaternion = quaternion_from_rotation(matrix[:3, :3])
        return cls((*map(float, matrix[:3, 3]), *map(float, quaternion)))

    @property
    def matrix(self) -> Matrix:
        """(4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation_from_quaternion(np.array(self.values[3:]))
        matrix[:3, 3] = self.values[:3]
        return matrix


class PoseTrack:
    """A pose that moves in time: interpolated between two times, unknown beyond them.

    Args:
        keep_s: seconds before the newest pose that are kept; None keeps all.
        max_gap_s: between two poses [s]; the pose in a longer gap is unknown.
    """

    def __init__(self, *, keep_s: float | None = None, max_gap_s: float = 1.0) -> None:
        self._keep_ns = None if keep_s is None else round(keep_s * NANOSECONDS)
        self._max_gap_ns = round(max_gap_s * NANOSECONDS)
        self._times: list[int] = []
        self._poses: list[Pose] = []

    def __len__(self) -> int:
        return len(self._times)

    @property
    def last_ns(self) -> int | None:
        """The newest time [ns]."""
        return self._times[-1] if self._times else None

    def add(self, time_ns: int, pose: Pose) -> None:
        """Add a pose; times may come in any order, a repeated time replaces."""
        if not self._times or time_ns > self._times[-1]:
            self._times.append(time_ns)
            self._poses.append(pose)
        else:
            place = bisect_left(self._times, time_ns)
            if self._times[place] == time_ns:
                self._poses[place] = pose
            else:
                self._times.insert(place, time_ns)
                self._poses.insert(place, pose)
        # Sometimes twice as much is kept, so that not every new pose moves all others.
        if self._keep_ns is not None and self._times[-1] - self._times[0] > 2 * self._keep_ns:
            old = bisect_left(self._times, self._times[-1] - self._keep_ns)
            del self._times[:old], self._poses[:old]

    def at(self, time_ns: int) -> Matrix:
        """(4, 4) pose at a time.

        Raises:
            TransformError: there is none.
        """
        after = bisect_right(self._times, time_ns)
        if after and self._times[after - 1] == time_ns:
            return self._poses[after - 1].matrix
        if not 0 < after < len(self._times):
            raise TransformError(f'no pose at {time_ns / NANOSECONDS:.3f} s, only {self._span()}')
        before_ns, after_ns = self._times[after - 1], self._times[after]
        if after_ns - before_ns > self._max_gap_ns:
            raise TransformError(
                f'no pose at {time_ns / NANOSECONDS:.3f} s, which is in a gap of '
                f'{(after_ns - before_ns) / NANOSECONDS:.1f} s'
            )
        part = (time_ns - before_ns) / (after_ns - before_ns)
        return interpolate_pose(self._poses[after - 1], self._poses[after], part)

    def near(self, time_ns: int, *, goes_on_ns: int, measured_ns: int) -> Matrix:
        """(4, 4) pose at a time, or a little later than the newest, whose motion goes on.

        Args:
            time_ns: [ns].
            goes_on_ns: longest time after the newest [ns].
            measured_ns: before the newest, from which its motion is taken [ns].

        Raises:
            TransformError: there is none.
        """
        last_ns = self.last_ns
        if last_ns is None or not 0 < time_ns - last_ns <= goes_on_ns:
            return self.at(time_ns)
        before = bisect_right(self._times, last_ns - measured_ns) - 1
        if before < 0:
            return self.at(time_ns)
        part = (time_ns - self._times[before]) / (last_ns - self._times[before])
        return interpolate_pose(self._poses[before], self._poses[-1], part)

    def _span(self) -> str:
        if not self._times:
            return 'none at all'
        first, last = (time_ns / NANOSECONDS for time_ns in (self._times[0], self._times[-1]))
        return f'from {first:.3f} s to {last:.3f} s'


def interpolate_pose(start: Pose, stop: Pose, part: float) -> Matrix:
    """(4, 4) pose on the way from one to another: `part` 0 is the first, 1 the second.

    It moves straight and turns evenly about one axis (slerp); beyond 1 it goes on so.
    """
    one, two = np.array(start.values), np.array(stop.values)
    cos = float(one[3:] @ two[3:])
    if cos < 0:  # the same rotation, by the shorter way
        two[3:], cos = -two[3:], -cos
    angle = float(np.arccos(min(cos, 1.0)))
    weights = (1 - part, part)
    if angle > 1e-6:
        weights = tuple(np.sin(angle * np.array(weights)) / np.sin(angle))
    matrix = np.eye(4)
    matrix[:3, 3] = (1 - part) * one[:3] + part * two[:3]
    matrix[:3, :3] = rotation_from_quaternion(weights[0] * one[3:] + weights[1] * two[3:])
    return matrix


class TransformTree:
    """Frames with their parents, fixed or moving in time, as TF has them.

    Args:
        keep_s: seconds that moving transforms are kept; None keeps all.
        max_gap_s: between two transforms; longer gaps are not bridged [s].
    """

    def __init__(self, *, keep_s: float | None = None, max_gap_s: float = 1.0) -> None:
        self._keep_s, self._max_gap_s = keep_s, max_gap_s
        self._parents: dict[str, str] = {}
        self._static: dict[str, Matrix] = {}
        self._moving: dict[str, PoseTrack] = {}

    @property
    def frames(self) -> frozenset[str]:
        """Names of all frames."""
        return frozenset(self._parents) | frozenset(self._parents.values())

    def add(self, parent: str, child: str, pose: Pose, time_ns: int | None = None) -> None:
        """Add `parent_from_child`; without a time it always holds."""
        parent, child = parent.lstrip('/'), child.lstrip('/')  # of old ROS
        self._parents[child] = parent
        if time_ns is None:
            self._static[child] = pose.matrix
            self._moving.pop(child, None)
        elif child not in self._static:
            track = self._moving.get(child)
            if track is None:
                track = PoseTrack(keep_s=self._keep_s, max_gap_s=self._max_gap_s)
                self._moving[child] = track
            track.add(time_ns, pose)

    def is_moving(self, target: str, source: str) -> bool:
        """Whether two frames move relative to each other; False if they are not connected."""
        try:
            ups, downs = self._paths(target, source)
        except TransformError:
            return False
        return any(frame in self._moving for frame in (*ups, *downs))

    def find_fixed_frame(self, frame: str) -> str:
        """The first of the usual fixed frames that a frame moves in; empty if there is none."""
        return next((fixed for fixed in FIXED_FRAMES if self.is_moving(fixed, frame)), '')

    def is_ready(self, target: str, source: str, time_ns: int) -> bool:
        """Whether this lookup cannot need any later transform."""
        try:
            ups, downs = self._paths(target, source)
        except TransformError:
            return False
        tracks = [self._moving[frame] for frame in (*ups, *downs) if frame in self._moving]
        return all(track.last_ns is not None and track.last_ns >= time_ns for track in tracks)

    def lookup(self, target: str, source: str, time_ns: int | None = None) -> Matrix:
        """(4, 4) `target_from_source` at a time; without one, along transforms that always hold.

        Raises:
            TransformError: the frames are not connected, or not at this time.
        """
        ups, downs = self._paths(target, source)
        common_from_source, common_from_target = np.eye(4), np.eye(4)
        for frame in ups:
            common_from_source = self._step(frame, time_ns) @ common_from_source
        for frame in downs:
            common_from_target = self._step(frame, time_ns) @ common_from_target
        return np.asarray(invert_rigid(common_from_target) @ common_from_source)

    def _step(self, frame: str, time_ns: int | None) -> Matrix:
        """`parent_from_frame`."""
        if frame in self._static:
            return self._static[frame]
        step = f'{self._parents[frame]!r} from {frame!r}'
        if time_ns is None:
            raise TransformError(f'{step} moves; only /tf_static is used here')
        try:
            return self._moving[frame].at(time_ns)
        except TransformError as error:
            raise TransformError(f'{step}: {error}') from None

    def _paths(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """Frames on the way up from the source and from the target to their common ancestor."""
        target, source = target.lstrip('/'), source.lstrip('/')
        ups, downs = self._way_up(source), self._way_up(target)
        common = next((frame for frame in ups if frame in downs), None)
        if common is None:
            raise TransformError(
                f'no transform connects {target!r} and {source!r}; known are '
                f'{sorted(self.frames) or "none"}'
            )
        return ups[: ups.index(common)], downs[: downs.index(common)]

    def _way_up(self, frame: str) -> list[str]:
        way = [frame]
        while (parent := self._parents.get(way[-1])) is not None:
            if parent in way:
                raise TransformError(f'the transforms of {frame!r} form a loop at {parent!r}')
            way.append(parent)
        return way
