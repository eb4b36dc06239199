# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Objects over a whole drive: tracked forwards and backwards, and smoothed by both.

As in automatic labelling (MS3D++): what is seen once may be an error; what is seen again and again
at consistent places is an object. A track knows its object better than any single detection: one
size for all frames, one place if it stands still, and the heading of its path if it moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import TrackingConfig
from pointdistiller_core.geometry.boxes import transform_boxes
from pointdistiller_core.geometry.headings import common_heading
from pointdistiller_core.geometry.transforms import wrap_angle
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.filter import smooth
from pointdistiller_core.tracking.tracker import NANOSECONDS, Tracker

if TYPE_CHECKING:
    Array = NDArray[np.floating[Any]]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

STATIC_SPEED = 0.4  # [m/s], from the first to the last place
STATIC_SPREAD = 0.5  # [m], largest standard deviation of one place
DRIVING_SPEED = 2.0  # [m/s], from which an object heads in its direction of motion
SHARED = 2  # common detections of a forward and a backward track that are one


@dataclass(frozen=True)
class Trajectory:
    """One object of a drive, in the frame that does not move.

    Attributes:
        label: index into the class names.
        frames: (n,) int64 from its first to its last frame, without a gap.
        boxes: (n, 7) x, y, z, dx, dy, dz [m], yaw [rad]; the same size in all frames.
        velocities: (n, 2) [m/s] along x and y.
        scores: (n,) of its detections; 0 in frames without one.
        static: whether it stands still; all boxes are then the same.
    """

    label: int
    frames: IntArray
    boxes: Array
    velocities: Array
    scores: Array
    static: bool

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def detected(self) -> BoolArray:
        """(n,) frames in which it was detected; in the others its box is a guess."""
        found: BoolArray = self.scores > 0
        return found


def track_drive(
    found: Sequence[Detections],
    stamps_ns: Sequence[int],
    poses: Sequence[Array],
    config: TrackingConfig,
) -> list[Trajectory]:
    """The objects of a drive.

    Args:
        found: detections of each frame, sensor frame.
        stamps_ns: of each frame, ascending.
        poses: (4, 4) `world_from_sensor` of each frame, in a frame that does not move.
        config: of the tracker, forwards and backwards.

    Raises:
        ValueError: stamps that do not ascend.
    """
    stamps = np.array(stamps_ns, np.int64)
    if (np.diff(stamps) <= 0).any():
        raise ValueError('the stamps of a drive must ascend')
    forwards = _track(found, stamps, poses, config)
    backwards = _track(found[::-1], stamps[-1:] - stamps[::-1], poses[::-1], config)[::-1]
    boxes = [
        transform_boxes(pose, each.boxes.astype(np.float64))
        for pose, each in zip(poses, found, strict=True)
    ]
    groups = join_tracks(forwards, backwards)
    return [_trajectory(group, found, boxes, stamps, config) for group in groups]


def _track(
    found: Sequence[Detections], stamps: IntArray, poses: Sequence[Array], config: TrackingConfig
) -> list[IntArray]:
    """Of each frame (N,) the track of each detection, -1 for none."""
    tracker = Tracker(config)
    return [
        tracker.update(each, int(stamp), pose).track_of
        for each, stamp, pose in zip(found, stamps, poses, strict=True)
    ]


Members = dict[int, int]  # frame -> detection


def join_tracks(forwards: Sequence[IntArray], backwards: Sequence[IntArray]) -> list[Members]:
    """Detections of one object each: forward tracks, joined and completed by backward ones.

    A backward track joins the forward tracks that it shares detections with, as long as no frame
    has two. Then it adds its own detections in frames that have none yet.
    """
    tracks = _members(forwards)
    owner = {(frame, one): key for key, own in tracks.items() for frame, one in own.items()}
    for own in _members(backwards).values():
        shared = Counter(owner[item] for item in own.items() if item in owner)
        keys = [key for key, count in shared.most_common() if count >= SHARED]
        if not keys:
            if not shared:  # an object found only on the way back
                key = max(tracks, default=-1) + 1
                tracks[key] = own
                owner.update(dict.fromkeys(own.items(), key))
            continue
        first, *others = keys
        for other in others:
            if not tracks[first].keys() & tracks[other].keys():
                tracks[first] |= tracks.pop(other)
        free = {f: one for f, one in own.items() if (f, one) not in owner}
        tracks[first] = free | tracks[first]
        owner.update(dict.fromkeys(tracks[first].items(), first))
    return [dict(sorted(own.items())) for own in tracks.values()]


def _members(track_of: Sequence[IntArray]) -> dict[int, Members]:
    """By track, the detection of each frame."""
    tracks: dict[int, Members] = {}
    for frame, ids in enumerate(track_of):
        for detection, key in enumerate(ids.tolist()):
            if key >= 0:
                tracks.setdefault(key, {})[frame] = detection
    return tracks


def _trajectory(
    members: Members,
    found: Sequence[Detections],
    boxes: Sequence[Array],
    stamps: IntArray,
    config: TrackingConfig,
) -> Trajectory:
    seen = np.array(list(members))
    own = np.stack([boxes[frame][one] for frame, one in members.items()])
    weights = np.array([found[frame].scores[one] for frame, one in members.items()], np.float64)
    labels = [int(found[frame].labels[one]) for frame, one in members.items()]
    frames = np.arange(seen[0], seen[-1] + 1)
    times = (stamps[frames] - stamps[frames[0]]) / NANOSECONDS
    places = np.full((len(frames), 2), np.nan)
    places[seen - seen[0]] = own[:, :2]
    positions, velocities = smooth(places, times, config)
    static = _is_static(own[:, :2], times[seen - seen[0]])
    result = np.empty((len(frames), 7))
    result[:, 3:6] = [weighted_median(side, weights) for side in own[:, 3:6].T]
    if static:
        result[:, :3] = [weighted_median(side, weights) for side in own[:, :3].T]
        result[:, 6] = common_heading(own[:, 6], weights)
        velocities = np.zeros_like(velocities)
    else:
        result[:, :2] = positions
        result[:, 2] = np.interp(frames, seen, own[:, 2])
        result[:, 6] = _headings(frames, seen, own[:, 6], weights, velocities)
    scores = np.zeros(len(frames))
    scores[seen - seen[0]] = weights
    label = Counter(labels).most_common(1)[0][0]
    return Trajectory(label, frames, result, velocities, scores, static)


def _is_static(places: Array, times: Array) -> bool:
    """Whether (n, 2) places at (n,) times [s] are one; a single one is."""
    if len(places) < 2:
        return True
    third = max(1, len(places) // 3)
    way = np.median(places[-third:], axis=0) - np.median(places[:third], axis=0)
    duration = times[-third:].mean() - times[:third].mean()
    spread = np.sqrt(places.var(axis=0).sum())
    speed = np.hypot(*way) / max(duration, 1e-3)
    return bool(spread < STATIC_SPREAD and (speed < STATIC_SPEED or np.hypot(*way) < 0.3))


def _headings(
    frames: IntArray, seen: IntArray, yaws: Array, weights: Array, velocities: Array
) -> Array:
    """(n,) headings: direction of motion if it drives, otherwise axis of the detections."""
    course = np.arctan2(velocities[:, 1], velocities[:, 0])
    fast = np.hypot(*velocities.T) >= DRIVING_SPEED
    reference = course if fast.any() else np.full(len(frames), common_heading(yaws, weights))
    if fast.any() and not fast.all():  # standing, it keeps the heading of its last drive
        reference = course[np.flatnonzero(fast)[_nearest(frames, frames[fast])]]
    nearest = _nearest(frames, seen)
    turn = wrap_angle(yaws[nearest] - reference)
    axis = np.where(abs(turn) > np.pi / 2, wrap_angle(yaws[nearest] + np.pi), yaws[nearest])
    return np.where(fast, course, axis)


def _nearest(frames: IntArray, among: IntArray) -> IntArray:
    """(n,) index of the nearest of `among` to each frame."""
    nearest: IntArray = abs(frames[:, None] - among).argmin(axis=1)
    return nearest


def weighted_median(values: Array, weights: Array) -> float:
    """The value with equal weight below and above it."""
    order = np.argsort(values)
    sums = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(sums, sums[-1] / 2)])
