# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from pointdistiller_core.config import TrainingConfig
from pointdistiller_core.training.schedule import one_cycle, set_one_cycle

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
    assert one_cycle(progress, CONFIG) == pytest.approx((learning_rate, beta1))


def test_cycle_agrees_with_torch():
    num_steps = 101
    config = TrainingConfig(warmup_fraction=0.4)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], betas=(0.95, 0.99))
    scheduler = OneCycleLR(
        optimizer, max_lr=0.01, total_steps=num_steps, pct_start=41 / num_steps, div_factor=10
    )
    for step in range(num_steps):
        group = optimizer.param_groups[0]
        expected = group['lr'], group['betas'][0]
        assert one_cycle(step / (num_steps - 1), config) == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        if step < num_steps - 1:
            scheduler.step()


@pytest.mark.parametrize(('warmup', 'first'), [(0.0, 0.01), (1.0, 0.001)])
def test_no_warmup_and_nothing_else(warmup, first):
    config = TrainingConfig(warmup_fraction=warmup)
    assert one_cycle(0.0, config)[0] == pytest.approx(first)
    assert one_cycle(1.0, config)[0] == pytest.approx(0.01 if warmup else 1e-7)


def test_optimizer_is_set():
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    rate = set_one_cycle(optimizer, step=4, num_steps=11, config=CONFIG)
    assert rate == pytest.approx(0.01)
    assert optimizer.param_groups[0]['lr'] == rate
    assert optimizer.param_groups[0]['betas'] == pytest.approx((0.85, 0.99))


def test_run_of_a_single_step():
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    assert set_one_cycle(optimizer, step=0, num_steps=1, config=CONFIG) == pytest.approx(1e-3)
