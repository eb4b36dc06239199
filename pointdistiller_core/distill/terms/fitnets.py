# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""FitNets (Romero et al., ICLR 2015): the student's features predict the teacher's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pointdistiller_core.config import FitNetsConfig
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.adapters import build_adapter
from pointdistiller_core.distill.terms.feature_term import FeatureTerm, Pair, mean_square


class FitNetsTerm(FeatureTerm):
    """Mean squared error of regressed student features.

    One stage, as in RepDistiller; the paper trains the hint first and then the student.
    """

    config: FitNetsConfig

    def __init__(
        self, config: FitNetsConfig, *, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> None:
        super().__init__(config, teacher=teacher, student=student)
        self.regressors = nn.ModuleList(
            build_adapter(*channels, config.regressor) for channels in self.channels
        )

    def compare(self, level: int, pair: Pair, _lesson: Lesson) -> Tensor:
        """Mean over rows and channels."""
        return mean_square(self.regressors[level](pair.student), pair.teacher)
