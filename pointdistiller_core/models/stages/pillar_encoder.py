# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pillar feature network: a small PointNet per pillar, and the scatter of pillars onto the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointdistiller_core.grid import Grid
from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.pointcloud.voxels import Voxels, cell_centers

NUM_OFFSETS = 6  # x, y, z from the mean of the points and from the center of the cell


class PillarEncoder(nn.Module):
    """Linear, batch norm, ReLU, maximum over a pillar's slots (PointPillars, section 2.1).

    As in the published code, all M slots of a pillar pass through the layer and take part in the
    batch norm's statistics and in the maximum; an unused slot is a row of zeros. Most slots are
    unused and give the same value, so they are counted instead of computed.
    """

    def __init__(self, channels: int, grid: Grid, num_columns: int) -> None:
        """Build it for points of so many columns."""
        super().__init__()
        self.grid = grid
        self.linear = nn.Linear(num_columns + NUM_OFFSETS, channels, bias=False)
        self.norm = BatchNormRows(channels)

    def forward(self, pillars: Voxels) -> Tensor:
        """Features of each pillar.

        Returns:
            (P, C) float32, even under autocast: half precision would round metres to decimetres.
        """
        num_pillars, num_slots = pillars.points.shape[:2]
        with torch.autocast(pillars.points.device.type, enabled=False):
            values, zero_value = self.norm.with_zeros(
                self.linear(point_features(pillars, self.grid)), num_pillars * num_slots
            )
            # `unsafe` skips checks of the lengths, which fail without pillars
            maxima = torch.segment_reduce(values, 'max', lengths=pillars.num_points, unsafe=True)
            has_unused = (pillars.num_points < num_slots)[:, None]
            return torch.where(has_unused, maxima.maximum(zero_value), maxima).relu()


def point_features(pillars: Voxels, grid: Grid) -> Tensor:
    """The network's input: the used slots, pillar after pillar.

    Returns:
        (N, F + 6) columns of the points, e.g. x, y, z [m] and intensity; x, y, z minus the mean of
        the pillar's points; x, y, z minus the center of the pillar's cell (OpenPCDet's order).
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
