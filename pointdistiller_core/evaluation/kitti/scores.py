# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The KITTI metric of detections in the LiDAR frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.evaluation.kitti.metric import (
    MIN_OVERLAPS,
    KittiResult,
    count_false_positives,
    evaluate_kitti,
)
from pointdistiller_core.evaluation.scores import Alarms, Annotated, Scores, to_json
from pointdistiller_core.files import check_results_folder
from pointdistiller_core.formats.kitti import (
    DIFFICULTIES,
    KittiAnnotations,
    KittiObjects,
    objects_from_boxes,
    write_results,
)
from pointdistiller_core.records import Detections

LEVEL = 'moderate'  # whose AP|R40 is compared and averaged
COLUMNS = {'bev': 'BEV', '3d': '3D'}  # of the scores

AveragePrecision = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]


@dataclass(frozen=True)
class KittiScores(Scores):
    """AP|R40 [%] of moderate labels; the details are those of `KittiResult.to_dict`.

    Attributes:
        result: all results of the metric.
    """

    result: KittiResult = field(default_factory=lambda: KittiResult({}, {}))

    def to_dict(self) -> dict[str, Any]:
        """The details to four decimals, as in published tables of the benchmark."""
        plain: dict[str, Any] = to_json(self.details, digits=4)
        return plain


@dataclass(frozen=True)
class KittiMetric:
    """The KITTI metric, for frames with KITTI's annotations.

    Attributes:
        min_overlaps: class -> overlap that a hit must exceed; other classes are left out.
    """

    quantity: ClassVar = 'AP|R40, moderate [%]'

    min_overlaps: Mapping[str, float] = field(default_factory=lambda: dict(MIN_OVERLAPS))

    def evaluate(
        self, frames: Annotated, indices: Sequence[int], found: Sequence[Detections]
    ) -> KittiScores:
        """Evaluate the detections of some frames, see `Metric`.

        Returns:
            Means `BEV mAP` and `3D mAP`, of each class `BEV AP` and `3D AP`: see `score_result`.

        Raises:
            DatasetError: the frames have no annotations like KITTI's.
        """
        truth = [annotations_of(frames, index).objects for index in indices]
        names = [name for name in frames.class_names if name in self.min_overlaps]
        detections = to_objects(frames, indices, found)
        result = evaluate_kitti(truth, detections, names, min_overlaps=self.min_overlaps)
        return score_result(result)

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
        if level and level not in DIFFICULTIES:
            raise ConfigError(f'difficulty {level!r}: choose from {", ".join(DIFFICULTIES)}')
        return count_false_positives(
            [annotations_of(frames, index).objects for index in indices],
            to_objects(frames, indices, found),
            [name for name in frames.class_names if name in self.min_overlaps],
            recalls=recalls,
            metric=kind,
            difficulty=level or LEVEL,
            min_overlaps=self.min_overlaps,
        )

    def check_results(self, folder: Path, frames: Annotated, indices: Sequence[int]) -> None:
        """See `Metric`."""
        check_results_folder(folder, [frames.frame_ids[index] for index in indices])

    def write_results(
        self,
        folder: Path,
        frames: Annotated,
        indices: Sequence[int],
        found: Sequence[Detections],
    ) -> None:
        """Write a result file for each frame, see `Metric`."""
        detections = to_objects(frames, indices, found)
        names = [frames.frame_ids[index] for index in indices]
        write_results(folder, dict(zip(names, detections, strict=True)))


def annotations_of(frames: Annotated, index: int) -> KittiAnnotations:
    """The annotations that the metric needs of a frame.

    Raises:
        DatasetError: the dataset is of another kind.
    """
    annotations = frames.annotations(index)
    if not isinstance(annotations, KittiAnnotations):
        raise DatasetError(
            'the KITTI metric needs a camera: 2D boxes, a calibration, the size of the image; '
            'this dataset has none of them; choose --metric lidar'
        )
    return annotations


def to_objects(
    frames: Annotated, indices: Sequence[int], found: Sequence[Detections]
) -> list[KittiObjects]:
    """Detections of some frames as KITTI's objects.

    Raises:
        DatasetError: as `annotations_of`.
    """
    objects = []
    for index, item in zip(indices, found, strict=True):
        annotations = annotations_of(frames, index)
        names = [frames.class_names[label] for label in item.labels]
        camera = annotations.calibration, annotations.image_size
        objects.append(objects_from_boxes(item.boxes, names, *camera, item.scores))
    return objects


def score_result(result: KittiResult) -> KittiScores:
    """The scores of a result of `evaluate_kitti`; a class that is never detected has 0."""
    details = result.to_dict()
    counts = {name: levels[LEVEL] for name, levels in result.num_labels.items()}
    scores = score_details(details, tuple(result.min_overlaps))
    return KittiScores(scores.means, scores.by_class, counts, details, result)


def score_details(details: AveragePrecision, class_names: Sequence[str]) -> Scores:
    """As `score_result`, but from `KittiResult.to_dict`, which lacks the numbers of labels."""
    by_class = {
        name: {
            f'{column} AP': _moderate(details.get(metric, {}).get(name))
            for metric, column in COLUMNS.items()
        }
        for name in class_names
    }
    means = {
        f'{column} mAP': fmean(each[f'{column} AP'] for each in by_class.values())
        for column in COLUMNS.values()
        if by_class
    }
    return Scores(means, by_class, {}, details)


def ap40_of(details: AveragePrecision) -> dict[str, dict[str, list[float]]]:
    """AP|R40 [%] by metric and class: easy, moderate, hard."""
    return {
        metric: {name: list(levels['ap40']) for name, levels in classes.items()}
        for metric, classes in details.items()
    }


def _moderate(levels: Mapping[str, Sequence[float]] | None) -> float:
    return levels['ap40'][1] if levels else 0.0
