# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of a term of the distillation loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pointdistiller_core.models import AnyDetector, Prepared
from pointdistiller_core.models.layer import Rows
from pointdistiller_core.records import Batch


@dataclass(frozen=True)
class View:
    """Outputs of one network for a batch.

    Attributes:
        model: the network.
        rows: by layer, of the layers that some term needs.
        output: raw outputs; None for a teacher whose outputs no term needs.
        outputs: what the modules of the same layers gave.
    """

    model: AnyDetector
    rows: Mapping[str, Rows]
    output: Any | None
    outputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """A batch as teacher and student saw it: the same voxels or points, in the same order.

    Attributes:
        batch: clouds and labels.
        prepared: what both networks saw.
        teacher: without gradients.
        student: with gradients.
        detection_loss: of the student, a scalar; None where it is not known.
    """

    batch: Batch
    prepared: Prepared
    teacher: View
    student: View
    detection_loss: Tensor | None = None


class Term(nn.Module):
    """One way to teach; its parameters (adapters) are trained with the student, then dropped.

    A term is built as `TERMS[config.name](config, teacher=..., student=...)`, with the channels of
    each layer of both.

    Attributes:
        taps: layers that it needs of both networks.
        needs_teacher_output: whether it needs `lesson.teacher.output`.
    """

    taps: tuple[str, ...] = ()
    needs_teacher_output: bool = False

    def check(self, teacher: AnyDetector, student: AnyDetector) -> None:
        """Raise `ConfigError` for two models that it cannot work with; by default never.

        Both may be without memory, on torch's `meta` device.
        """

    def forward(self, lesson: Lesson) -> Tensor | None:
        """Its weighted loss, a scalar; None from a term that only relabels."""
        raise NotImplementedError

    def relabel(self, batch: Batch, teacher: View) -> Batch:  # noqa: ARG002
        """The batch whose labels the student learns from; by default unchanged."""
        return batch


def layer_names(taps: Sequence[str]) -> tuple[str, ...]:
    """Names of layers of a configuration, where `pillars` is another name for `voxels`."""
    return tuple('voxels' if tap == 'pillars' else tap for tap in taps)


def device_type(batch: Batch) -> str:
    """Of the device that a batch is on."""
    return batch.points[0].device.type
