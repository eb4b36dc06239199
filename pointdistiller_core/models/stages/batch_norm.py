# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Batch norm whose batch is that of all processes.

`nn.SyncBatchNorm` knows neither CPUs nor rows that are counted instead of computed. Here a layer
computes the statistics of its own rows, and `pool_statistics` makes one of those of all processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
import torch.distributed as dist


def num_processes() -> int:
    """Processes that train together, 1 outside torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`; where several processes train together, over the maps of all of them."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        if not self.training or num_processes() == 1:
            return super().forward(maps)
        # Outside autocast: half precision is too coarse for statistics.
        with torch.autocast(maps.device.type, enabled=False):
            values = maps.float()
            variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)
            mean, variance, count = pool_statistics(mean, variance, maps.numel() // maps.shape[1])
            self._track(mean.detach(), variance.detach() * (count / (count - 1)))
            scale = self.weight * (variance + self.eps).rsqrt()
            shift = self.bias - mean * scale
            normalized = torch.addcmul(shift[:, None, None], values, scale[:, None, None])
        return normalized.to(maps.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1


def pool_statistics(
    mean: Tensor, variance: Tensor, count: int
) -> tuple[Tensor, Tensor, int | Tensor]:
    """Statistics of the rows of all processes, from those of each; one alone keeps its own.

    Gradients flow back into the rows of all processes. Every process must call this, even one
    without rows.

    Args:
        mean: (C,) of the rows of this process; 0 without rows.
        variance: (C,) biased; 0 without rows.
        count: number of these rows.

    Returns:
        The same three of all rows.
    """
    if num_processes() == 1:
        return mean, variance, count
    sums = sum_over_processes(torch.cat([mean * count, mean.new_tensor([count])]))
    total = sums[-1].detach()
    pooled_mean = sums[:-1] / total.clamp(min=1)
    # Around the common mean, or the variance would drown in the mean's rounding.
    squares = sum_over_processes(count * (variance + (mean - pooled_mean).square()))
    return pooled_mean, squares / total.clamp(min=1), total


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum of the tensors that all processes pass, of one shape; differentiable."""
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """Each process minimises a part of one loss: gradients add up as values do."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        return _reduced(tensor)

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        return _reduced(gradients[0])


def _reduced(tensor: Tensor) -> Tensor:
    total = tensor.contiguous().clone()
    dist.all_reduce(total)
    return total
