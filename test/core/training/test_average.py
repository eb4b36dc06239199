# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.training.average import start_average, update_average


@pytest.fixture
def detector():
    return nn.BatchNorm1d(1)  # one of each: weights, running statistics, a counter


def test_starts_as_a_copy_that_is_not_trained(detector):
    average = start_average(detector)
    detector.weight.data.fill_(7.0)
    assert average.weight.item() == 1.0
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert detector.weight.requires_grad


@pytest.mark.parametrize(
    ('step', 'kept'),
    [(0, 0.1), (10, 0.55), (8 * 1000, 0.75)],  # 1 / 10, 11 / 20, then the decay
)
def test_moves_by_hand(detector, step, kept):
    average = start_average(detector)
    detector.weight.data.fill_(3.0)
    detector.running_var.fill_(5.0)
    detector.num_batches_tracked.fill_(9)
    update_average(average, detector, step=step, decay=0.75)
    assert average.weight.item() == pytest.approx(kept * 1 + (1 - kept) * 3)
    assert average.running_var.item() == pytest.approx(kept * 1 + (1 - kept) * 5)
    assert average.num_batches_tracked.item() == 9
    assert detector.weight.item() == 3.0


def test_constant_weights_stay(detector):
    average = start_average(detector)
    for step in range(20):
        update_average(average, detector, step=step, decay=0.9)
    assert torch.equal(average.weight, detector.weight)
