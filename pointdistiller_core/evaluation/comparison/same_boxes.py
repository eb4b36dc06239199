# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Whether two detectors find the same: one network in two libraries, teacher and student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.records import Detections

SURE_SCORE = 0.3  # boxes below are mostly guesses, which rounding adds and removes


@dataclass(frozen=True)
class Agreement:
    """How far the detections of two detectors agree, over some clouds.

    Attributes:
        num_boxes: boxes of the reference that count.
        num_found: boxes of the reference that the other has as well.
        num_other_boxes: boxes of the other that count.
        num_other_found: boxes of the other that the reference has as well.
        mean_score_difference: over the boxes of the reference that the other has; 0 without any.
    """

    num_boxes: int
    num_found: int
    num_other_boxes: int
    num_other_found: int
    mean_score_difference: float

    @property
    def fraction(self) -> float:
        """Part of all boxes that the other detector has as well; 1 without boxes."""
        total = self.num_boxes + self.num_other_boxes
        return (self.num_found + self.num_other_found) / total if total else 1.0


def compare_detections(
    reference: Sequence[Detections],
    other: Sequence[Detections],
    *,
    min_iou: float,
    min_score: float = SURE_SCORE,
) -> Agreement:
    """Look for the boxes of each detector among all boxes of the other.

    Args:
        reference: detections of each cloud.
        other: of the same clouds.
        min_iou: BEV IoU that a box of the same class must exceed to be the same box.
        min_score: boxes with this score or more count.
    """
    counts = np.zeros(4, int)
    differences: list[float] = []
    for first, second in zip(reference, other, strict=True):
        found, gaps = _find(first, second, min_iou, min_score)
        other_found, _ = _find(second, first, min_iou, min_score)
        counts += [len(found), found.sum(), len(other_found), other_found.sum()]
        differences += gaps[found].tolist()
    mean = float(np.mean(differences)) if differences else 0.0
    num_boxes, num_found, num_other, num_other_found = counts.tolist()
    return Agreement(num_boxes, num_found, num_other, num_other_found, mean)


def _find(
    wanted: Detections, among: Detections, min_iou: float, min_score: float
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    """(n,) whether each box that counts is among others, and (n,) how far the scores differ."""
    wanted = wanted[wanted.scores >= min_score]
    if not len(among):
        return np.zeros(len(wanted), bool), np.zeros(len(wanted))
    overlaps = rotated_iou_bev(wanted.boxes, among.boxes)
    overlaps = np.where(wanted.labels[:, None] == among.labels, overlaps, 0.0)
    best = overlaps.argmax(axis=1)
    found = overlaps[np.arange(len(wanted)), best] > min_iou
    return found, np.abs(wanted.scores - among.scores[best])
