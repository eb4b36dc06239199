# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher and student on the same clouds, and both beside the truth: sums in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import heapq
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.evaluation.comparison.pairs import (
    CloudAgreement,
    Tally,
    compare_cloud,
)
from pointdistiller_core.evaluation.comparison.stamps import StampMatcher
from pointdistiller_core.evaluation.comparison.statistics import LatencyHistogram, Timeline
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    Range = tuple[float, float, float, float, float, float]

ValueT = TypeVar('ValueT')

CURVE_DISTANCES = tuple(range(5, 80, 5))  # [m], of curves over the distance
RECENT_CLOUDS = 36_000  # whose stamps are remembered: an hour at 10 Hz
NO_STAMP = 0  # what a driver without a clock sends
TIMELINE = ('reference', 'found', 'matched', 'teacher_ms', 'student_ms')


@dataclass(frozen=True)
class ComparisonRules:
    """What counts.

    Attributes:
        class_names: names that labels index.
        iou_thresholds: least IoU from above of a pair, for each class.
        distances: where bands of distances begin [m], after the first.
        ranges: x_min, y_min, z_min, x_max, y_max, z_max [m] of teacher and student, each in its
            training frame; labelled boxes whose centers are in neither are ignored. Empty: all
            count.
    """

    class_names: tuple[str, ...]
    iou_thresholds: tuple[float, ...]
    distances: tuple[float, ...] = (20.0, 40.0)
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class CloudResult:
    """What both found in one cloud: boxes that count, by descending score, with `latency_ms`.

    Attributes:
        stamp_ns: of the cloud; 0 if it has none.
        points: (N, 4) x, y, z [m], intensity.
        teacher: its detections.
        student: its detections.
        mountings: of the sensor, for teacher and student; None is the training sensor's. Boxes are
            compared in the teacher's training frame, where they are upright.
        frame_id: name of the cloud's frame; empty if it is not known.
        name: of the cloud in its dataset, where stamps may be missing or occur again; empty for
            one that only its stamp tells from others.
        truth: its labels, in its frame; None if they come by themselves, or not at all.
    """

    stamp_ns: int
    points: FloatArray
    teacher: Detections
    student: Detections
    mountings: tuple[Mounting | None, Mounting | None] = (None, None)
    frame_id: str = ''
    name: str = ''
    truth: GroundTruth | None = None

    @property
    def title(self) -> str:
        """Name or time, for people."""
        return f'frame {self.name}' if self.name else f'stamp {self.stamp_ns / 1e9:.3f} s'

    @property
    def level_points(self) -> FloatArray:
        """(N, 4) the points in the teacher's training frame."""
        mounting = self.mountings[0]
        return mounting.points_to_training(self.points) if mounting else self.points

    def level_boxes(self, boxes: FloatArray) -> FloatArray:
        """(N, 7) boxes of the cloud's frame in the teacher's training frame."""
        mounting = self.mountings[0]
        return mounting.boxes_to_training(boxes) if mounting else boxes


@dataclass(frozen=True)
class _Labels:
    """Labelled boxes with their stamp and frame."""

    stamp_ns: int
    frame_id: str
    truth: GroundTruth


class RowLog(Protocol):
    """Receives rows of numbers, one for each cloud."""

    def write(self, table: str, row: Mapping[str, float | str]) -> None:
        """Append a row to one of the tables."""
        ...


class NoLog:
    """Keeps no rows."""

    def write(self, table: str, row: Mapping[str, float | str]) -> None:
        """Forget the row."""


class OnlineComparison:
    """Compares cloud by cloud; its memory does not grow with the number of clouds.

    Not safe to call from several threads at once.

    Args:
        rules: what counts.
        log: gets the numbers of each cloud: table `clouds`, and `ground_truth` if there is one.
        tolerance_ns: largest difference of the stamps of a cloud and its labels.
        capacity: clouds, and labels, that may wait for one another.
        num_worst: clouds with the most disagreements to keep, for pictures.

    Attributes:
        num_truth: labels received.
        num_repeated_truth: of these, those with the stamp of earlier ones.
        num_truth_elsewhere: of these, those in another frame than their cloud, which are not used.
        frames_apart: of the last such cloud and its labels.
    """

    def __init__(
        self,
        rules: ComparisonRules,
        *,
        log: RowLog | None = None,
        tolerance_ns: int = 0,
        capacity: int = 100,
        num_worst: int = 4,
    ) -> None:
        self.rules = rules
        self.tallies = {
            name: Tally(len(rules.class_names), rules.distances)
            for name in ('agreement', 'teacher_truth', 'student_truth')
        }
        self.curves = {
            name: Tally(len(rules.class_names), CURVE_DISTANCES) for name in self.tallies
        }
        self.latencies = {'teacher': LatencyHistogram(), 'student': LatencyHistogram()}
        self.timeline = Timeline(len(TIMELINE))
        self.counts = {'compared': 0, 'repeated': 0, 'with_truth': 0}
        self._log = log or NoLog()
        self.num_truth = self.num_repeated_truth = self.num_truth_elsewhere = 0
        self.frames_apart: tuple[str, str] | None = None
        self._matcher = StampMatcher[CloudResult, _Labels](
            tolerance_ns=tolerance_ns, capacity=capacity
        )
        self._num_worst = num_worst
        self._worst: list[tuple[int, int, CloudResult]] = []
        self._recent: dict[int, None] = {}
        self._recent_truth: dict[int, bool] = {}  # whether it found a cloud, by stamp

    @property
    def num_truth_alone(self) -> int:
        """Labels without a cloud so far."""
        paired = self.counts['with_truth'] + self.num_truth_elsewhere
        return self.num_truth - self.num_repeated_truth - paired

    @property
    def num_without_truth(self) -> int:
        """Compared clouds without labels so far."""
        return self.counts['compared'] - self.counts['with_truth']

    @property
    def worst(self) -> list[tuple[CloudResult, CloudAgreement]]:
        """The clouds with the most disagreements, the worst first."""
        results = [result for _, _, result in sorted(self._worst, reverse=True)]
        return [(result, self._compare(result)) for result in results]

    def add(self, result: CloudResult) -> CloudAgreement:
        """Compare the boxes of one more cloud.

        A cloud without a name that has the stamp of an earlier one, as when a bag begins again, is
        counted as repeated and changes no other number.

        Returns:
            The student's boxes beside those of the teacher, row by row those of the result, in the
            teacher's training frame.
        """
        agreement = self._compare(result)
        if not result.name and _is_repeated(result.stamp_ns, self._recent):
            self.counts['repeated'] += 1
            return agreement
        times = [found.latency_ms['total'] for found in (result.teacher, result.student)]
        cloud = numbers_of(agreement, self.rules)
        self._log.write('clouds', self._row(result, cloud, times))  # first, because it may fail
        self.counts['compared'] += 1
        self._count('agreement', agreement)
        for histogram, time_ms in zip(self.latencies.values(), times, strict=True):
            histogram.add(time_ms)
        boxes = cloud['num_reference'], cloud['num_found'], cloud['num_matched']
        self.timeline.add([*boxes, *times])
        self._keep_worst(result, agreement.num_disagreements)
        if result.truth is not None:
            self.num_truth += 1
            self._compare_with_truth(result, result.truth)
        elif result.stamp_ns != NO_STAMP and not result.name:
            no_points = np.zeros((0, 4), np.float32)  # a view would keep the whole cloud
            without_points = replace(result, points=no_points)
            self._count_truth(self._matcher.add_left(result.stamp_ns, without_points))
        return agreement

    def add_truth(self, stamp_ns: int, truth: GroundTruth, frame_id: str = '') -> None:
        """Compare both with the labels of a cloud, as soon as the cloud was compared.

        Labels with the stamp of earlier ones, as when a bag begins again, are counted as repeated.
        They are used only if the earlier ones found no cloud.

        Args:
            stamp_ns: of the cloud.
            truth: in the cloud's frame; labels index the names of the rules.
            frame_id: name of the frame; if it is not the cloud's, nothing is compared. Empty is
                the cloud's.
        """
        self.num_truth += 1
        if stamp_ns in self._recent_truth:
            self.num_repeated_truth += 1
            if self._recent_truth[stamp_ns]:
                return
        elif stamp_ns != NO_STAMP:
            _remember(self._recent_truth, stamp_ns, False)
        self._count_truth(self._matcher.add_right(stamp_ns, _Labels(stamp_ns, frame_id, truth)))

    def _compare(self, result: CloudResult) -> CloudAgreement:
        teacher, student = (_leveled(result, one) for one in (result.teacher, result.student))
        return compare_cloud(teacher, student, self.rules.iou_thresholds)

    def _count(self, name: str, agreement: CloudAgreement) -> None:
        self.tallies[name].add(agreement)
        self.curves[name].add(agreement)

    def _count_truth(self, pair: tuple[CloudResult, _Labels] | None) -> None:
        if pair is None:
            return
        result, labels = pair
        if labels.stamp_ns in self._recent_truth:
            self._recent_truth[labels.stamp_ns] = True
        frames = result.frame_id, labels.frame_id
        if all(frames) and frames[0] != frames[1]:
            self.num_truth_elsewhere += 1
            self.frames_apart = frames
            return
        self._compare_with_truth(result, labels.truth)

    def _compare_with_truth(self, result: CloudResult, labels: GroundTruth) -> None:
        truth = self._in_range(result, labels)
        self.counts['with_truth'] += 1
        row: dict[str, float | str] = _key(result)
        for name, found in (('teacher', result.teacher), ('student', result.student)):
            agreement = compare_cloud(truth, _leveled(result, found), self.rules.iou_thresholds)
            self._count(f'{name}_truth', agreement)
            numbers = numbers_of(agreement, self.rules)
            row |= {f'{name}_{key}': value for key, value in numbers.items()}
        self._log.write('ground_truth', row)

    def _in_range(self, result: CloudResult, truth: GroundTruth) -> GroundTruth:
        """Labels in the teacher's training frame; those in neither range are ignored."""
        boxes = result.level_boxes(truth.boxes)
        if not self.rules.ranges:
            return replace(truth, boxes=boxes)
        covered = np.zeros(len(truth), np.bool_)
        for limits, mounting in zip(self.rules.ranges, result.mountings, strict=True):
            seen = mounting.boxes_to_training(truth.boxes) if mounting else truth.boxes
            low, high = np.array(limits).reshape(2, 3)
            covered |= np.all((seen[:, :3] >= low) & (seen[:, :3] <= high), axis=1)
        return replace(truth, boxes=boxes, labels=np.where(covered, truth.labels, IGNORE_LABEL))

    def _row(
        self, result: CloudResult, cloud: Mapping[str, float], times: Sequence[float]
    ) -> dict[str, Any]:
        teacher_ms, student_ms = times
        return {
            'cloud': self.counts['compared'] + 1,
            **_key(result),
            'points': len(result.points),
            **cloud,
            'teacher_ms': teacher_ms,
            'student_ms': student_ms,
        }

    def _keep_worst(self, result: CloudResult, num_disagreements: int) -> None:
        if not num_disagreements:
            return
        # Of equally bad ones the first stays. The number also prevents a comparison of results.
        heapq.heappush(self._worst, (num_disagreements, -self.counts['compared'], result))
        if len(self._worst) > self._num_worst:
            heapq.heappop(self._worst)


def _remember(recent: dict[int, ValueT], stamp_ns: int, value: ValueT) -> None:
    """Keep a value by its stamp, and forget the oldest if there are too many."""
    recent[stamp_ns] = value
    if len(recent) > RECENT_CLOUDS:
        del recent[next(iter(recent))]


def _key(result: CloudResult) -> dict[str, float | str]:
    """What a row begins with."""
    name = {'frame': result.name} if result.name else {}
    return {**name, 'stamp_ns': result.stamp_ns}


def _leveled(result: CloudResult, found: Detections) -> Detections:
    """Detections of a result in the teacher's training frame."""
    return replace(found, boxes=result.level_boxes(found.boxes), orientations=None)


def numbers_of(agreement: CloudAgreement, rules: ComparisonRules) -> dict[str, float]:
    """All numbers of one cloud by name."""
    tally = Tally(len(rules.class_names), ())
    tally.add(agreement)
    return tally.numbers().to_dict()


def _is_repeated(stamp_ns: int, recent: dict[int, None]) -> bool:
    """Whether a stamp was seen before; it is remembered."""
    if stamp_ns == NO_STAMP:
        return False
    repeated = stamp_ns in recent
    _remember(recent, stamp_ns, None)
    return repeated
