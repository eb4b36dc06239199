# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Scores that are taught: which, and how far they are off."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import LogitsConfig

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
