# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pillars: points grouped by the cell of the BEV grid that they fall into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistiller_core.grid import Grid
from pointdistiller_core.records import Cut


@dataclass(frozen=True)
class Pillars:
    """The occupied cells of a batch, frame after frame, with their points.

    Attributes:
        points: (P, M, 4) float32 x, y, z [m], intensity, LiDAR frame; unused slots are zero and
            stand after the used ones.
        coords: (P, 3) int64 frame in the batch, BEV row (y cell), BEV column (x cell).
        num_points: (P,) int64 used slots, 1..M.
        batch_size: frames, including those without a pillar.
        point_pillars: per frame (N,) int64, the pillar of each input point as an index into this
            batch's P pillars; -1 outside of the range and in cells beyond the pillar cap. Points
            beyond the cap of their pillar do name it.
        cuts: summed over the frames: of the `points` in range those in a slot, and of the occupied
            cells those that got a pillar (`voxels`).
    """

    points: Tensor
    coords: Tensor
    num_points: Tensor
    batch_size: int
    point_pillars: tuple[Tensor, ...]
    cuts: Mapping[str, Cut]

    def __len__(self) -> int:
        return len(self.num_points)


@dataclass(frozen=True)
class _FramePillars:
    """Pillars of one frame: points (P, M, 4), cells (P,), num_points (P,), point_pillars (N,)."""

    points: Tensor
    cells: Tensor
    num_points: Tensor
    point_pillars: Tensor
    points_in_range: int
    pillars_over_cap: int


def group_pillars(
    points: Sequence[Tensor], grid: Grid, *, max_points_per_pillar: int, max_pillars: int
) -> Pillars:
    """Group the points of each frame by BEV cell, exactly as OpenPCDet's voxel generator does.

    Cells are `floor((p - low) / size)` in float32; pillars are numbered by the first appearance
    of their cell in the order of the points; a pillar keeps its first `max_points_per_pillar`
    points; cells that appear after the first `max_pillars` get no pillar. Points that are not
    finite are out of range.

    Args:
        points: B tensors (N, 4) float32 x, y, z [m], intensity, LiDAR frame.
        grid: the BEV grid; one cell along z.
        max_points_per_pillar: M.
        max_pillars: most pillars of one frame.

    Raises:
        ValueError: the grid has more than one cell along z.
    """
    if grid.shape[2] != 1:
        raise ValueError(f'pillars need one cell along z, the grid has {grid.shape[2]}')
    caps = {'max_points': max_points_per_pillar, 'max_pillars': max_pillars}
    frames = [_group_frame(frame, grid, **caps) for frame in points]
    sizes = [len(frame.cells) for frame in frames]
    num_points = torch.cat([frame.num_points for frame in frames])
    in_range, used = sum(frame.points_in_range for frame in frames), int(num_points.sum())
    return Pillars(
        points=torch.cat([frame.points for frame in frames]),
        coords=torch.cat([_coords(i, frame.cells, grid) for i, frame in enumerate(frames)]),
        num_points=num_points,
        batch_size=len(frames),
        point_pillars=tuple(
            torch.where(frame.point_pillars >= 0, frame.point_pillars + sum(sizes[:i]), -1)
            for i, frame in enumerate(frames)
        ),
        cuts={
            'points': Cut(used, in_range - used),
            'voxels': Cut(len(num_points), sum(frame.pillars_over_cap for frame in frames)),
        },
    )


def _group_frame(
    points: Tensor, grid: Grid, *, max_points: int, max_pillars: int
) -> _FramePillars:
    inside, cells = _occupied_cells(points, grid)
    sorted_cells, order = cells.sort(stable=True)
    unique_cells, sizes = torch.unique_consecutive(sorted_cells, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    appearance = order[starts].argsort()  # the stable sort left each cell's first point in front
    ranks = torch.empty_like(appearance)
    ranks[appearance] = torch.arange(len(appearance), device=points.device)

    pillars = ranks.repeat_interleave(sizes)
    slots = torch.arange(len(pillars), device=points.device) - starts.repeat_interleave(sizes)
    kept = ((pillars < max_pillars) & (slots < max_points)).nonzero()[:, 0]
    appearance = appearance[:max_pillars]
    sources, targets = inside[order[kept]], (pillars * max_points + slots)[kept]
    grouped = points.new_zeros(len(appearance) * max_points, points.shape[1])
    grouped.index_copy_(0, targets, points.index_select(0, sources))

    point_pillars = order.new_full((len(points),), -1)
    point_pillars[inside[order]] = torch.where(pillars < max_pillars, pillars, -1)
    return _FramePillars(
        points=grouped.view(-1, max_points, points.shape[1]),
        cells=unique_cells[appearance],
        num_points=sizes[appearance].clamp(max=max_points),
        point_pillars=point_pillars,
        points_in_range=len(inside),
        pillars_over_cap=len(sizes) - len(appearance),
    )


def _occupied_cells(points: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """(n,) indices of the points in range and (n,) int64 BEV cells `row * W + col` of these."""
    positions = points[:, :3].T.contiguous()  # per axis: faster than rows of three
    low = positions.new_tensor(grid.point_cloud_range[:3])[:, None]
    high = positions.new_tensor(grid.point_cloud_range[3:])[:, None]
    cells = ((positions - low) / positions.new_tensor(grid.voxel_size)[:, None]).floor_()
    in_grid = (cells >= 0) & (cells < cells.new_tensor(grid.shape)[:, None])
    # OpenPCDet crops x and y before it divides; rounding may differ from the cells' at the rim
    cropped = (positions[:2] >= low[:2]) & (positions[:2] <= high[:2])
    inside = (in_grid.all(0) & cropped.all(0)).nonzero()[:, 0]
    columns, rows, _ = cells.index_select(1, inside).long()
    return inside, rows * grid.bev_shape[1] + columns


def _coords(frame: int, cells: Tensor, grid: Grid) -> Tensor:
    columns = grid.bev_shape[1]
    rows = cells.div(columns, rounding_mode='floor')
    return torch.stack([torch.full_like(cells, frame), rows, cells % columns], dim=1)
