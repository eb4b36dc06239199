# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop: the same for plain training and for distillation.

The order of the frames, their augmentation and torch's own random numbers depend on (seed, epoch,
index) alone: on a CPU, a resumed run ends with the same weights, bit for bit, as one that was
never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
import json
import logging
import math
import os
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import JsonValue
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from pointdistiller_core.config import ExperimentConfig, TrainingConfig
from pointdistiller_core.datasets import FrameDataset
from pointdistiller_core.deploy.atomic import write_text
from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.errors import DatasetError, PointDistillerError
from pointdistiller_core.models import PointPillars
from pointdistiller_core.records import Batch
from pointdistiller_core.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    save_checkpoint,
)
from pointdistiller_core.training.data import load_batches, torch_seed
from pointdistiller_core.training.listeners import Listener, Progress, TensorBoard
from pointdistiller_core.training.objective import detector_of
from pointdistiller_core.training.run import (
    METRICS_FILE,
    append_history,
    git_revision,
    keep_history,
    last_record,
    open_run,
    record_session,
)
from pointdistiller_core.training.schedule import set_one_cycle
from pointdistiller_core.training.validate import evaluate_detector

try:
    from lightning_fabric import Fabric
except ModuleNotFoundError:  # the package `lightning` brings its own copy
    from lightning.fabric import Fabric  # type: ignore[import-not-found, no-redef]


def fit(
    objective: nn.Module,
    dataset: FrameDataset,
    config: ExperimentConfig,
    run: Path,
    *,
    validation: FrameDataset | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    device: str = 'auto',
    facts: Mapping[str, JsonValue] | None = None,
) -> Path:
    """Train an objective and save its detector as a bundle.

    Args:
        objective: see `pointdistiller_core.training.objective`. Is moved to the device and
            trained; its first weights are the caller's, who seeds torch before building it.
        dataset: labelled frames.
        config: of the whole experiment; kept in the run's folder.
        run: folder of the run, see `pointdistiller_core.training.run`.
        validation: labelled frames that the trained detector is evaluated on.
        resume: go on from the newest checkpoint in `run`.
        listener: hears about progress.
        device: `auto`, `cpu`, `cuda` or `cuda:1`, ...
        facts: what else the result depends on, such as the teacher; kept in `run.json` and in
            the bundle, and must be the same to resume.

    Returns:
        The folder of the bundle.

    Raises:
        CheckpointError: the run's folder is in use, or cannot be written to or resumed from.
        ConfigError: the run to resume has another configuration, or there is no such device.
        DatasetError: no frames, or one of them cannot be read.
        PointDistillerError: a loss or the gradient is not finite.
    """
    if len(dataset) == 0:
        raise DatasetError(f'{config.dataset.root}, {config.dataset.split}: no frames to train on')
    chosen, facts, listener = find_device(device), facts or {}, listener or Listener()
    open_run(run, config, facts, resume=resume)
    if not (run / 'bundle').exists():  # else the run is complete
        trainer = _Trainer(objective, config.training, num_frames=len(dataset), device=chosen)
        info = describe_training(config, {'frames': len(dataset), **facts})
        _train(trainer, dataset, config, run, info=info, listener=listener)
        _complete(run, detector_of(objective), info, validation, listener)
    return run / 'bundle'


def _train(
    trainer: _Trainer,
    dataset: FrameDataset,
    config: ExperimentConfig,
    run: Path,
    *,
    info: BundleInfo,
    listener: Listener,
) -> None:
    """All epochs that are not done yet."""
    done = load_checkpoint(run, trainer.state)
    record_session(run, first_epoch=done + 1)
    keep_history(run, done)
    batches = load_batches(
        dataset,
        config.augmentation,
        config.training,
        first_epoch=done,
        point_cloud_range=config.model.grid.point_cloud_range,
    )
    first_step = done * trainer.steps_per_epoch
    with closing(TensorBoard(run / 'tensorboard', first_step=first_step)) as board:
        for epoch in range(done, config.training.epochs):
            record = trainer.run_epoch(epoch, batches, [board, listener])
            append_history(run, record)
            if _is_due(epoch + 1, config.training):
                save_checkpoint(run, epoch + 1, trainer.state, info)
            listener.on_epoch(record)


def _complete(
    run: Path,
    detector: PointPillars,
    info: BundleInfo,
    validation: FrameDataset | None,
    listener: Listener,
) -> None:
    """Write `metrics.json` and then the bundle, which marks the run as complete."""
    metrics = {'last_epoch': last_record(run)}
    if validation is not None:
        result, _ = evaluate_detector(detector, validation, on_frame=listener.on_validation)
        metrics['validation'] = result.to_dict()
    write_text(run / METRICS_FILE, json.dumps(metrics, indent=2) + '\n')
    save_bundle(run / 'bundle', detector, info)


def describe_training(config: ExperimentConfig, facts: Mapping[str, JsonValue]) -> BundleInfo:
    """What the bundles of a run say about themselves."""
    terms = config.distillation.terms if config.distillation else ()
    return BundleInfo(
        model=config.model,
        sensor_height=config.dataset.sensor_height,
        training={
            'dataset': f'{config.dataset.root.name}/{config.dataset.split}',
            'epochs': config.training.epochs,
            'seed': config.training.seed,
            'distillation': [term.name for term in terms],
            'revision': git_revision(),
            **facts,
        },
    )


class _Trainer:
    """The moving parts of a run on its device."""

    def __init__(
        self,
        objective: nn.Module,
        config: TrainingConfig,
        *,
        num_frames: int,
        device: torch.device,
    ) -> None:
        self._config = config
        self._fabric = _launch(device, config)
        self._objective = objective.to(self._fabric.device)
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        optimizer = AdamW(
            trained, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
        self._optimizer: Any = self._fabric.setup_optimizers(optimizer)
        self.state = TrainingState(objective, optimizer, self._fabric.strategy.precision)
        self.steps_per_epoch = math.ceil(num_frames / config.batch_size)

    def run_epoch(
        self, epoch: int, batches: Iterator[Batch], listeners: Sequence[Listener]
    ) -> dict[str, Any]:
        """Train for one epoch; returns its line of `metrics.jsonl`."""
        torch.manual_seed(torch_seed(self._config.seed, epoch))
        self._objective.train()
        start, num_frames = perf_counter(), 0
        history = []
        for step in range(epoch * self.steps_per_epoch, (epoch + 1) * self.steps_per_epoch):
            batch = next(batches)
            progress = self._run_step(step, batch)
            history.append(progress.losses)
            num_frames += len(batch)
            for listener in listeners:
                listener.on_step(progress)
        seconds = perf_counter() - start
        return {
            'epoch': epoch + 1,
            'step': progress.step,
            'losses': _mean(history),
            'learning_rate': progress.learning_rate,
            'seconds': round(seconds, 3),
            'frames_per_second': round(num_frames / seconds, 3),
        }

    def _run_step(self, step: int, batch: Batch) -> Progress:
        num_steps = self._config.epochs * self.steps_per_epoch
        learning_rate = set_one_cycle(
            self.state.optimizer, step=step, num_steps=num_steps, config=self._config
        )
        losses = self._minimise(step, batch)
        return Progress(
            step=step + 1,
            num_steps=num_steps,
            epoch=step // self.steps_per_epoch + 1,
            num_epochs=self._config.epochs,
            losses=losses,
            learning_rate=learning_rate,
        )

    def _minimise(self, step: int, batch: Batch) -> dict[str, float]:
        fabric = self._fabric
        # Autocast alone, not Fabric's wrapper of modules: that would round the points to bfloat16.
        with fabric.autocast():
            losses: dict[str, Tensor] = self._objective(batch.to(fabric.device))
        terms = torch.stack(list(losses.values()))
        values = dict(zip(losses, terms.tolist(), strict=True))
        _check_finite(values, step=step, batch=batch)
        self._optimizer.zero_grad()
        fabric.backward(terms.sum())
        norm = fabric.clip_gradients(
            self._objective,
            self._optimizer,
            max_norm=self._config.gradient_clip,
            error_if_nonfinite=False,
        )
        assert norm is not None  # it is, for `max_norm`
        if self._config.precision != '16-mixed':  # its loss scaling skips such a step by itself
            _check_finite({'gradient': norm.item()}, step=step, batch=batch)
        self._optimizer.step()
        return {**values, 'total': sum(values.values())}


def _launch(device: torch.device, config: TrainingConfig) -> Fabric:
    if config.deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # or cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    # It announces its choices on stderr; what is shown is for the caller to decide.
    logging.getLogger(Fabric.__module__.removesuffix('.fabric')).setLevel(logging.WARNING)
    devices = 1 if device.index is None else [device.index]
    fabric = Fabric(accelerator=device.type, devices=devices, precision=config.precision)
    fabric.launch()
    return fabric


def _check_finite(values: Mapping[str, float], *, step: int, batch: Batch) -> None:
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if bad:
        listed = ', '.join(f'{name} = {value}' for name, value in bad.items())
        raise PointDistillerError(
            f'step {step + 1}: {listed}, with frames {list(batch.frame_ids)}; look for impossible '
            'boxes or points in these frames, or lower training.learning_rate; '
            'the earlier checkpoints are intact'
        )


def _is_due(epoch: int, config: TrainingConfig) -> bool:
    return epoch % config.checkpoint_every == 0 or epoch == config.epochs


def _mean(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(record[name] for record in records) / len(records) for name in records[0]}
