# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop: the same for plain training and for distillation.

The order of the frames, their augmentation and torch's own random numbers depend only on (seed,
epoch, index). So on a CPU, a resumed run ends with the same weights, bit for bit, as one that was
never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from itertools import islice
import json
import math
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from pydantic import JsonValue
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from pointdistiller_core.config import ExperimentConfig, TrainingConfig
from pointdistiller_core.datasets import FrameDataset, Frames
from pointdistiller_core.datasets.ground_truth_database import load_database
from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.errors import (
    CheckpointError,
    DatasetError,
    PointDistillerError,
    TrainingInterrupted,
    TrainingStopped,
)
from pointdistiller_core.files import write_text
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.pipelines.evaluate import evaluate
from pointdistiller_core.records import Batch
from pointdistiller_core.sparse.engines import engine_of
from pointdistiller_core.training.average import start_average, update_average
from pointdistiller_core.training.checkpoint import (
    Position,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
)
from pointdistiller_core.training.data import dead_workers_explained, load_batches, torch_seed
from pointdistiller_core.training.listeners import Listener, Progress, TensorBoard
from pointdistiller_core.training.measure import measure_range, measure_sizes
from pointdistiller_core.training.objective import detector_of, ratios_of
from pointdistiller_core.training.processes import (
    Fabric,
    average_gradients,
    average_values,
    check_shares,
    gather_generators,
    gather_names,
    launch,
    restore_generators,
    share_weights,
)
from pointdistiller_core.training.requests import heeds_requests
from pointdistiller_core.training.run import (
    METRICS_FILE,
    alone_in,
    append_history,
    describe_validation,
    git_revision,
    keep_history,
    last_record,
    open_run,
    record_session,
)
from pointdistiller_core.training.schedule import Moment, set_rate


def fit(
    objective: nn.Module,
    dataset: FrameDataset,
    config: ExperimentConfig,
    run: Path,
    *,
    unlabelled: Frames | None = None,
    validation: FrameDataset | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    device: str = 'auto',
    facts: Mapping[str, JsonValue] | None = None,
    stop_at: float | None = None,
) -> Path:
    """Train an objective and save its detector as a bundle.

    Under torchrun, every process calls this with the same arguments, and sees the same folder of
    the run; the first one writes and reports, and returns last.

    Args:
        objective: see `pointdistiller_core.training.objective`. It is moved to the device and
            trained. Its first weights are up to the caller, who seeds torch before building it.
        dataset: labelled frames; may be empty if there are others.
        config: of the whole experiment; kept in the run's folder.
        run: folder of the run, see `pointdistiller_core.training.run`.
        unlabelled: frames without labels that are mixed with the labelled ones, for an objective
            that learns from them, too.
        validation: labelled frames that the trained detector is evaluated on.
        resume: go on from the newest checkpoint in `run`.
        listener: told about progress.
        device: `auto`, `cpu`, `cuda` or `cuda:1`, ...
        facts: what else the result depends on, such as the teacher. Kept in `run.json` and the
            bundle; must be the same to resume.
        stop_at: moment of `time.monotonic` at which to save the run and stop; the current step or
            the current validated frames are finished first.

    Returns:
        The folder of the bundle.

    Raises:
        TrainingStopped: `stop_at` has come, or a signal asked for it (TrainingInterrupted, see
            `training.requests`); resumed, the run goes on exactly where it was.
        CheckpointError: the run's folder holds something already, another process trains in it,
            or it cannot be resumed from.
        WriteError: it cannot be written to.
        ConfigError: the run to resume has another configuration, there is no such device, or a
            batch is too small for the processes.
        DatasetError: no frames, or one of them cannot be read.
        PointDistillerError: a loss or the gradient is not finite.
    """
    num_frames = len(dataset) + len(unlabelled or ())
    if num_frames == 0:
        raise DatasetError(f'{config.dataset.root}, {config.dataset.split}: no frames to train on')
    fabric, facts = launch(find_device(device), config.training), facts or {}
    listener = (listener if fabric.is_global_zero else None) or Listener()
    check_shares(num_frames, config.training)
    if fabric.is_global_zero:
        open_run(run, config, facts, resume=resume)
    if fabric.broadcast((run / 'bundle').exists()):  # the run is complete
        return run / 'bundle'
    lock = alone_in(run) if fabric.is_global_zero else nullcontext()
    with lock, heeds_requests() as asked:
        clock = _Clock(stop_at, asked, fabric)
        trainer = _Trainer(objective, config.training, fabric, num_frames=num_frames)
        counts = {'frames': len(dataset), 'unlabelled_frames': num_frames - len(dataset)}
        info = describe_training(config, dataset, {**counts, **facts}, unlabelled or ())
        _train(
            trainer,
            dataset,
            config,
            run,
            unlabelled=unlabelled,
            info=info,
            listener=listener,
            clock=clock,
        )
        if fabric.is_global_zero:
            _complete(
                run,
                trainer.state.result,
                info,
                validation=validation,
                listener=listener,
                clock=clock,
            )
    return run / 'bundle'


class _Clock:
    """Tells all processes alike whether it is time to stop."""

    def __init__(self, stop_at: float | None, asked: Callable[[], bool], fabric: Fabric) -> None:
        self._stop_at = stop_at
        self._asked = asked
        self._fabric = fabric

    @property
    def alone_is_over(self) -> bool:
        """Whether this process thinks that the time is over."""
        return self._asked() or (self._stop_at is not None and monotonic() >= self._stop_at)

    @property
    def is_over(self) -> bool:
        """Whether the first process thinks so; all processes must ask."""
        over: bool = self._fabric.broadcast(self.alone_is_over)
        return over

    def stopped(self, run: Path, done: str) -> TrainingStopped:
        """What to raise once all is saved."""
        go_on = f'after {done}; resume it (--resume) to go on'
        if self._asked():
            return TrainingInterrupted(f'{run}: stopped {go_on}')
        return TrainingStopped(f'{run}: stopped in time {go_on}')


@dead_workers_explained()
def _train(
    trainer: _Trainer,
    dataset: FrameDataset,
    config: ExperimentConfig,
    run: Path,
    *,
    unlabelled: Frames | None,
    info: BundleInfo,
    listener: Listener,
    clock: _Clock,
) -> None:
    """All epochs that are not done yet."""
    fabric, first = trainer.fabric, trainer.fabric.is_global_zero
    done = load_checkpoint(run, trainer.state)
    if str(done) != (expected := fabric.broadcast(str(done))):
        raise CheckpointError(f'{run}: {done} here, {expected} in the first process; share it')
    share_weights(trainer.state.objective)
    if first:
        engine = engine_of(trainer.state.objective, fabric.device)
        record_session(run, first_epoch=done.epochs + 1, sparse_engine=engine)
        keep_history(run, done.epochs)
    if fabric.world_size > 1 and len(dataset) and config.augmentation.ground_truth_sampling:
        with fabric.rank_zero_first():  # it builds the database if there is none yet
            load_database(dataset)
    batches = load_batches(
        dataset,
        config.augmentation,
        config.training,
        first_epoch=done.epochs,
        first_batch=done.steps * config.training.accumulate,
        point_cloud_range=config.model.point_cloud_range,
        unlabelled=unlabelled,
        intensity_range=info.intensity_range,
        level_at=info.level_at,
        process=fabric.global_rank,
        num_processes=fabric.world_size,
        pin_memory=fabric.device.type == 'cuda',
    )
    with ExitStack() as stack:
        listeners = [listener]
        if first:
            first_step = done.epochs * trainer.steps_per_epoch + done.steps
            board = TensorBoard(run / 'tensorboard', first_step=first_step)
            listeners.insert(0, stack.enter_context(closing(board)))
        while done.epochs < config.training.epochs:
            done, record = trainer.run_epoch(done, batches, listeners, clock)
            over = clock.is_over
            if first and record:
                append_history(run, record)
            if first and (over or _is_due(done.epochs, config.training)):
                save_checkpoint(run, done, trainer.state, info)
            if record:
                listener.on_epoch(record)
            if over:
                raise clock.stopped(run, done.of(config.training.epochs))


def _complete(
    run: Path,
    detector: AnyDetector,
    info: BundleInfo,
    *,
    validation: FrameDataset | None,
    listener: Listener,
    clock: _Clock,
) -> None:
    """Write `metrics.json` and then the bundle, which marks the run as complete."""
    metrics: dict[str, Any] = {'last_epoch': last_record(run)}
    if validation is not None:

        def on_frame(done: int, total: int) -> None:
            listener.on_validation(done, total)
            if clock.alone_is_over and done < total:
                raise clock.stopped(run, f'all epochs and {done} of {total} validated frames')

        scores = evaluate(detector, validation, on_frame=on_frame, info=info).scores
        metrics |= describe_validation(scores, validation.metric)
    write_text(run / METRICS_FILE, json.dumps(metrics, indent=2) + '\n')
    save_bundle(run / 'bundle', detector, info)


def describe_training(
    config: ExperimentConfig,
    dataset: FrameDataset,
    facts: Mapping[str, JsonValue],
    unlabelled: Frames = (),
) -> BundleInfo:
    """What the bundles of a run say about themselves.

    Args:
        config: of the whole experiment.
        dataset: labelled frames, whose intensities and sizes are measured.
        facts: what else is said about the training.
        unlabelled: frames whose intensities are measured where none is labelled.

    Raises:
        DatasetError: a frame of the dataset cannot be read.
    """
    terms = config.distillation.terms if config.distillation else ()
    detection = config.model.detection
    if not detection.size_bounds:
        learned = {'size_bounds': measure_sizes(dataset, config.model)}
        detection = detection.model_copy(update=learned)
    return BundleInfo(
        model=config.model.model_copy(update={'detection': detection}),
        intensity_range=measure_range(dataset if len(dataset) else unlabelled),
        intensity_assumed=False,
        sensor_height=config.dataset.sensor_height,
        training={
            'dataset': f'{config.dataset.root.name}/{config.dataset.split}',
            'epochs': config.training.epochs,
            'seed': config.training.seed,
            'ema_decay': config.training.ema_decay,
            'distillation': [term.name for term in terms],
            'revision': git_revision(),
            **facts,
        },
    )


class _Trainer:
    """The moving parts of a run on its device."""

    def __init__(
        self, objective: nn.Module, config: TrainingConfig, fabric: Fabric, *, num_frames: int
    ) -> None:
        self._config = config
        self._num_frames = num_frames
        self.fabric = fabric
        self._objective = objective.to(fabric.device)
        self._trained = [
            parameter for parameter in objective.parameters() if parameter.requires_grad
        ]
        optimizer = AdamW(
            self._trained,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            # a fifth of the time on a CPU; it cannot be clipped after loss scaling
            fused=config.precision != '16-mixed',
        )
        self._optimizer: Any = fabric.setup_optimizers(optimizer)
        average = start_average(detector_of(objective)) if config.ema_decay else None
        self.state = TrainingState(objective, optimizer, fabric.strategy.precision, average)
        self.steps_per_epoch = math.ceil(num_frames / (config.batch_size * config.accumulate))
        self._ratios: dict[str, dict[str, float]] = {}

    def run_epoch(
        self,
        done: Position,
        batches: Iterator[Batch],
        listeners: Sequence[Listener],
        clock: _Clock,
    ) -> tuple[Position, dict[str, Any]]:
        """Train from a position to the end of its epoch, or until it is time to stop.

        Returns:
            Where the run is now, and the epoch's line of `metrics.jsonl`, empty if it is not over.
        """
        epoch, device = done.epochs, self.fabric.device
        torch.manual_seed(torch_seed(self._config.seed, epoch))
        restore_generators(done.generators, device)
        self._objective.train()
        start = perf_counter() - done.seconds
        history = list(done.losses)
        while len(history) < self.steps_per_epoch:
            if clock.is_over:
                seconds = perf_counter() - start
                generators = gather_generators(device) if history else ()
                return Position(epoch, history, seconds, generators), {}
            progress = self._run_step(epoch * self.steps_per_epoch + len(history), batches)
            history.append(progress.losses)
            for listener in listeners:
                listener.on_step(progress)
        seconds = perf_counter() - start
        return Position(epoch + 1), {
            'epoch': epoch + 1,
            'step': progress.step,
            'losses': _mean(history),
            **({'gradient_ratios': self._ratios} if self._ratios else {}),
            'learning_rate': progress.learning_rate,
            'seconds': round(seconds, 3),
            'frames_per_second': round(self._num_frames / seconds, 3),
        }

    def _run_step(self, step: int, batches: Iterator[Batch]) -> Progress:
        config = self._config
        num_steps = config.epochs * self.steps_per_epoch
        moment = Moment(step, num_steps, epoch=step // self.steps_per_epoch)
        learning_rate = set_rate(self.state.optimizer, moment, config)
        losses = self._minimise(step, batches)
        if self.state.average is not None and config.ema_decay is not None:
            detector = detector_of(self._objective)
            update_average(self.state.average, detector, step=step, decay=config.ema_decay)
        return Progress(
            step=step + 1,
            num_steps=num_steps,
            epoch=moment.epoch + 1,
            num_epochs=config.epochs,
            losses=losses,
            learning_rate=learning_rate,
        )

    def _minimise(self, step: int, batches: Iterator[Batch]) -> dict[str, float]:
        """One step of the optimizer; returns the losses of all its frames."""
        self._optimizer.zero_grad()
        losses, frame_ids = self._accumulate_gradient(step, batches)
        _check_finite(losses, step=step, frame_ids=frame_ids)
        average_gradients(self._trained)
        norm = self.fabric.clip_gradients(
            self._objective,
            self._optimizer,
            max_norm=self._config.gradient_clip,
            error_if_nonfinite=False,
        )
        assert norm is not None  # it is, for `max_norm`
        if self._config.precision != '16-mixed':  # its loss scaling skips such a step
            _check_finite({'gradient': norm.item()}, step=step, frame_ids=frame_ids)
        self._optimizer.step()
        return {**losses, 'total': sum(losses.values())}

    def _accumulate_gradient(
        self, step: int, batches: Iterator[Batch]
    ) -> tuple[dict[str, float], list[str]]:
        """Losses of a step over all processes, and this one's frames; gradients of its share."""
        num_frames = self._frames_in(step)
        num_batches = math.ceil(num_frames / self._config.batch_size)
        frame_ids: list[str] = []
        sums: dict[str, Tensor] = {}
        for batch in islice(batches, num_batches):
            # Only autocast, not Fabric's wrapper of modules, which would also round the points.
            with self.fabric.autocast():
                losses: dict[str, Tensor] = self._objective(batch.to(self.fabric.device))
            if not sums and self._is_last(step):  # cheap: once an epoch, and no state to save
                self._ratios = ratios_of(self._objective, losses)
            # A loss is a mean over frames, so the parts of a step count by their frames.
            part = len(batch) * self.fabric.world_size / num_frames
            terms = {name: loss * part for name, loss in losses.items()}
            self.fabric.backward(torch.stack(list(terms.values())).sum())
            sums = {name: sums.get(name, 0) + term.detach() for name, term in terms.items()}
            frame_ids += batch.frame_ids
        values = average_values(torch.stack(list(sums.values()))).tolist()
        return dict(zip(sums, values, strict=True)), frame_ids

    def _is_last(self, step: int) -> bool:
        """Whether an epoch ends with this step."""
        return (step + 1) % self.steps_per_epoch == 0

    def _frames_in(self, step: int) -> int:
        """Frames of a step, in all processes; the last step of an epoch may have fewer."""
        whole = self._config.batch_size * self._config.accumulate
        return min(whole, self._num_frames - step % self.steps_per_epoch * whole)


def _check_finite(values: Mapping[str, float], *, step: int, frame_ids: Sequence[str]) -> None:
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if bad:
        listed = ', '.join(f'{name} = {value}' for name, value in bad.items())
        raise PointDistillerError(
            f'step {step + 1}: {listed}, with frames {gather_names(frame_ids)}; look for '
            'impossible boxes or points in these frames, or lower training.learning_rate; '
            'the earlier checkpoints are intact'
        )


def _is_due(epoch: int, config: TrainingConfig) -> bool:
    return epoch % config.checkpoint_every == 0 or epoch == config.epochs


def _mean(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(record[name] for record in records) / len(records) for name in records[0]}
