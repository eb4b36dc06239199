# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Adapters between the widths of student and teacher; trained, never deployed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pointdistiller_core.models.stages.batch_norm import BatchNormRows

ADAPTER_EPS = 1e-5


class RowNorm(BatchNormRows):
    """Batch norm of rows, always with the statistics of the batch; it is not deployed."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=ADAPTER_EPS, tracks=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Normalize (N, C)."""
        # Also without rows, because other processes wait for this one's statistics.
        mean, scale = self.statistics(*_moments(rows), len(rows))
        return torch.addcmul(self.bias - mean * scale, rows, scale)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) mean and biased variance, 0 without rows."""
    if not len(rows):
        return rows.sum(dim=0), rows.sum(dim=0)
    variance, mean = torch.var_mean(rows, 0, correction=0)
    return mean, variance


def build_adapter(
    in_channels: int, out_channels: int, kind: Literal['linear', 'norm', 'norm_relu']
) -> nn.Sequential:
    """A map of rows (N, C) to the other width: 1x1 convolutions of maps are linear maps of rows.

    Args:
        in_channels: C of the student.
        out_channels: C of the teacher.
        kind: `linear` has a bias, `norm` has batch norm instead, `norm_relu` a ReLU behind that.
    """
    layers: list[nn.Module] = [nn.Linear(in_channels, out_channels, bias=kind == 'linear')]
    if kind != 'linear':
        layers.append(RowNorm(out_channels))
    if kind == 'norm_relu':
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
