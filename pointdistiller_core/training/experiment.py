# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From an experiment's configuration to a trained bundle."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pointdistiller_core.config import ExperimentConfig
from pointdistiller_core.datasets import build_dataset
from pointdistiller_core.deploy.bundle import (
    WEIGHTS_FILE,
    find_bundle,
    load_detector_model,
    read_info,
)
from pointdistiller_core.distill.distiller import Distiller
from pointdistiller_core.distill.initialization import slice_weights
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import build_detector
from pointdistiller_core.training.data import torch_seed
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.objective import DetectionObjective


def run_experiment(
    config: ExperimentConfig,
    run: Path,
    *,
    teacher: Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    device: str = 'auto',
) -> Path:
    """Train a detector, or distil it where the configuration has distillation terms.

    Args:
        config: the whole experiment.
        run: folder of the run, see `pointdistiller_core.training.run`.
        teacher: bundle or run of the teacher; needed with, and only with, `config.distillation`.
        resume: go on from the newest checkpoint in `run`.
        listener: hears about progress.
        device: `auto`, `cpu`, `cuda` or `cuda:1`, ...

    Returns:
        The folder of the bundle.

    Raises:
        ConfigError: teacher and configuration do not fit together.
        CheckpointError, DatasetError, PointDistillerError: as `fit`.
    """
    names = config.model.class_names
    dataset = build_dataset(config.dataset, names)
    validation = build_dataset(config.validation, names) if config.validation else None
    more = config.distillation.unlabelled if config.distillation else None
    objective = build_objective(config, teacher)
    return fit(
        objective,
        dataset,
        config,
        run,
        unlabelled=build_dataset(more, names, labelled=False) if more else None,
        validation=validation,
        resume=resume,
        listener=listener,
        device=device,
        facts={'teacher_sha256': weights_checksum(teacher)} if teacher else None,
    )


def weights_checksum(bundle: Path) -> str:
    """What identifies the weights of a bundle or run: their SHA-256, as the bundle says it."""
    return read_info(find_bundle(bundle)).sha256[WEIGHTS_FILE]


def build_objective(config: ExperimentConfig, teacher: Path | None) -> nn.Module:
    """What `fit` minimises, with first weights that depend on the seed alone.

    Raises:
        ConfigError: a teacher without distillation terms, or terms without a teacher, or a
            teacher that sees other pillars or classes than the student, or that the student
            cannot be cut out of.
        CheckpointError: the teacher's bundle is missing or damaged.
    """
    if config.distillation is None and teacher is not None:
        raise ConfigError(f'teacher {teacher}: the configuration has no distillation terms')
    if config.distillation is not None and teacher is None:
        raise ConfigError('distillation: needs a teacher; give its bundle or run folder')
    torch.manual_seed(torch_seed(config.training.seed, epoch=0))
    student = build_detector(config.model)
    if config.distillation is None or teacher is None:
        return DetectionObjective(student)
    distiller = Distiller(load_detector_model(teacher), student, config.distillation)
    if (method := config.distillation.initialization) != 'random':
        student.load_state_dict(slice_weights(distiller.teacher, student, method))
    return distiller
