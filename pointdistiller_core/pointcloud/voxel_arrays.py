# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Voxels of one frame in NumPy; it keeps the same points and cells as `group_voxels`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.compiled import numba_works
from pointdistiller_core.geometry.ordering import sort_with_order
from pointdistiller_core.grid import Grid
from pointdistiller_core.records import Cut

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

_LARGEST_TABLE = 1 << 22  # cells: 32 MB


@dataclass(frozen=True)
class VoxelArrays:
    """The occupied cells of one frame with their points.

    Attributes:
        points: (n, F) float32 x, y, z [m] and further columns, LiDAR frame: the points in slots,
            voxel after voxel.
        cells: (P,) int64 cell `(layer * H + row) * W + column` of each voxel.
        num_points: (P,) int64 points of each voxel, 1..M.
        max_points: M.
        owners: (N,) int64 voxel of each input point, -1 for none; as in `Voxels`.
        cuts: as in `Voxels`.
    """

    points: FloatArray
    cells: IntArray
    num_points: IntArray
    max_points: int
    owners: IntArray
    cuts: Mapping[str, Cut]

    def __len__(self) -> int:
        return len(self.num_points)

    @property
    def starts(self) -> IntArray:
        """(P,) index of each voxel's first point."""
        starts: IntArray = np.cumsum(self.num_points) - self.num_points
        return starts

    def means(self, num_columns: int | None = None) -> FloatArray:
        """(P, F) float32 means of the points of each voxel, or of their first columns.

        Most voxels have one point. For the others, first all second points are added, then the
        third ones of voxels with three, and so on: a few whole arrays are several times faster
        than `reduceat`.
        """
        points = self.points if num_columns is None else self.points[:, :num_columns]
        means: FloatArray = points.take(self.starts, axis=0)
        several = np.flatnonzero(self.num_points > 1)
        first, counts = self.starts.take(several), self.num_points.take(several)
        sums, slot = means.take(several, axis=0), 1
        rows: IntArray = np.arange(len(several))
        while len(rows):
            sums[rows] += points.take(first.take(rows) + slot, axis=0)
            slot += 1
            rows = rows.compress(counts.take(rows) > slot)
        means[several] = sums / counts.astype(np.float32)[:, None]
        return means


def means_in_rows(voxels: VoxelArrays, rows: IntArray) -> FloatArray:
    """(P, F) float32 `means` of the voxels, each in its row of (P,)."""
    means: FloatArray = np.empty((len(voxels), voxels.points.shape[1]), np.float32)
    means[rows] = voxels.means()
    return means


def best_means() -> Callable[[VoxelArrays, IntArray], FloatArray]:
    """`means_in_rows`, compiled if Numba works here; the same bits."""
    if not numba_works():
        return means_in_rows
    from pointdistiller_core.pointcloud import compiled_voxels

    return compiled_voxels.means_in_rows


def best_grouping() -> Callable[..., VoxelArrays]:
    """`group_points`, compiled if Numba works here: the same bits in a third of the time."""
    if not numba_works():
        return group_points
    from pointdistiller_core.pointcloud import compiled_voxels

    return compiled_voxels.group_points


def group_points(
    points: FloatArray, grid: Grid, *, max_points: int, max_voxels: int
) -> VoxelArrays:
    """Group the points of one frame by cell; the rules are those of `group_voxels`.

    Args:
        points: (N, F) float32 x, y, z [m] and further columns, LiDAR frame.
        grid: the cells.
        max_points: M, largest number of points of one voxel.
        max_voxels: largest number of voxels.
    """
    inside, cells = _occupied_cells(points, grid)
    voxels, voxel_cells = _number_by_appearance(cells, grid)
    kept_voxels = min(len(voxel_cells), max_voxels)
    sizes = np.bincount(voxels, minlength=kept_voxels)[:kept_voxels]
    # those of voxels over the cap come last
    order = _stable_order(voxels, len(voxel_cells))[: sizes.sum()]
    slots = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order = order[slots < max_points]

    owners = np.full(len(points), -1)
    owners[inside] = np.where(voxels < kept_voxels, voxels, -1)
    return VoxelArrays(
        points=points.take(inside.take(order), axis=0),  # ten times as fast as points[...]
        cells=voxel_cells[:kept_voxels],
        num_points=np.minimum(sizes, max_points),
        max_points=max_points,
        owners=owners,
        cuts={
            'points': Cut(len(order), len(inside) - len(order)),
            'voxels': Cut(kept_voxels, len(voxel_cells) - kept_voxels),
        },
    )


def _occupied_cells(points: FloatArray, grid: Grid) -> tuple[IntArray, IntArray]:
    """(n,) indices of the points in range and (n,) their cells, numbered as in `VoxelArrays`."""
    low, high = np.array(grid.point_cloud_range, np.float32).reshape(2, 3)
    size = np.array(grid.voxel_size, np.float32)
    num_columns, num_rows, num_layers = grid.shape
    x, y = points[:, 0], points[:, 1]
    # First a test without arithmetic, which drops half of a turn. OpenPCDet crops x and y, too,
    # before it divides; rounding may differ from the cells' at the rim.
    cropped = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
    x, y, z = np.ascontiguousarray(points.take(cropped, axis=0)[:, :3].T)
    with np.errstate(over='ignore'):  # a height beyond float32 is out of range as well
        columns, rows = (x - low[0]) / size[0], (y - low[1]) / size[1]
        layers = (z - low[2]) / size[2]
    in_grid = (columns < num_columns) & (rows < num_rows) & (layers >= 0) & (layers < num_layers)
    inside = np.flatnonzero(in_grid)
    # none is negative, so dropping the decimals is rounding down
    cells = rows.take(inside).astype(np.int64)
    if num_layers > 1:
        cells += layers.take(inside).astype(np.int64) * num_rows
    cells *= num_columns
    cells += columns.take(inside).astype(np.int64)
    return cropped.take(inside), cells


def _number_by_appearance(cells: IntArray, grid: Grid) -> tuple[IntArray, IntArray]:
    """(n,) number of each point's cell by first appearance, and (P,) the cells in that order."""
    num_cells = grid.shape[0] * grid.shape[1] * grid.shape[2]
    if num_cells > _LARGEST_TABLE:  # a table would take gigabytes
        ordered, order = sort_with_order(cells)
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        appears = np.zeros(len(cells), np.bool_)
        appears[order[starts]] = True
        numbers = (np.cumsum(appears) - 1).take(order[starts])
        of_point = np.empty(len(cells), np.int64)
        of_point[order] = np.repeat(numbers, np.diff(starts, append=len(cells)))
        return of_point, cells[appears]
    first = np.empty(num_cells, np.int64)
    indices = np.arange(len(cells))
    first[cells[::-1]] = indices[::-1]  # of equal cells the last write stays
    appearance = np.flatnonzero(first.take(cells) == indices)
    voxel_cells = cells.take(appearance)
    first[voxel_cells] = np.arange(len(appearance))
    return first.take(cells), voxel_cells


def _stable_order(voxels: IntArray, num_voxels: int) -> IntArray:
    """(n,) indices that sort voxels, those of one voxel in their order."""
    # NumPy sorts numbers of 16 bits by radix, ten times faster
    narrow = voxels.astype(np.uint16) if num_voxels <= 1 << 16 else voxels
    return np.argsort(narrow, kind='stable')
