# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Which detections found which labelled boxes of one frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


USUAL_OVERLAPS = {'Car': 0.7, 'Pedestrian': 0.5, 'Cyclist': 0.5}  # least IoU of a hit: KITTI's
OTHER_OVERLAP = 0.5  # of other classes


def default_overlaps(class_names: Sequence[str]) -> tuple[float, ...]:
    """The usual least IoU of a hit, for each class."""
    return tuple(USUAL_OVERLAPS.get(name, OTHER_OVERLAP) for name in class_names)


@dataclass(frozen=True)
class Matches:
    """Detections of one frame against its truth.

    Attributes:
        truth_index: (N,) int64 the labelled box that each detection found, -1 for none.
        ignored: (N,) bool detections without one, on an ignored box.
        missed: (G,) bool labelled boxes that count and that nothing found.
    """

    truth_index: IntArray
    ignored: BoolArray
    missed: BoolArray

    @property
    def true_positives(self) -> BoolArray:
        """(N,) detections that found a box."""
        return self.truth_index >= 0

    @property
    def false_positives(self) -> BoolArray:
        """(N,) detections of something that is not there."""
        return ~self.true_positives & ~self.ignored


def match_detections(
    detections: Detections,
    truth: GroundTruth,
    iou_thresholds: Sequence[float],
    *,
    overlap: Callable[[FloatArray, FloatArray], FloatArray] = rotated_iou_bev,
) -> Matches:
    """Match greedily: by descending score, each takes the best free box of its class.

    Args:
        detections: of one frame.
        truth: of the same frame.
        iou_thresholds: least IoU, for each class; boxes that share nothing never match.
        overlap: IoU (N, M) of every pair of boxes (N, 7) and (M, 7); the default is from above.

    Raises:
        ValueError: a detection's label has no threshold.
    """
    if len(detections) and detections.labels.max() >= len(iou_thresholds):
        raise ValueError(
            f'label {detections.labels.max()} has no IoU threshold; '
            f'{len(iou_thresholds)} are given'
        )
    overlaps = overlap(detections.boxes, truth.boxes)
    reached = overlaps >= np.array(iou_thresholds)[detections.labels][:, None]
    reached &= overlaps > 0
    same_class = detections.labels[:, None] == truth.labels
    truth_index = _match_greedily(
        np.where(reached & same_class, overlaps, 0.0),
        np.argsort(-detections.scores, kind='stable'),
    )
    missed = truth.labels != IGNORE_LABEL
    missed[truth_index[truth_index >= 0]] = False
    on_ignored = (reached & (truth.labels == IGNORE_LABEL)).any(axis=1)
    return Matches(truth_index, on_ignored & (truth_index < 0), missed)


def _match_greedily(overlaps: FloatArray, order: IntArray) -> IntArray:
    """(N,) column that each row takes; 0 in `overlaps` (N, G) means that it must not."""
    taken = np.full(len(overlaps), -1, np.int64)
    free = overlaps.copy()
    for row in order if overlaps.shape[1] else ():
        column = free[row].argmax()
        if free[row, column] > 0:
            taken[row] = column
            free[:, column] = 0
    return taken
