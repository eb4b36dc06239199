# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a term of the distillation loss is given, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.models import HeadOutput, PointPillars
from pointdistiller_core.pointcloud.voxels import Voxels
from pointdistiller_core.records import Batch


@dataclass(frozen=True)
class View:
    """What one network made of a batch.

    Attributes:
        model: the network.
        features: by tap, those that some term asked for; see `pointdistiller_core.distill.taps`.
        output: raw outputs of the head; None of a teacher whose output no term asked for.
    """

    model: PointPillars
    features: Mapping[str, Tensor]
    output: HeadOutput | None


@dataclass(frozen=True)
class Lesson:
    """A batch as teacher and student saw it: the same pillars, in the same order.

    Attributes:
        batch: clouds and labels.
        pillars: what both networks saw.
        teacher: without gradients.
        student: with gradients.
    """

    batch: Batch
    pillars: Voxels
    teacher: View
    student: View


class Term(nn.Module):
    """One way to teach; its parameters (adapters) are trained with the student, and dropped.

    A term is built as `TERMS[config.name](config, teacher=tap_channels(...), student=...)`.

    Attributes:
        taps: features that it needs of both networks.
        needs_teacher_output: whether it needs `lesson.teacher.output`.
    """

    taps: tuple[str, ...] = ()
    needs_teacher_output: bool = False

    def check(self, teacher: PointPillarsConfig, student: PointPillarsConfig) -> None:
        """Refuse, with a `ConfigError`, two models that it cannot work with; by default none."""

    def forward(self, lesson: Lesson) -> Tensor | None:
        """Its weighted loss, a scalar; None from a term that only relabels."""
        raise NotImplementedError

    def relabel(self, lesson: Lesson) -> Batch:
        """The batch whose labels the student's detection loss sees; by default unchanged."""
        return lesson.batch
