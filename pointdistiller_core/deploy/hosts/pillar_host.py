# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pillars and their encoder in NumPy; two layers also compiled.

The encoder is linear up to its maximum, and its batch norm can be folded in. So a point costs four
products per channel; the rest is the same for all points of a pillar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.compiled import numba_works
from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays, best_grouping, group_points
from pointdistiller_core.records import Places
from pointdistiller_core.sparse.team import MOST_THREADS, Team

if TYPE_CHECKING:
    from pointdistiller_core.deploy.hosts.compiled_pillars import CompiledEncoder
    from pointdistiller_core.deploy.hosts.host import Arrays, FloatArray, IntArray, Shape

_HIDDEN = 'hidden.'
BLOCK_POINTS = 1 << 15  # of two layers, whose features of points would not fit into any cache


class PillarHost:
    """Pillars of a cloud and their features; see `Host`.

    Its arrays are the encoder with its batch norms folded in, all float32. What reads the points:

    * `offset_weights` (F, C) of a point's offset [m] from the center of its cell, intensity, age;
    * `center_weights` (3, C) of the cell's center [m], which every point's position contains;
    * `mean_weights` (3, C) of the mean offset [m] of the pillar's points;
    * `shift` (C,) output for a row of zeros: the value of an unused slot.

    If there is a hidden layer, these are its own, with `hidden.` before their names, and:

    * `own_weights` (H, C) of a slot's hidden features;
    * `common_weights` (H, C) of their maxima over the slots of the pillar;
    * `shift` (C,).
    """

    def __init__(self, config: PointPillarsConfig, arrays: Arrays, num_threads: int = 1) -> None:
        two_layers = config.encoder.hidden is not None
        self._team = Team(min(num_threads, MOST_THREADS) if two_layers else 1)
        self._config = config
        self._first = _PointLayer(arrays, _HIDDEN if two_layers else '')
        self._arrays = arrays
        # one layer, and its clouds of one sweep, are not worth the memory and the start of Numba
        self._group = best_grouping() if two_layers else group_points
        self._compiled: CompiledEncoder | None = None
        if two_layers and numba_works():
            from pointdistiller_core.deploy.hosts.compiled_pillars import CompiledEncoder

            self._compiled = CompiledEncoder(arrays, config.grid, config.voxels.max_points)

    @staticmethod
    def shapes(config: PointPillarsConfig) -> dict[str, Shape]:
        """See `Host`."""
        channels, hidden = config.scaled(config.encoder.channels), config.encoder.hidden
        if hidden is None:
            return _PointLayer.shapes(config, channels, '')
        width = config.scaled(hidden)
        return {
            **_PointLayer.shapes(config, width, _HIDDEN),
            **dict.fromkeys(('own_weights', 'common_weights'), (width, channels)),
            'shift': (channels,),
        }

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """See `Host`."""
        return len(self._arrays['shift']), *self._config.grid.bev_shape

    @property
    def engine(self) -> str | None:
        """See `Host`."""
        if self._config.encoder.hidden is None:
            return None
        return 'numba' if self._compiled else 'numpy'

    def prepare(self, points: FloatArray) -> VoxelArrays:
        """See `Host`."""
        return self._group(
            points,
            self._config.grid,
            max_points=self._config.voxels.max_points,
            max_voxels=self._config.voxels.max_voxels,
        )

    def encode(self, pillars: VoxelArrays) -> tuple[FloatArray, IntArray]:
        """See `Host`; the features are those of `PillarEncoder`."""
        if self._compiled:
            return self._compiled(pillars, self._team), pillars.cells
        return self._encode(pillars), pillars.cells

    @products_in_calling_thread()
    def _encode(self, pillars: VoxelArrays) -> FloatArray:
        """(P, C) features in NumPy."""
        centers = _cell_centers(pillars.cells, self._config.grid)
        order = np.argsort(-pillars.num_points)
        if self._config.encoder.hidden is not None:
            return self._encode_blocks(pillars, centers, order)
        back, layer = np.argsort(order), self._first
        slots = _Slots(pillars, centers, order)
        maxima = slots.maxima(slots.offsets @ layer.offset_weights).take(back, axis=0)
        maxima += layer.common_part(centers, slots.means.take(back, axis=0))
        return _with_unused(maxima, layer.shift, _has_unused(pillars))

    def _encode_blocks(
        self, pillars: VoxelArrays, centers: FloatArray, order: IntArray
    ) -> FloatArray:
        """(P, C) features behind two layers; blocks of pillars that fit into the caches."""
        features = np.empty((len(pillars), len(self._arrays['shift'])), np.float32)
        sizes = np.cumsum(pillars.num_points[order])
        ends = np.searchsorted(sizes, np.arange(BLOCK_POINTS, sizes[-1], BLOCK_POINTS))
        blocks = [block for block in np.split(order, ends) if len(block)]

        def work(number: int) -> None:
            block = blocks[number]
            features[block] = self._encode_block(pillars, centers.take(block, axis=0), block)

        self._team.share(work, len(blocks))
        return features

    def _encode_block(
        self, pillars: VoxelArrays, centers: FloatArray, block: IntArray
    ) -> FloatArray:
        """(n, C) features of some pillars, by descending number of points."""
        layer, own = self._first, self._arrays['own_weights']
        slots = _Slots(pillars, centers, block, aligned=True)
        has_unused = _has_unused(pillars)[block]
        values: FloatArray = slots.offsets @ layer.offset_weights
        slots.add(values, layer.common_part(centers, slots.means))
        np.maximum(values, 0, out=values)
        hidden = _with_unused(slots.maxima(values), layer.shift, has_unused)
        maxima = slots.maxima(values @ own)
        of_unused = np.maximum(layer.shift, 0) @ own
        np.maximum(maxima, of_unused, out=maxima, where=has_unused[:, None])
        maxima += hidden @ self._arrays['common_weights'] + self._arrays['shift']
        return np.maximum(maxima, 0, out=maxima)

    def places(self, pillars: VoxelArrays) -> Places:
        """See `Host`; the value of a pillar is the number of its points."""
        sums = np.add.reduceat(pillars.points[:, :3], pillars.starts, axis=0)
        centers = (sums / pillars.num_points[:, None]).astype(np.float32)
        return Places(centers, pillars.num_points, pillars.owners)


class _PointLayer:
    """The arrays of the layer that reads the points; see `PillarHost`."""

    def __init__(self, arrays: Arrays, prefix: str) -> None:
        self.offset_weights = arrays[f'{prefix}offset_weights']
        self.center_weights = arrays[f'{prefix}center_weights']
        self.mean_weights = arrays[f'{prefix}mean_weights']
        self.shift = arrays[f'{prefix}shift']

    @staticmethod
    def shapes(config: PointPillarsConfig, channels: int, prefix: str) -> dict[str, Shape]:
        """Name and shape of each."""
        return {
            f'{prefix}offset_weights': (len(config.point_features), channels),
            f'{prefix}center_weights': (3, channels),
            f'{prefix}mean_weights': (3, channels),
            f'{prefix}shift': (channels,),
        }

    def common_part(self, centers: FloatArray, means: FloatArray) -> FloatArray:
        """(P, C) what all points of a pillar have in common, by center and mean offset [m]."""
        common: FloatArray = centers @ self.center_weights - means @ self.mean_weights
        common += self.shift
        return common


class _Slots:
    """The points of pillars, slot by slot.

    First all pillars' first points, then the second points of pillars with two, and so on: whole
    arrays at a time, several times faster than `reduceat`. Likewise, `take` is faster than
    brackets, and arithmetic on all columns faster than on three.

    Args:
        pillars: of a cloud.
        centers: (P, 3) of all cells [m]; with `aligned` (n, 3) of those in `order`.
        order: (n,) pillars, by descending number of points.
        aligned: see `centers`.

    Attributes:
        offsets: (N, F) offsets [m] from the center of the cell, intensity, age.
        means: (n, 3) of these offsets, in the order of `order`.
    """

    def __init__(
        self,
        pillars: VoxelArrays,
        centers: FloatArray,
        order: IntArray,
        *,
        aligned: bool = False,
    ) -> None:
        starts, sizes = pillars.starts[order], pillars.num_points[order]
        counts = np.searchsorted(-sizes, -np.arange(sizes[0]))  # pillars with a point in each slot
        members = [starts[:count] + slot for slot, count in enumerate(counts)]
        self._ends = np.cumsum(counts)[:-1]
        self.offsets: FloatArray = pillars.points.take(np.concatenate(members), axis=0)
        others = self.offsets.shape[1] - 3  # intensity has no origin
        own = centers if aligned else centers.take(order, axis=0)
        origins = np.pad(own, ((0, 0), (0, others)))
        parts = np.split(self.offsets, self._ends)
        for part in parts:
            part -= origins[: len(part)]
        sums = parts[0].copy()
        for part in parts[1:]:
            sums[: len(part)] += part
        means = sums[:, :3] / sizes[:, None].astype(np.float32)
        self.means: FloatArray = means.astype(np.float32, copy=False)

    def maxima(self, values: FloatArray) -> FloatArray:
        """(n, C) largest of the values (N, C) of the points of each pillar."""
        maxima, *others = np.split(values, self._ends)
        if others:
            maxima = maxima.copy()
        for part in others:
            np.maximum(maxima[: len(part)], part, out=maxima[: len(part)])
        return maxima

    def add(self, values: FloatArray, common: FloatArray) -> None:
        """Add (n, C) of each pillar to the values (N, C) of its points, in place."""
        for part in np.split(values, self._ends):
            part += common[: len(part)]


def _has_unused(pillars: VoxelArrays) -> NDArray[np.bool_]:
    """(P,) whether pillars have room for further points."""
    return pillars.num_points < pillars.max_points


def _with_unused(
    maxima: FloatArray, shift: FloatArray, has_unused: NDArray[np.bool_]
) -> FloatArray:
    """Maxima (P, C) with 0 and, of pillars with an unused slot, `shift` (C,)."""
    lowest = np.stack([np.zeros_like(shift), np.maximum(shift, 0)])
    features: FloatArray = np.maximum(maxima, lowest.take(has_unused.view(np.int8), axis=0))
    return features


def _cell_centers(cells: IntArray, grid: Grid) -> FloatArray:
    """(P, 3) x, y, z [m] of the centers of cells `row * W + column`."""
    rows, columns = np.divmod(cells, grid.bev_shape[1])
    positions = np.stack([columns, rows, np.zeros_like(rows)], axis=1).astype(np.float32) + 0.5
    size, low = np.array([grid.voxel_size, grid.point_cloud_range[:3]], np.float32)
    centers: FloatArray = (positions * size + low).astype(np.float32, copy=False)
    return centers
