# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What `fit` minimises: a module that turns a batch into named losses.

An objective is an `nn.Module` whose `forward(batch)` returns a dict of weighted scalar losses, the
terms of the sum to minimise, and whose `detector` is the module to save and evaluate.
`DetectionObjective` is plain training; `pointdistiller_core.distill.Distiller` is distillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from pointdistiller_core.models import AnyDetector
from pointdistiller_core.records import Batch


class DetectionObjective(nn.Module):
    """Plain training: the detection losses of one detector."""

    def __init__(self, detector: AnyDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses of a batch, by name; scalars."""
        output = self.detector(self.detector.prepare(batch.points), batch)
        return self.detector.losses(output, batch)


def detector_of(objective: nn.Module) -> AnyDetector:
    """The part of an objective that is saved and evaluated."""
    return cast(AnyDetector, objective.detector)


def ratios_of(objective: nn.Module, losses: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """How hard its terms pull at its detector, see `Distiller.gradient_ratios`; often none do."""
    measure = getattr(objective, 'gradient_ratios', None)
    return measure(losses) if measure else {}


def trained_companions(objective: nn.Module) -> dict[str, nn.Module]:
    """The parts of an objective that are trained with its detector, such as adapters, by name.

    Frozen parts (a teacher) are left out.
    """
    return {
        name: part
        for name, part in objective.named_children()
        if part is not objective.detector
        and any(parameter.requires_grad for parameter in part.parameters())
    }
