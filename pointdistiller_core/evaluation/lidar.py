# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A metric that needs only points and boxes: no camera, no 2D boxes, no difficulties.

Average precision of each class from above (`BEV`) and in 3D: of all labels, by their distance, and
by the points in them. It is the mean of the precision at 40 recalls, 1/40, 2/40, ..., 1, each the
best one at this recall or a higher one. This is AP|R40 as published. The official KITTI program
takes the recalls from the hits instead, so with few labels even a perfect detector is low there;
here it has 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.evaluation.matching import USUAL_OVERLAPS, match_detections
from pointdistiller_core.evaluation.scores import Alarms, Annotated, Scores
from pointdistiller_core.files import check_results_folder, write_file
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_3d, rotated_iou_bev
from pointdistiller_core.records import IGNORE_LABEL, Detections, Frame

if TYPE_CHECKING:
    FloatArray = NDArray[np.floating[Any]]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

Overlaps: TypeAlias = tuple[float, float]  # least IoU of a hit: from above, in 3D

MIN_OVERLAPS: Mapping[str, Overlaps] = {
    name: (least, least) for name, least in USUAL_OVERLAPS.items()
}
NOT_EVALUATED = (math.inf, math.inf)
KINDS: Mapping[str, Callable[..., Any]] = {'BEV': rotated_iou_bev, '3D': rotated_iou_3d}
DISTANCES = (0, 20, 40, 60)  # [m] from the sensor, from above: where each bin begins
NUM_POINTS = (1, 5, 20, 100)  # in the box: where each bin begins
DISTANCE_BINS = ('0-20 m', '20-40 m', '40-60 m', '60+ m')
POINTS_BINS = ('1-4', '5-19', '20-99', '100+')
NUM_RECALLS = 40
RESULT_SUFFIX = '.json'
BOXES_AT_ONCE = 64  # bounds the memory of the test for points in boxes


@dataclass(frozen=True)
class LidarMetric:
    """AP|R40 [%] from above and in 3D, of all labels, by distance and by points in the box.

    In each frame detections match by descending score: each takes the free label of its class that
    it overlaps most, if the overlap suffices. `IGNORE_LABEL` and labels without a point are
    ignored: a detection that overlaps one enough, and found no label, is no false alarm. A label
    and its hit belong to the bin of the label's distance or points. A false alarm belongs to the
    bin of its own; without points, to the first.

    Attributes:
        min_overlaps: class -> least IoU of a hit; other classes are left out.
    """

    quantity: ClassVar = 'AP|R40 [%]'

    min_overlaps: Mapping[str, Overlaps] = field(default_factory=lambda: dict(MIN_OVERLAPS))

    def evaluate(
        self, frames: Annotated, indices: Sequence[int], found: Sequence[Detections]
    ) -> Scores:
        """Evaluate the detections of some frames.

        Args:
            frames: points and labels.
            indices: of the frames.
            found: detections of these frames, in their order.

        Returns:
            Means `BEV mAP` and `3D mAP`; of each class `BEV AP` and `3D AP`. Details:
            `num_frames`; `num_ignored`, labels that count for no class; by class `min_overlaps`,
            `num_without_point` (labels); `num_found` (labels), `num_false` (detections) and
            `num_excused` (detections on labels that do not count) by kind of overlap; `precision`
            at the 40 recalls, and `by_distance` and `by_points`, which hold `num_labels`, `BEV AP`
            and `3D AP` of each bin.

        Raises:
            DatasetError: a frame has no labels, not even an empty list.
            ValueError: frames and detections differ in number, or a detection has no class of the
                frames.
        """
        seen, classes = self._match(frames, indices, found)
        by_class = {name: _average_precisions(*of_class) for name, of_class in classes.items()}
        details = {
            'num_frames': len(seen),
            'num_ignored': sum(each.num_ignored for each in seen),
            'min_overlaps': {
                name: dict(zip(KINDS, self.min_overlaps[name], strict=True)) for name in classes
            },
            'num_without_point': {
                name: sum(int((each.without_point == number).sum()) for each in seen)
                for number, name in enumerate(frames.class_names)
                if name in classes
            },
            'num_found': {
                name: {kind: int(of[kind].hits.sum()) for kind in KINDS}
                for name, (_, of) in classes.items()
            },
            'num_false': {
                name: {kind: int((~of[kind].hits & ~of[kind].excused).sum()) for kind in KINDS}
                for name, (_, of) in classes.items()
            },
            'num_excused': {
                name: {kind: int(of[kind].excused.sum()) for kind in KINDS}
                for name, (_, of) in classes.items()
            },
            'precision': {name: _precisions(*of_class) for name, of_class in classes.items()},
            'by_distance': {
                name: _by_bin(*of_class, column=0, bins=DISTANCE_BINS)
                for name, of_class in classes.items()
            },
            'by_points': {
                name: _by_bin(*of_class, column=1, bins=POINTS_BINS)
                for name, of_class in classes.items()
            },
        }
        return Scores(
            means={f'{kind} mAP': _mean(by_class.values(), f'{kind} AP') for kind in KINDS},
            by_class=by_class,
            num_labels={name: len(of_class[0]) for name, of_class in classes.items()},
            details=details,
        )

    def alarms(
        self,
        frames: Annotated,
        indices: Sequence[int],
        found: Sequence[Detections],
        *,
        recalls: Sequence[float],
        kind: str,
        level: str,
    ) -> dict[str, Alarms]:
        """False alarms of each class at some recalls, see `AlarmMetric`."""
        if level:
            raise ConfigError(f'difficulty {level!r}: the lidar metric has none; leave it out')
        _, classes = self._match(frames, indices, found)
        return {
            name: _alarms(rows[kind.upper()], len(truth), recalls)
            for name, (truth, rows) in classes.items()
        }

    def best_thresholds(
        self,
        frames: Annotated,
        indices: Sequence[int],
        found: Sequence[Detections],
        *,
        beta: float = 1.0,
    ) -> dict[str, OperatingPoint | None]:
        """The threshold of each class with the best F-beta, from above; None if nothing is found.

        Args:
            frames: with labels.
            indices: of the frames.
            found: detections of each.
            beta: how much more recall weighs than precision; below 1, precision weighs more
                (van Rijsbergen, Information Retrieval, chapter 7).
        """
        _, classes = self._match(frames, indices, found)
        return {
            name: _best_threshold(rows['BEV'], len(truth), beta)
            for name, (truth, rows) in classes.items()
        }

    def _match(
        self, frames: Annotated, indices: Sequence[int], found: Sequence[Detections]
    ) -> tuple[list[_SeenFrame], dict[str, tuple[_Rows, dict[str, _Rows]]]]:
        """Each frame, and the labels and detections of each evaluated class."""
        names = frames.class_names
        least = [self.min_overlaps.get(name, NOT_EVALUATED) for name in names]
        seen = [
            _match_frame(frames[index], item, least)
            for index, item in zip(indices, found, strict=True)
        ]
        truth = _join([each.truth for each in seen])
        rows = {kind: _join([each.found[kind] for each in seen]) for kind in KINDS}
        return seen, {
            name: (
                truth[truth.labels == number],
                {kind: of_kind[of_kind.labels == number] for kind, of_kind in rows.items()},
            )
            for number, name in enumerate(names)
            if name in self.min_overlaps
        }

    def check_results(self, folder: Path, frames: Annotated, indices: Sequence[int]) -> None:
        """See `Metric`."""
        check_results_folder(
            folder, [frames.frame_ids[index] for index in indices], suffix=RESULT_SUFFIX
        )

    def write_results(
        self,
        folder: Path,
        frames: Annotated,
        indices: Sequence[int],
        found: Sequence[Detections],
    ) -> None:
        """Write `<frame>.json` for each frame: `classes`, `scores` and `boxes` (N, 7)."""
        self.check_results(folder, frames, indices)
        for index, item in zip(indices, found, strict=True):
            values = {
                'classes': [frames.class_names[label] for label in item.labels],
                'scores': item.scores.tolist(),
                'boxes': item.boxes.tolist(),
            }
            name = f'{frames.frame_ids[index]}{RESULT_SUFFIX}'
            write_file(folder / name, (json.dumps(values) + '\n').encode())


@dataclass(frozen=True)
class OperatingPoint:
    """What a class's detections are at one threshold.

    Attributes:
        threshold: lowest score of a detection.
        recall: share of the labels that are found, in [0, 1].
        precision: share of the detections that found a label, in [0, 1].
    """

    threshold: float
    recall: float
    precision: float

    def f_score(self, beta: float = 1.0) -> float:
        """F-beta: the harmonic mean of recall and precision, recall weighing beta squared."""
        weight, product = beta * beta, self.recall * self.precision
        return (1 + weight) * product / (self.recall + weight * self.precision)


def precision_at_recalls(scores: FloatArray, hits: BoolArray, num_labels: int) -> FloatArray:
    """The best precision at each of 40 recalls, 1/40, ..., 1, or a higher one.

    Detections of equal score count together, so their order does not matter.

    Args:
        scores: (N,) of the detections.
        hits: (N,) bool which of them found a label; the others are false alarms.
        num_labels: labels to be found.

    Returns:
        (40,) in [0, 1], 0 where the recall is not reached; NaN without any label.
    """
    if not num_labels:
        return np.full(NUM_RECALLS, np.nan)
    order = np.argsort(-scores)
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of each score
    num_hits = np.cumsum(hits[order])[last]
    best = np.maximum.accumulate((num_hits / (last + 1))[::-1])[::-1]
    needed = np.arange(1, NUM_RECALLS + 1) * num_labels  # whole numbers: no rounding of recalls
    reached = np.searchsorted(num_hits * NUM_RECALLS, needed)
    precision: FloatArray = np.append(best, 0.0)[reached]
    return precision


@dataclass(frozen=True)
class _Rows:
    """Labels or detections of one class or of all.

    Attributes:
        labels: (N,) index into the class names.
        bins: (N, 2) of the distance and of the points.
        scores: (N,) of detections; 0 for labels.
        hits: (N,) bool detections that found a label.
        excused: (N,) bool detections that are neither hits nor false alarms.
    """

    labels: IntArray
    bins: IntArray
    scores: FloatArray
    hits: BoolArray
    excused: BoolArray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: BoolArray) -> _Rows:
        return _Rows(*(column[keep] for column in vars(self).values()))


@dataclass(frozen=True)
class _SeenFrame:
    """One frame after matching.

    Attributes:
        truth: labels that count.
        found: all detections, by kind of overlap.
        without_point: (n,) classes of the labels that are ignored because they have no point.
        num_ignored: labels that count for no class.
    """

    truth: _Rows
    found: Mapping[str, _Rows]
    without_point: IntArray
    num_ignored: int


def _match_frame(frame: Frame, found: Detections, least: Sequence[Overlaps]) -> _SeenFrame:
    truth = frame.ground_truth
    if truth is None:
        raise DatasetError(f'frame {frame.frame_id}: no labels; only labelled frames have scores')
    num_points = _count_points(frame.points, truth.boxes)
    labels = np.where(num_points > 0, truth.labels, IGNORE_LABEL)
    counts = labels != IGNORE_LABEL
    truth_bins = _bins(truth.boxes, num_points)
    own_bins = _bins(found.boxes, _count_points(frame.points, found.boxes))
    none = np.zeros(len(truth), np.bool_)
    rows = {}
    for column, (kind, overlap) in enumerate(KINDS.items()):
        matches = match_detections(
            found,
            replace(truth, labels=labels),
            [each[column] for each in least],
            overlap=overlap,
        )
        hits, bins = matches.true_positives, own_bins.copy()
        bins[hits] = truth_bins[matches.truth_index[hits]]
        rows[kind] = _Rows(found.labels, bins, found.scores, hits, matches.ignored)
    return _SeenFrame(
        truth=_Rows(labels, truth_bins, np.zeros(len(truth)), none, none)[counts],
        found=rows,
        without_point=truth.labels[(num_points == 0) & (truth.labels != IGNORE_LABEL)],
        num_ignored=int((truth.labels == IGNORE_LABEL).sum()),
    )


def _count_points(points: FloatArray, boxes: FloatArray) -> IntArray:
    """Points (N,) in each box."""
    parts = [
        points_in_boxes(points, boxes[start : start + BOXES_AT_ONCE]).sum(axis=0)
        for start in range(0, max(1, len(boxes)), BOXES_AT_ONCE)
    ]
    return np.concatenate(parts)


def _bins(boxes: FloatArray, num_points: IntArray) -> IntArray:
    """Bins (N, 2) of the distance and of the points of boxes."""
    distance = np.hypot(boxes[:, 0], boxes[:, 1])
    columns = [np.digitize(distance, DISTANCES[1:]), np.digitize(num_points, NUM_POINTS[1:])]
    return np.stack(columns, axis=1)


def _join(tables: Sequence[_Rows]) -> _Rows:
    none = np.zeros(0, np.bool_)
    empty = _Rows(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0), none, none)
    columns = zip(*(vars(table).values() for table in (empty, *tables)), strict=True)
    return _Rows(*(np.concatenate(column) for column in columns))


def _precisions(truth: _Rows, found: Mapping[str, _Rows]) -> dict[str, list[float]]:
    """By kind of overlap, the precision at each recall."""
    precisions = {}
    for kind, rows in found.items():
        judged = rows[~rows.excused]
        at_recalls = precision_at_recalls(judged.scores, judged.hits, len(truth))
        precisions[kind] = at_recalls.tolist()
    return precisions


def _best_threshold(found: _Rows, num_labels: int, beta: float) -> OperatingPoint | None:
    judged = found[~found.excused]
    if not num_labels or not judged.hits.any():
        return None
    order = np.argsort(-judged.scores, kind='stable')
    scores, num_hits = judged.scores[order], np.cumsum(judged.hits[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each score
    best = last[np.argmax(num_hits[last] / (beta**2 * num_labels + last + 1))]  # part of F-beta
    return OperatingPoint(
        float(scores[best]), float(num_hits[best] / num_labels), float(num_hits[best] / (best + 1))
    )


def _alarms(found: _Rows, num_labels: int, recalls: Sequence[float]) -> Alarms:
    """False alarms of detections of one class at some recalls."""
    hit_scores = np.sort(found.scores[found.hits])[::-1]
    needed = np.ceil(np.asarray(recalls) * num_labels - 1e-9).astype(np.int64)  # 0.1 * 30 is > 3
    scores = hit_scores[needed[(needed >= 1) & (needed <= len(hit_scores))] - 1]
    false = np.sort(found.scores[~found.hits & ~found.excused])
    return Alarms(
        num_labels,
        scores.astype(np.float64),
        (hit_scores >= scores[:, None]).sum(axis=1) / max(num_labels, 1),
        (len(false) - np.searchsorted(false, scores)).astype(np.float64),
    )


def _average_precisions(truth: _Rows, found: Mapping[str, _Rows]) -> dict[str, float]:
    """`BEV AP` and `3D AP` [%] of labels and of the detections that go with them."""
    return {
        f'{kind} AP': 100 * sum(at_recalls) / NUM_RECALLS
        for kind, at_recalls in _precisions(truth, found).items()
    }


def _by_bin(
    truth: _Rows, found: Mapping[str, _Rows], *, column: int, bins: Sequence[str]
) -> dict[str, dict[str, float]]:
    cells: dict[str, dict[str, float]] = {}
    for number, name in enumerate(bins):
        here = truth[truth.bins[:, column] == number]
        of_bin = {kind: rows[rows.bins[:, column] == number] for kind, rows in found.items()}
        cells[name] = {'num_labels': len(here), **_average_precisions(here, of_bin)}
    return cells


def _mean(rows: Iterable[Mapping[str, float]], column: str) -> float:
    """Mean of a column over the rows that have a value."""
    values = [row[column] for row in rows if not math.isnan(row[column])]
    return sum(values) / len(values) if values else math.nan
