# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Similarity-preserving distillation (Tung and Mori, ICCV 2019)."""

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
    sample_frames,
)
from pointdistiller_core.models.layer import Rows


class SimilarityTerm(FeatureTerm):
    """Mean squared difference of the networks' similarity matrices; needs no adapter.

    Among the frames of a batch, as in the paper: a batch of one frame teaches nothing. The variant
    compares sampled pillars or cells of each frame instead.
    """

    config: SimilarityConfig

    @property
    def needs_cells(self) -> bool:  # type: ignore[override]
        """Frames are compared cell by cell, samples are not."""
        return self.config.among == 'frames'

    def compare(self, _level: int, pair: Pair, _lesson: Lesson) -> Tensor:
        """Mean over the entries of the matrix, and over frames."""
        if self.config.among == 'frames':
            student, teacher = (
                similarities(flat_frames(pair.rows, values))
                for values in (pair.student, pair.teacher)
            )
            return mean_square(student, teacher)
        samples = sample_frames(pair.rows, self.config.num_samples)
        losses = [
            mean_square(similarities(pair.student[rows]), similarities(pair.teacher[rows]))
            for rows in samples
        ]
        return torch.stack(losses).mean()


def flat_frames(rows: Rows, values: Tensor) -> Tensor:
    """(B, H W C): each frame's map as one vector; of pillars, the map that the backbone sees."""
    return rows.to_map(values).movedim(1, -1).flatten(1)


def similarities(vectors: Tensor) -> Tensor:
    """(B, B) products of vectors (B, D), rows of length 1."""
    return F.normalize(vectors @ vectors.T, dim=1)
