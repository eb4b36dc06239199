# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The nuScenes metric of detections in the LiDAR frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.nuscenes.metric import (
    DISTANCES,
    NuScenesResult,
    evaluate_nuscenes,
)
from pointdistiller_core.evaluation.scores import Annotated, Scores
from pointdistiller_core.files import write_file
from pointdistiller_core.formats.nuscenes.annotations import (
    NuScenesAnnotations,
    SampleTruth,
    to_global,
)
from pointdistiller_core.formats.nuscenes.names import CLASS_NAMES
from pointdistiller_core.formats.nuscenes.submission import (
    MAX_BOXES,
    RESULTS_FILE,
    GlobalBoxes,
    format_submission,
    submitted_samples,
)
from pointdistiller_core.records import Detections


@dataclass(frozen=True)
class NuScenesScores(Scores):
    """mAP, NDS and AP [%]; the details are those of `NuScenesResult.to_dict`, from 0 to 1.

    Attributes:
        result: all results of the metric.
    """

    result: NuScenesResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """The details, as exact as the official program has them."""
        return dict(self.details)


@dataclass(frozen=True)
class NuScenesMetric:
    """The metric of nuScenes' detection task, for frames with annotations like nuScenes'.

    Attributes:
        min_overlaps: none; hits are decided by the distance of the centers.
    """

    quantity: ClassVar = 'mAP, NDS [%]'

    min_overlaps: Mapping[str, Any] = field(default_factory=dict)

    def evaluate(
        self, frames: Annotated, indices: Sequence[int], found: Sequence[Detections]
    ) -> NuScenesScores:
        """Evaluate the detections of some frames, see `Metric`.

        Of each frame the 500 best detections count. Means are over the classes of the frames:
        with others than nuScenes' ten, they are not those of published tables.

        Returns:
            Means `mAP` and `NDS`; of each class the AP at each distance, and `AP`, their mean.

        Raises:
            DatasetError: the frames have no annotations like nuScenes'.
        """
        order = np.argsort(indices, kind='stable').tolist()  # which detections of equal scores see
        known = [annotations_of(frames, indices[place]) for place in order]
        truth = _joined([_truth_of(each) for each in known])
        boxes = _submitted(known, [found[place] for place in order], frames.class_names)
        return score_result(evaluate_nuscenes(truth, boxes, frames.class_names))

    def check_results(self, folder: Path, frames: Annotated, indices: Sequence[int]) -> None:
        """See `Metric`; classes that nuScenes does not have are refused, too."""
        _check_classes(frames.class_names)
        if folder.exists() and not folder.is_dir():
            raise DatasetError(f'{folder}: is a file; results need a folder')
        file = folder / RESULTS_FILE
        if file.exists():
            others = submitted_samples(file) - {frames.frame_ids[index] for index in indices}
            if others:
                raise DatasetError(
                    f'{folder}: holds result files of other frames ({len(others)} in '
                    f'{RESULTS_FILE}); choose an empty folder'
                )

    def write_results(
        self,
        folder: Path,
        frames: Annotated,
        indices: Sequence[int],
        found: Sequence[Detections],
    ) -> None:
        """Write a submission, `results_nusc.json`, see `Metric`."""
        _check_classes(frames.class_names)
        known = [annotations_of(frames, index) for index in indices]
        boxes = _submitted(known, found, frames.class_names)
        tokens = [each.token for each in known]
        write_file(folder / RESULTS_FILE, format_submission(boxes, tokens, frames.class_names))


def _check_classes(class_names: Sequence[str]) -> None:
    if unknown := [name for name in class_names if name not in CLASS_NAMES]:
        raise DatasetError(
            f'a submission of nuScenes knows no {", ".join(unknown)}, only '
            f'{", ".join(CLASS_NAMES)}; name the classes so (class_map), or write no results'
        )


def annotations_of(frames: Annotated, index: int) -> NuScenesAnnotations:
    """The annotations that the metric needs of a frame.

    Raises:
        DatasetError: the dataset is of another kind.
    """
    annotations = frames.annotations(index)
    if not isinstance(annotations, NuScenesAnnotations):
        raise DatasetError(
            'the nuScenes metric needs poses, velocities and attributes; this dataset has none of '
            'them; choose --metric lidar'
        )
    return annotations


def score_result(result: NuScenesResult) -> NuScenesScores:
    """The scores of a result of `evaluate_nuscenes`."""
    by_class = {
        name: {
            **{
                f'AP {distance:g} m': 100 * value
                for distance, value in zip(DISTANCES, own.tolist(), strict=True)
            },
            'AP': 100 * float(own.mean()),
        }
        for name, own in zip(result.class_names, result.average_precision, strict=True)
    }
    means = {'mAP': 100 * result.mean_ap, 'NDS': 100 * result.detection_score}
    counts = result.counts['truth']['outside_racks']
    return NuScenesScores(means, by_class, counts, result.to_dict(), result)


def _truth_of(annotations: NuScenesAnnotations) -> SampleTruth:
    if annotations.truth is None:
        raise DatasetError(
            f'sample {annotations.token}: no labels; only labelled ones have scores'
        )
    return annotations.truth


def _joined(parts: Sequence[SampleTruth]) -> SampleTruth:
    """Labels of one sample each, as those of all."""
    boxes = [
        replace(part.boxes, samples=np.full(len(part.boxes), number))
        for number, part in enumerate(parts)
    ]
    return SampleTruth(
        vehicles=np.concatenate([np.zeros((0, 2)), *(part.vehicles for part in parts)]),
        boxes=GlobalBoxes.joined(boxes),
        racks=np.concatenate([np.zeros((0, 10)), *(part.racks for part in parts)]),
        rack_samples=np.repeat(np.arange(len(parts)), [len(part.racks) for part in parts]),
    )


def _submitted(
    known: Sequence[NuScenesAnnotations],
    found: Sequence[Detections],
    class_names: Sequence[str],
) -> GlobalBoxes:
    """Detections of some samples in the global frame."""
    return GlobalBoxes.joined(
        replace(
            to_global(item, each.global_from_lidar, class_names),
            samples=np.full(min(len(item), MAX_BOXES), number),
        )
        for number, (each, item) in enumerate(zip(known, found, strict=True))
    )
