# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of a drive from detections: tracks that are trusted, ignored or dropped.

The bands are those of MS3D++: a sure track is a label in all of its frames; an unsure one is
ignored, so that training uses it neither as an object nor as background. Objects that stand still
are also looked for in the frames before and after their track.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import LabellingConfig, TrustConfig
from pointdistiller_core.geometry.boxes import points_in_boxes, transform_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.geometry.transforms import invert_rigid, rotate_xy
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.drives import Trajectory, track_drive

if TYPE_CHECKING:
    Array = NDArray[np.floating[Any]]
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

DECAY = 0.98  # of the score, for each frame away from the track (MS3D++)
LABEL, IGNORE, DROP = 'labels', 'ignored', 'dropped'


@dataclass(frozen=True)
class FrameLabels:
    """Labels of one frame, made by detectors.

    Attributes:
        boxes: (G, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        labels: (G,) int64 index into the class names, also of ignored boxes.
        ignored: (G,) bool boxes that count neither as object nor as background.
        scores: (G,) float32 of their tracks.
        tracks: (G,) int64 numbers of objects, the same in all frames of the drive.
        velocities: (G, 2) float32 [m/s] along x and y of the LiDAR frame, over ground.
    """

    boxes: FloatArray
    labels: IntArray
    ignored: NDArray[np.bool_]
    scores: FloatArray
    tracks: IntArray
    velocities: FloatArray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DriveLabels:
    """Labels of a drive.

    Attributes:
        frames: of each frame.
        counts: tracks by class and outcome (`labels`, `ignored`, `dropped`).
    """

    frames: list[FrameLabels]
    counts: dict[str, dict[str, int]]


def label_drive(
    found: Sequence[Detections],
    points_of: Callable[[int], FloatArray],
    stamps_ns: Sequence[int],
    poses: Sequence[Array],
    *,
    config: LabellingConfig,
    class_names: Sequence[str],
) -> DriveLabels:
    """Labels of each frame of a drive.

    Args:
        found: detections of each frame, sensor frame, also unsure ones.
        points_of: (N, F) points of a frame by its number, sensor frame; asked frame by frame.
        stamps_ns: of each frame, ascending.
        poses: (4, 4) `world_from_sensor` of each frame.
        config: tracking and trust.
        class_names: names that the labels index.
    """
    tracks = track_drive(found, stamps_ns, poses, config.tracking)
    trusts = [config.trust_by_class.get(name, config.trust) for name in class_names]
    scores = [_score(track, config) for track in tracks]
    bands = [
        _band(track, score, trusts[track.label])
        for track, score in zip(tracks, scores, strict=True)
    ]
    counts = {name: dict.fromkeys((LABEL, IGNORE, DROP), 0) for name in class_names}
    for track, band in zip(tracks, bands, strict=True):
        counts[class_names[track.label]][band] += 1
    kept = [
        _Kept(number, track, score, band == IGNORE)
        for number, (track, score, band) in enumerate(zip(tracks, scores, bands, strict=True))
        if band != DROP
    ]
    frames = [
        _label_frame(kept, frame, points_of(frame), pose, config)
        for frame, pose in enumerate(poses)
    ]
    return DriveLabels(frames, counts)


@dataclass(frozen=True)
class _Kept:
    """A track that is a label, or ignored."""

    number: int
    track: Trajectory
    score: float
    ignored: bool

    def row(self, frame: int, reach: int) -> tuple[int, float] | None:
        """Row of its boxes and score for a frame; None if it has none, or too far away in time."""
        first, last = int(self.track.frames[0]), int(self.track.frames[-1])
        away = max(first - frame, frame - last, 0)
        if away > (reach if self.track.static and not self.ignored else 0):
            return None
        return min(max(frame, first), last) - first, self.score * DECAY**away


def _score(track: Trajectory, config: LabellingConfig) -> float:
    """Mean of the best scores of a track; missing ones count as 0."""
    best = np.sort(track.scores)[::-1][: config.best_detections]
    return float(best[best > 0].mean())


def _band(track: Trajectory, score: float, trust: TrustConfig) -> str:
    if score < trust.ignore:
        return DROP
    often = int(track.detected.sum()) >= trust.min_detections
    return LABEL if score >= trust.accept and often else IGNORE


def _label_frame(
    kept: Sequence[_Kept], frame: int, points: FloatArray, pose: Array, config: LabellingConfig
) -> FrameLabels:
    """The boxes of all tracks with points in a frame and no better box in their place."""
    back = invert_rigid(pose)
    turn = np.arctan2(back[1, 0], back[0, 0])
    present = [(own, row) for own in kept if (row := own.row(frame, config.propagate)) is not None]
    boxes = np.array([own.track.boxes[row] for own, (row, _) in present]).reshape(-1, 7)
    velocities = np.array([own.track.velocities[row] for own, (row, _) in present])
    labels = FrameLabels(
        boxes=transform_boxes(back, boxes).astype(np.float32),
        labels=np.array([own.track.label for own, _ in present], np.int64),
        ignored=np.array([own.ignored for own, _ in present], np.bool_),
        scores=np.array([score for _, (_, score) in present], np.float32),
        tracks=np.array([own.number for own, _ in present], np.int64),
        velocities=rotate_xy(velocities.reshape(-1, 2), turn).astype(np.float32),
    )
    inside = points_in_boxes(points, labels.boxes).sum(axis=0)
    tracked = np.array([frame in _span(own.track) for own, _ in present], np.bool_)
    least = np.where(tracked, config.min_points, config.propagate_points)
    return _without_doubles(_select(labels, inside >= least))


def _span(track: Trajectory) -> range:
    return range(int(track.frames[0]), int(track.frames[-1]) + 1)


def _select(labels: FrameLabels, keep: NDArray[Any]) -> FrameLabels:
    return replace(labels, **{name: column[keep] for name, column in vars(labels).items()})


def _without_doubles(labels: FrameLabels) -> FrameLabels:
    """Of boxes in one place the surest, because two objects cannot be there."""
    order = np.lexsort((-labels.scores, labels.ignored))
    sorted_labels = _select(labels, order)
    overlaps = rotated_iou_bev(sorted_labels.boxes, sorted_labels.boxes) > 0.1
    keep = np.ones(len(labels), np.bool_)
    for index in range(len(labels)):
        keep[index] = not (overlaps[index, :index] & keep[:index]).any()
    return _select(sorted_labels, keep)
