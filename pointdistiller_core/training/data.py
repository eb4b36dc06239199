# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Batches for training; order and augmentation depend only on (seed, epoch, index)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, islice
import math
import multiprocessing
import os
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pointdistiller_core.config import AugmentationConfig, TrainingConfig
from pointdistiller_core.datasets import FrameDataset, Frames
from pointdistiller_core.datasets.augmentation import Range, augment
from pointdistiller_core.datasets.ground_truth_database import load_database
from pointdistiller_core.datasets.levelling import Levelling
from pointdistiller_core.errors import DatasetError, PointDistillerError
from pointdistiller_core.geometry.intensity import clip_intensity
from pointdistiller_core.records import Batch, Frame, GroundTruth
from pointdistiller_core.training.sampling import ClassBalance
from pointdistiller_core.workers import end_with, no_shared_memory

# First words of the seeds, so that all streams of random numbers differ.
ORDER_STREAM, AUGMENTATION_STREAM, TORCH_STREAM = range(3)
_REMEDY = 'lower training.num_workers or training.batch_size (--set training.num_workers=0)'


def load_batches(
    frames: FrameDataset,
    augmentation: AugmentationConfig,
    config: TrainingConfig,
    *,
    first_epoch: int = 0,
    first_batch: int = 0,
    point_cloud_range: Range | None = None,
    unlabelled: Frames | None = None,
    intensity_range: tuple[float, float] = (-math.inf, math.inf),
    level_at: float | None = None,
    process: int = 0,
    num_processes: int = 1,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Augmented batches of all epochs from `first_epoch` on, one epoch after the other.

    Args:
        frames: labelled frames.
        augmentation: of each frame.
        config: seed, number of epochs, size of a batch and number of loader processes.
        first_epoch: first epoch that is not done yet.
        first_batch: first batch of that epoch that is not done yet.
        point_cloud_range: what ends up outside is left out, see `augment`.
        unlabelled: frames that are mixed with the others and pass as unlabelled, see `Batch`. No
            objects are pasted into them: it is not known what these would collide with.
        intensity_range: limits that intensities are clipped to, as when the detector runs.
        level_at: height of a level sensor above the ground [m] to which each frame is moved first,
            see `Levelling`; None leaves them as they are.
        process: number of the process whose share of every batch is wanted.
        num_processes: processes that share each batch.
        pin_memory: copy batches into memory that a GPU can read while it computes.

    Raises:
        DatasetError: a frame cannot be read or has no labels.
        WriteError: the database of objects cannot be written.
        ConfigError: objects are to be pasted of a class that the frames do not know.
        PointDistillerError: too little shared memory for the processes.
    """
    if not len(frames):  # there is no object to paste
        augmentation = augmentation.model_copy(update={'ground_truth_sampling': None})
    sampling = augmentation.ground_truth_sampling
    change = partial(
        _change,
        intensity_range=intensity_range,
        config=augmentation,
        database=load_database(frames).usable(sampling) if sampling else None,
        point_cloud_range=point_cloud_range,
    )
    num_frames = len(frames) + len(unlabelled or ())
    balanced = config.sampling == 'class_balanced'
    keys = batch_keys(
        num_frames,
        config,
        first_epoch=first_epoch,
        num_unlabelled=len(unlabelled or ()),
        balance=ClassBalance.of(frames, warn=process == 0) if balanced else None,
    )
    shares = (batch[process::num_processes] for batch in islice(keys, first_batch, None))
    loader = DataLoader(
        _AugmentedFrames(frames, unlabelled, Levelling(level_at), change, config.seed),
        batch_sampler=shares,
        num_workers=config.num_workers,
        pin_memory=pin_memory,
        collate_fn=_collate_or_error,
        worker_init_fn=partial(_begin_worker, os.getpid()),
        generator=torch.Generator(),  # otherwise it draws from torch's own within an epoch
    )
    for batch in _start(loader):
        if isinstance(batch, PointDistillerError):
            raise batch
        yield batch


@contextmanager
def dead_workers_explained() -> Iterator[None]:
    """Say what to do if a process that loads frames was killed.

    torch reports that wherever this process happens to be.

    Raises:
        PointDistillerError: one was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith('DataLoader worker'):
            raise
        raise PointDistillerError(
            f'a process that loads frames was ended: {error}; perhaps for want of memory: '
            f'{_REMEDY}; the earlier checkpoints are intact'
        ) from error


def batch_keys(
    num_frames: int,
    config: TrainingConfig,
    *,
    first_epoch: int = 0,
    num_unlabelled: int = 0,
    balance: ClassBalance | None = None,
) -> Iterator[list[tuple[int, ...]]]:
    """(epoch, frame index) of every frame of every batch; the last of an epoch may be smaller.

    Args:
        num_frames: of an epoch, those without labels included.
        config: seed, number of epochs and size of a batch.
        first_epoch: that is not done yet.
        num_unlabelled: the last frames, which each epoch sees once.
        balance: draws the others, some of them several times; each time but the first has its
            number at the end of the key. None: each once.
    """
    labelled = num_frames - num_unlabelled
    for epoch in range(first_epoch, config.epochs):
        rng = np.random.default_rng((ORDER_STREAM, config.seed, epoch))
        if balance is None:
            order = rng.permutation(num_frames)
        else:
            drawn = balance.draw(labelled, rng)
            order = rng.permutation(np.append(drawn, np.arange(labelled, num_frames)))
        seen: Counter[int] = Counter()
        keys: list[tuple[int, ...]] = []
        for index in order.tolist():
            keys.append((epoch, index, seen[index]) if seen[index] else (epoch, index))
            seen[index] += 1
        for start in range(0, num_frames, config.batch_size):
            yield keys[start : start + config.batch_size]


def torch_seed(seed: int, epoch: int) -> int:
    """Seed of torch's own generators for one epoch."""
    return int(np.random.SeedSequence((TORCH_STREAM, seed, epoch)).generate_state(1)[0])


def collate(frames: Sequence[Frame]) -> Batch:
    """Frames as tensors; those without ground truth are `unlabelled`."""
    truths = [
        GroundTruth.empty() if frame.ground_truth is None else frame.ground_truth
        for frame in frames
    ]
    return Batch(
        points=tuple(torch.from_numpy(frame.points) for frame in frames),
        boxes=tuple(torch.from_numpy(truth.boxes) for truth in truths),
        labels=tuple(torch.from_numpy(truth.labels) for truth in truths),
        frame_ids=tuple(frame.frame_id for frame in frames),
        velocities=_velocities(truths),
        unlabelled=frozenset(
            place for place, frame in enumerate(frames) if frame.ground_truth is None
        ),
    )


def _velocities(truths: Sequence[GroundTruth]) -> tuple[torch.Tensor, ...] | None:
    """Velocities of each frame, NaN in frames without any; None if no frame has them."""
    if all(truth.velocities is None for truth in truths):
        return None
    unknown = (np.full((len(truth), 2), np.nan, np.float32) for truth in truths)
    return tuple(
        torch.from_numpy(none if truth.velocities is None else truth.velocities)
        for truth, none in zip(truths, unknown, strict=True)
    )


class _AugmentedFrames(Dataset[Frame | PointDistillerError]):
    """Frames by (epoch, index), the unlabelled ones last.

    Errors are returned, not raised: a loader process would bury their message in its traceback.
    """

    def __init__(
        self,
        frames: FrameDataset,
        unlabelled: Frames | None,
        level: Levelling,
        change: Callable[..., Frame],
        seed: int,
    ) -> None:
        self._frames = frames
        self._unlabelled = unlabelled
        self._level = level
        self._change = change
        self._seed = seed

    def __getitem__(self, key: tuple[int, ...]) -> Frame | PointDistillerError:
        rng = np.random.default_rng((AUGMENTATION_STREAM, self._seed, *key))
        try:
            return self._change(self._level(self._read(key[1]), key[1]), rng)
        except PointDistillerError as error:
            return error

    def _read(self, index: int) -> Frame:
        if self._unlabelled is None or index < len(self._frames):
            frame = self._frames[index]
            if frame.ground_truth is None:
                raise DatasetError(f'frame {frame.frame_id} has no labels to train on')
            return frame
        return replace(self._unlabelled[index - len(self._frames)], ground_truth=None)


def _change(
    frame: Frame,
    rng: np.random.Generator,
    *,
    intensity_range: tuple[float, float],
    **augmentation: Any,
) -> Frame:
    """The frame augmented, and with intensities as when the detector runs."""
    frame = augment(frame, rng=rng, **augmentation)
    return replace(frame, points=clip_intensity(frame.points, intensity_range))


def _collate_or_error(items: Sequence[Frame | PointDistillerError]) -> Batch | PointDistillerError:
    frames = []
    for item in items:
        if isinstance(item, PointDistillerError):
            return item
        frames.append(item)
    try:
        batch = collate(frames)
        if get_worker_info() is not None:
            _share(batch)
    except PointDistillerError as error:
        return error
    return batch


def _share(batch: Batch) -> None:
    """Move a batch into shared memory here: torch's own thread would lose it without room."""
    try:
        for tensor in chain.from_iterable(batch.tensors().values()):
            if tensor.numel():
                tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise no_shared_memory(error, _REMEDY) from error


def _start(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        if loader.num_workers:  # torch starts with locks, and never cleans up without workers
            multiprocessing.Lock()
        return iter(loader)
    except OSError as error:
        raise no_shared_memory(error, _REMEDY) from error


def _begin_worker(parent: int, _: int) -> None:
    end_with(parent)
