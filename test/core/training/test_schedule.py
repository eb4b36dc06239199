# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, MultiStepLR, OneCycleLR

from pointdistiller_core.config import OneCycleConfig, StepConfig, TrainingConfig
from pointdistiller_core.training.schedule import Moment, one_cycle, set_rate

CYCLE = OneCycleConfig()
CONFIG = TrainingConfig()  # peak 0.01 at 0.4, first a tenth of it, last 1e-4 of the first


@pytest.mark.parametrize(
    ('progress', 'learning_rate', 'beta1'),
    [
        (0.0, 1e-3, 0.95),
        (0.2, 5.5e-3, 0.90),  # half of the climb: the means
        (0.4, 1e-2, 0.85),
        (0.7, (1e-2 + 1e-7) / 2, 0.90),
        (1.0, 1e-7, 0.95),
    ],
)
def test_cycle_by_hand(progress, learning_rate, beta1):
    moment = Moment(round(10 * progress), 11, epoch=0)
    assert one_cycle(moment, CONFIG, CYCLE) == pytest.approx((learning_rate, beta1))


def test_cycle_agrees_with_torch():
    num_steps = 101
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], betas=(0.95, 0.99))
    scheduler = OneCycleLR(
        optimizer, max_lr=0.01, total_steps=num_steps, pct_start=41 / num_steps, div_factor=10
    )
    for step in range(num_steps):
        group = optimizer.param_groups[0]
        expected = group['lr'], group['betas'][0]
        moment = Moment(step, num_steps, epoch=0)
        assert one_cycle(moment, CONFIG, CYCLE) == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        if step < num_steps - 1:
            scheduler.step()


@pytest.mark.parametrize(('warmup', 'first'), [(0.0, 0.01), (1.0, 0.001)])
def test_no_warmup_and_nothing_else(warmup, first):
    cycle = OneCycleConfig(warmup_fraction=warmup)
    assert one_cycle(Moment(0, 9, 0), CONFIG, cycle)[0] == pytest.approx(first)
    last = one_cycle(Moment(8, 9, 0), CONFIG, cycle)[0]
    assert last == pytest.approx(0.01 if warmup else 1e-7)


def test_optimizer_is_set():
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    rate = set_rate(optimizer, Moment(4, 11, epoch=0), CONFIG)
    assert rate == pytest.approx(0.01)
    assert optimizer.param_groups[0]['lr'] == rate
    assert optimizer.param_groups[0]['betas'] == pytest.approx((0.85, 0.99))


def test_run_of_a_single_step():
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    assert set_rate(optimizer, Moment(0, 1, epoch=0), CONFIG) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ('step', 'epoch', 'learning_rate'),
    [
        (0, 0, 1e-5),
        (2, 0, 1e-5 + (1e-2 - 1e-5) / 2),
        (4, 0, 1e-2),  # the last of the warm-up
        (5, 1, 1e-2),
        (10, 2, 1e-3),
        (15, 3, 1e-4),
        (20, 4, 1e-4),
    ],
)
def test_steps_by_hand(step, epoch, learning_rate):
    schedule = StepConfig(warmup_steps=5, milestones=(2, 3))
    config = TrainingConfig(epochs=5, schedule=schedule)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    rate = set_rate(optimizer, Moment(step, 25, epoch=epoch), config)
    assert rate == pytest.approx(learning_rate)
    assert optimizer.param_groups[0]['lr'] == rate
    assert optimizer.param_groups[0]['betas'] == (0.95, 0.99)


def test_steps_agree_with_torch():
    """mmdetection3d's schedule for nuScenes: LinearLR by step, MultiStepLR by epoch."""
    schedule, steps_per_epoch = StepConfig(warmup_steps=8, milestones=(3, 5)), 6
    config = TrainingConfig(epochs=6, schedule=schedule)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.01)
    warmup = LinearLR(optimizer, start_factor=1e-3, total_iters=7)
    steps = MultiStepLR(optimizer, milestones=[3 * steps_per_epoch, 5 * steps_per_epoch])
    for step in range(6 * steps_per_epoch):
        expected = optimizer.param_groups[0]['lr']
        other = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
        found = set_rate(other, Moment(step, 36, epoch=step // steps_per_epoch), config)
        assert found == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        warmup.step()
        steps.step()


@pytest.mark.parametrize('warmup_steps', [0, 1])
def test_no_warmup_begins_with_the_full_rate(warmup_steps):
    config = TrainingConfig(schedule=StepConfig(warmup_steps=warmup_steps, milestones=()))
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    assert set_rate(optimizer, Moment(0, 9, epoch=0), config) == 0.01
