# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Consistency of confident boxes (SE-SSD, Zheng et al., CVPR 2021, section 3.3).

There the teacher is a moving average of the student. With a fixed teacher and one augmented batch
for both, boxes need no transformation; without a head for the IoU, that part of the loss is gone.
Boxes are matched by overlap, not by anchor: so the anchors of the two may differ, and of the many
anchors that find an object, each is drawn to the teacher's best match.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import ConsistencyConfig
from pointdistiller_core.distill.term import Lesson, Term, View, device_type
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.models import BoxPredictions
from pointdistiller_core.models.boxes.losses import box_loss


@torch.no_grad()
def match_boxes(
    student: BoxPredictions, teacher: BoxPredictions, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Pair boxes of the student with the box of the teacher that each overlaps most.

    Only boxes of one class are paired. A box of the teacher may have several partners.

    Args:
        student: N boxes.
        teacher: M boxes.
        iou_threshold: BEV IoU that a pair must exceed.

    Returns:
        (n,) int64 indices of the student's boxes, ascending, and (n,) of their partners.
    """
    if not len(student) or not len(teacher):
        none = student.labels.new_zeros(0)
        return none, none
    iou = rotated_iou_bev(student.boxes, teacher.boxes)
    iou = iou * (student.labels[:, None] == teacher.labels)
    best, partners = iou.max(dim=1)
    matched = (best > iou_threshold).nonzero()[:, 0]
    return matched, partners[matched]


def consistency_loss(student: BoxPredictions, teacher: BoxPredictions, *, beta: float) -> Tensor:
    """Mean loss of n matched pairs; 0 without any.

    Smooth L1 of the box parameters [m] and of the sine of the yaws' difference, over their number
    7, plus smooth L1 of the scores.
    """
    boxes = box_loss(student.boxes, teacher.boxes, beta=beta) / 7
    scores = F.smooth_l1_loss(student.scores, teacher.scores, reduction='sum')
    return (boxes + scores) / max(1, len(student))


class ConsistencyTerm(Term):
    """Confident boxes of the student are drawn to those of the teacher, where both overlap.

    It starts by itself when the student has confident boxes; SE-SSD's ramp-up over the first
    epochs is not there.
    """

    needs_teacher_output = True

    def __init__(self, config: ConsistencyConfig, **_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config

    def forward(self, lesson: Lesson) -> Tensor:
        """Weighted mean over the frames."""
        with torch.autocast(device_type(lesson.batch), enabled=False):
            views = (lesson.student, lesson.teacher)
            frames = zip(*map(self._confident_boxes, views), strict=True)
            beta = lesson.student.model.smooth_l1_beta
            losses = [self._frame_loss(ours, theirs, beta) for ours, theirs in frames]
            return self.config.weight * torch.stack(losses).mean()

    def _frame_loss(self, student: BoxPredictions, teacher: BoxPredictions, beta: float) -> Tensor:
        rows, partners = match_boxes(student, teacher, self.config.matched_iou)
        return consistency_loss(student[rows], teacher[partners], beta=beta)

    def _confident_boxes(self, view: View) -> list[BoxPredictions]:
        """Boxes of each frame before suppression; their yaws may be half a turn off."""
        thresholds = {'score_threshold': self.config.score_threshold, 'score_thresholds': ()}
        detection = view.model.config.detection.model_copy(update=thresholds)
        return view.model.candidates(view.output, detection)
