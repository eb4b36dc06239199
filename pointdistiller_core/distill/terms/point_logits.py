# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Distillation of PointRCNN's raw outputs: point by point, and proposal by proposal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import LogitsConfig, PointRcnnConfig
from pointdistiller_core.distill.compatibility import list_differences
from pointdistiller_core.distill.term import View
from pointdistiller_core.distill.terms.scores import SCORE_LOSSES, masked_mean, score_mask
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointRcnn, PointRcnnOutput


def check_same_points(teacher: PointRcnnConfig, student: PointRcnnConfig, *, purpose: str) -> None:
    """Check that boxes of points mean the same for both.

    Raises:
        ConfigError: lists every difference, with both values.
    """
    if differences := list_differences(point_facts(teacher), point_facts(student)):
        raise ConfigError(f'{purpose}; make these equal:\n' + '\n'.join(differences))


def point_facts(config: PointRcnnConfig) -> dict[str, Any]:
    """All that determines the meaning of the outputs of points."""
    return {f'head.mean_sizes.{name}': config.usual_size(name) for name in config.class_names}


def point_logits_loss(teacher: View, student: View, config: LogitsConfig) -> Tensor:
    """Loss of both stages, a mean over the frames.

    The second stage of the student sees the teacher's proposals, so that both say something about
    the same boxes. Boxes are taught only where the teacher is confident.
    """
    ours, theirs, model = student.output, teacher.output, student.model
    assert isinstance(ours, PointRcnnOutput)
    assert isinstance(theirs, PointRcnnOutput)
    assert isinstance(model, PointRcnn)
    boxes = [proposals.boxes for proposals in theirs.proposals]
    logits, residuals = model.refine(ours.points, ours.features, ours.point_logits, boxes)
    beta = model.smooth_l1_beta
    ours_second = map(theirs.of_proposals, (logits[:, None], residuals))
    theirs_second = map(theirs.of_proposals, (theirs.logits[:, None], theirs.residuals))
    stages = (
        ((ours.point_logits, ours.point_codes), (theirs.point_logits, theirs.point_codes)),
        (ours_second, theirs_second),
    )
    # It depends on all outputs even if there is nothing to teach.
    outputs = (ours.point_logits, ours.point_codes, logits, residuals)
    losses = [torch.stack([values[:0].sum() for values in outputs]).sum()]
    for own_stage, taught_stage in stages:
        frames = zip(*own_stage, *taught_stage, strict=True)
        losses += [
            _frame_loss((own, taught), (own_boxes, taught_boxes), config, beta)
            for own, own_boxes, taught, taught_boxes in frames
        ]
    return torch.stack(losses).sum() / ours.points.batch_size


def _frame_loss(
    logits: tuple[Tensor, Tensor], boxes: tuple[Tensor, Tensor], config: LogitsConfig, beta: float
) -> Tensor:
    """Loss of one stage in one frame, of (N, K) logits and (N, C) codes of student and teacher."""
    best = logits[1].amax(dim=1).sigmoid()
    scores = SCORE_LOSSES[config.loss](*logits).sum(dim=1)
    loss = masked_mean(scores[None], score_mask(best[None], config))
    confident = best >= config.score_threshold
    own, taught = (values[confident] for values in boxes)
    error = F.smooth_l1_loss(own, taught, beta=beta, reduction='sum')
    return loss + config.box_weight * error / max(1, len(own))
