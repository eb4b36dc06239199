# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Distillation of raw outputs, anchor by anchor (SparseKD, NeurIPS 2022, its anchor head).

Almost all anchors are background, of which both networks are sure. A mask picks those that the
teacher can teach something about. All sums are per frame, over its masked anchors, and averaged
over the frames as in the detection loss, so it does not matter how frames are shared among
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import LogitsConfig
from pointdistiller_core.distill.compatibility import check_same_anchors
from pointdistiller_core.distill.term import Lesson, Term
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnchorDetector, AnchorOutput, AnyDetector
from pointdistiller_core.models.boxes.losses import box_loss, velocity_loss

SCORE_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    'mse': lambda student, teacher: (student.sigmoid() - teacher.sigmoid()).square(),
    'bce': lambda student, teacher: F.binary_cross_entropy_with_logits(
        student, teacher.sigmoid(), reduction='none'
    ),
}
"""Losses of the logits (..., K) of student and teacher, entry by entry.

`mse` of the probabilities is SparseKD's. `bce` has the gradient of the KL divergence, and more of
it where the student is sure and wrong.
"""


def score_mask(scores: Tensor, config: LogitsConfig) -> Tensor:
    """Anchors whose scores are taught.

    Args:
        scores: (B, num_anchors) best score of each anchor by the teacher.
        config: which mask.

    Returns:
        (B, num_anchors) 1 or 0, in the type of the scores.
    """
    if config.mask == 'all':
        return torch.ones_like(scores)
    if config.mask == 'confidence':
        return (scores >= config.score_threshold).to(scores.dtype)
    best = scores.topk(min(config.num_anchors, scores.shape[1]), dim=1).indices
    return torch.zeros_like(scores).scatter_(1, best, 1.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (B, N) over the masked entries (B, N) of each frame; then over the frames.

    A frame without masked entries counts as 0.
    """
    return ((values * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()


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
        """Outputs are compared anchor by anchor."""
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
