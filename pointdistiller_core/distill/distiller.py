# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A student that learns from labels and from a frozen teacher; what `fit` trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pointdistiller_core.config import DetectorConfig, DistillationConfig
from pointdistiller_core.distill.compatibility import list_differences
from pointdistiller_core.distill.gradients import gradient_ratios
from pointdistiller_core.distill.initialization import check_same_architecture
from pointdistiller_core.distill.term import Lesson, Term, View, layer_names
from pointdistiller_core.distill.terms.attention import AttentionTerm
from pointdistiller_core.distill.terms.attention_nonlocal import AttentionNonlocalTerm
from pointdistiller_core.distill.terms.box_features import BoxFeaturesTerm
from pointdistiller_core.distill.terms.consistency import ConsistencyTerm
from pointdistiller_core.distill.terms.contrastive import ContrastiveTerm
from pointdistiller_core.distill.terms.fitnets import FitNetsTerm
from pointdistiller_core.distill.terms.graph_contrast import GraphContrastTerm
from pointdistiller_core.distill.terms.labels import LabelsTerm
from pointdistiller_core.distill.terms.local_graph import LocalGraphTerm
from pointdistiller_core.distill.terms.logits import LogitsTerm
from pointdistiller_core.distill.terms.overhaul import OverhaulTerm
from pointdistiller_core.distill.terms.similarity import SimilarityTerm
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector, Prepared, sketch_detector
from pointdistiller_core.models.layer import Rows, read_layers
from pointdistiller_core.records import Batch

TERMS: Mapping[str, Callable[..., Term]] = {
    'local_graph': LocalGraphTerm,
    'logits': LogitsTerm,
    'consistency': ConsistencyTerm,
    'labels': LabelsTerm,
    'fitnets': FitNetsTerm,
    'attention': AttentionTerm,
    'similarity': SimilarityTerm,
    'contrastive': ContrastiveTerm,
    'graph_contrast': GraphContrastTerm,
    'overhaul': OverhaulTerm,
    'attention_nonlocal': AttentionNonlocalTerm,
    'box_features': BoxFeaturesTerm,
}


class Distiller(nn.Module):
    """Adds distillation terms to the detection loss of a student.

    Both networks see the same voxels or points, so their features match row by row. Parameters and
    state are those of the student and the adapters. The teacher moves between devices with the
    module, but is not part of its parameters, state dict or training mode.

    Args:
        teacher: frozen and in eval mode from now on.
        student: trained; a plain detector.
        config: the terms.

    Raises:
        ConfigError: teacher and student would not see the same places or classes; or a term taps a
            missing layer, samples more than there can be, or cannot compare the two.
    """

    teacher: AnyDetector

    def __init__(
        self, teacher: AnyDetector, student: AnyDetector, config: DistillationConfig
    ) -> None:
        super().__init__()
        check_same_input(teacher, student)
        object.__setattr__(self, 'teacher', teacher.requires_grad_(False).eval())
        self.student = student
        self.terms = nn.ModuleDict(build_terms(config, teacher, student))
        self._taps = {name for term in self._built() for name in term.taps}
        self._needs_output = any(term.needs_teacher_output for term in self._built())

    @property
    def detector(self) -> AnyDetector:
        """The student: what is saved and evaluated."""
        return self.student

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses to be summed: the student's own and one per term, all weighted."""
        prepared = self.student.prepare(batch.points)
        with torch.no_grad():
            teacher = self._see_as_teacher(prepared)
        for term in self._built():
            batch = term.relabel(batch, teacher)
        # after that, because a second stage samples by the labels
        student = self._see(self.student, prepared, batch)
        losses = self.student.losses(student.output, batch)
        detection_loss = torch.stack(list(losses.values())).sum()
        lesson = Lesson(batch, prepared, teacher, student, detection_loss)
        taught = {name: term(lesson) for name, term in self.terms.items()}
        return losses | {name: loss for name, loss in taught.items() if loss is not None}

    def gradient_ratios(self, losses: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """Each term's gradient in the student against detection's; see `gradients`.

        Args:
            losses: what `forward` has just returned.
        """
        taught = {name: loss for name, loss in losses.items() if name in self.terms}
        own = [loss for name, loss in losses.items() if name not in self.terms]
        return gradient_ratios(torch.stack(own).sum(), taught, self.student)

    def _see_as_teacher(self, prepared: Prepared) -> View:
        if self._needs_output:
            return self._see(self.teacher, prepared)
        # Running the rest of the teacher would take most of a step, for nothing.
        outputs = self.teacher.run_until(prepared, self._taps)
        return View(self.teacher, _rows(self.teacher, outputs, prepared), None, outputs)

    def _see(self, model: AnyDetector, prepared: Prepared, batch: Batch | None = None) -> View:
        layers = model.layers()
        with read_layers({name: layers[name] for name in self._taps}) as outputs:
            output = model(prepared, batch)
        return View(model, _rows(model, outputs, prepared), output, outputs)

    def _built(self) -> list[Term]:
        return [term for term in self.terms.values() if isinstance(term, Term)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves and casts of the module (`to`, `cuda`, `double`) reach the teacher, too."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def _rows(model: AnyDetector, outputs: Mapping[str, Any], prepared: Prepared) -> dict[str, Rows]:
    layers = model.layers()
    return {name: layers[name].to_rows(output, prepared) for name, output in outputs.items()}


def check_distillation(
    config: DistillationConfig, teacher: DetectorConfig, student: DetectorConfig
) -> None:
    """Check that a teacher can teach a student in this way, before either has weights.

    Raises:
        ConfigError: as `Distiller`, or the student cannot be cut out of its teacher.
    """
    sketches = [sketch_detector(model) for model in (teacher, student)]
    check_same_input(*sketches)
    build_terms(config, *sketches)
    if config.initialization != 'random':
        check_same_architecture(teacher, student)


def build_terms(
    config: DistillationConfig, teacher: AnyDetector, student: AnyDetector
) -> dict[str, Term]:
    """The terms with their adapters, for two models of any width.

    Raises:
        ConfigError: a term taps a missing layer (the existing ones are listed) or cannot compare
            the two.
    """
    sides = {
        side: {name: layer.channels for name, layer in model.layers().items()}
        for side, model in (('teacher', teacher), ('student', student))
    }
    terms: dict[str, Term] = {}
    for term in config.terms:
        taps = layer_names(getattr(term, 'taps', ()))
        for side, layers in sides.items():
            if unknown := [name for name in taps if name not in layers]:
                raise ConfigError(
                    f'distillation.terms.{term.name}.taps: the {side} has no {unknown}; '
                    f'choose from {list(layers)}'
                )
        terms[term.name] = TERMS[term.name](term, **sides)
        terms[term.name].check(teacher, student)
    return terms


def check_same_input(teacher: AnyDetector, student: AnyDetector) -> None:
    """Check that both models see the same places of a cloud and have the same classes.

    Raises:
        ConfigError: lists every difference, with both values.
    """
    if differences := list_differences(teacher.input_facts(), student.input_facts()):
        raise ConfigError(
            'teacher and student must agree on what they see; make these equal:\n'
            + '\n'.join(differences)
        )
