# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: `checkpoints/epoch_000010` is a bundle with `training.pt` beside it.

One within an epoch is called `epoch_000010_step_000150`: ten epochs and 150 steps are done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import io
import logging
from pathlib import Path
import re
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pointdistiller_core.deploy.bundle import (
    BundleInfo,
    load_bundle,
    load_weights,
    read_verified,
    write_bundle,
)
from pointdistiller_core.deploy.torch_files import load_torch_file
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.files import new_folder, remove_folder
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.training.objective import detector_of, trained_companions

logger = logging.getLogger(__name__)

TRAINING_FILE = 'training.pt'
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Position:
    """Where a run is.

    Attributes:
        epochs: that are done.
        losses: of the steps that are done in the epoch after these, by name.
        seconds: that these steps took.
        generators: state of torch's random generators in each process, where there are such steps.
    """

    epochs: int = 0
    losses: Sequence[Mapping[str, float]] = ()
    seconds: float = 0.0
    generators: Sequence[Mapping[str, Tensor]] = field(default=(), repr=False)

    @property
    def steps(self) -> int:
        """Done in the epoch in progress."""
        return len(self.losses)

    def __str__(self) -> str:
        steps = f' and {self.steps} steps' if self.steps else ''
        return f'{self.epochs} epochs{steps}'

    def of(self, num_epochs: int) -> str:
        """How far that is in a training of so many epochs, in words."""
        epochs = f'{self.epochs} of {num_epochs} epoch{"s" if num_epochs != 1 else ""}'
        steps = f'{self.steps} step{"s" if self.steps != 1 else ""}'
        return f'{epochs} and {steps}' if self.steps else epochs


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
    def result(self) -> AnyDetector:
        """The network that is evaluated and deployed."""
        return cast(AnyDetector, self.average or detector_of(self.objective))


def save_checkpoint(run: Path, position: Position, state: TrainingState, info: BundleInfo) -> Path:
    """Save where a run is in one step, then remove all but the newest two checkpoints.

    Raises:
        WriteError: the file system refuses; the earlier checkpoints are intact.
    """
    within = f'_step_{position.steps:06d}' if position.steps else ''
    folder = run / 'checkpoints' / f'epoch_{position.epochs:06d}{within}'
    if folder.exists():  # a run that was resumed and stopped at once
        return folder
    companions = trained_companions(state.objective)
    content = io.BytesIO()
    torch.save(
        {
            'epoch': position.epochs,
            'losses': [dict(losses) for losses in position.losses],
            'seconds': position.seconds,
            'generators': [dict(states) for states in position.generators],
            'optimizer': state.optimizer.state_dict(),
            'companions': {name: part.state_dict() for name, part in companions.items()},
            'precision': state.precision.state_dict(),
            'detector': detector_of(state.objective).state_dict() if state.average else None,
        },
        content,
    )
    info = info.model_copy(update={'training': {**info.training, 'epoch': position.epochs}})
    with new_folder(folder) as aside:
        others = {TRAINING_FILE: content.getvalue()}
        write_bundle(aside, state.result, info, others=others)
    for old in list_checkpoints(run)[:-KEPT_CHECKPOINTS]:
        remove_folder(old)
    return folder


def load_checkpoint(run: Path, state: TrainingState) -> Position:
    """Restore the newest checkpoint of a run; without one the run is at its beginning.

    A packed checkpoint may lack the optimizer's state, which then begins anew.

    Raises:
        CheckpointError: the newest checkpoint is damaged or belongs to another objective.
    """
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        return Position()
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
) -> Position:
    """Fill the parts of a training with what was saved; returns where it was."""
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
        own = {new_name(key): tensor for key, tensor in saved['companions'][name].items()}
        load_weights(part, own, where=f'{folder}, {name}')
    if saved['optimizer'] is None:
        logger.warning(
            '%s: was packed without the state of the optimizer, which begins anew', folder
        )
    else:
        state.optimizer.load_state_dict(saved['optimizer'])
    state.precision.load_state_dict(saved['precision'])
    return Position(
        epochs=int(saved['epoch']),
        losses=saved.get('losses', ()),  # checkpoints of earlier versions end with an epoch
        seconds=saved.get('seconds', 0.0),
        generators=saved.get('generators', ()),
    )


def new_name(weight: str) -> str:
    """Of a weight of an adapter, whose batch norm had another name in earlier versions."""
    weight = re.sub(r'_adapter(?=\.(scale|shift)$)', '_adapter.norm', weight)
    return re.sub(r'\.scale$', '.weight', re.sub(r'\.shift$', '.bias', weight))


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
