# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What cropping to the camera's view leaves of a dataset, checked before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import logging

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.records import spread_indices

logger = logging.getLogger(__name__)

TRIED_FRAMES = 5  # whose points are read first: a wrong calibration is wrong in all frames


@dataclass(frozen=True)
class ViewSurvey:
    """Labels of a dataset's classes in the camera's view, or all if it is not cropped.

    Attributes:
        num_frames: of the dataset.
        num_labels: labels of its classes.
        num_seen: those that are in view, at least in part.
        bare_frames: frames without any label in view.
        lost_frames: those among them that have labels out of view.
    """

    num_frames: int
    num_labels: int
    num_seen: int
    bare_frames: int
    lost_frames: int

    @property
    def loses_all(self) -> bool:
        """Whether there are labels, and none in view."""
        return self.num_labels > 0 and self.num_seen == 0

    @property
    def notes(self) -> list[str]:
        """Sentences about labels out of view, and about frames without labels."""
        notes = []
        if lost := self.num_labels - self.num_seen:
            notes.append(
                f"labels out of the camera's view, which do not count: {lost} of {self.num_labels}"
            )
        if self.bare_frames:
            why = (
                f', {self.lost_frames} of them by the crop to the view' if self.lost_frames else ''
            )
            notes.append(f'frames without labels: {self.bare_frames} of {self.num_frames}{why}')
        return notes


def survey_view(seen: Sequence[NDArray[np.bool_]]) -> ViewSurvey:
    """Count labels in view.

    Args:
        seen: of each frame, (N,) which labels the camera sees.
    """
    bare = [flags for flags in seen if not flags.any()]
    return ViewSurvey(
        num_frames=len(seen),
        num_labels=sum(len(flags) for flags in seen),
        num_seen=sum(int(flags.sum()) for flags in seen),
        bare_frames=len(bare),
        lost_frames=sum(len(flags) > 0 for flags in bare),
    )


def check_camera_view(dataset: object, *, where: str, warn: bool = True) -> None:
    """Check that the camera sees something of a dataset; say what it does not see.

    Args:
        dataset: of a kind without a camera there is nothing to check. Labelled or not; the points
            of a few frames are read, too.
        where: what messages start with.
        warn: whether to warn; only the first of several processes does.

    Raises:
        DatasetError: no label is in view, no point of a frame is, or the size of an image is not
            known.
    """
    if not isinstance(dataset, KittiDataset):
        return
    for index in spread_indices(len(dataset), TRIED_FRAMES if dataset.camera_view else 0):
        dataset[index]
    if not dataset.labelled:
        return
    survey = survey_view([_labels_seen(dataset, index) for index in range(len(dataset))])
    if survey.loses_all:
        width, height = dataset.image_size(0)
        raise DatasetError(
            f'{where}: the camera sees none of {survey.num_labels} labels (image of {width} x '
            f'{height} pixels in frame {dataset.frame_ids[0]}); the calibration or the size of '
            'the image is wrong, or dataset.camera_view=false is wanted'
        )
    for note in survey.notes if warn else ():
        logger.warning('%s: %s', where, note)


def _labels_seen(dataset: KittiDataset, index: int) -> NDArray[np.bool_]:
    objects = dataset.objects(index)
    return dataset.seen(index, objects[np.isin(objects.names, dataset.class_names)])
