# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the labels of a dataset can teach, checked before a training begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import logging

import numpy as np

from pointdistiller_core.datasets import FrameDataset
from pointdistiller_core.datasets.augmentation import Range
from pointdistiller_core.errors import DatasetError

logger = logging.getLogger(__name__)

FEW_IN_RANGE = 0.5  # if fewer labels of a class are in range, the grid hardly fits


@dataclass(frozen=True)
class LabelSurvey:
    """Labels of a dataset.

    Attributes:
        num_frames: frames that were looked at.
        labelled: labels of each class.
        in_range: those whose center is in the detector's range, seen from above.
    """

    num_frames: int
    labelled: Mapping[str, int]
    in_range: Mapping[str, int]

    @property
    def gaps(self) -> list[str]:
        """What a detector cannot learn from these labels, or be measured on, class by class."""
        return [gap for name in self.labelled if (gap := self._gap(name))]

    def _gap(self, name: str) -> str:
        total, inside = self.labelled[name], self.in_range[name]
        if not total:
            return f'class {name}: no label in {self.num_frames} frames'
        if inside < FEW_IN_RANGE * total:
            return f'class {name}: {inside} of {total} labels are in the range of the grid'
        return ''


def survey_labels(
    dataset: FrameDataset, class_names: Sequence[str], point_cloud_range: Range
) -> LabelSurvey:
    """Count the labels of a dataset; points are not read.

    Args:
        dataset: labelled frames.
        class_names: classes to count.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max [m], LiDAR frame.

    Raises:
        DatasetError: labels or a calibration are missing or malformed.
    """
    low, high = np.array(point_cloud_range, np.float32).reshape(2, 3)[:, :2]
    labelled, in_range = Counter[int](), Counter[int]()
    for index in range(len(dataset)):
        truth = dataset.labels(index)
        centers = truth.boxes[:, :2]
        inside = ((centers >= low) & (centers <= high)).all(axis=1)
        labelled.update(truth.labels.tolist())
        in_range.update(truth.labels[inside].tolist())
    numbers = {name: dataset.class_names.index(name) for name in class_names}
    return LabelSurvey(
        len(dataset),
        {name: labelled[number] for name, number in numbers.items()},
        {name: in_range[number] for name, number in numbers.items()},
    )


def check_training_labels(survey: LabelSurvey, *, where: str, warn: bool = True) -> None:
    """Refuse labels that teach nothing, and warn of classes that they do not teach.

    Args:
        survey: of the training frames.
        where: what messages start with.
        warn: whether to warn; only the first of several processes does.

    Raises:
        DatasetError: there is no label, or none in range.
    """
    if not any(survey.in_range.values()):
        gaps = '; '.join(survey.gaps)
        raise DatasetError(
            f'{where}: nothing to learn: {gaps}; run: pointdistiller check-dataset, and see '
            'model.class_names and model.grid'
        )
    for gap in survey.gaps if warn else ():
        logger.warning('%s: %s; it will not be found, or hardly', where, gap)
