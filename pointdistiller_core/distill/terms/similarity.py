# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Similarity-preserving distillation (Tung and Mori, ICCV 2019): what a network holds alike."""

from __future__ import annotations

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import SimilarityConfig
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.feature_term import (
    FeatureTerm,
    Pair,
    mean_square,
    sample_rows,
)


class SimilarityTerm(FeatureTerm):
    """Mean squared difference of the networks' similarity matrices; needs no adapter.

    Among the frames of a batch, as in the paper: a batch of one frame teaches nothing. The variant
    compares sampled pillars or cells of each frame instead.
    """

    config: SimilarityConfig

    def compare(self, _level: int, pair: Pair, lesson: Lesson) -> Tensor:
        """Mean over the entries of the matrix, and over frames."""
        if self.config.among == 'frames':
            teacher, student = (flat_frames(pair, rows) for rows in (pair.teacher, pair.student))
            return mean_square(similarities(student), similarities(teacher))
        samples = sample_rows(pair, lesson, self.config.num_samples)
        losses = [
            mean_square(similarities(pair.student[rows]), similarities(pair.teacher[rows]))
            for rows in samples
        ]
        return torch.stack(losses).mean()


def flat_frames(pair: Pair, rows: Tensor) -> Tensor:
    """(B, H W C): each frame's map as one vector; of pillars, the map that the backbone sees."""
    return pair.to_map(rows).movedim(1, -1).flatten(1)


def similarities(vectors: Tensor) -> Tensor:
    """(B, B) products of vectors (B, D), rows of length 1."""
    return F.normalize(vectors @ vectors.T, dim=1)
