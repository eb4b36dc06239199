# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Contrastive representation distillation (CRD; Tian et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pointdistiller_core.config import ContrastiveConfig
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.feature_term import FeatureTerm, Pair, sample_frames


class ContrastiveTerm(FeatureTerm):
    """Each sampled row of the student finds its teacher's among all of a batch, and vice versa.

    CRD contrasts images with a memory of 16384 others; a batch has about as many rows. Both
    embeddings are trained, as in CRD: agreeing on a constant would cost the most, not the least.
    """

    config: ContrastiveConfig

    def __init__(
        self, config: ContrastiveConfig, *, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> None:
        super().__init__(config, teacher=teacher, student=student)
        self.student_embeddings = nn.ModuleList(
            nn.Linear(ours, config.channels) for ours, _ in self.channels
        )
        self.teacher_embeddings = nn.ModuleList(
            nn.Linear(theirs, config.channels) for _, theirs in self.channels
        )

    def compare(self, level: int, pair: Pair, _lesson: Lesson) -> Tensor:
        """InfoNCE of both directions, added."""
        rows = torch.cat(sample_frames(pair.rows, self.config.num_samples))
        student = self.student_embeddings[level](pair.student[rows])
        teacher = self.teacher_embeddings[level](pair.teacher[rows])
        return contrast(student, teacher, temperature=self.config.temperature)


def contrast(
    student: Tensor, teacher: Tensor, *, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """Sum of InfoNCE in both directions: row i of one is the positive of row i of the other.

    Args:
        student: (S, D) embeddings.
        teacher: (S, D) embeddings.
        temperature: divides the cosines.
        weights: (S,) of the pairs; None weighs all alike.
    """
    logits = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T / temperature
    positives = torch.arange(len(logits), device=logits.device)
    if weights is None:
        losses = [F.cross_entropy(side, positives, reduction='sum') for side in (logits, logits.T)]
    else:
        losses = [
            (weights * F.cross_entropy(side, positives, reduction='none')).sum()
            for side in (logits, logits.T)
        ]
    return torch.stack(losses).sum() / max(len(logits), 1)
