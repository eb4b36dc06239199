# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pillar feature network: a small PointNet per pillar, and the scatter of pillars onto the map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointdistiller_core.grid import Grid
from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.pointcloud.voxels import Voxels, cell_centers


class PillarEncoder(nn.Module):
    """Linear, batch norm, ReLU, maximum over a pillar's slots (PointPillars, section 2.1).

    As in the published code, all M slots of a pillar pass through the layer and take part in the
    batch norm's statistics and in the maximum; an unused slot is a row of zeros. Most slots are
    unused and give the same value, so they are counted instead of computed.

    Args:
        channels: C of the pillars' features.
        grid: of the pillars.
        columns: of the points that are read; x, y and z come first.
        hidden: channels of a layer before, see `HiddenLayer`; None for none.
        center_axes: how many of x, y and z are also given from the center of the cell.
    """

    def __init__(
        self,
        channels: int,
        grid: Grid,
        columns: Sequence[int],
        *,
        hidden: int | None = None,
        center_axes: int = 3,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.columns = tuple(columns)
        self.center_axes = center_axes
        inputs = len(self.columns) + 3 + center_axes
        self.hidden = None if hidden is None else HiddenLayer(inputs, hidden)
        self.linear = nn.Linear(inputs if hidden is None else 2 * hidden, channels, bias=False)
        self.norm = BatchNormRows(channels)

    def forward(self, pillars: Voxels) -> Tensor:
        """Features of each pillar.

        Returns:
            (P, C) float32, even under autocast: half precision would round metres to decimetres.
        """
        num_pillars, num_slots = pillars.points.shape[:2]
        with torch.autocast(pillars.points.device.type, enabled=False):
            points = point_features(
                pillars, self.grid, columns=self.columns, center_axes=self.center_axes
            )
            if self.hidden is not None:
                return self._behind(self.hidden(points, pillars), pillars)
            values, zero_value = self.norm.behind_linear(
                points, self.linear.weight, num_pillars * num_slots
            )
            return slot_maxima(values, zero_value, pillars).relu()

    def _behind(self, hidden: tuple[Tensor, Tensor, Tensor], pillars: Voxels) -> Tensor:
        """(P, C) features, from what `HiddenLayer` gives.

        An unused slot goes on with the maxima of its pillar, so each pillar has its own.
        """
        values, zero_value, maxima = hidden
        own, common = self.linear.weight.T.chunk(2)
        of_pillar = maxima @ common
        of_point = of_pillar.repeat_interleave(pillars.num_points, dim=0)
        rows = torch.cat([values @ own + of_point, zero_value @ own + of_pillar])
        unused = pillars.points.shape[1] - pillars.num_points
        counts = torch.cat([unused.new_ones(len(values)), unused])
        normalized = self.norm.with_counts(rows, counts)
        used, unused_values = normalized[: len(values)], normalized[len(values) :]
        return slot_maxima(used, unused_values, pillars).relu()


class HiddenLayer(nn.Module):
    """Linear, batch norm and ReLU of each slot, and the maximum over the slots of its pillar."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, channels, bias=False)
        self.norm = BatchNormRows(channels)

    def forward(self, points: Tensor, pillars: Voxels) -> tuple[Tensor, Tensor, Tensor]:
        """Features of used slots (N, inputs), pillar after pillar.

        Returns:
            (N, C) of these slots, (C,) of an unused one, and (P, C) maxima over all slots.
        """
        values, zero_value = self.norm.behind_linear(
            points, self.linear.weight, pillars.points.shape[:2].numel()
        )
        values, zero_value = values.relu(), zero_value.relu()
        return values, zero_value, slot_maxima(values, zero_value, pillars)


def slot_maxima(values: Tensor, unused: Tensor, pillars: Voxels) -> Tensor:
    """(P, C) maxima over the slots of each pillar.

    Args:
        values: (N, C) of the used slots, pillar after pillar.
        unused: (C,) or (P, C) value of an unused slot.
        pillars: whose slots they are.
    """
    # `unsafe` skips checks of the lengths, which fail without pillars
    maxima = torch.segment_reduce(values, 'max', lengths=pillars.num_points, unsafe=True)
    has_unused = (pillars.num_points < pillars.points.shape[1])[:, None]
    return torch.where(has_unused, maxima.maximum(unused), maxima)


def point_features(
    pillars: Voxels, grid: Grid, *, columns: Sequence[int], center_axes: int = 3
) -> Tensor:
    """The network's input: the used slots, pillar after pillar.

    Returns:
        (N, F + 3 + center_axes) the columns, e.g. x, y, z [m] and intensity; x, y, z minus the
        mean of the pillar's points; x, y, z, or the first of them, minus the center of the
        pillar's cell (the order of OpenPCDet and mmdetection3d).
    """
    slots = torch.arange(pillars.points.shape[1], device=pillars.points.device)
    points = pillars.points[slots < pillars.num_points[:, None]]
    means = pillars.points[..., :3].sum(1) / pillars.num_points[:, None]
    origins = torch.stack([means, cell_centers(pillars.coords, grid)], dim=1)
    offsets = points[:, None, :3] - origins.repeat_interleave(pillars.num_points, dim=0)
    if len(columns) < points.shape[1]:
        points = points[:, list(columns)]
    return torch.cat([points, offsets.flatten(1)[:, : 3 + center_axes]], dim=1)


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
