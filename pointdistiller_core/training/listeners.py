# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Listeners to a training: progress bars, TensorBoard, a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointdistiller_core.files import named_refusals


@dataclass(frozen=True)
class Progress:
    """After one step.

    Attributes:
        step: steps done in the whole run, resumed parts included.
        num_steps: steps of the whole run.
        epoch: epoch in progress, from 1.
        num_epochs: epochs of the whole run.
        losses: weighted losses of the step's batch by name, and their `total`.
        learning_rate: of the step.
    """

    step: int
    num_steps: int
    epoch: int
    num_epochs: int
    losses: Mapping[str, float]
    learning_rate: float


class Listener:
    """Does nothing; override what you want to be told."""

    def on_note(self, note: str) -> None:
        """Before the first step: something worth knowing."""

    def on_step(self, progress: Progress) -> None:
        """After each step."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """After each epoch, with its line of `metrics.jsonl`."""

    def on_validation(self, done: int, total: int) -> None:
        """After each validated batch: frames done, and frames in all."""


class TensorBoard(Listener):
    """Writes the losses and the learning rate as TensorBoard scalars; close it at the end."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        """Write into `folder`; hide what an earlier part of the run wrote from `first_step` on."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self._folder = folder
        with named_refusals(folder):
            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def on_step(self, progress: Progress) -> None:
        """Add the step's scalars."""
        scalars = {f'loss/{name}': value for name, value in progress.losses.items()}
        with named_refusals(self._folder):
            for name, value in {**scalars, 'learning_rate': progress.learning_rate}.items():
                self._writer.add_scalar(name, value, progress.step)

    def close(self) -> None:
        """Write what is pending."""
        with named_refusals(self._folder):
            self._writer.close()
