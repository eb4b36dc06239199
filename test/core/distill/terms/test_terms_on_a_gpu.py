# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Every term on a GPU: the losses and gradients of the CPU, and half precision around it."""

from __future__ import annotations

import pytest
import torch

from pointdistiller_core.config import DistillationConfig, parse_config
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.distiller import TERMS
from pointdistiller_core.models import PointPillars

pytestmark = pytest.mark.cuda
SETTINGS = {'local_graph': {'num_samples': 40, 'num_neighbors': 8, 'adapter_channels': 4}}


def build(tiny_model, name, device):
    term = {'name': name, **SETTINGS.get(name, {})}
    config = parse_config(DistillationConfig, {'terms': [term]}, where='test')
    torch.manual_seed(0)
    student = tiny_model.model_copy(update={'width': 0.5})
    return Distiller(PointPillars(tiny_model), PointPillars(student), config).to(device).train()


def losses_and_gradients(distiller, batch, device, dtype=torch.float32):
    torch.manual_seed(1)  # of terms that sample
    with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
        losses = distiller(batch.to(device))
    sum(losses.values()).backward()
    gradients = {
        name: parameter.grad.cpu()
        for name, parameter in distiller.named_parameters()
        if parameter.grad is not None
    }
    return {name: loss.detach().cpu() for name, loss in losses.items()}, gradients


@pytest.mark.parametrize('name', TERMS)
def test_a_gpu_agrees_with_the_cpu(tiny_model, make_batch, gpu, name):
    batch = make_batch(400, 300)
    expected = losses_and_gradients(build(tiny_model, name, 'cpu'), batch, 'cpu')
    found = losses_and_gradients(build(tiny_model, name, gpu), batch, gpu)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
    if name == 'contrastive':  # its rows are drawn on the device
        return
    for ours, theirs in zip(found, expected, strict=True):
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('name', TERMS)
def test_half_precision_around_it_keeps_the_loss(tiny_model, make_batch, gpu, name, dtype):
    batch = make_batch(400, 300)
    exact, _ = losses_and_gradients(build(tiny_model, name, gpu), batch, gpu)
    half, gradients = losses_and_gradients(build(tiny_model, name, gpu), batch, gpu, dtype)
    for key, value in exact.items():
        torch.testing.assert_close(half[key].float(), value, rtol=0.05, atol=0.02)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
