# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Voxels and SECOND's sparse middle in NumPy, with its batch norms folded in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.config import SecondConfig
from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays, group_points
from pointdistiller_core.records import Places
from pointdistiller_core.sparse.array_convolution import convolve_relu
from pointdistiller_core.sparse.middle import middle_stages
from pointdistiller_core.sparse.sites import Sites

if TYPE_CHECKING:
    from pointdistiller_core.deploy.hosts.host import Arrays, FloatArray, IntArray, Shape


class SecondHost:
    """Voxels of a cloud and the map behind the sparse middle; see `Host`.

    Its arrays are, for each convolution n of the middle, in the order in which they run:

    * `middle.n.kernel` (K, C, C') weights of each cell of the kernel, z slowest and x fastest;
    * `middle.n.bias` (C',).
    """

    def __init__(self, config: SecondConfig, arrays: Arrays) -> None:
        self._config = config
        self._convolutions = [conv for stage in middle_stages(config) for conv in stage]
        self._weights = [
            (arrays[f'middle.{n}.kernel'], arrays[f'middle.{n}.bias'])
            for n in range(len(self._convolutions))
        ]

    @staticmethod
    def shapes(config: SecondConfig) -> dict[str, Shape]:
        """See `Host`."""
        shapes: dict[str, Shape] = {}
        convolutions = (conv for stage in middle_stages(config) for conv in stage)
        for n, (inputs, outputs, kernel, *_) in enumerate(convolutions):
            shapes[f'middle.{n}.kernel'] = (int(np.prod(kernel)), inputs, outputs)
            shapes[f'middle.{n}.bias'] = (outputs,)
        return shapes

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """See `Host`."""
        channels = self._config.scaled(self._config.middle.out_channels) * self._config.map_layers
        return channels, *self._config.grid.strided_bev_shape(self._config.map_stride)

    def prepare(self, points: FloatArray) -> VoxelArrays:
        """See `Host`."""
        return group_points(
            points,
            self._config.grid,
            max_points=self._config.voxels.max_points,
            max_voxels=self._config.voxels.max_voxels,
        )

    @products_in_calling_thread()
    def encode(self, voxels: VoxelArrays) -> tuple[FloatArray, IntArray]:
        """See `Host`; the features are those of `SparseTensor.to_map`."""
        sites, ranks = Sites.build(self._coords(voxels.cells), self._config.sparse_shape, 1)
        features: FloatArray = np.empty((len(voxels), voxels.points.shape[1]), np.float32)
        features[ranks] = _means(voxels.points, voxels)
        for conv, (kernel, bias) in zip(self._convolutions, self._weights, strict=True):
            if conv.stride is None:
                rulebook = sites.submanifold
            else:
                sites, rulebook = sites.strided(conv.kernel, conv.stride, conv.padding)
            features = convolve_relu(features, kernel, bias, rulebook)
        return _stack_layers(features, sites)

    def places(self, voxels: VoxelArrays) -> Places:
        """See `Host`; the value of a voxel is the number of its points."""
        return Places(_means(voxels.points[:, :3], voxels), voxels.num_points, voxels.owners)

    def _coords(self, cells: IntArray) -> IntArray:
        """(P, 4) frame, layer, row, column of the cells."""
        rows, columns = self._config.grid.bev_shape
        above, column = np.divmod(cells, columns)
        layer, row = np.divmod(above, rows)
        return np.stack([np.zeros_like(cells), layer, row, column], axis=1)


def _means(points: FloatArray, voxels: VoxelArrays) -> FloatArray:
    """(P, F) of the points of each voxel."""
    sums = np.add.reduceat(points, voxels.starts, axis=0)
    means: FloatArray = (sums / voxels.num_points[:, None]).astype(np.float32)
    return means


def _stack_layers(features: FloatArray, sites: Sites) -> tuple[FloatArray, IntArray]:
    """The features of each column, channel by channel and then layer, and its cell of the map."""
    depth, _, width = sites.shape
    rows, columns = sites.columns
    channels = features.shape[1]
    stacked = np.zeros((len(rows), channels, depth), np.float32)
    stacked[sites.column_of_site, :, sites.layers] = features
    return stacked.reshape(len(rows), channels * depth), rows * width + columns
