# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: `checkpoints/epoch_000010` is a bundle with `training.pt` beside it."""

from __future__ import annotations

from dataclasses import dataclass
import io
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pointdistiller_core.deploy.atomic import new_folder, remove_folder
from pointdistiller_core.deploy.bundle import (
    BundleInfo,
    load_bundle,
    load_weights,
    read_verified,
    write_bundle,
)
from pointdistiller_core.deploy.torch_files import load_torch_file
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.models import PointPillars
from pointdistiller_core.training.objective import detector_of, trained_companions

TRAINING_FILE = 'training.pt'
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes while training, in place.

    Attributes:
        objective: its detector goes into the bundle; what is trained with it, and the optimizer,
            into `training.pt`.
        optimizer: of the objective's trainable parameters.
        precision: Lightning's precision plugin, which holds the loss scale of float16.
        average: moving average of the detector, which then goes into the bundle in its place and
            leaves it to `training.pt`; or None.
    """

    objective: nn.Module
    optimizer: Optimizer
    precision: Any
    average: nn.Module | None = None

    @property
    def result(self) -> PointPillars:
        """What is evaluated and deployed."""
        return cast(PointPillars, self.average or detector_of(self.objective))


def save_checkpoint(run: Path, epoch: int, state: TrainingState, info: BundleInfo) -> Path:
    """Save the state after `epoch` epochs in one step, then remove all but the newest two.

    Raises:
        CheckpointError: the file system refuses; the earlier checkpoints are intact.
    """
    folder = run / 'checkpoints' / f'epoch_{epoch:06d}'
    companions = trained_companions(state.objective)
    content = io.BytesIO()
    torch.save(
        {
            'epoch': epoch,
            'optimizer': state.optimizer.state_dict(),
            'companions': {name: part.state_dict() for name, part in companions.items()},
            'precision': state.precision.state_dict(),
            'detector': detector_of(state.objective).state_dict() if state.average else None,
        },
        content,
    )
    info = info.model_copy(update={'training': {**info.training, 'epoch': epoch}})
    with new_folder(folder) as aside:
        others = {TRAINING_FILE: content.getvalue()}
        write_bundle(aside, state.result, info, others=others)
    for old in list_checkpoints(run)[:-KEPT_CHECKPOINTS]:
        remove_folder(old)
    return folder


def load_checkpoint(run: Path, state: TrainingState) -> int:
    """Restore the newest checkpoint of a run; returns the epochs done, 0 without a checkpoint.

    Raises:
        CheckpointError: the newest checkpoint is damaged or belongs to another objective.
    """
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        return 0
    folder = checkpoints[-1]
    weights, saved = _read(folder)
    try:
        return _restore(state, weights, saved, folder)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f'{folder / TRAINING_FILE}: not of this training: {error!r}; remove {folder} to '
            'resume from the checkpoint before'
        ) from error


def _restore(
    state: TrainingState, weights: dict[str, Tensor], saved: dict[str, Any], folder: Path
) -> int:
    """Fill the parts of a training with what was saved; returns the epochs done."""
    companions = trained_companions(state.objective)
    if companions.keys() != saved['companions'].keys():
        raise CheckpointError(
            f'{folder}: was saved with the trained parts {sorted(saved["companions"])}, '
            f'this objective has {sorted(companions)}'
        )
    load_weights(state.result, weights, where=str(folder))
    if state.average is not None:
        load_weights(detector_of(state.objective), saved['detector'], where=str(folder))
    for name, part in companions.items():
        load_weights(part, saved['companions'][name], where=f'{folder}, {name}')
    state.optimizer.load_state_dict(saved['optimizer'])
    state.precision.load_state_dict(saved['precision'])
    return int(saved['epoch'])


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted((run / 'checkpoints').glob('epoch_*'))


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of the detector, and the content of `training.pt`."""
    try:
        info, weights = load_bundle(folder)
        content = read_verified(folder, TRAINING_FILE, info)
        return weights, load_torch_file(content, where=folder / TRAINING_FILE)
    except CheckpointError as error:
        raise CheckpointError(
            f'{error}; or remove {folder} to resume from the checkpoint before'
        ) from error
