# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND: voxels, a sparse 3D backbone, and an anchor detector behind it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from pointdistiller_core.config.anchor_detector import (
    AnchorDetectorConfig,
    BackboneConfig,
    NeckConfig,
    StackNeckConfig,
    VoxelConfig,
)
from pointdistiller_core.config.base import MAX_STAGES, Channels, Config
from pointdistiller_core.grid import Grid

MAX_LAYERS = 61  # of the grid; sparse convolution adds one and keeps layers as bits of a number


class SparseBackboneConfig(Config):
    """Sparse 3D convolutions; the first stage keeps the resolution, each further one halves it."""

    channels: tuple[Channels, ...] = Field(
        (16, 32, 64, 64), min_length=1, max_length=MAX_STAGES, description='before `width`'
    )
    layers: tuple[Annotated[int, Field(ge=0, le=64)], ...] = Field(
        (2, 2, 2, 2), description='submanifold convolutions of each stage; 0 everywhere is `lite`'
    )
    out_channels: Channels = Field(128, description='of the last one, along the height')


class SecondConfig(AnchorDetectorConfig):
    """SECOND (Yan et al., Sensors 2018); the defaults are as published for KITTI."""

    name: Literal['second'] = 'second'
    grid: Grid = Grid(
        point_cloud_range=(0.0, -40.0, -3.0, 70.4, 40.0, 1.0), voxel_size=(0.05, 0.05, 0.1)
    )
    voxels: VoxelConfig = VoxelConfig(max_points=5)
    middle: SparseBackboneConfig = SparseBackboneConfig()
    backbone: BackboneConfig = BackboneConfig(layers=(5, 5), strides=(1, 2), channels=(128, 256))
    neck: SerializeAsAny[NeckConfig] = StackNeckConfig(strides=(1, 2), channels=(256, 256))

    @model_validator(mode='after')
    def _check_middle(self) -> SecondConfig:
        if len(self.middle.layers) != len(self.middle.channels):
            raise ValueError(
                f'middle.layers {self.middle.layers} and middle.channels {self.middle.channels} '
                'must have the same number of stages'
            )
        layers = self.grid.shape[2]
        if layers > MAX_LAYERS:
            raise ValueError(
                f'the grid has {layers} cells along z; the sparse backbone takes {MAX_LAYERS}: '
                'choose higher cells or a smaller range'
            )
        if self.map_layers < 1:
            raise ValueError(
                f'{layers} cells along z are too few for {len(self.middle.channels)} stages of '
                'the sparse backbone: choose lower cells or fewer stages'
            )
        return self

    @property
    def encoder_channels(self) -> dict[str, tuple[int, ...]]:
        """By key, channels of the sparse backbone, before `width`."""
        return {
            'middle.channels': self.middle.channels,
            'middle.out_channels': (self.middle.out_channels,),
        }

    @property
    def encoder_facts(self) -> dict[str, tuple[int | str, ...]]:
        """By key, layers of the sparse backbone."""
        return {'middle.layers': self.middle.layers}

    @property
    def taught_layer(self) -> str:
        """The last of the sparse middle: there are no weights before the voxels."""
        return f'middle.{len(self.middle.channels)}'

    @property
    def sparse_shape(self) -> tuple[int, int, int]:
        """Layers, rows and columns; one layer more than the grid, as in OpenPCDet."""
        columns, rows, layers = self.grid.shape
        return layers + 1, rows, columns

    @property
    def map_stride(self) -> int:
        """Cells of the grid per cell of the backbone's map."""
        return int(2 ** (len(self.middle.channels) - 1))

    @property
    def map_layers(self) -> int:
        """Layers left of the height, as further channels of the map."""
        depth = self.sparse_shape[0]
        stages = len(self.middle.channels)
        for number in range(1, stages):
            depth = (depth - (3 if number == stages - 1 else 1)) // 2 + 1
        return (depth - 3) // 2 + 1

    @property
    def map_channels(self) -> int:
        """Channels of the map that the backbone sees, before `width`."""
        return self.middle.out_channels * max(self.map_layers, 1)
