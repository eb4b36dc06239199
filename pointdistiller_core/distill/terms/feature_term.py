# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Base of the terms that compare features: paired rows of features, one pair per tap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistiller_core.config import FeatureTermConfig
from pointdistiller_core.distill.importance import sample_rows
from pointdistiller_core.distill.term import Lesson, Term, device_type, layer_names
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.models.layer import Rows, pool_to


@dataclass(frozen=True)
class Pair:
    """Features of one layer of both networks, of the same rows.

    Attributes:
        tap: the layer's name.
        teacher: (N, C_T) float32, without gradients.
        student: (N, C_S) float32.
        rows: positions of both.
    """

    tap: str
    teacher: Tensor
    student: Tensor
    rows: Rows

    def frame_means(self, values: Tensor) -> Tensor:
        """(B, C) mean of the values (N, C) of each frame; 0 for a frame without any."""
        parts = self.rows.split(values)
        return torch.stack([part.sum(dim=0) / max(len(part), 1) for part in parts])


class FeatureTerm(Term):
    """A term that compares one layer after the other.

    Args:
        config: with the taps; an empty list means all levels of the backbone.
        teacher: C of each layer of the teacher.
        student: C of each layer of the student.

    Raises:
        ConfigError: the levels of the two backbones do not match.

    Attributes:
        needs_cells: whether rows must be cells of a map from above.
    """

    config: FeatureTermConfig
    needs_cells: bool = False

    def __init__(
        self,
        config: FeatureTermConfig,
        *,
        teacher: Mapping[str, int],
        student: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.config = config
        self.taps = layer_names(config.taps) or self.default_taps(teacher, student)
        self.channels = [(student[tap], teacher[tap]) for tap in self.taps]

    def default_taps(
        self, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> tuple[str, ...]:
        """The taps if the configuration names none."""
        return backbone_levels(teacher, student, term=self.config.name)

    def check(self, teacher: AnyDetector, student: AnyDetector) -> None:
        """Check that both have rows of one kind: cells of maps, or the same places.

        Raises:
            ConfigError: they do not, or the term needs cells of a map; names the layer.
        """
        where = f'distillation.terms.{self.config.name}.taps'
        for tap in self.taps:
            layers = [model.layers()[tap] for model in (teacher, student)]
            if layers[0].is_map != layers[1].is_map:
                raise ConfigError(f'{where}: {tap} is a map in one of the models alone')
            if self.needs_cells and any(layer.map_shape is None for layer in layers):
                raise ConfigError(
                    f'{where}: {tap} has no cells of a map, which this term compares; tap another '
                    'layer'
                )

    def forward(self, lesson: Lesson) -> Tensor:
        """Weighted sum over the taps; finite without rows."""
        # Outside autocast: half precision is too coarse for distances and variances.
        with torch.autocast(device_type(lesson.batch), enabled=False):
            pairs = [pair_features(lesson, tap) for tap in self.taps]
            losses = [self.compare(level, pair, lesson) for level, pair in enumerate(pairs)]
            return self.config.weight * torch.stack(losses).sum()

    def compare(self, level: int, pair: Pair, lesson: Lesson) -> Tensor:
        """Loss of `taps[level]`, a scalar, before the weight."""
        raise NotImplementedError


def backbone_levels(
    teacher: Mapping[str, int], student: Mapping[str, int], *, term: str
) -> tuple[str, ...]:
    """The layers behind each stage of the backbone, finest first.

    Raises:
        ConfigError: teacher and student have different numbers of them, or none.
    """
    ours, theirs = (
        tuple(name for name in side if name.startswith('backbone.') and not name.endswith('.norm'))
        for side in (student, teacher)
    )
    if ours != theirs or not ours:
        raise ConfigError(
            f'distillation.terms.{term}.taps: none stands for all levels of the backbone, but the '
            f'teacher has {list(theirs)} and the student {list(ours)}; name the taps'
        )
    return ours


def pair_features(lesson: Lesson, tap: str) -> Pair:
    """Rows of both networks; maps of different resolutions are averaged to the coarser one."""
    teacher, student = lesson.teacher.rows[tap], lesson.student.rows[tap]
    coarser = min(student, teacher, key=len)
    return Pair(
        tap,
        pool_to(teacher, coarser.map_shape, teacher.features.detach().float()),
        pool_to(student, coarser.map_shape, student.features.float()),
        coarser,
    )


def sample_frames(rows: Rows, num_samples: int) -> list[Tensor]:
    """(n,) random rows with points of each frame, fewer if it has fewer."""
    return [
        candidates[sample_rows(candidates, num_samples, 'random')]
        for candidates in rows.occupied()
    ]


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    """Mean of the squared differences; without any it is 0, but still has gradients."""
    difference = first - second
    return difference.square().sum() / max(difference.numel(), 1)


def safe_norm(values: Tensor, dim: int | None = None) -> Tensor:
    """Euclidean norm along `dim`, or of everything; its slope at 0 is 0."""
    return values.square().sum(dim=dim).clamp(min=1e-12).sqrt()
