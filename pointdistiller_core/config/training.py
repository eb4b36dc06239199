# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How a network is trained."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from pointdistiller_core.config.base import Choice, Config, Count, Positive, Probability


class ScheduleConfig(Choice):
    """How the learning rate changes while training."""

    key: ClassVar[str] = 'kind'
    kind: str


class OneCycleConfig(ScheduleConfig):
    """The one-cycle policy, as the published KITTI schedules."""

    kind: Literal['one_cycle'] = 'one_cycle'
    peak_beta1: Probability = Field(0.85, description='beta1 while the learning rate peaks')
    warmup_fraction: Probability = Field(0.4, description='part of the run before the peak')
    initial_factor: Positive = Field(10.0, description='peak over first learning rate')
    final_factor: Positive = Field(1e4, description='first over last learning rate')


class StepConfig(ScheduleConfig):
    """A linear warm-up, then a rate that falls in steps, as in mmdetection3d for nuScenes."""

    kind: Literal['step'] = 'step'
    warmup_steps: int = Field(1000, ge=0, description='of the optimizer, before the full rate')
    initial_factor: Positive = Field(1000.0, description='full over first learning rate')
    milestones: tuple[Count, ...] = Field(
        (20, 23), description='epochs after which the learning rate falls'
    )
    step_factor: Positive = Field(10.0, description='by which it falls each time')

    @model_validator(mode='after')
    def _check_order(self) -> StepConfig:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f'milestones {list(self.milestones)}: give each once, in order')
        return self


ScheduleConfig.choices = {'one_cycle': OneCycleConfig, 'step': StepConfig}


class TrainingConfig(Config):
    """AdamW, its schedule, and the frames that it sees."""

    epochs: int = Field(160, ge=1)
    batch_size: int = Field(6, ge=1, description='frames of one pass; processes share them')
    accumulate: int = Field(1, ge=1, description='batches whose gradients make one step')
    sampling: Literal['even', 'class_balanced'] = Field(
        'even',
        description='even: each frame once an epoch; class_balanced: as many, but so drawn that '
        'every class has its turn equally often (CBGS)',
    )
    unlabelled: Literal['use', 'refuse'] = Field(
        'use',
        description='frames of the dataset without labels; use: they take part in the terms of a '
        'distillation, and a training on labels leaves them out; refuse: an error',
    )
    learning_rate: Positive = Field(0.01, description='the largest of the schedule')
    schedule: SerializeAsAny[ScheduleConfig] = OneCycleConfig()
    weight_decay: float = Field(0.01, ge=0.0)
    betas: tuple[float, float] = (0.95, 0.99)
    gradient_clip: Positive = 35.0
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description='of a moving average of the weights, which then is the result'
    )
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = '32-true'
    sparse_engine: Literal['torch', 'spconv', 'spconv_triton'] = Field(
        'torch', description='what runs sparse convolutions; spconv and spconv_triton need a GPU'
    )
    num_workers: int = Field(2, ge=0)
    checkpoint_every: int = Field(1, ge=1, description='epochs')
    seed: int = Field(0, ge=0)
    deterministic: bool = Field(
        False, description='only operations that give the same bits again; needed on GPUs alone'
    )

    @model_validator(mode='after')
    def _check_milestones(self) -> TrainingConfig:
        milestones = self.schedule.milestones if isinstance(self.schedule, StepConfig) else ()
        if late := [epoch for epoch in milestones if epoch >= self.epochs]:
            raise ValueError(
                f'schedule.milestones {late} are never passed in {self.epochs} epochs; give '
                'earlier ones, or none'
            )
        return self
