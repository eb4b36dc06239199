# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import AttentionConfig
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.feature_term import FeatureTerm, Pair, mean_square
from pointdistiller_core.models.layer import split_frames


class AttentionTerm(FeatureTerm):
    """Mean squared difference of the networks' attention; needs no adapter."""

    config: AttentionConfig

    def compare(self, _level: int, pair: Pair, _lesson: Lesson) -> Tensor:
        """Mean over rows."""
        teacher, student = (
            attention(values, pair.rows.sizes, power=self.config.power)
            for values in (pair.teacher, pair.student)
        )
        return mean_square(student, teacher)


def attention(values: Tensor, sizes: tuple[int, ...], *, power: float) -> Tensor:
    """(N,) mean over channels of |F|^p, of length 1 in each frame.

    Args:
        values: (N, C) features.
        sizes: number of values of each frame.
        power: p.
    """
    energies = split_frames(values.abs().pow(power).mean(dim=1), sizes)
    return torch.cat([F.normalize(energy, dim=0) for energy in energies])
