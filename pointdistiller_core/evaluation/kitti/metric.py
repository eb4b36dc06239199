# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The KITTI object metric, number for number as the official program computes it.

Average precision of 2D boxes (`bbox`), boxes seen from above (`bev`) and 3D boxes (`3d`), and the
average orientation similarity (`aos`), for three difficulties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.kitti.matching import (
    Candidates,
    Curve,
    Pairs,
    Truth,
    alarms_at,
    measure,
)
from pointdistiller_core.evaluation.matching import USUAL_OVERLAPS
from pointdistiller_core.evaluation.scores import Alarms
from pointdistiller_core.files import read_text
from pointdistiller_core.formats.kitti import (
    DIFFICULTIES,
    NOWHERE,
    Difficulty,
    KittiObjects,
    read_objects,
)
from pointdistiller_core.geometry.iou import aligned_iou_3d, aligned_iou_bev

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

ClassCurves: TypeAlias = 'Mapping[str, Mapping[str, Curve]]'  # by class, then difficulty

METRICS = ('bbox', 'bev', '3d', 'aos')
MIN_OVERLAPS = USUAL_OVERLAPS
NEIGHBORS = {'car': 'van', 'pedestrian': 'person_sitting'}  # matched and ignored
DONT_CARE = 'dontcare'
NO_ALPHA = -10.0
NUM_RECALLS = 41  # at which precision is taken: 0, 1/40, ..., 1
TINY = np.finfo(np.float64).tiny  # keeps divisors positive


@dataclass(frozen=True)
class KittiResult:
    """What `evaluate_kitti` finds.

    Attributes:
        curves: by metric, class and difficulty. A class that is never detected has none, and
            `aos` has none where a detection lacks its observation angle, as in the official
            program.
        num_labels: by class and difficulty, labels that a detector should find.
        num_excluded: by class, labels that count at no difficulty, by the reason.
        num_unjudged: by class, detections without a 2D box, which are neither hits nor false
            alarms because they are too low in the image.
        min_overlaps: class -> least overlap of a hit, of all classes that were looked for.
    """

    curves: Mapping[str, ClassCurves]
    num_labels: Mapping[str, Mapping[str, int]]
    num_excluded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    num_unjudged: Mapping[str, int] = field(default_factory=dict)
    min_overlaps: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, dict[str, dict[str, list[float]]]]:
        """Average precision [%]: metric, class, `ap11` or `ap40`, then easy, moderate, hard."""
        return {
            metric: {name: _average_precision(levels) for name, levels in classes.items()}
            for metric, classes in self.curves.items()
        }


def highest_ap40(num_labels: int) -> float:
    """AP|R40 [%] of a perfect detector, which the metric's rules keep low if there are few labels.

    Precision is taken at no more points than there are hits, the first of which does not count
    (rules 2 and 12 of docs/reference/kitti_metric.md).
    """
    return 2.5 * (min(max(num_labels, 1), NUM_RECALLS) - 1)


def highest_ap11(num_labels: int) -> float:
    """AP|R11 [%] of a perfect detector: like `highest_ap40`, of every fourth point."""
    return 100 * math.ceil(min(num_labels, NUM_RECALLS) / 4) / 11


@dataclass(frozen=True)
class _Table:
    """Objects of all frames, frame by frame.

    Attributes:
        objects: N objects.
        names: (N,) their names in lower case.
        frames: (N,) index of the frame.
        turns: (N,) place in the frame, from 0.
    """

    objects: KittiObjects
    names: NDArray[np.str_]
    frames: IntArray
    turns: IntArray


def evaluate_kitti(
    ground_truth: Sequence[KittiObjects],
    detections: Sequence[KittiObjects],
    class_names: Sequence[str] = tuple(MIN_OVERLAPS),
    *,
    min_overlaps: Mapping[str, float] = MIN_OVERLAPS,
    metrics: Sequence[str] = METRICS,
) -> KittiResult:
    """Evaluate the detections of some frames, as the official program does.

    Args:
        ground_truth: all labels of each frame, those of other classes and `DontCare` too.
        detections: of the same frames, with scores.
        class_names: classes to evaluate.
        min_overlaps: class -> intersection over union that a hit must exceed, in every metric.
        metrics: some of `METRICS`.

    Raises:
        ValueError: the frames do not correspond, detections have no scores, a class has no least
            overlap, or a metric is unknown.
    """
    if problem := _problem(ground_truth, detections, class_names, min_overlaps, metrics):
        raise ValueError(problem)
    truth, found = _join(ground_truth), _join(detections)
    curves: dict[str, ClassCurves] = {}
    least = {name: min_overlaps[name] for name in class_names}
    for metric in ('bbox', 'bev', '3d'):
        if metric in metrics or (metric == 'bbox' and 'aos' in metrics):
            curves[metric], similarity = _evaluate(metric, truth, found, least)
            if metric == 'bbox' and not (found.objects.alpha == NO_ALPHA).any():
                curves['aos'] = similarity
    labels = {name: truth.objects[truth.names == name.lower()] for name in class_names}
    flat = found.objects.lacks_box_2d
    return KittiResult(
        curves={metric: curves.get(metric, {}) for metric in metrics},
        num_labels=_count_labels(truth, class_names),
        num_excluded={
            name: DIFFICULTIES['hard'].exclusions(objects) for name, objects in labels.items()
        },
        num_unjudged={
            name: int((flat & (found.names == name.lower())).sum()) for name in class_names
        },
        min_overlaps=least,
    )


def count_false_positives(
    ground_truth: Sequence[KittiObjects],
    detections: Sequence[KittiObjects],
    class_names: Sequence[str],
    *,
    recalls: Sequence[float],
    metric: str = '3d',
    difficulty: str = 'moderate',
    min_overlaps: Mapping[str, float] = MIN_OVERLAPS,
) -> dict[str, Alarms]:
    """False positives of each class at some recalls.

    Matching is that of the metric, with one exception: what lies in a `DontCare` area of the image
    was never labelled, so it is no false positive from above and in 3D either.

    Args:
        ground_truth: all labels of each frame, those of other classes and `DontCare` too.
        detections: of the same frames, with scores.
        class_names: classes to count.
        recalls: ascending, in (0, 1].
        metric: `bbox`, `bev` or `3d`: which overlap makes a hit.
        difficulty: whose labels count.
        min_overlaps: class -> intersection over union that a hit must exceed.

    Raises:
        ValueError: see `evaluate_kitti`.
    """
    if problem := _problem(ground_truth, detections, class_names, min_overlaps, (metric,)):
        raise ValueError(problem)
    truth, found = _join(ground_truth), _join(detections)
    pairs, covered = _overlapping_pairs(metric, truth, found), _covered_by_dont_care(truth, found)
    alarms = {}
    for name in class_names:
        least = min_overlaps[name]
        seen = _see_class(
            *(name.lower(), DIFFICULTIES[difficulty], pairs[pairs.overlap > least]),
            truth=truth,
            found=found,
            excused=covered > least,
        )
        alarms[name] = alarms_at(*seen, recalls)
    return alarms


def read_results_folder(
    labels: Path, results: Path, split: Path | None = None
) -> tuple[list[KittiObjects], list[KittiObjects]]:
    """Labels and detections of the frames that have a result file, in the order of their names.

    Args:
        labels: folder of label files, e.g. `training/label_2`.
        results: folder of result files `<frame>.txt`; an empty one is a frame without detections.
        split: file that lists frames, e.g. `ImageSets/val.txt`; only these frames are read, and
            each must have a result file.

    Raises:
        DatasetError: a folder or a file is missing or malformed, or there are no result files.
    """
    if not labels.is_dir():
        raise DatasetError(f'{labels}: no such folder')
    names = [f'{frame}.txt' for frame in list_frames(results, split)]
    detections = [read_objects(results / name) for name in names]
    for name, objects in zip(names, detections, strict=True):
        if len(objects) and objects.scores is None:
            raise DatasetError(f'{results / name}: no scores; a result line has 16 fields')
    return [read_objects(labels / name) for name in names], detections


def list_frames(results: Path, split: Path | None = None) -> list[str]:
    """The frames of a folder of result files, or of a file that lists some.

    Raises:
        DatasetError: the folder or the file is missing or empty.
    """
    if not results.is_dir():
        raise DatasetError(f'{results}: no such folder')
    if not (names := sorted(path.name for path in results.glob('*.txt'))):
        raise DatasetError(f'{results}: no result files (<frame>.txt)')
    return [name.removesuffix('.txt') for name in names] if split is None else _read_split(split)


def _read_split(path: Path) -> list[str]:
    if not (frames := read_text(path, DatasetError).split()):
        raise DatasetError(f'{path}: lists no frames')
    return frames


def _problem(
    ground_truth: Sequence[KittiObjects],
    detections: Sequence[KittiObjects],
    class_names: Sequence[str],
    min_overlaps: Mapping[str, float],
    metrics: Sequence[str],
) -> str:
    """Why this cannot be evaluated; empty if it can."""
    if unknown := sorted(set(metrics) - set(METRICS)):
        return f'unknown metrics {unknown}; choose from {list(METRICS)}'
    if missing := sorted(set(class_names) - set(min_overlaps)):
        return f'min_overlaps lacks classes {missing}; it has {sorted(min_overlaps)}'
    if len(ground_truth) != len(detections) or not ground_truth:
        return f'{len(ground_truth)} frames of labels but {len(detections)} of detections'
    for index, objects in enumerate(detections):
        if len(objects) and objects.scores is None:
            return f'the detections of frame {index} have no scores'
    return ''


def _join(frames: Sequence[KittiObjects]) -> _Table:
    columns: dict[str, Any] = {
        each.name: np.concatenate([getattr(objects, each.name) for objects in frames])
        for each in fields(KittiObjects)
        if each.name != 'scores'
    }
    scores = [objects.scores for objects in frames if objects.scores is not None]
    if sum(map(len, scores)) == len(columns['names']):
        columns['scores'] = np.concatenate([np.zeros(0), *scores])
    lengths = [len(objects) for objects in frames]
    return _Table(
        objects=KittiObjects(**columns),
        names=np.char.lower(columns['names']),
        frames=np.repeat(np.arange(len(frames)), lengths),
        turns=np.concatenate([np.arange(length) for length in lengths]),
    )


def _evaluate(
    metric: str, truth: _Table, found: _Table, min_overlaps: Mapping[str, float]
) -> tuple[ClassCurves, ClassCurves]:
    """Precision and orientation similarity of every class that is detected."""
    pairs = _overlapping_pairs(metric, truth, found)
    # DontCare areas are drawn in the image, so they excuse nothing elsewhere.
    covered = (
        _covered_by_dont_care(truth, found) if metric == 'bbox' else np.zeros(len(found.names))
    )
    precision: dict[str, dict[str, Curve]] = {}
    similarity: dict[str, dict[str, Curve]] = {}
    for name, least in min_overlaps.items():
        if not _is_detected(metric, found.objects[found.names == name.lower()]):
            continue
        enough, excused = pairs[pairs.overlap > least], covered > least
        levels = {
            level: measure(
                *_see_class(
                    name.lower(), difficulty, enough, truth=truth, found=found, excused=excused
                )
            )
            for level, difficulty in DIFFICULTIES.items()
        }
        precision[name] = {level: curves[0] for level, curves in levels.items()}
        similarity[name] = {level: curves[1] for level, curves in levels.items()}
    return precision, similarity


def _count_labels(truth: _Table, class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    counts = {level: each.includes(truth.objects) for level, each in DIFFICULTIES.items()}
    return {
        name: {level: int(own[truth.names == name.lower()].sum()) for level, own in counts.items()}
        for name in class_names
    }


def _see_class(
    name: str,
    difficulty: Difficulty,
    pairs: Pairs,
    *,
    truth: _Table,
    found: _Table,
    excused: BoolArray,
) -> tuple[Pairs, Truth, Candidates]:
    """All labels and detections as one class and difficulty see them."""
    labels, detections = truth.objects, found.objects
    assert detections.scores is not None
    same = truth.names == name
    counts = same & difficulty.includes(labels)
    low = np.floor(np.abs(_height(detections))) < difficulty.min_height
    detected = (found.names == name) & ~low
    matters = same | (truth.names == NEIGHBORS.get(name, ''))
    # A detection that is too low may take a label whatever its class.
    pairs = pairs[matters[pairs.truth] & (detected | low)[pairs.detection]]
    return (
        pairs,
        Truth(truth.turns, counts, labels.alpha),
        Candidates(detected, excused, detections.scores, detections.alpha),
    )


def _is_detected(metric: str, objects: KittiObjects) -> bool:
    """Whether a class with these detections is evaluated at all."""
    if metric == 'bbox':
        return bool((objects.boxes_2d[:, 0] >= 0).any())
    height_too = slice(0, 3, 1 if metric == '3d' else 2)  # x, y, z or x, z
    located = (objects.locations[:, height_too] != NOWHERE).all(axis=1)
    extended = (objects.dimensions[:, 0 if metric == '3d' else 1 :] > 0).all(axis=1)
    return bool((located & extended).any())


def _overlapping_pairs(metric: str, truth: _Table, found: _Table) -> Pairs:
    i, j = _pairs_of_frames(truth.frames, found.frames)
    if metric == 'bbox':
        a, b = truth.objects.boxes_2d, found.objects.boxes_2d
        shared = _shared_area(a[i], b[j])
        overlap = shared / np.maximum(_area(a)[i] + _area(b)[j] - shared, TINY)
    else:
        overlap = _upright_overlap(metric, truth.objects, found.objects, i, j)
    return Pairs(i, j, overlap)[overlap > 0]


def _pairs_of_frames(a: IntArray, b: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs of rows whose frames, which ascend, are equal."""
    start = np.searchsorted(b, a, side='left')
    counts = np.searchsorted(b, a, side='right') - start
    i = np.repeat(np.arange(len(a)), counts)
    first = np.cumsum(counts) - counts
    return i, np.arange(len(i)) + np.repeat(start - first, counts)


def _upright_overlap(
    metric: str, truth: KittiObjects, found: KittiObjects, i: IntArray, j: IntArray
) -> FloatArray:
    """Intersection over union (P,) of boxes that stand in the camera frame."""
    a, b = _upright_boxes(truth), _upright_boxes(found)
    reach_a, reach_b = (np.hypot(boxes[:, 3], boxes[:, 4]) / 2 for boxes in (a, b))
    distance = np.hypot(a[i, 0] - b[j, 0], a[i, 1] - b[j, 1])
    near = distance < reach_a[i] + reach_b[j]
    overlap = np.zeros(len(i))
    function = aligned_iou_bev if metric == 'bev' else aligned_iou_3d
    overlap[near] = function(a[i[near]], b[j[near]])
    return overlap


def _upright_boxes(objects: KittiObjects) -> FloatArray:
    """Boxes (N, 7) in the frame of the camera's x, z and y, in which yaw turns the other way."""
    height, width, length = objects.dimensions.T
    x, y, z = objects.locations.T
    return np.stack([x, z, y - height / 2, length, width, height, -objects.rotation_y], axis=1)


def _covered_by_dont_care(truth: _Table, found: _Table) -> FloatArray:
    """Largest part (D,) of each detection's 2D box that lies in one `DontCare` area."""
    areas = np.flatnonzero(truth.names == DONT_CARE)
    i, j = _pairs_of_frames(truth.frames[areas], found.frames)
    boxes = found.objects.boxes_2d
    shared = _shared_area(truth.objects.boxes_2d[areas[i]], boxes[j])
    covered = np.zeros(len(boxes))
    np.maximum.at(covered, j, shared)
    part: FloatArray = covered / np.maximum(_area(boxes), TINY)
    return part


def _shared_area(a: FloatArray, b: FloatArray) -> FloatArray:
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared: FloatArray = (high - low).clip(min=0).prod(axis=1)
    return shared


def _area(boxes_2d: FloatArray) -> FloatArray:
    area: FloatArray = (boxes_2d[:, 2:] - boxes_2d[:, :2]).prod(axis=1)
    return area


def _height(objects: KittiObjects) -> FloatArray:
    height: FloatArray = objects.boxes_2d[:, 3] - objects.boxes_2d[:, 1]
    return height


def _average_precision(levels: Mapping[str, Curve]) -> dict[str, list[float]]:
    return {
        'ap11': [curve.ap11 for curve in levels.values()],
        'ap40': [curve.ap40 for curve in levels.values()],
    }
