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
from pointdistiller_core.distill.term import Lesson, Term, View
from pointdistiller_core.geometry.box_coding import decode_boxes
from pointdistiller_core.geometry.detection import best_anchors
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
        with torch.autocast(lesson.pillars.points.device.type, enabled=False):
            losses = [self._frame_loss(lesson, frame) for frame in range(len(lesson.batch))]
            return self.config.weight * torch.stack(losses).mean()

    def _frame_loss(self, lesson: Lesson, frame: int) -> Tensor:
        student, teacher = (
            self._confident_boxes(view, frame) for view in (lesson.student, lesson.teacher)
        )
        rows, partners = match_boxes(student, teacher, self.config.matched_iou)
        beta = lesson.student.model.config.loss.smooth_l1_beta
        return consistency_loss(student[rows], teacher[partners], beta=beta)

    def _confident_boxes(self, view: View, frame: int) -> BoxPredictions:
        """Boxes of a frame before non-maximum suppression; their yaws may be half a turn off."""
        output, threshold = view.output, self.config.score_threshold
        assert output is not None
        logits = output.class_logits[frame].float()
        detection = view.model.config.detection.model_copy(
            update={'score_threshold': threshold, 'score_thresholds': ()}
        )
        scores, best = best_anchors(logits, detection)
        boxes = decode_boxes(output.box_residuals[frame, best].float(), output.anchors[best])
        found = BoxPredictions(boxes, scores, logits[best].argmax(dim=1))
        return found[boxes.isfinite().all(dim=1)]
