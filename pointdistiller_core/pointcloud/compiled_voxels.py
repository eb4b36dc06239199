# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Voxels of one frame, compiled: bit by bit those of `voxel_arrays.group_points`.

One pass over the points numbers their voxels, and another one puts them into their slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pointdistiller_core.compiled.compiler import compiled
from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays
from pointdistiller_core.records import Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pointdistiller_core.pointcloud.voxel_arrays import FloatArray, IntArray

    Array = NDArray[Any]

LARGEST_TABLE = 1 << 20  # cells; of larger grids only the occupied cells have a place
_SPREAD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: Fibonacci hashing (Knuth, vol. 3, 6.4)


def group_points(
    points: FloatArray, grid: Grid, *, max_points: int, max_voxels: int
) -> VoxelArrays:
    """See `voxel_arrays.group_points`."""
    points = np.require(points, np.float32, ['C', 'W'])
    most = min(len(points), int(np.prod(grid.shape)))
    cells, sizes = np.empty(most, np.int64), np.zeros(most, np.int64)
    owners = np.empty(len(points), np.int64)
    table, hashing = _table(grid, len(points))
    limits = np.array([*np.split(np.array(grid.point_cloud_range), 2), grid.voxel_size])
    inside, found = _number_voxels(
        points, limits.astype(np.float32), np.array(grid.shape), table, hashing,
        cells, sizes, owners,
    )  # fmt: skip
    kept_voxels = min(found, max_voxels)
    num_points = np.minimum(sizes[:kept_voxels], max_points)
    ends = np.cumsum(num_points)
    kept = int(ends[-1]) if kept_voxels else 0
    grouped = np.empty((kept, points.shape[1]), np.float32)
    _fill_slots(points, owners, ends - num_points, ends, grouped)
    return VoxelArrays(
        points=grouped,
        cells=cells[:kept_voxels].copy(),
        num_points=num_points,
        max_points=max_points,
        owners=owners,
        cuts={
            'points': Cut(kept, inside - kept),
            'voxels': Cut(kept_voxels, found - kept_voxels),
        },
    )


def means_in_rows(voxels: VoxelArrays, rows: IntArray) -> FloatArray:
    """See `voxel_arrays.means_in_rows`."""
    points = np.require(voxels.points, np.float32, ['C', 'W'])
    means: FloatArray = np.empty((len(voxels), points.shape[1]), np.float32)
    _write_means(points, voxels.num_points, rows, means)
    return means


def _table(grid: Grid, num_points: int) -> tuple[Array, Array]:
    """Places for the numbers of voxels, and the factor and shift from a cell to its place."""
    num_cells = int(np.prod(grid.shape))
    if num_cells <= LARGEST_TABLE:
        return np.full(num_cells, -1, np.int32), np.array([1, 0], np.uint64)
    bits = max(2 * num_points - 1, 1).bit_length()  # so half of the places stay free
    return np.full(1 << bits, -1, np.int32), np.array([_SPREAD, 64 - bits], np.uint64)


@compiled(
    'UniTuple(i8, 2)(f4[:, ::1], f4[:, ::1], i8[::1], i4[::1], u8[::1], i8[::1], i8[::1], i8[::1])'
)
def _number_voxels(
    points: Array,
    limits: Array,
    shape: Array,
    table: Array,
    hashing: Array,
    cells: Array,
    sizes: Array,
    owners: Array,
) -> tuple[int, int]:
    """Number of the points in range, and of their voxels.

    Args:
        points: (N, F) x, y, z and further columns.
        limits: (3, 3) low and high end of the range, and the size of a cell, along x, y, z.
        shape: cells along x, y, z.
        table: -1 throughout; changed.
        hashing: factor and shift from a cell to its place in the table.
        cells: written, one for each voxel by first appearance.
        sizes: zeros; written, points of each voxel.
        owners: (N,) written, voxel of each point, -1 for none.
    """
    low_x, low_y, low_z = limits[0]
    high_x, high_y = limits[1, 0], limits[1, 1]
    size_x, size_y, size_z = limits[2]
    columns, rows, layers = np.float32(shape[0]), np.float32(shape[1]), np.float32(shape[2])
    width, plane, end = shape[0], shape[0] * shape[1], len(table) - 1
    factor, shift = hashing
    inside, found, number, last_cell = 0, 0, np.int64(0), np.int64(-1)
    for n in range(len(points)):
        x, y = points[n, 0], points[n, 1]
        owners[n] = -1
        if not (x >= low_x and x <= high_x and y >= low_y and y <= high_y):
            continue
        column, row = (x - low_x) / size_x, (y - low_y) / size_y
        layer = (points[n, 2] - low_z) / size_z
        if not (column < columns and row < rows and layer >= 0 and layer < layers):
            continue
        cell = np.int64(layer) * plane + np.int64(row) * width + np.int64(column)
        if cell != last_cell:  # neighbors of a sweep often share it
            last_cell = cell
            place = np.int64((np.uint64(cell) * factor) >> shift)
            while table[place] >= 0 and cells[table[place]] != cell:
                place = (place + 1) & end
            number = np.int64(table[place])
            if number < 0:
                number = np.int64(found)
                table[place], cells[found] = found, cell
                found += 1
        sizes[number] += 1
        owners[n] = number
        inside += 1
    return inside, found


@compiled('void(f4[:, ::1], i8[::1], i8[::1], i8[::1], f4[:, ::1])')
def _fill_slots(points: Array, owners: Array, slots: Array, ends: Array, grouped: Array) -> None:
    """Write the points of each voxel, in their order, as far as there are slots.

    Args:
        points: (N, F).
        owners: (N,) voxel of each, -1 for none; those of voxels over the cap become -1.
        slots: (P,) first slot of each voxel; changed.
        ends: (P,) slot behind its last one.
        grouped: (n, F) written.
    """
    width = points.shape[1]
    for n in range(len(points)):
        owner = owners[n]
        if owner >= len(ends):
            owners[n] = -1
        elif owner >= 0 and slots[owner] < ends[owner]:
            slot = slots[owner]
            for column in range(width):
                grouped[slot, column] = points[n, column]
            slots[owner] = slot + 1


@compiled('void(f4[:, ::1], i8[::1], i8[::1], f4[:, ::1])')
def _write_means(points: Array, num_points: Array, rows: Array, means: Array) -> None:
    """Write the means of the points of each voxel, which lie voxel after voxel, into its row."""
    begin = 0
    for voxel in range(len(num_points)):
        count, row = num_points[voxel], rows[voxel]
        for column in range(points.shape[1]):
            total = points[begin, column]
            for n in range(begin + 1, begin + count):
                total += points[n, column]
            means[row, column] = total / np.float32(count) if count > 1 else total
        begin += count
