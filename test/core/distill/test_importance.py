# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from pointdistiller_core.config import LocalGraphConfig
from pointdistiller_core.distill.importance import IMPORTANCE, importance_weights

FEATURES = torch.tensor([[1.0, -5.0], [2.0, 0.0]])
NUM_POINTS = torch.tensor([7, 32])


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('num_points', [7.0, 32.0]), ('channel_max', [1.0, 2.0]), ('abs_mean', [3.0, 1.0])],
)
def test_scores_by_hand(name, expected):
    assert IMPORTANCE[name](FEATURES, NUM_POINTS).tolist() == expected


def test_every_configurable_importance_exists():
    names = LocalGraphConfig.model_fields['importance'].annotation.__args__
    assert set(names) == set(IMPORTANCE)


def test_weights_by_hand():
    # softmax of (0, ln 3) is (1/4, 3/4); the mean of the weights is 1
    weights = importance_weights(torch.tensor([0.0, 2 * math.log(3)]), temperature=2.0)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5]))


def test_the_authors_temperature_keeps_only_the_fullest_pillars():
    weights = importance_weights(torch.tensor([32.0, 32.0, 31.0, 1.0]), temperature=0.01)
    torch.testing.assert_close(weights, torch.tensor([2.0, 2.0, 0.0, 0.0]))


def test_weights_of_no_pillars():
    assert importance_weights(torch.zeros(0), temperature=1.0).shape == (0,)
