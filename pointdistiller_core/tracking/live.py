# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Tracks as a node shows them: with each detection's track, and where each object came from."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import TrackingConfig
from pointdistiller_core.geometry.poses import Pose, interpolate_pose
from pointdistiller_core.geometry.transforms import invert_rigid, transform_points
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.tracker import Tracker, Tracks

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]
    Matrix = NDArray[np.float64]
    Past: TypeAlias = tuple[IntArray, NDArray[np.floating[Any]]]  # ids (T,), places (T, 3)

TRAIL_SWEEPS = 10
StampedPose: TypeAlias = tuple[int, Sequence[float]]  # [ns]; x, y, z [m], quaternion x, y, z, w


@dataclass(frozen=True)
class LiveTracks:
    """The tracks after a sweep, all in the sensor frame.

    Attributes:
        detections: of the sweep; `tracks` and `velocities` are those of the objects.
        objects: T tracks that were seen often enough, by descending score; `tracks` are their
            numbers, which are never used again, `velocities` as in `Tracks`.
        seen: (T,) whether the sweep has a detection of each; otherwise its place is a prediction.
        past: numbers and places in the fixed frame after each of the last sweeps, oldest first.
        sensor_from_world: (4, 4).
    """

    detections: Detections
    objects: Detections
    seen: BoolArray
    past: Sequence[Past]
    sensor_from_world: Matrix

    def trails(self) -> list[FloatArray]:
        """(n, 3) last places of each object, oldest first, seen from where the sensor is now."""
        numbers = np.concatenate([ids for ids, _ in self.past])
        places = np.concatenate([places for _, places in self.past])
        places = transform_points(self.sensor_from_world, places).astype(np.float32)
        order = np.argsort(numbers, kind='stable')
        numbers, places = numbers[order], places[order]
        assert self.objects.tracks is not None
        first, last = (np.searchsorted(numbers, self.objects.tracks, s) for s in ('left', 'right'))
        return [places[begin:end] for begin, end in zip(first, last, strict=True)]


class LiveTracker:
    """A tracker whose frame and classes may change, which ends all tracks; not thread-safe."""

    def __init__(self) -> None:
        self._tracker = Tracker(TrackingConfig())
        self._meaning: tuple[object, ...] = ()
        self._past: deque[Past] = deque(maxlen=TRAIL_SWEEPS)

    @property
    def num_restarts(self) -> int:
        """How often all tracks ended: the time went backwards, or frame or classes changed."""
        return self._tracker.num_restarts

    def update(
        self,
        found: Detections,
        stamp_ns: int,
        *,
        config: TrackingConfig,
        frame: str,
        class_names: Sequence[str],
        poses: Sequence[StampedPose] = (),
    ) -> LiveTracks:
        """Continue with the detections of a sweep.

        Args:
            found: in the sensor frame.
            stamp_ns: of the sweep.
            config: from now on.
            frame: name of the fixed frame, or of the sensor's where the pose is not known.
            class_names: names that the labels index.
            poses: `frame_from_sensor` at the stamp; or two before it, whose motion goes on; or
                none: objects are tracked in the sensor's frame.

        Raises:
            ValueError: a pose is not valid.
        """
        pose = pose_at(stamp_ns, poses)
        meaning = (frame, *class_names)
        before = self.num_restarts
        if self._meaning and meaning != self._meaning:
            self._tracker.restart()
        self._meaning = meaning
        self._tracker.config = config
        tracks = self._tracker.update(found, stamp_ns, pose if poses else None)
        if self.num_restarts != before:
            self._past.clear()
        self._past.append((tracks.ids, transform_points(pose, tracks.boxes[:, :3].astype(float))))
        order = np.argsort(-tracks.scores, kind='stable')
        return LiveTracks(
            detections=_with_tracks(found, tracks),
            objects=Detections(
                tracks.boxes[order],
                tracks.scores[order],
                tracks.labels[order],
                velocities=tracks.velocities[order],
                tracks=tracks.ids[order],
            ),
            seen=tracks.seen[order],
            past=tuple(self._past),
            sensor_from_world=np.asarray(invert_rigid(pose)),
        )


def pose_at(stamp_ns: int, poses: Sequence[StampedPose]) -> Matrix:
    """(4, 4) pose: the only one; or where two lead; or, of none, no motion.

    Raises:
        ValueError: a pose is not valid.
    """
    valid = [Pose.from_values(values) for _, values in poses]
    if not valid:
        return np.eye(4)
    if len(valid) == 1:
        return valid[0].matrix
    (first, last), (first_ns, last_ns) = valid, (when for when, _ in poses)
    return interpolate_pose(first, last, (stamp_ns - first_ns) / (last_ns - first_ns))


def _with_tracks(found: Detections, tracks: Tracks) -> Detections:
    """The same with numbers and velocities of the tracks that are listed.

    The others keep the velocities that the detector gives.
    """
    numbers = np.full(len(found), -1)
    unknown = np.full((len(found), 2), np.nan, np.float32)
    velocities = unknown if found.velocities is None else found.velocities.copy()
    if len(tracks):
        rows = np.searchsorted(tracks.ids, tracks.track_of).clip(max=len(tracks) - 1)  # ascending
        listed = tracks.ids[rows] == tracks.track_of
        numbers[listed] = tracks.track_of[listed]
        velocities[listed] = tracks.velocities[rows[listed]]
    return replace(found, tracks=numbers, velocities=velocities)
