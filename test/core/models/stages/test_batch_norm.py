# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Batch norm of rows; what several processes make of it is in training/test_processes.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.models.stages import batch_norm
from pointdistiller_core.models.stages.batch_norm import BatchNormRows


def norms() -> tuple[BatchNormRows, nn.BatchNorm1d]:
    """One of ours and torch's, with equal weights that are not trivial."""
    torch.manual_seed(0)
    ours, theirs = BatchNormRows(4), nn.BatchNorm1d(4, eps=1e-3, momentum=0.01)
    for tensor in (ours.weight, ours.bias, ours.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(ours.running_var, 0.5, 2)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize('num_zeros', [0, 30])
@pytest.mark.parametrize('training', [True, False])
def test_is_torchs_with_zero_rows_counted(training, num_zeros):
    ours, theirs = (norm.train(training) for norm in norms())
    rows = torch.randn(50, 4) * 3 + 1
    found, of_zero = ours.with_zeros(rows, 50 + num_zeros)
    expected = theirs(torch.cat([rows, torch.zeros(num_zeros, 4)]))
    torch.testing.assert_close(found, expected[:50])
    for row in expected[50:]:
        torch.testing.assert_close(of_zero, row)
    if not num_zeros:
        torch.testing.assert_close(norms()[0].train(training)(rows), found)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


@pytest.mark.parametrize('num_zeros', [0, 30])
@pytest.mark.parametrize('training', [True, False])
def test_behind_a_linear_layer_it_is_the_same(training, num_zeros):
    ours, theirs = (norm.train(training) for norm in norms())
    inputs, layer = (
        torch.randn(50, 3) * torch.tensor([20, 1, 0.1]) + 5,
        nn.Linear(3, 4, bias=False),
    )
    found, of_zero = ours.behind_linear(inputs, layer.weight, 50 + num_zeros)
    expected = theirs(layer(torch.cat([inputs, torch.zeros(num_zeros, 3)])))
    torch.testing.assert_close(found, expected[:50], rtol=1e-5, atol=1e-5)
    for row in expected[50:]:
        torch.testing.assert_close(of_zero, row, rtol=1e-5, atol=1e-5)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)
    weights, gradients = torch.randn(50, 4), []
    for norm, rows in ((ours, found), (theirs, expected[:50])):
        (rows * weights).sum().backward()
        gradients.append([layer.weight.grad, norm.weight.grad, norm.bias.grad])
        layer.weight.grad = None
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_behind_a_linear_layer_outputs_that_nearly_cancel():
    """A column of tens of metres taken from another leaves decimetres, whose variance counts."""
    x = torch.rand(5000, 1) * 100
    inputs = torch.cat([x, x + torch.randn(5000, 1) * 0.1], dim=1)
    weight = torch.tensor([[1.0, -1.0]])
    norm = BatchNormRows(1).train()
    norm.momentum = 1.0
    norm.behind_linear(inputs, weight, 5000)
    expected = (inputs.double() @ weight.double().T).var(dim=0).float()
    torch.testing.assert_close(norm.running_var, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize('numbers', [7, 1 << 17])
def test_gradients_are_those_of_torch(monkeypatch, numbers):
    monkeypatch.setattr(batch_norm, '_PART', numbers)
    ours, theirs = (norm.double().train() for norm in norms())
    rows = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, (rows,))
    weights = torch.randn(50, 4, dtype=torch.float64)
    for norm in (ours, theirs):
        (norm(rows) * weights).sum().backward()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad)


def test_statistics_of_many_rows():
    rows = torch.randn(1 << 18, 4, generator=torch.Generator().manual_seed(0)) * 2 + 5
    norm = BatchNormRows(4).train()
    norm.momentum = 1.0
    norm(rows)
    torch.testing.assert_close(
        norm.running_var, rows.double().var(dim=0).float(), rtol=1e-6, atol=0
    )


def test_without_rows_the_running_statistics_are_taken_and_kept():
    ours, _ = norms()
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    found, of_zero = ours.train().with_zeros(torch.zeros(0, 4), 0)
    assert found.shape == (0, 4)
    torch.testing.assert_close(of_zero, ours.eval()(torch.zeros(1, 4))[0])
    _, of_zero = ours.train().behind_linear(torch.zeros(0, 3), torch.ones(4, 3), 0)
    torch.testing.assert_close(of_zero, ours.eval()(torch.zeros(1, 4))[0])
    assert all(torch.equal(ours.get_buffer(name), buffer) for name, buffer in before.items())


def test_one_that_tracks_nothing_takes_the_batch_in_evaluation_too():
    norm = BatchNormRows(4, tracks=False)
    rows = torch.randn(50, 4) * 3 + 1
    assert list(norm.buffers()) == []
    assert torch.equal(norm.eval()(rows), norm.train()(rows))
    torch.testing.assert_close(norm(rows).mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
