# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A comprehensive overhaul of feature distillation (OFD; Heo et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Mapping
import math

import torch
from torch import Tensor, nn

from pointdistiller_core.config import OverhaulConfig
from pointdistiller_core.distill.taps import PILLARS, tap_modules
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.adapters import build_adapter
from pointdistiller_core.distill.terms.feature_term import FeatureTerm, Pair, backbone_levels
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointPillars


class OverhaulTerm(FeatureTerm):
    """Partial squared distance to the teacher's features before their ReLU.

    Raises:
        ConfigError: a tap behind a ReLU whose batch norm is not known.
    """

    config: OverhaulConfig

    def __init__(
        self, config: OverhaulConfig, *, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> None:
        super().__init__(config, teacher=teacher, student=student)
        if wrong := [tap for tap in self.taps if not (tap == PILLARS or tap.endswith('.norm'))]:
            allowed = [tap for tap in student if tap == PILLARS or tap.endswith('.norm')]
            raise ConfigError(
                f'distillation.terms.overhaul.taps: {wrong} are not before a ReLU; '
                f'choose from {allowed}'
            )
        self.adapters = nn.ModuleList(
            build_adapter(*channels, 'norm') for channels in self.channels
        )

    def default_taps(
        self, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> tuple[str, ...]:
        """All levels of the backbone, before the last ReLU of each."""
        levels = backbone_levels(teacher, student, term=self.config.name)
        return tuple(f'{level}.norm' for level in levels)

    def compare(self, level: int, pair: Pair, lesson: Lesson) -> Tensor:
        """Sum over rows and channels, per frame; half as much for each level below the last."""
        margin = margins(*teacher_norm(lesson.teacher.model, pair.tap))
        # Of pillars only the features behind the ReLU exist: what it cut has the margin's value.
        cut = torch.where(pair.teacher > 0, pair.teacher, margin)
        target = cut if pair.tap == PILLARS else pair.teacher.maximum(margin)
        loss = partial_distance(self.adapters[level](pair.student), target)
        return loss / len(pair.sizes) * 0.5 ** (len(self.taps) - level - 1)


def teacher_norm(teacher: PointPillars, tap: str) -> tuple[Tensor, Tensor]:
    """(C,) mean and (C,) standard deviation that the batch norm behind a tap gives features."""
    module = tap_modules(teacher)[tap]
    norm = module.get_submodule('norm') if tap == PILLARS else module
    mean, deviation = norm.get_parameter('bias'), norm.get_parameter('weight').abs()
    return mean.detach().float(), deviation.detach().float()


def margins(mean: Tensor, deviation: Tensor) -> Tensor:
    """(C,) expectation of the negative values of normal distributions; the margin ReLU's m.

    -3 deviations where nearly nothing is negative, as in the authors' code.

    Args:
        mean: (C,).
        deviation: (C,) at least 0.
    """
    deviation = deviation.clamp(min=1e-6)  # a channel that is switched off
    ratio = mean / deviation
    negative = torch.special.ndtr(-ratio)
    density = (-ratio.square() / 2).exp() / math.sqrt(2 * math.pi)
    expected = mean - deviation * density / negative
    return torch.where(negative > 1e-3, expected, -3 * deviation)


def partial_distance(student: Tensor, target: Tensor) -> Tensor:
    """Sum of squared differences, but where both are negative and the student's is lower."""
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum()
