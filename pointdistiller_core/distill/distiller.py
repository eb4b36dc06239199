# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A student that learns from labels and from a frozen teacher; what `fit` trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pointdistiller_core.config import DistillationConfig, LocalGraphConfig, ModelConfig
from pointdistiller_core.distill.local_graph import LocalGraphTerm
from pointdistiller_core.distill.taps import tap
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models.pointpillars import PointPillars
from pointdistiller_core.pointcloud.pillars import Pillars
from pointdistiller_core.records import Batch

TERMS: Mapping[str, type[LocalGraphTerm]] = {'local_graph': LocalGraphTerm}


class Distiller(nn.Module):
    """Adds distillation terms to the detection loss of a student.

    Both networks see the same pillars, so their features match row by row. Parameters and state
    are the student's and the adapters': the teacher moves between devices with the module, but it
    is no part of its parameters, of its state dict or of its training mode.

    Args:
        teacher: becomes the distiller's: frozen and in eval mode from here on.
        student: trained; a plain detector that knows nothing of being taught.
        config: the terms.

    Raises:
        ConfigError: teacher and student would not see the same pillars or classes.
    """

    teacher: PointPillars

    def __init__(
        self, teacher: PointPillars, student: PointPillars, config: DistillationConfig
    ) -> None:
        super().__init__()
        check_same_input(teacher.config, student.config)
        object.__setattr__(self, 'teacher', teacher.requires_grad_(False).eval())
        self.student = student
        self.terms = nn.ModuleDict(
            {term.name: build_term(term, teacher.config, student.config) for term in config.terms}
        )

    @property
    def detector(self) -> PointPillars:
        """The student: what is saved and evaluated."""
        return self.student

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses to be summed: the student's own and one per term, all weighted."""
        pillars = self.student.group(batch.points)
        with tap(self.student.encoder) as student_features:
            output = self.student(pillars)
        teacher_features = self._teacher_features(pillars)
        return {
            **self.student.losses(output, batch),
            **{
                name: term(pillars, teacher_features, student_features[0])
                for name, term in self.terms.items()
            },
        }

    @torch.no_grad()
    def _teacher_features(self, pillars: Pillars) -> Tensor:
        # Only the encoder runs: the rest of the teacher would be most of a step, for nothing.
        features: Tensor = self.teacher.encoder(pillars)
        return features

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves and casts of the module (`to`, `cuda`, `double`) reach the teacher, too."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def build_term(
    config: LocalGraphConfig, teacher: ModelConfig, student: ModelConfig
) -> LocalGraphTerm:
    """A term with its adapters, for two models of any width."""
    return TERMS[config.name](
        config,
        teacher_channels=teacher.scaled(teacher.encoder_channels),
        student_channels=student.scaled(student.encoder_channels),
    )


def check_same_input(teacher: ModelConfig, student: ModelConfig) -> None:
    """Check that both models cut clouds into the same pillars and name the same classes.

    Raises:
        ConfigError: lists every difference with both sides.
    """
    differences = [
        f'  {name}: teacher has {ours}, student has {theirs}'
        for name in ('grid', 'class_names', 'pillars')
        if (ours := getattr(teacher, name)) != (theirs := getattr(student, name))
    ]
    if differences:
        raise ConfigError(
            'teacher and student must agree on what they see; make these equal:\n'
            + '\n'.join(differences)
        )
