# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Voxels and SECOND's sparse middle in NumPy, with its batch norms folded in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.config import SecondConfig
from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays, best_grouping, best_means
from pointdistiller_core.records import Places
from pointdistiller_core.sparse.array_engines import best_array_engine
from pointdistiller_core.sparse.middle import middle_stages
from pointdistiller_core.sparse.sites import Rulebook, Sites
from pointdistiller_core.sparse.team import MOST_THREADS, Team

if TYPE_CHECKING:
    from pointdistiller_core.deploy.hosts.host import Arrays, FloatArray, IntArray, Shape


class SecondHost:
    """Voxels of a cloud and the map behind the sparse middle; see `Host`.

    Its arrays are, for each convolution n of the middle, in the order in which they run:

    * `middle.n.kernel` (K, C, C') weights of each cell of the kernel, z slowest and x fastest;
    * `middle.n.bias` (C',).
    """

    def __init__(self, config: SecondConfig, arrays: Arrays, num_threads: int = 1) -> None:
        self._config = config
        self._engine = best_array_engine()
        self._group, self._means = best_grouping(), best_means()
        self._team = Team(min(num_threads, MOST_THREADS))
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

    @property
    def engine(self) -> str:
        """See `Host`."""
        return self._engine.name

    def prepare(self, points: FloatArray) -> VoxelArrays:
        """See `Host`."""
        return self._group(
            points,
            self._config.grid,
            max_points=self._config.voxels.max_points,
            max_voxels=self._config.voxels.max_voxels,
        )

    @products_in_calling_thread()
    def encode(self, voxels: VoxelArrays) -> tuple[FloatArray, IntArray]:
        """See `Host`; the features are those of `SparseTensor.to_map`."""
        sites, ranks = self._engine.sites.of_frame(voxels.cells, self._config.sparse_shape)
        levels = self._team.ahead(self._levels(sites))
        features = self._means(voxels, ranks)
        for level, (kernel, bias) in zip(levels, self._weights, strict=True):
            sites, rulebook = level
            features = self._engine.convolve_relu(features, kernel, bias, rulebook, self._team)
        return self._engine.stack_layers(features, sites)

    def _levels(self, sites: Sites) -> Iterator[tuple[Sites, Rulebook]]:
        """The sites behind each convolution, and what it reads."""
        for conv in self._convolutions:
            if conv.stride is None:
                yield sites, sites.submanifold
            else:
                sites, rulebook = sites.strided(conv.kernel, conv.stride, conv.padding)
                yield sites, rulebook

    def places(self, voxels: VoxelArrays) -> Places:
        """See `Host`; the value of a voxel is the number of its points."""
        return Places(voxels.means(3), voxels.num_points, voxels.owners)
