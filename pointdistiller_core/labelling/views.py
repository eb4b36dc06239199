# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""One frame seen in several ways, mirrored and scaled; the boxes of all views are joined.

An object found in every view is more likely real than one found in a single view.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import ViewsConfig
from pointdistiller_core.geometry.headings import common_heading
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.geometry.transforms import wrap_angle
from pointdistiller_core.records import Detections, Frame

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    Detect = Callable[[FloatArray], Detections]


@dataclass(frozen=True)
class Teacher:
    """A detector and the classes it is trusted with.

    Attributes:
        detect: maps (N, F) points of a frame to detections, whose labels index `class_names`.
        class_names: of the detector.
        classes: classes that it labels; detections of others are left out.
        point_cloud_range: where it looks; x, y, z from and to [m]; None is everywhere.
    """

    detect: Detect
    class_names: tuple[str, ...]
    classes: Collection[str]
    point_cloud_range: tuple[float, float, float, float, float, float] | None = None

    def sees(self, positions: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """(N,) which positions (N, 3) are where it looks."""
        if self.point_cloud_range is None:
            return np.ones(len(positions), np.bool_)
        low, high = np.array(self.point_cloud_range).reshape(2, 3)
        return np.asarray(((positions >= low) & (positions <= high)).all(axis=1))

    def looks(self, frame: Frame, views: Sequence[View]) -> list[Detections]:
        """Detections in each view of a frame, as they stand in the frame."""
        found = [(view, self.detect(view.points(frame.points))) for view in views]
        return [replace(look, boxes=view.boxes(look.boxes)) for view, look in found]


@dataclass(frozen=True)
class RecordedTeacher:
    """Detections that are there already, from whatever detector; the same in every view.

    Attributes:
        by_frame: detections by the frame's name; their labels index `class_names`. Frames that
            are missing were not looked at, which is something else than to find nothing.
        class_names: of the detections.
        classes: classes that it labels; detections of others are left out.
    """

    by_frame: Mapping[str, Detections]
    class_names: tuple[str, ...]
    classes: Collection[str]

    def sees(self, positions: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """(N,) which positions (N, 3) are where it looks: all."""
        return np.ones(len(positions), np.bool_)

    def looks(self, frame: Frame, views: Sequence[View]) -> list[Detections]:
        """Its detections in the frame, for each view; none of a frame that it has not seen."""
        found = self.by_frame.get(frame.frame_id)
        return [] if found is None else [found] * len(views)


AnyTeacher: TypeAlias = Teacher | RecordedTeacher


@dataclass(frozen=True)
class View:
    """A way to look at a frame: mirrored at the x axis or not, and scaled about the sensor."""

    flip: bool
    scale: float

    def points(self, points: FloatArray) -> FloatArray:
        """Points (N, F) as this view has them."""
        seen = points.copy()
        seen[:, :3] *= np.float32(self.scale)
        if self.flip:
            seen[:, 1] *= -1
        return seen

    def boxes(self, boxes: FloatArray) -> FloatArray:
        """Boxes (N, 7) of this view as they stand in the frame."""
        back = boxes.copy()
        back[:, :6] /= np.float32(self.scale)
        if self.flip:
            back[:, 1] *= -1
            back[:, 6] = wrap_angle(-back[:, 6])
        return back


def views_of(config: ViewsConfig) -> list[View]:
    """All combinations of mirroring and scale."""
    flips = (False, True) if config.flips else (False,)
    return [View(flip, scale) for scale in config.scales for flip in flips]


def detect_by_views(
    teachers: Sequence[AnyTeacher],
    frame: Frame,
    config: ViewsConfig,
    class_names: Sequence[str],
) -> Detections:
    """What all teachers find in all views of one frame, joined.

    Args:
        teachers: at least one.
        frame: with its points.
        config: the views.
        class_names: that the labels of the result index; other classes are left out.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    live = any(isinstance(teacher, Teacher) for teacher in teachers)
    views = views_of(config) if live else [View(False, 1.0)]
    looks: list[Detections] = []
    trusted = np.zeros(len(class_names), np.int64)  # looks that could find each class
    for teacher in teachers:
        known = [
            numbers.get(name, -1) if name in teacher.classes else -1
            for name in teacher.class_names
        ]
        looked = teacher.looks(frame, views)
        for found in looked:
            labels = np.array(known, np.int64)[found.labels]
            looks.append(Detections(found.boxes, found.scores, labels)[labels >= 0])
        trusted[sorted({number for number in known if number >= 0})] += len(looked)
    return join_looks(looks, trusted, config.iou_threshold)


def join_looks(
    looks: Sequence[Detections], trusted: NDArray[np.int64], iou_threshold: float
) -> Detections:
    """Detections of several looks at one frame, each object once.

    Boxes of one class that overlap the surest of them are one object. Its place and size are means
    weighted by score. Its score is the sum of the best score of each look, divided by the number
    of looks that could have found it.

    Args:
        looks: detections of each look, in the same frame.
        trusted: (K,) number of looks that could find each class.
        iou_threshold: least BEV IoU with the surest box.
    """
    if not looks:
        return Detections.empty()
    boxes = np.concatenate([look.boxes for look in looks]).astype(np.float64)
    scores = np.concatenate([look.scores for look in looks]).astype(np.float64)
    labels = np.concatenate([look.labels for look in looks])
    sources = np.repeat(np.arange(len(looks)), [len(look) for look in looks])
    order = np.argsort(-scores, kind='stable')
    free = np.ones(len(boxes), np.bool_)
    joined = []
    for seed in order:
        if not free[seed]:
            continue
        near = np.flatnonzero(free & (labels == labels[seed]))
        overlaps = rotated_iou_bev(boxes[near], boxes[seed : seed + 1])[:, 0]
        members = near[(overlaps >= iou_threshold) | (near == seed)]
        free[members] = False
        best = np.zeros(len(looks))
        np.maximum.at(best, sources[members], scores[members])
        joined.append(
            (*_mean_box(boxes[members], scores[members]), best.sum() / trusted[labels[seed]], seed)
        )
    rows = np.array(joined).reshape(-1, 9)
    result = Detections(
        rows[:, :7].astype(np.float32),
        rows[:, 7].astype(np.float32),
        labels[rows[:, 8].astype(np.int64)],
    )
    return result[np.argsort(-result.scores, kind='stable')]


def _mean_box(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(7,) mean of boxes (n, 7) by their scores (n,)."""
    mean: NDArray[np.float64] = np.average(boxes, axis=0, weights=scores + 1e-9)
    mean[6] = common_heading(boxes[:, 6], scores)
    return mean
