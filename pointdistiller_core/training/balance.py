# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Weights of distillation terms, set by how hard each pulls at the student against detection.

Weights that are chosen among powers of ten leave some methods inert, and to beat those proves
nothing. Here every term is given the same part of the detection loss's gradient, in the modules
that the term reaches, measured where a distillation begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pointdistiller_core.config import (
    DetectorConfig,
    DistillationConfig,
    ExperimentConfig,
    TermConfig,
    parse_config,
)
from pointdistiller_core.datasets import build_dataset, divide_by_labels
from pointdistiller_core.deploy.bundle import find_bundle, read_info
from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.distill.distiller import TERMS, build_terms
from pointdistiller_core.distill.gradients import REACHED
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import sketch_detector
from pointdistiller_core.training.data import load_batches
from pointdistiller_core.training.experiment import build_objective
from pointdistiller_core.training.measure import measure_range

TARGET = 0.3
NUM_BATCHES = 8
_DIGITS = 3  # of a weight


@dataclass(frozen=True)
class Balance:
    """What was measured of a term.

    Attributes:
        term: its configuration, with the weight that it was measured with.
        ratios: of each batch, the length of its gradient over that of detection; see `gradients`.
        weight: at which the median of the ratios is the target; None where none can be said.
        problem: why there is none.
    """

    term: TermConfig
    ratios: tuple[float, ...] = ()
    weight: float | None = None
    problem: str = ''

    @property
    def balanced(self) -> TermConfig:
        """The term with its new weight."""
        return self.term.model_copy(update={'weight': self.weight})


def balance_terms(
    config: ExperimentConfig,
    teacher: Path,
    *,
    target: float = TARGET,
    num_batches: int = NUM_BATCHES,
    device: str = 'auto',
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Balance]:
    """Measure all terms, and find the weight at which each has the target.

    The terms of the experiment are measured as they are there, all others with their defaults; the
    student has its first weights, and nothing is trained.

    Args:
        config: model, frames, augmentation and first weights of the student. Frames without labels
            have no detection loss to compare with, and are left out.
        teacher: bundle or run folder.
        target: length of a term's gradient over that of detection.
        num_batches: to measure; the first ones of a training with the same seed.
        device: `auto`, `cpu`, `cuda` or `cuda:1`, ...
        on_batch: told of batches done, and batches in all.

    Raises:
        ConfigError: teacher and student do not fit together.
        CheckpointError, DatasetError: the teacher or a frame cannot be read.
    """
    asked = config.distillation or DistillationConfig()
    model = read_info(find_bundle(teacher)).model
    terms, left_out = _sort_out(config, asked, model)
    place = find_device(device)
    measured = {'terms': tuple(terms.values()), 'unlabelled': None}
    config = config.model_copy(update={'distillation': asked.model_copy(update=measured)})
    objective: Any = build_objective(config, teacher).to(place).train()
    dataset, _ = divide_by_labels(
        build_dataset(config.dataset, config.model.class_names, model=config.model)
    )
    batches = load_batches(
        dataset,
        config.augmentation,
        config.training,
        point_cloud_range=config.model.point_cloud_range,
        intensity_range=measure_range(dataset),
        level_at=config.dataset.sensor_height if config.model.levelled else None,
    )
    ratios: dict[str, list[float]] = {name: [] for name in terms}
    for done, batch in enumerate(islice(batches, num_batches), start=1):
        with torch.autocast(place.type, torch.bfloat16, enabled=_is_half(config)):
            losses = objective(batch.to(place))
        for name, found in objective.gradient_ratios(losses).items():
            ratios[name].append(found.get(REACHED, 0.0))
        if on_batch is not None:
            on_batch(done, num_batches)
    return [*(_balance(term, ratios[name], target) for name, term in terms.items()), *left_out]


def _sort_out(
    config: ExperimentConfig, asked: DistillationConfig, teacher: DetectorConfig
) -> tuple[dict[str, TermConfig], list[Balance]]:
    """The terms that can be measured between these models, by name, and the others."""
    sketches = [sketch_detector(model) for model in (teacher, config.model)]
    own: dict[str, Any] = {term.name: term for term in asked.terms}
    terms: dict[str, TermConfig] = {}
    left_out: list[Balance] = []
    for name in TERMS:
        term = own.get(name) or _by_default(name)
        if name == 'labels':  # has no loss
            continue
        try:
            build_terms(DistillationConfig(terms=(term,)), *sketches)
            terms[name] = term
        except ConfigError as error:
            if name in own:
                raise
            left_out.append(Balance(term, problem=str(error).splitlines()[0]))
    return terms, left_out


def _by_default(name: str) -> Any:
    return parse_config(DistillationConfig, {'terms': [name]}, where=name).terms[0]


def _is_half(config: ExperimentConfig) -> bool:
    return config.training.precision != '32-true'


def _balance(term: TermConfig, ratios: list[float], target: float) -> Balance:
    middle = median(ratios) if ratios else 0.0
    if not middle > 0 or not term.weight:
        return Balance(term, tuple(ratios), problem='it has no gradient in most batches')
    weight = float(f'{term.weight * target / middle:.{_DIGITS}g}')
    return Balance(term, tuple(ratios), weight)


def describe_presets(
    balances: list[Balance], initialization: str, *, suffix: str = '_balanced'
) -> dict[str, Mapping[str, Any]]:
    """A distillation by each balanced term alone, by the name of the preset."""
    return {
        f'{balance.term.name}{suffix}': {
            'terms': [
                {
                    'name': balance.term.name,
                    **balance.balanced.model_dump(mode='json', exclude_defaults=True),
                }
            ],
            'initialization': initialization,
        }
        for balance in balances
        if balance.weight is not None
    }
