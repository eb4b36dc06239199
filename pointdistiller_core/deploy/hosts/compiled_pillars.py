# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The pillar encoder of two layers, compiled: the numbers of `pillar_host` up to rounding.

A few pillars at a time go through both layers, so what is between the layers stays in the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pointdistiller_core.compiled.compiler import (
    LANES,
    compiled,
    larger,
    load,
    multiply_add,
    store,
    zeros,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pointdistiller_core.deploy.hosts.host import Arrays, FloatArray
    from pointdistiller_core.grid import Grid
    from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays
    from pointdistiller_core.sparse.team import Team

    Array = NDArray[Any]
    Pillars = tuple[Array, Array, Array]

POINTS = 8192  # of a part, which one thread does; about
ROWS = 128  # points that go through both layers together; about
AT_A_TIME = 6  # rows that share each row of weights, so that more is multiplied than loaded
POINTS_CELLS_ENDS = 'Tuple((f4[:, ::1], i8[::1], i8[::1]))'
FIRST, SECOND = 'UniTuple(f4[::1], 5)', 'UniTuple(f4[::1], 4)'


class CompiledEncoder:
    """Both layers; see `PillarHost` for its arrays."""

    def __init__(self, arrays: Arrays, grid: Grid, max_points: int) -> None:
        shift, own = arrays['hidden.shift'], arrays['own_weights']
        lowest = np.stack([np.zeros_like(shift), np.maximum(shift, 0)])
        first = [arrays[f'hidden.{name}_weights'] for name in ('offset', 'center', 'mean')]
        self._first = tuple(_flat(each) for each in (*first, shift, lowest))
        second = own, arrays['common_weights'], arrays['shift'], lowest[1] @ own
        self._second = tuple(_flat(each, rows=len(each.shape) > 1) for each in second)
        self._channels = len(arrays['shift'])
        self._geometry = np.array([grid.voxel_size, grid.point_cloud_range[:3]], np.float32)
        self._columns, self._max_points = grid.bev_shape[1], max_points

    def __call__(self, pillars: VoxelArrays, team: Team) -> FloatArray:
        """(P, C) float32 features of the pillars, at least 0."""
        features: FloatArray = np.empty((len(pillars), self._channels), np.float32)
        ends = np.cumsum(pillars.num_points)
        bounds = np.searchsorted(ends, np.arange(0, ends[-1] + POINTS, POINTS))
        bounds[-1] = len(pillars)
        sizes = np.array([self._columns, self._max_points])

        def encode_part(part: int) -> None:
            _encode(
                (pillars.points, pillars.cells, ends),
                *(bounds[part : part + 2], sizes, self._geometry),
                *(self._first, self._second, features),
            )

        team.share(encode_part, len(bounds) - 1)
        return features


def _flat(weights: FloatArray, *, rows: bool = False) -> FloatArray:
    """With zeros for further outputs, up to whole vectors, and for inputs if these are `rows`."""
    widths = [(0, -size % LANES) for size in weights.shape]
    if not rows:
        widths[:-1] = [(0, 0)] * (len(widths) - 1)
    return np.require(np.pad(weights, widths).reshape(-1), np.float32, ['C', 'W'])


@compiled('void(f4[::1], i8, i8, f4[::1], i8, f4[::1])')
def _multiply(
    values: Array, count: int, width: int, weights: Array, channels: int, products: Array
) -> None:
    """Write values (count, width) @ weights (width, channels), and up to five rows more."""
    for row in range(0, count, AT_A_TIME):
        i0 = row * width
        i1, i2, i3, i4, i5 = (
            i0 + width, i0 + 2 * width, i0 + 3 * width, i0 + 4 * width, i0 + 5 * width,
        )  # fmt: skip
        for channel in range(0, channels, LANES):
            sum0, sum1, sum2, sum3, sum4, sum5 = (
                zeros(), zeros(), zeros(), zeros(), zeros(), zeros(),
            )  # fmt: skip
            for i in range(width):
                own = load(weights, i * channels + channel)
                sum0 = multiply_add(values, i0 + i, own, sum0)
                sum1 = multiply_add(values, i1 + i, own, sum1)
                sum2 = multiply_add(values, i2 + i, own, sum2)
                sum3 = multiply_add(values, i3 + i, own, sum3)
                sum4 = multiply_add(values, i4 + i, own, sum4)
                sum5 = multiply_add(values, i5 + i, own, sum5)
            target = row * channels + channel
            store(products, target, sum0)
            store(products, target + channels, sum1)
            store(products, target + 2 * channels, sum2)
            store(products, target + 3 * channels, sum3)
            store(products, target + 4 * channels, sum4)
            store(products, target + 5 * channels, sum5)


@compiled(f'void({POINTS_CELLS_ENDS}, i8[::1], i8[::1], f4[:, ::1], {FIRST}, f4[::1], f4[::1])')
def _first_layer(
    pillars: Pillars,
    bounds: Array,
    sizes: Array,
    geometry: Array,
    layer: tuple[Array, ...],
    values: Array,
    maxima: Array,
) -> None:
    """Write the hidden features of points, and their maxima over the slots of each pillar.

    Args:
        pillars: see `_encode`.
        bounds: first pillar, and the end.
        sizes: see `_encode`.
        geometry: likewise.
        layer: likewise, `first`.
        values: (n, H) flat, of the points of these pillars.
        maxima: (pillars, H) flat.
    """
    points, cells, ends = pillars
    weights, center_weights, mean_weights, shift, lowest = layer
    width, channels = points.shape[1], len(shift)
    offsets, common = np.empty(sizes[1] * width, np.float32), np.empty(channels, np.float32)
    half, row = np.float32(0.5), 0
    for pillar in range(bounds[0], bounds[1]):
        begin = ends[pillar - 1] if pillar else 0
        count = ends[pillar] - begin
        x = (np.float32(cells[pillar] % sizes[0]) + half) * geometry[0, 0] + geometry[1, 0]
        y = (np.float32(cells[pillar] // sizes[0]) + half) * geometry[0, 1] + geometry[1, 1]
        z = half * geometry[0, 2] + geometry[1, 2]
        sum_x, sum_y, sum_z = np.float32(0), np.float32(0), np.float32(0)
        for n in range(count):
            own = n * width
            offsets[own] = points[begin + n, 0] - x
            offsets[own + 1] = points[begin + n, 1] - y
            offsets[own + 2] = points[begin + n, 2] - z
            sum_x += offsets[own]
            sum_y += offsets[own + 1]
            sum_z += offsets[own + 2]
            for column in range(3, width):  # intensity and age have no origin
                offsets[own + column] = points[begin + n, column]
        size = np.float32(count)
        sum_x, sum_y, sum_z = sum_x / size, sum_y / size, sum_z / size
        for i in range(channels):
            j, k = i + channels, i + 2 * channels
            of_center = x * center_weights[i] + y * center_weights[j] + z * center_weights[k]
            of_mean = sum_x * mean_weights[i] + sum_y * mean_weights[j] + sum_z * mean_weights[k]
            common[i] = of_center - of_mean + shift[i]
        unused = channels if count < sizes[1] else 0
        for channel in range(0, channels, LANES):
            top = load(lowest, unused + channel)
            for n in range(count):
                value = load(common, channel)
                for i in range(width):
                    row_of_weights = load(weights, i * channels + channel)
                    value = multiply_add(offsets, n * width + i, row_of_weights, value)
                value = larger(value, zeros())
                store(values, (row + n) * channels + channel, value)
                top = larger(top, value)
            store(maxima, (pillar - bounds[0]) * channels + channel, top)
        row += count


@compiled(f'void(f4[::1], f4[::1], i8[::1], i8[::1], i8, {SECOND}, f4[:, ::1])')
def _second_maxima(
    products: Array,
    of_maxima: Array,
    ends: Array,
    bounds: Array,
    max_points: int,
    layer: tuple[Array, ...],
    features: Array,
) -> None:
    """Write the features of pillars.

    Args:
        products: (n, C) flat, of the points of these pillars with the layer's own weights.
        of_maxima: (pillars, C) flat, of the hidden maxima with the common ones.
        ends: of the points of each pillar.
        bounds: first pillar, and the end.
        max_points: slots of a pillar.
        layer: see `_encode`.
        features: (P, less or equal to C).
    """
    shift, of_unused = layer[2], layer[3]
    channels, row = len(shift), 0
    highest = np.empty(channels, np.float32)
    for pillar in range(bounds[0], bounds[1]):
        count = ends[pillar] - (ends[pillar - 1] if pillar else 0)
        for channel in range(0, channels, LANES):
            top = load(products, row * channels + channel)
            for n in range(1, count):
                top = larger(top, load(products, (row + n) * channels + channel))
            if count < max_points:
                top = larger(top, load(of_unused, channel))
            store(highest, channel, top)
        own = (pillar - bounds[0]) * channels
        for channel in range(features.shape[1]):
            value = highest[channel] + (of_maxima[own + channel] + shift[channel])
            features[pillar, channel] = np.float32(0) if value < 0 else value  # NaN stays
        row += count


@compiled(
    f'void({POINTS_CELLS_ENDS}, i8[::1], i8[::1], f4[:, ::1], {FIRST}, {SECOND}, f4[:, ::1])'
)
def _encode(
    pillars: Pillars,
    bounds: Array,
    sizes: Array,
    geometry: Array,
    first: tuple[Array, ...],
    second: tuple[Array, ...],
    features: Array,
) -> None:
    """Write the features of some pillars.

    Args:
        pillars: (N, F) points of all pillars, pillar after pillar; (P,) their cells
            `row * W + column`; (P,) index behind the last point of each.
        bounds: first pillar of the part, and the end.
        sizes: W, and slots of a pillar.
        geometry: (2, 3) size of a cell and low end of the range, along x, y, z.
        first: weights (F, H), (3, H), (3, H) and shift (H,), see `PillarHost`; and (2, H) the
            least value of a pillar without and with an unused slot. All flat.
        second: own and common weights (H, C), shift (C,), products (C,) of an unused slot.
        features: (P, C or less).
    """
    hidden, channels, rows = len(first[3]), len(second[2]), ROWS + sizes[1] + AT_A_TIME
    values, maxima = (np.zeros(rows * hidden, np.float32), np.zeros(rows * hidden, np.float32))
    products, of_maxima = (
        np.empty(rows * channels, np.float32), np.empty(rows * channels, np.float32),
    )  # fmt: skip
    ends, pair = pillars[2], np.array([bounds[0], bounds[0]])
    while pair[0] < bounds[1]:
        begin = ends[pair[0] - 1] if pair[0] else 0
        while pair[1] < bounds[1] and ends[pair[1]] - begin <= ROWS + sizes[1]:
            pair[1] += 1
        _first_layer(pillars, pair, sizes, geometry, first, values, maxima)
        count = ends[pair[1] - 1] - begin
        _multiply(values, count, hidden, second[0], channels, products)
        _multiply(maxima, pair[1] - pair[0], hidden, second[1], channels, of_maxima)
        _second_maxima(products, of_maxima, ends, pair, sizes[1], second, features)
        pair[0] = pair[1]
