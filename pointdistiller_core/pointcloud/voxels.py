# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Voxels: points grouped by the cell of the grid that they fall into.

A pillar is a voxel of a grid with one layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistiller_core.grid import Grid
from pointdistiller_core.records import Cut, Places


@dataclass(frozen=True)
class Voxels:
    """The occupied cells of a batch, frame after frame, with their points.

    Attributes:
        points: (P, M, F) float32 x, y, z [m] and further columns, LiDAR frame; unused slots are
            zero and stand after the used ones.
        coords: (P, 4) int64 frame in the batch, layer (z cell), row (y cell), column (x cell).
        num_points: (P,) int64 used slots, 1..M.
        batch_size: frames, including those without a voxel.
        owners: per frame (N,) int64, the voxel of each input point as an index into this batch's
            P voxels; -1 outside of the range and in cells beyond the cap of voxels. Points beyond
            the cap of their voxel do name it.
        cuts: summed over the frames: `points` of those in range, `voxels` of the occupied cells.
    """

    points: Tensor
    coords: Tensor
    num_points: Tensor
    batch_size: int
    owners: tuple[Tensor, ...]
    cuts: Mapping[str, Cut]

    def __len__(self) -> int:
        return len(self.num_points)

    @property
    def sizes(self) -> list[int]:
        """Number of voxels of each frame."""
        sizes: list[int] = self.coords[:, 0].bincount(minlength=self.batch_size).tolist()
        return sizes

    def places(self) -> list[Places]:
        """Of each frame: means of the points and their numbers, on the CPU."""
        centers = self.points[..., :3].sum(dim=1) / self.num_points[:, None]
        sizes, places = self.sizes, []
        for frame, owners in enumerate(self.owners):
            start = sum(sizes[:frame])
            own = slice(start, start + sizes[frame])
            of_frame = torch.where(owners >= 0, owners - start, -1)
            values, own_centers = self.num_points[own], centers[own]
            columns = [column.cpu().numpy() for column in (own_centers, values, of_frame)]
            places.append(Places(columns[0], columns[1], columns[2]))
        return places


@dataclass(frozen=True)
class _FrameVoxels:
    """Voxels of one frame: points (P, M, F), cells (P,), num_points (P,), owners (N,)."""

    points: Tensor
    cells: Tensor
    num_points: Tensor
    owners: Tensor
    points_in_range: int
    voxels_over_cap: int


def group_voxels(
    points: Sequence[Tensor], grid: Grid, *, max_points: int, max_voxels: int
) -> Voxels:
    """Group the points of each frame by cell, exactly as OpenPCDet's voxel generator does.

    Cells are `floor((p - low) / size)` in float32; voxels are numbered by the first appearance of
    their cell in the order of the points; a voxel keeps its first `max_points` points; cells that
    appear after the first `max_voxels` get no voxel. Points that are not finite are out of range.

    Args:
        points: B tensors (N, F) float32 x, y, z [m] and further columns, LiDAR frame.
        grid: the cells.
        max_points: M, largest number of points of one voxel.
        max_voxels: largest number of voxels of one frame.
    """
    caps = {'max_points': max_points, 'max_voxels': max_voxels}
    frames = [_group_frame(frame, grid, **caps) for frame in points]
    sizes = [len(frame.cells) for frame in frames]
    num_points = torch.cat([frame.num_points for frame in frames])
    kept = int(num_points.sum())
    in_range = sum(frame.points_in_range for frame in frames)
    return Voxels(
        points=torch.cat([frame.points for frame in frames]),
        coords=torch.cat([_coords(i, frame.cells, grid) for i, frame in enumerate(frames)]),
        num_points=num_points,
        batch_size=len(frames),
        owners=tuple(
            torch.where(frame.owners >= 0, frame.owners + sum(sizes[:i]), -1)
            for i, frame in enumerate(frames)
        ),
        cuts={
            'points': Cut(kept, in_range - kept),
            'voxels': Cut(sum(sizes), sum(frame.voxels_over_cap for frame in frames)),
        },
    )


def _group_frame(points: Tensor, grid: Grid, *, max_points: int, max_voxels: int) -> _FrameVoxels:
    inside, cells = _occupied_cells(points, grid)
    sorted_cells, order = cells.sort(stable=True)
    unique_cells, sizes = torch.unique_consecutive(sorted_cells, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    appearance = order[starts].argsort()  # the stable sort left each cell's first point in front
    ranks = torch.empty_like(appearance)
    ranks[appearance] = torch.arange(len(appearance), device=points.device)

    voxels = ranks.repeat_interleave(sizes)
    slots = torch.arange(len(voxels), device=points.device) - starts.repeat_interleave(sizes)
    kept = ((voxels < max_voxels) & (slots < max_points)).nonzero()[:, 0]
    appearance = appearance[:max_voxels]
    sources, targets = inside[order[kept]], (voxels * max_points + slots)[kept]
    grouped = points.new_zeros(len(appearance) * max_points, points.shape[1])
    grouped.index_copy_(0, targets, points.index_select(0, sources))

    owners = order.new_full((len(points),), -1)
    owners[inside[order]] = torch.where(voxels < max_voxels, voxels, -1)
    return _FrameVoxels(
        points=grouped.view(-1, max_points, points.shape[1]),
        cells=unique_cells[appearance],
        num_points=sizes[appearance].clamp(max=max_points),
        owners=owners,
        points_in_range=len(inside),
        voxels_over_cap=len(sizes) - len(appearance),
    )


def _occupied_cells(points: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """(n,) indices of the points in range and (n,) their cells, numbered as for `_coords`."""
    positions = points[:, :3].T.contiguous()  # per axis: faster than rows of three
    low = positions.new_tensor(grid.point_cloud_range[:3])[:, None]
    high = positions.new_tensor(grid.point_cloud_range[3:])[:, None]
    cells = ((positions - low) / positions.new_tensor(grid.voxel_size)[:, None]).floor_()
    in_grid = (cells >= 0) & (cells < cells.new_tensor(grid.shape)[:, None])
    # OpenPCDet crops x and y before it divides; rounding may differ from the cells' at the rim
    cropped = (positions[:2] >= low[:2]) & (positions[:2] <= high[:2])
    inside = (in_grid.all(0) & cropped.all(0)).nonzero()[:, 0]
    columns, rows, layers = cells.index_select(1, inside).long()
    height, width = grid.bev_shape
    return inside, (layers * height + rows) * width + columns


def cell_centers(coords: Tensor, grid: Grid) -> Tensor:
    """(P, 3) float32 x, y, z [m] of the centers of cells (P, 4) frame, layer, row, column."""
    low = coords.new_tensor(grid.point_cloud_range[:3], dtype=torch.float32)
    size = coords.new_tensor(grid.voxel_size, dtype=torch.float32)
    return (coords[:, 1:].flip(1) + 0.5) * size + low


def cells_at(positions: Tensor, grid: Grid, map_shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(R,) int64 row and column of the cells of a map over the grid in which positions lie.

    Args:
        positions: (R, 3) x, y, z [m], LiDAR frame; those outside take the nearest cell.
        grid: that the map covers.
        map_shape: H, W of the map.
    """
    low_x, low_y, _, high_x, high_y, _ = grid.point_cloud_range
    row, column = (
        ((positions[:, axis] - low) / ((high - low) / size)).floor().long().clamp(0, size - 1)
        for axis, low, high, size in (
            (1, low_y, high_y, map_shape[0]),
            (0, low_x, high_x, map_shape[1]),
        )
    )
    return row, column


def _coords(frame: int, cells: Tensor, grid: Grid) -> Tensor:
    """(P, 4) of cells `(layer * H + row) * W + column`."""
    height, width = grid.bev_shape
    rows = cells.div(width, rounding_mode='floor')
    layers = rows.div(height, rounding_mode='floor')
    return torch.stack(
        [torch.full_like(cells, frame), layers, rows % height, cells % width], dim=1
    )
