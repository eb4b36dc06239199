# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pillar feature network: a small PointNet per pillar, and the scatter of pillars onto the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointdistiller_core.grid import Grid
from pointdistiller_core.models.stages.batch_norm import pool_statistics
from pointdistiller_core.models.stages.layers import NORM_EPS, NORM_MOMENTUM
from pointdistiller_core.pointcloud.voxels import Voxels, cell_centers

NUM_POINT_FEATURES = 10


class PillarEncoder(nn.Module):
    """Linear, batch norm, ReLU, maximum over a pillar's slots (PointPillars, section 2.1).

    As in the published code, all M slots of a pillar pass through the layer, take part in the
    statistics of the batch norm and in the maximum; an unused slot is a row of zeros. Most slots
    are unused and all of these give the same value, so they are counted instead of computed.
    """

    def __init__(self, channels: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.linear = nn.Linear(NUM_POINT_FEATURES, channels, bias=False)
        self.norm = SparseBatchNorm(channels)

    def forward(self, pillars: Voxels) -> Tensor:
        """Features of each pillar.

        Returns:
            (P, C) float32, even under autocast: half precision would round metres to decimetres.
        """
        num_pillars, num_slots = pillars.points.shape[:2]
        with torch.autocast(pillars.points.device.type, enabled=False):
            values, zero_value = self.norm(
                self.linear(point_features(pillars, self.grid)), num_pillars * num_slots
            )
            # `unsafe` skips checks of the lengths, which fail on no pillars at all
            maxima = torch.segment_reduce(values, 'max', lengths=pillars.num_points, unsafe=True)
            has_unused = (pillars.num_points < num_slots)[:, None]
            return torch.where(has_unused, maxima.maximum(zero_value), maxima).relu()


class SparseBatchNorm(nn.Module):
    """`nn.BatchNorm1d` over rows of which many are zero and only the others are given.

    Where several processes train together, over the rows of all of them.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.momentum = NORM_MOMENTUM
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer('running_mean', torch.zeros(channels))
        self.register_buffer('running_var', torch.ones(channels))
        self.register_buffer('num_batches_tracked', torch.tensor(0))

    def forward(self, rows: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
        """Normalize with the statistics of all rows.

        Args:
            rows: (N, C) those that are not zero.
            num_rows: N and the number of zero rows.

        Returns:
            (N, C) normalized rows, and (C,) what a zero row becomes.
        """
        mean, variance = self.running_mean, self.running_var
        if self.training:
            of_batch = pool_statistics(*_statistics(rows, num_rows), num_rows)
            if (count := of_batch[2]) > 0:
                mean, variance = of_batch[:2]
                self._track(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        scale = self.weight * (variance + NORM_EPS).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift, rows, scale), shift

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1


def _statistics(rows: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """(C,) mean and biased variance of `rows` and as many zero rows as make `num_rows`."""
    if not len(rows):
        return rows.sum(0), rows.sum(0)
    part = len(rows) / num_rows
    # Two passes: torch.var_mean over rows takes fifteen times as long on a CPU.
    mean = rows.mean(0)
    variance = (rows - mean).square().mean(0)
    return part * mean, part * (variance + (1 - part) * mean.square())


def point_features(pillars: Voxels, grid: Grid) -> Tensor:
    """The network's input: the used slots, pillar after pillar.

    Returns:
        (N, 10) x, y, z [m] and intensity; x, y, z minus the mean of the pillar's points; x, y, z
        minus the center of the pillar's cell (OpenPCDet's order).
    """
    slots = torch.arange(pillars.points.shape[1], device=pillars.points.device)
    points = pillars.points[slots < pillars.num_points[:, None]]
    means = pillars.points[..., :3].sum(1) / pillars.num_points[:, None]
    origins = torch.stack([means, cell_centers(pillars.coords, grid)], dim=1)
    offsets = points[:, None, :3] - origins.repeat_interleave(pillars.num_points, dim=0)
    return torch.cat([points, offsets.flatten(1)], dim=1)


def scatter_to_bev(
    features: Tensor, coords: Tensor, *, batch_size: int, bev_shape: tuple[int, int]
) -> Tensor:
    """Lay pillar features out as a map; empty cells are zero.

    Args:
        features: (P, C) one row per pillar.
        coords: (P, 3) frame, row, column or (P, 4) frame, layer, row, column of a grid with one
            layer; each cell at most once.
        batch_size: B.
        bev_shape: H, W.

    Returns:
        (B, C, H, W) in channels-last memory, which the convolutions prefer.
    """
    height, width = bev_shape
    frames, rows, columns = coords[:, 0], coords[:, -2], coords[:, -1]
    cells = (frames * height + rows) * width + columns
    canvas = features.new_zeros(batch_size * height * width, features.shape[1])
    canvas.index_copy_(0, cells, features)
    return canvas.view(batch_size, height, width, -1).permute(0, 3, 1, 2)
