# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Distillation of raw outputs, anchor by anchor (SparseKD, NeurIPS 2022, its anchor head).

Almost all anchors are background, of which both networks are sure. A mask picks those that the
teacher can teach something about. All sums are per frame, over its masked anchors, and averaged
over the frames as in the detection loss, so it does not matter how frames are shared among
processes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import LogitsConfig
from pointdistiller_core.distill.compatibility import check_same_anchors
from pointdistiller_core.distill.term import Lesson, Term
from pointdistiller_core.distill.terms.point_logits import check_same_points, point_logits_loss
from pointdistiller_core.distill.terms.scores import SCORE_LOSSES, masked_mean, score_mask
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnchorDetector, AnchorOutput, AnyDetector, PointRcnn
from pointdistiller_core.models.boxes.losses import box_loss, velocity_loss


class LogitsTerm(Term):
    """All outputs of the student are drawn to the teacher's.

    Boxes, directions and velocities are taught only where the teacher is confident, whatever the
    mask, because its residuals mean nothing elsewhere.
    """

    needs_teacher_output = True

    def __init__(self, config: LogitsConfig, **_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config

    def check(self, teacher: AnyDetector, student: AnyDetector) -> None:
        """Outputs are compared anchor by anchor, or point by point and proposal by proposal."""
        if isinstance(teacher, PointRcnn) and isinstance(student, PointRcnn):
            purpose = 'distillation.terms.logits compares both networks point by point'
            check_same_points(teacher.config, student.config, purpose=purpose)
            return
        purpose = 'distillation.terms.logits compares both networks anchor by anchor'
        if wrong := [
            f'{side} ({model.config.name})'
            for side, model in (('teacher', teacher), ('student', student))
            if not isinstance(model, AnchorDetector)
        ]:
            raise ConfigError(f'{purpose}: {" and ".join(wrong)} has no anchors; leave it out')
        assert isinstance(teacher, AnchorDetector)
        assert isinstance(student, AnchorDetector)
        check_same_anchors(teacher.config, student.config, purpose=purpose)

    def forward(self, lesson: Lesson) -> Tensor:
        """Weighted loss of scores, boxes and directions; 0 if nothing is masked."""
        if isinstance(lesson.student.model, PointRcnn):
            return self.config.weight * point_logits_loss(
                lesson.teacher, lesson.student, self.config
            )
        teacher, student = lesson.teacher.output, lesson.student.output
        assert isinstance(teacher, AnchorOutput)
        assert isinstance(student, AnchorOutput)
        beta = lesson.student.model.smooth_l1_beta
        # Outside autocast: half precision is too coarse for probabilities near 0 and 1.
        with torch.autocast(student.class_logits.device.type, enabled=False):
            return self.config.weight * self._loss(teacher.float(), student.float(), beta)

    def _loss(self, teacher: AnchorOutput, student: AnchorOutput, beta: float) -> Tensor:
        config = self.config
        best = teacher.class_logits.amax(dim=2).sigmoid()
        scores = SCORE_LOSSES[config.loss](student.class_logits, teacher.class_logits).sum(dim=2)
        loss = masked_mean(scores, score_mask(best, config))
        confident = best >= config.score_threshold
        boxes = [
            self._box_loss(teacher, student, frame, keep.nonzero()[:, 0], beta)
            for frame, keep in enumerate(confident)
        ]
        return loss + torch.stack(boxes).mean()

    def _box_loss(
        self, teacher: AnchorOutput, student: AnchorOutput, frame: int, kept: Tensor, beta: float
    ) -> Tensor:
        """Mean loss of boxes, directions and velocities over some anchors; 0 without any."""
        boxes, directions = (
            (getattr(student, name)[frame, kept], getattr(teacher, name)[frame, kept])
            for name in ('box_residuals', 'direction_logits')
        )
        loss = self.config.box_weight * box_loss(*boxes, beta=beta)
        loss = loss + self.config.direction_weight * direction_loss(*directions)
        if student.velocities is not None and teacher.velocities is not None:
            velocities = student.velocities[frame, kept], teacher.velocities[frame, kept]
            loss = loss + self.config.velocity_weight * velocity_loss(*velocities, beta=beta)
        return loss / max(1, len(kept))


def direction_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the KL divergences of the student's direction logits (n, 2) from the teacher's."""
    return F.kl_div(
        logits.log_softmax(dim=1), targets.log_softmax(dim=1), reduction='sum', log_target=True
    )
