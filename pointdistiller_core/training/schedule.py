# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The one-cycle policy (Smith and Topin, 2017) with cosines, as the published KITTI schedules."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from pointdistiller_core.config import TrainingConfig


def one_cycle(progress: float, config: TrainingConfig) -> tuple[float, float]:
    """Learning rate and beta1 of AdamW at a moment of the run.

    The rate climbs to its peak while beta1 falls, then both return: the rate far below its start,
    beta1 to its own.

    Args:
        progress: 0 at the first step, 1 at the last.
        config: peak, factors and length of the warm-up.
    """
    peak, beta1 = config.learning_rate, config.betas[0]
    first = peak / config.initial_factor
    last = first / config.final_factor
    warmup = config.warmup_fraction
    if progress < warmup:
        part = progress / warmup
        return _cosine(first, peak, part), _cosine(beta1, config.peak_beta1, part)
    part = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
    return _cosine(peak, last, part), _cosine(config.peak_beta1, beta1, part)


def set_one_cycle(
    optimizer: Optimizer, *, step: int, num_steps: int, config: TrainingConfig
) -> float:
    """Set the optimizer for step `step` of `num_steps`, counted from 0; returns the rate."""
    learning_rate, beta1 = one_cycle(step / max(num_steps - 1, 1), config)
    for group in optimizer.param_groups:
        group['lr'] = learning_rate
        group['betas'] = (beta1, config.betas[1])
    return learning_rate


def _cosine(start: float, end: float, part: float) -> float:
    """From `start` (part 0) to `end` (part 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
