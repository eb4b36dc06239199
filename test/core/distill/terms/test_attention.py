# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from pointdistiller_core.distill.terms.attention import attention


def test_attention_by_hand():
    """Two frames; the energies of the first are (1 + 9) / 2 and 0, those of the second 2 and 2."""
    rows = torch.tensor([[1.0, -3.0], [0.0, 0.0], [2.0, 0.0], [0.0, -2.0]])
    expected = torch.tensor([1.0, 0.0, 0.5**0.5, 0.5**0.5])
    torch.testing.assert_close(attention(rows, (2, 2), power=2.0), expected)


def test_power_sharpens():
    rows = torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(attention(rows, (2,), power=1.0), torch.tensor([1.0, 2.0]) / 5**0.5)


def test_scale_of_features_does_not_matter():
    rows = torch.randn(30, 4)
    expected = attention(rows, (10, 20), power=2.0)
    torch.testing.assert_close(attention(7 * rows, (10, 20), power=2.0), expected)


def test_a_frame_without_energy_has_finite_gradients():
    rows = torch.zeros(4, 3, requires_grad=True)
    attention(rows, (4, 0), power=1.0).sum().backward()
    assert torch.isfinite(rows.grad).all()
