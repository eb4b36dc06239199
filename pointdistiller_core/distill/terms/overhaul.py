# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A comprehensive overhaul of feature distillation (OFD; Heo et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Mapping
import math

import torch
from torch import Tensor, nn

from pointdistiller_core.config import OverhaulConfig
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.adapters import build_adapter
from pointdistiller_core.distill.terms.feature_term import FeatureTerm, Pair, backbone_levels
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.models.layer import Layer


class OverhaulTerm(FeatureTerm):
    """Partial squared distance to the teacher's features before their ReLU."""

    config: OverhaulConfig

    def __init__(
        self, config: OverhaulConfig, *, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> None:
        super().__init__(config, teacher=teacher, student=student)
        self.adapters = nn.ModuleList(
            build_adapter(*channels, 'norm') for channels in self.channels
        )

    def default_taps(
        self, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> tuple[str, ...]:
        """All levels of the backbone, before the last ReLU of each."""
        levels = backbone_levels(teacher, student, term=self.config.name)
        return tuple(f'{level}.norm' for level in levels)

    def check(self, teacher: AnyDetector, student: AnyDetector) -> None:
        """Check that the teacher's features have a batch norm before their ReLU."""
        super().check(teacher, student)
        allowed = [name for name, layer in teacher.layers().items() if layer.norm is not None]
        if wrong := [tap for tap in self.taps if tap not in allowed]:
            raise ConfigError(
                f'distillation.terms.overhaul.taps: {wrong} are not before a ReLU; '
                f'choose from {allowed}'
            )

    def compare(self, level: int, pair: Pair, lesson: Lesson) -> Tensor:
        """Sum over rows and channels per frame; each level counts half of the next one."""
        layer = lesson.teacher.model.layers()[pair.tap]
        margin = margins(*scale_of(layer))
        # Of voxels only the features behind the ReLU exist; values it cut off get the margin's
        # value.
        cut = torch.where(pair.teacher > 0, pair.teacher, margin)
        target = pair.teacher.maximum(margin) if layer.is_before_relu else cut
        loss = partial_distance(self.adapters[level](pair.student), target)
        return loss / len(pair.rows.sizes) * 0.5 ** (len(self.taps) - level - 1)


def scale_of(layer: Layer) -> tuple[Tensor, Tensor]:
    """(C,) mean and (C,) standard deviation that the batch norm of a layer gives features."""
    assert layer.norm is not None
    mean, deviation = layer.norm.get_parameter('bias'), layer.norm.get_parameter('weight').abs()
    return mean.detach().float(), deviation.detach().float()


def margins(mean: Tensor, deviation: Tensor) -> Tensor:
    """(C,) expectation of the negative values of normal distributions; the margin ReLU's m.

    -3 deviations if almost nothing is negative, as in the authors' code.

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
    """Sum of squared differences, except where both are negative and the student's is lower."""
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum()
