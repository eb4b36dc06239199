# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pointdistiller_core.distill.terms.adapters import RowNorm, build_adapter
from pointdistiller_core.models.stages import batch_norm


def test_norm_is_batch_norm():
    rows, norm = torch.randn(50, 4) * 3 + 7, RowNorm(4)
    torch.nn.init.uniform_(norm.weight)
    torch.nn.init.uniform_(norm.bias)
    expected = F.batch_norm(rows, None, None, norm.weight, norm.bias, training=True)
    torch.testing.assert_close(norm(rows), expected)


@pytest.mark.parametrize('num_rows', [0, 50])
def test_statistics_are_those_of_all_processes(monkeypatch, num_rows):
    """A process without rows takes part, too, or the others would wait for it."""
    calls = []

    def pool(mean, variance, count):
        calls.append(count)
        return mean + 1, variance + 3, count

    monkeypatch.setattr(batch_norm, 'pool_statistics', pool)
    rows = torch.randn(num_rows, 2)
    normal = RowNorm(2)(rows)
    assert calls == [num_rows]
    assert torch.isfinite(normal).all()
    if num_rows:
        deviation = (rows.var(dim=0, correction=0) + 3 + 1e-5).sqrt()
        torch.testing.assert_close(normal, (rows - rows.mean(dim=0) - 1) / deviation)


def test_norm_keeps_no_running_state():
    assert list(RowNorm(4).buffers()) == []


@pytest.mark.parametrize(
    ('kind', 'parameters'),
    [
        ('linear', ['0.weight', '0.bias']),
        ('norm', ['0.weight', '1.weight', '1.bias']),
        ('norm_relu', ['0.weight', '1.weight', '1.bias']),
    ],
)
def test_kinds(kind, parameters):
    adapter = build_adapter(3, 5, kind)
    assert [name for name, _ in adapter.named_parameters()] == parameters
    rows = adapter(torch.randn(100, 3))
    assert rows.shape == (100, 5)
    assert bool((rows < 0).any()) == (kind != 'norm_relu')
