# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Comparison with numbers that other projects' code has computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

TOLERANCE = 1e-4  # relative to the largest number of a stage


def assert_same_statistics(ours: torch.Tensor, expected: np.ndarray) -> None:
    """Sum, sum of absolute values, sum of squares, minimum, maximum over a whole map."""
    ours = ours.double()
    total, absolute, squares, low, high = expected
    assert abs(ours.sum() - total) <= TOLERANCE * absolute
    assert ours.abs().sum().item() == pytest.approx(absolute, rel=TOLERANCE)
    assert ours.square().sum().item() == pytest.approx(squares, rel=TOLERANCE)
    assert ours.min().item() == pytest.approx(low, abs=TOLERANCE * max(abs(low), abs(high)))
    assert ours.max().item() == pytest.approx(high, abs=TOLERANCE * max(abs(low), abs(high)))
