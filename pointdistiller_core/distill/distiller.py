# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A student that learns from labels and from a frozen teacher; what `fit` trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from pointdistiller_core.config import DetectorConfig, DistillationConfig, PointPillarsConfig
from pointdistiller_core.distill.compatibility import list_differences
from pointdistiller_core.distill.initialization import check_same_architecture
from pointdistiller_core.distill.taps import PILLARS, tap, tap_channels, tap_modules
from pointdistiller_core.distill.term import Lesson, Term, View
from pointdistiller_core.distill.terms.attention import AttentionTerm
from pointdistiller_core.distill.terms.attention_nonlocal import AttentionNonlocalTerm
from pointdistiller_core.distill.terms.box_features import BoxFeaturesTerm
from pointdistiller_core.distill.terms.consistency import ConsistencyTerm
from pointdistiller_core.distill.terms.contrastive import ContrastiveTerm
from pointdistiller_core.distill.terms.fitnets import FitNetsTerm
from pointdistiller_core.distill.terms.labels import LabelsTerm
from pointdistiller_core.distill.terms.local_graph import LocalGraphTerm
from pointdistiller_core.distill.terms.logits import LogitsTerm
from pointdistiller_core.distill.terms.overhaul import OverhaulTerm
from pointdistiller_core.distill.terms.similarity import SimilarityTerm
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointPillars
from pointdistiller_core.pointcloud.voxels import Voxels
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
    'overhaul': OverhaulTerm,
    'attention_nonlocal': AttentionNonlocalTerm,
    'box_features': BoxFeaturesTerm,
}


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
        ConfigError: teacher and student would not see the same pillars or classes, or a term taps
            what is not there, samples more than there can be or cannot compare the two.
    """

    teacher: PointPillars

    def __init__(
        self, teacher: PointPillars, student: PointPillars, config: DistillationConfig
    ) -> None:
        super().__init__()
        check_same_input(teacher.config, student.config)
        object.__setattr__(self, 'teacher', teacher.requires_grad_(False).eval())
        self.student = student
        self.terms = nn.ModuleDict(build_terms(config, teacher.config, student.config))
        self._taps = {name for term in self._built() for name in term.taps}
        self._whole_teacher = bool(self._taps - {PILLARS}) or any(
            term.needs_teacher_output for term in self._built()
        )

    @property
    def detector(self) -> PointPillars:
        """The student: what is saved and evaluated."""
        return self.student

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses to be summed: the student's own and one per term, all weighted."""
        pillars = self.student.group(batch.points)
        student = self._view(self.student, pillars, whole=True)
        with torch.no_grad():
            teacher = self._view(self.teacher, pillars, whole=self._whole_teacher)
        lesson = Lesson(batch, pillars, teacher, student)
        for term in self._built():
            lesson = replace(lesson, batch=term.relabel(lesson))
        assert student.output is not None
        losses = self.student.losses(student.output, lesson.batch)
        taught = {name: term(lesson) for name, term in self.terms.items()}
        return losses | {name: loss for name, loss in taught.items() if loss is not None}

    def _view(self, model: PointPillars, pillars: Voxels, *, whole: bool) -> View:
        modules = tap_modules(model)
        with tap({name: modules[name] for name in self._taps}) as features:
            # Most of a step would go into the rest of the teacher, for nothing.
            output = model(pillars) if whole else None
            if not whole:
                model.encoder(pillars)
        return View(model, features, output)

    def _built(self) -> list[Term]:
        return [term for term in self.terms.values() if isinstance(term, Term)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves and casts of the module (`to`, `cuda`, `double`) reach the teacher, too."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def check_distillation(
    config: DistillationConfig, teacher: DetectorConfig, student: DetectorConfig
) -> None:
    """Check that a teacher can teach a student so, before either has weights.

    Raises:
        ConfigError: as of `Distiller`, or the student cannot be cut out of its teacher.
    """
    sides = cast(PointPillarsConfig, teacher), cast(PointPillarsConfig, student)
    check_same_input(*sides)
    build_terms(config, *sides)
    if config.initialization != 'random':
        check_same_architecture(*sides)


def build_terms(
    config: DistillationConfig, teacher: PointPillarsConfig, student: PointPillarsConfig
) -> dict[str, Term]:
    """The terms with their adapters, for two models of any width.

    Raises:
        ConfigError: a term taps what is not there, with a list of what is; or cannot compare the
            two.
    """
    sides = {'teacher': tap_channels(teacher), 'student': tap_channels(student)}
    terms: dict[str, Term] = {}
    for term in config.terms:
        for side, taps in sides.items():
            if unknown := [name for name in getattr(term, 'taps', ()) if name not in taps]:
                raise ConfigError(
                    f'distillation.terms.{term.name}.taps: the {side} has no {unknown}; '
                    f'choose from {list(taps)}'
                )
        terms[term.name] = TERMS[term.name](term, **sides)
        terms[term.name].check(teacher, student)
    return terms


def check_same_input(teacher: PointPillarsConfig, student: PointPillarsConfig) -> None:
    """Check that both models cut clouds into the same pillars and name the same classes.

    Raises:
        ConfigError: lists every difference with both sides.
    """
    ours, theirs = (
        {name: getattr(model, name) for name in ('grid', 'class_names', 'voxels')}
        for model in (teacher, student)
    )
    if differences := list_differences(ours, theirs):
        raise ConfigError(
            'teacher and student must agree on what they see; make these equal:\n'
            + '\n'.join(differences)
        )
