# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.distill.taps import tap


def test_collects_every_output_with_its_gradient():
    layer = nn.Linear(2, 3)
    with tap(layer) as outputs:
        first, second = layer(torch.ones(1, 2)), layer(torch.zeros(1, 2))
    assert outputs[0] is first
    assert outputs[1] is second
    assert outputs[0].requires_grad


def test_is_gone_after_use():
    layer = nn.Linear(2, 3)
    with tap(layer) as outputs:
        pass
    layer(torch.ones(1, 2))
    assert outputs == []
    assert not layer._forward_hooks


def test_is_gone_after_an_error():
    layer = nn.Linear(2, 3)
    with pytest.raises(RuntimeError), tap(layer):
        layer(torch.ones(1, 5))
    assert not layer._forward_hooks
