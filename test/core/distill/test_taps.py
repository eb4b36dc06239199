# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.distill.taps import tap, tap_channels, tap_modules, tap_shapes
from pointdistiller_core.models import PointPillars


def test_collects_the_newest_output_with_its_gradient():
    layer = nn.Linear(2, 3)
    with tap({'layer': layer}) as outputs:
        layer(torch.ones(1, 2))
        newest = layer(torch.zeros(1, 2))
    assert outputs['layer'] is newest
    assert newest.requires_grad


def test_is_gone_after_use():
    layer = nn.Linear(2, 3)
    with tap({'layer': layer}) as outputs:
        pass
    layer(torch.ones(1, 2))
    assert outputs == {}
    assert not layer._forward_hooks


def test_is_gone_after_an_error():
    layer = nn.Linear(2, 3)
    with pytest.raises(RuntimeError), tap({'layer': layer}):
        layer(torch.ones(1, 5))
    assert not layer._forward_hooks


def test_every_tap_has_the_channels_that_it_says(tiny_model, make_batch):
    config = tiny_model.model_copy(update={'width': 0.5})
    model = PointPillars(config)
    with tap(tap_modules(model)) as outputs:
        model(model.prepare(make_batch(300, 200).points))
    channels = tap_channels(config)
    assert list(channels) == list(tap_modules(model))
    assert {name: output.shape[1] for name, output in outputs.items()} == channels
    maps = {name: output.shape[2:] for name, output in outputs.items() if output.ndim == 4}
    assert tap_shapes(config) == maps


def test_norms_are_tapped_before_their_relu(tiny_model, make_batch):
    model = PointPillars(tiny_model)
    with tap(tap_modules(model)) as outputs:
        model(model.prepare(make_batch(300).points))
    assert (outputs['backbone.1.norm'] < 0).any()
    torch.testing.assert_close(outputs['backbone.1.norm'].relu(), outputs['backbone.1'])
