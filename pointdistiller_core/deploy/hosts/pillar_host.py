# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pillars and their encoder in NumPy.

The encoder is linear up to its maximum, and its batch norm can be folded in. So a point costs four
products per channel; the rest is the same for all points of a pillar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays, group_points
from pointdistiller_core.records import Places

if TYPE_CHECKING:
    from pointdistiller_core.deploy.hosts.host import Arrays, FloatArray, IntArray, Shape

_HIDDEN = 'hidden.'


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

    def __init__(self, config: PointPillarsConfig, arrays: Arrays, num_threads: int = 1) -> None:  # noqa: ARG002
        self._config = config
        self._first = _PointLayer(arrays, _HIDDEN if config.encoder.hidden else '')
        self._arrays = arrays

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
    def sparse_engine(self) -> None:
        """See `Host`."""
        return None

    def prepare(self, points: FloatArray) -> VoxelArrays:
        """See `Host`."""
        return group_points(
            points,
            self._config.grid,
            max_points=self._config.voxels.max_points,
            max_voxels=self._config.voxels.max_voxels,
        )

    @products_in_calling_thread()
    def encode(self, pillars: VoxelArrays) -> tuple[FloatArray, IntArray]:
        """See `Host`; the features are those of `PillarEncoder`."""
        centers = _cell_centers(pillars.cells, self._config.grid)
        slots = _Slots(pillars, centers)
        if self._config.encoder.hidden is None:
            maxima = slots.maxima(slots.offsets @ self._first.offset_weights)
            maxima += self._first.common_part(slots, centers)
            return slots.with_unused(maxima, self._first.shift), pillars.cells
        return self._encode_behind_hidden(slots, centers), pillars.cells

    def _encode_behind_hidden(self, slots: _Slots, centers: FloatArray) -> FloatArray:
        """(P, C) features behind two layers."""
        values: FloatArray = slots.offsets @ self._first.offset_weights
        slots.add(values, self._first.common_part(slots, centers))
        np.maximum(values, 0, out=values)
        hidden = slots.with_unused(slots.maxima(values), self._first.shift)
        own = self._arrays['own_weights']
        maxima = slots.maxima(values @ own)
        of_unused = np.maximum(self._first.shift, 0) @ own
        np.maximum(maxima, of_unused, out=maxima, where=slots.has_unused[:, None])
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

    def common_part(self, slots: _Slots, centers: FloatArray) -> FloatArray:
        """(P, C) what all points of a pillar have in common."""
        common: FloatArray = centers @ self.center_weights - slots.means @ self.mean_weights
        common += self.shift
        return common


class _Slots:
    """The points of pillars, slot by slot.

    First all pillars' first points, then the second points of pillars with two, and so on: whole
    arrays at a time, several times faster than `reduceat`. Likewise, `take` is faster than
    brackets, and arithmetic on all columns faster than on three.

    Attributes:
        offsets: (N, F) offsets [m] from the center of the cell, intensity, age.
        means: (P, 3) of these offsets.
        has_unused: (P,) whether pillars have room for further points.
    """

    def __init__(self, pillars: VoxelArrays, centers: FloatArray) -> None:
        order = np.argsort(-pillars.num_points)
        starts, sizes = pillars.starts[order], pillars.num_points[order]
        counts = np.searchsorted(-sizes, -np.arange(sizes[0]))  # pillars with a point in each slot
        members = [starts[:count] + slot for slot, count in enumerate(counts)]
        self._order, self._back = order, np.argsort(order)
        self._ends = np.cumsum(counts)[:-1]
        self.offsets: FloatArray = pillars.points.take(np.concatenate(members), axis=0)
        others = self.offsets.shape[1] - 3  # intensity has no origin
        origins = np.pad(centers.take(order, axis=0), ((0, 0), (0, others)))
        parts = np.split(self.offsets, self._ends)
        for part in parts:
            part -= origins[: len(part)]
        sums = parts[0].copy()
        for part in parts[1:]:
            sums[: len(part)] += part
        counted = pillars.num_points[:, None].astype(np.float32)
        self.means: FloatArray = sums[:, :3].take(self._back, axis=0) / counted
        self.has_unused = pillars.num_points < pillars.max_points

    def maxima(self, values: FloatArray) -> FloatArray:
        """(P, C) largest of the values (N, C) of the points of each pillar."""
        first, *others = np.split(values, self._ends)
        maxima = first.copy()
        for part in others:
            np.maximum(maxima[: len(part)], part, out=maxima[: len(part)])
        return maxima.take(self._back, axis=0)

    def add(self, values: FloatArray, common: FloatArray) -> None:
        """Add (P, C) of each pillar to the values (N, C) of its points, in place."""
        ordered = common.take(self._order, axis=0)
        for part in np.split(values, self._ends):
            part += ordered[: len(part)]

    def with_unused(self, maxima: FloatArray, shift: FloatArray) -> FloatArray:
        """Maxima (P, C) with 0 and, of pillars with an unused slot, `shift` (C,)."""
        lowest = np.stack([np.zeros_like(shift), np.maximum(shift, 0)])
        features: FloatArray = np.maximum(
            maxima, lowest.take(self.has_unused.view(np.int8), axis=0)
        )
        return features


def _cell_centers(cells: IntArray, grid: Grid) -> FloatArray:
    """(P, 3) x, y, z [m] of the centers of cells `row * W + column`."""
    rows, columns = np.divmod(cells, grid.bev_shape[1])
    positions = np.stack([columns, rows, np.zeros_like(rows)], axis=1).astype(np.float32) + 0.5
    size, low = np.array([grid.voxel_size, grid.point_cloud_range[:3]], np.float32)
    centers: FloatArray = (positions * size + low).astype(np.float32, copy=False)
    return centers
