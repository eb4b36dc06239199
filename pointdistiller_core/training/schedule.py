# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Schedules of the learning rate, by the `kind` of their configuration.

* `one_cycle`: the one-cycle policy (Smith and Topin, 2017) with cosines, as published for KITTI.
* `step`: a linear warm-up, then steps down after some epochs, as mmdetection3d has for nuScenes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

from torch.optim import Optimizer

from pointdistiller_core.config import OneCycleConfig, StepConfig, TrainingConfig


class Moment(NamedTuple):
    """A step of the optimizer in a run; both are counted from 0."""

    step: int
    num_steps: int
    epoch: int


def one_cycle(
    moment: Moment, config: TrainingConfig, cycle: OneCycleConfig
) -> tuple[float, float]:
    """Learning rate and beta1 of AdamW.

    The rate climbs to its peak while beta1 falls, then both return: the rate far below its start,
    beta1 to its own.
    """
    peak, beta1 = config.learning_rate, config.betas[0]
    first = peak / cycle.initial_factor
    last = first / cycle.final_factor
    warmup, progress = cycle.warmup_fraction, moment.step / max(moment.num_steps - 1, 1)
    if progress < warmup:
        part = progress / warmup
        return _cosine(first, peak, part), _cosine(beta1, cycle.peak_beta1, part)
    part = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
    return _cosine(peak, last, part), _cosine(cycle.peak_beta1, beta1, part)


def stepped(moment: Moment, config: TrainingConfig, steps: StepConfig) -> tuple[float, float]:
    """Learning rate and beta1 of AdamW.

    The rate climbs in a line over the warm-up, whose last step has all of it, and falls after each
    of the milestones; a milestone within the warm-up counts, too. beta1 stays.
    """
    part = min(1.0, moment.step / (steps.warmup_steps - 1)) if steps.warmup_steps > 1 else 1.0
    warm = (1 - part) / steps.initial_factor + part
    passed = sum(moment.epoch >= milestone for milestone in steps.milestones)
    return config.learning_rate * warm / steps.step_factor**passed, config.betas[0]


SCHEDULES: Mapping[str, Callable[[Moment, TrainingConfig, Any], tuple[float, float]]] = {
    'one_cycle': one_cycle,
    'step': stepped,
}


def set_rate(optimizer: Optimizer, moment: Moment, config: TrainingConfig) -> float:
    """Set the optimizer for a step as `config.schedule` has it; returns the learning rate."""
    schedule = config.schedule
    learning_rate, beta1 = SCHEDULES[schedule.kind](moment, config, schedule)
    for group in optimizer.param_groups:
        group['lr'] = learning_rate
        group['betas'] = (beta1, config.betas[1])
    return learning_rate


def _cosine(start: float, end: float, part: float) -> float:
    """From `start` (part 0) to `end` (part 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
