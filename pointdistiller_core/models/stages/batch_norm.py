# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Batch norm whose batch is that of all processes.

`nn.SyncBatchNorm` supports neither CPUs nor rows that are counted instead of computed. Here a
layer computes the statistics of its own rows, and `pool_statistics` joins those of all processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
import torch.distributed as dist

# the published networks' values (SECOND, OpenPCDet), not PyTorch's: checkpoints need them
NORM_EPS, NORM_MOMENTUM = 1e-3, 0.01
_PART = 1 << 17  # numbers


def num_processes() -> int:
    """Processes that train together, 1 outside torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the maps of all processes that train together."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        if not self.training or num_processes() == 1:
            return super().forward(maps)
        # Outside autocast: half precision is too coarse for statistics.
        with torch.autocast(maps.device.type, enabled=False):
            values = maps.float()
            variance, mean = torch.var_mean(values, (0, 2, 3), correction=0)
            mean, variance, count = pool_statistics(mean, variance, maps.numel() // maps.shape[1])
            _track(self, mean, variance, count)
            scale = self.weight * (variance + self.eps).rsqrt()
            shift = self.bias - mean * scale
            normalized = torch.addcmul(shift[:, None, None], values, scale[:, None, None])
        return normalized.to(maps.dtype)


class BatchNormRows(nn.Module):
    """Batch norm of rows; zero rows may be counted instead of given.

    The statistics are over the rows of all processes that train together.

    Args:
        channels: C.
        eps: added to the variances.
        tracks: whether running statistics are kept, which are used in evaluation.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, eps: float = NORM_EPS, tracks: bool = True) -> None:
        super().__init__()
        self.eps, self.momentum, self.tracks = eps, NORM_MOMENTUM, tracks
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        if tracks:
            self.register_buffer('running_mean', torch.zeros(channels))
            self.register_buffer('running_var', torch.ones(channels))
            self.register_buffer('num_batches_tracked', torch.tensor(0))

    def forward(self, rows: Tensor) -> Tensor:
        """Normalize (N, C)."""
        if self.training and self.tracks and len(rows) and num_processes() == 1:
            with torch.no_grad():
                mean = rows.mean(0)
                squares = [(x - mean).square_().sum(0) for (x,) in _parts(rows)]
                variance = torch.stack(squares).sum(0) / len(rows)
                _track(self, mean, variance, len(rows))
            normalized: Tensor = _Normalize.apply(  # type: ignore[no-untyped-call]
                *(rows, self.weight, self.bias, mean, (variance + self.eps).rsqrt())
            )
            return normalized
        return self.with_zeros(rows, len(rows))[0]

    def with_zeros(self, rows: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
        """Normalize with the statistics of all rows.

        Args:
            rows: (N, C) those that are not zero.
            num_rows: N and the number of zero rows.

        Returns:
            (N, C) normalized rows, and (C,) what a zero row becomes.
        """
        if self.training or not self.tracks:
            mean, scale = self.statistics(*_moments(rows, num_rows), num_rows)
        else:
            mean, scale = self.running_mean, self._scale(self.running_var)
        shift = self.bias - mean * scale
        return torch.addcmul(shift, rows, scale), shift

    def behind_linear(
        self, inputs: Tensor, weight: Tensor, num_rows: int
    ) -> tuple[Tensor, Tensor]:
        """Normalize what a linear layer without bias makes of some rows, as `with_zeros` would.

        The statistics of its many outputs follow from those of its few inputs: W m and the
        diagonal of W S W^T, of their mean m and covariance S. With the scale in the weights, all
        is one product, which takes a third of the time in training. With running statistics,
        there is nothing to gain.

        Args:
            inputs: (N, F) those that are not zero.
            weight: (C, F) of the layer.
            num_rows: N and the number of zero rows.

        Returns:
            (N, C) normalized outputs, and (C,) what a zero row becomes.
        """
        if self.tracks and not self.training:
            return self.with_zeros(inputs @ weight.T, num_rows)
        center, covariance = _covariance(inputs, num_rows)
        wide = weight.double()  # metres beside decimetres: the outputs may nearly cancel
        variance = ((wide @ covariance) * wide).sum(1).to(weight.dtype)
        mean, scale = self.statistics(weight @ center, variance, num_rows)
        shift = self.bias - mean * scale
        return torch.addmm(shift, inputs, (weight * scale[:, None]).T), shift

    def with_counts(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Normalize rows that stand for several equal ones each.

        Args:
            rows: (N, C).
            counts: (N,) int64 how often each is meant, 0 or more.
        """
        if self.training or not self.tracks:
            weights, total = counts[:, None].to(rows.dtype), int(counts.sum())
            mean = (rows * weights).sum(0) / max(total, 1)
            variance = ((rows - mean).square() * weights).sum(0) / max(total, 1)
            mean, scale = self.statistics(mean, variance, total)
        else:
            mean, scale = self.running_mean, self._scale(self.running_var)
        return torch.addcmul(self.bias - mean * scale, rows, scale)

    def statistics(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Shift and scale for a batch; see `pool_statistics` for the arguments.

        Returns:
            (C,) mean and (C,) factor; the running ones if no process has rows.
        """
        mean, variance, total = pool_statistics(mean, variance, count)
        if self.tracks:
            if total == 0:
                mean, variance = self.running_mean, self.running_var
            else:
                _track(self, mean, variance, total)
        return mean, self._scale(variance)

    def _scale(self, variance: Tensor) -> Tensor:
        return self.weight * (variance + self.eps).rsqrt()


class _Normalize(torch.autograd.Function):
    """Batch norm of rows by their own mean and deviation, with its gradient in closed form.

    It keeps only the rows, and takes half the time that it takes step by step. torch's own is as
    fast on a CPU, but adds up all rows in float32 one by one: of 262,144 rows its variance is off
    by 7e-5.
    """

    @staticmethod
    def forward(context: Any, rows: Tensor, *columns: Tensor) -> Tensor:
        """(N, C) rows, and (C,) weight, bias, mean and inverse of the deviation."""
        weight, bias, mean, inverse = columns
        context.save_for_backward(rows, weight, mean, inverse)
        scale = weight * inverse
        return torch.addcmul(bias - mean * scale, rows, scale)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of rows, weight and bias; those of the statistics are in that of the rows."""
        (gradient,), (rows, weight, mean, inverse) = gradients, context.saved_tensors
        of_bias = gradient.sum(0)
        products = [((x - mean).mul_(g)).sum(0) for x, g in _parts(rows, gradient)]
        of_weight = torch.stack(products).sum(0) * inverse
        slope, shift = inverse * of_weight / len(rows), of_bias / len(rows)
        of_rows = torch.empty_like(rows)
        for x, g, result in _parts(rows, gradient, of_rows):
            torch.sub(g, (x - mean).mul_(slope).add_(shift), out=result).mul_(weight * inverse)
        return of_rows, of_weight, of_bias, None, None


def _parts(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of several tensors (N, C), so few at once that they fit a cache."""
    size = max(1, _PART // rows[0].shape[1]) if rows[0].device.type == 'cpu' else len(rows[0])
    return zip(*(torch.split(each, size) for each in rows), strict=True)


def _moments(rows: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """(C,) mean and biased variance of `rows`, filled up to `num_rows` with zero rows."""
    if not len(rows):
        return rows.sum(0), rows.sum(0)
    part = len(rows) / num_rows
    # Two passes: torch.var_mean over rows takes fifteen times as long on a CPU.
    mean = rows.mean(0)
    variance = (rows - mean).square().mean(0)
    return part * mean, part * (variance + (1 - part) * mean.square())


def _covariance(inputs: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """(F,) mean and (F, F) float64 covariance, of rows filled up to `num_rows` with zero rows."""
    if not len(inputs):
        return inputs.sum(0), inputs.new_zeros(2 * inputs.shape[1:], dtype=torch.float64)
    part, rows = len(inputs) / num_rows, inputs.double()
    mean = rows.mean(0)
    rows = rows - mean
    covariance = rows.T @ rows / len(rows) + (1 - part) * mean[:, None] * mean
    return (part * mean).to(inputs.dtype), part * covariance


def _track(norm: Any, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
    """Move the running statistics of a layer towards those of a batch of `count` rows."""
    norm.running_mean.lerp_(mean.detach(), norm.momentum)
    unbiased = variance.detach() * (count / max(count - 1, 1))
    norm.running_var.lerp_(unbiased, norm.momentum)
    norm.num_batches_tracked += 1


def pool_statistics(
    mean: Tensor, variance: Tensor, count: int
) -> tuple[Tensor, Tensor, int | Tensor]:
    """Statistics of the rows of all processes, from those of each; a single one keeps its own.

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
    # Around the common mean; otherwise rounding of the mean would swamp the variance.
    squares = sum_over_processes(count * (variance + (mean - pooled_mean).square()))
    return pooled_mean, squares / total.clamp(min=1), total


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum of the tensors that all processes pass, of one shape; differentiable."""
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """Each process minimises a part of one loss, so gradients add up as values do."""

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
