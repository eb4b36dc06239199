# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How a network is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pointdistiller_core.config.base import Config, Positive, Probability


class TrainingConfig(Config):
    """AdamW with the one-cycle policy, as the published KITTI schedules."""

    epochs: int = Field(160, ge=1)
    batch_size: int = Field(6, ge=1, description='frames of one pass; processes share them')
    accumulate: int = Field(1, ge=1, description='batches whose gradients make one step')
    learning_rate: Positive = Field(0.01, description='peak of the cycle')
    weight_decay: float = Field(0.01, ge=0.0)
    betas: tuple[float, float] = (0.95, 0.99)
    peak_beta1: Probability = Field(0.85, description='beta1 while the learning rate peaks')
    warmup_fraction: Probability = Field(0.4, description='part of the run before the peak')
    initial_factor: Positive = Field(10.0, description='peak over first learning rate')
    final_factor: Positive = Field(1e4, description='first over last learning rate')
    gradient_clip: Positive = 35.0
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description='of a moving average of the weights, which then is the result'
    )
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = '32-true'
    num_workers: int = Field(2, ge=0)
    checkpoint_every: int = Field(1, ge=1, description='epochs')
    seed: int = Field(0, ge=0)
    deterministic: bool = Field(
        False, description='only operations that give the same bits again; needed on GPUs alone'
    )
