# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors with anchors on a map: their grid, their networks, their loss."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointdistiller_core.config.base import (
    MAX_CLASSES,
    MAX_MAP_VALUES,
    MAX_STAGES,
    Channels,
    Config,
    Coordinate,
    Length,
    Positive,
    Probability,
    Stride,
)
from pointdistiller_core.config.detector import DetectorConfig
from pointdistiller_core.grid import Grid, Range


class VoxelConfig(Config):
    """Caps of the voxelization; what they cut off is counted."""

    max_points: int = Field(32, ge=1, le=1024, description='per voxel')
    max_voxels: int = Field(40000, ge=1, le=2**24, description='per frame, at inference')
    max_voxels_training: int = Field(
        16000, ge=1, le=2**24, description='per frame, while training'
    )


class BackboneConfig(Config):
    """Stages of 2D convolutions, each coarser than the one before; channels before `width`."""

    layers: tuple[Annotated[int, Field(ge=0, le=64)], ...] = Field(
        (3, 5, 5), min_length=1, max_length=MAX_STAGES
    )
    strides: tuple[Stride, ...] = (2, 2, 2)
    channels: tuple[Channels, ...] = (64, 128, 256)


class StackNeckConfig(Config):
    """Brings the maps of all stages to one resolution and stacks them: one map."""

    kind: Literal['stack'] = 'stack'
    strides: tuple[Stride, ...] = Field((1, 2, 4), description='by which each map is enlarged')
    channels: tuple[Channels, ...] = (128, 128, 128)


class AnchorConfig(Config):
    """Anchors of one class: one box per yaw at every cell of the head's map."""

    size: tuple[Length, Length, Length] = Field(description='dx, dy, dz [m]')
    bottom: Coordinate = Field(description='z of the lower face [m], LiDAR frame')
    # 1.57, not pi/2: as in OpenPCDet's checkpoints
    yaws: tuple[Coordinate, ...] = Field((0.0, 1.57), min_length=1, max_length=64)
    matched_iou: Probability = Field(description='BEV IoU from which an anchor is positive')
    unmatched_iou: Probability = Field(description='BEV IoU below which an anchor is negative')


KITTI_ANCHORS = {
    'Car': AnchorConfig(size=(3.9, 1.6, 1.56), bottom=-1.78, matched_iou=0.6, unmatched_iou=0.45),
    'Pedestrian': AnchorConfig(
        size=(0.8, 0.6, 1.73), bottom=-0.6, matched_iou=0.5, unmatched_iou=0.35
    ),
    'Cyclist': AnchorConfig(
        size=(1.76, 0.6, 1.73), bottom=-0.6, matched_iou=0.5, unmatched_iou=0.35
    ),
}


class HeadConfig(Config):
    """Anchor head; the anchors' order is the order of the classes."""

    anchors: dict[str, AnchorConfig] = Field(default_factory=lambda: dict(KITTI_ANCHORS))
    direction_offset: Coordinate = 0.78539  # not pi/4: as in OpenPCDet's checkpoints


class LossConfig(Config):
    """Weights of the detection loss (SECOND, section 3.5; PointPillars, section 2.3)."""

    classification: float = 1.0
    box: float = 2.0
    direction: float = 0.2
    focal_alpha: Probability = 0.25
    focal_gamma: float = 2.0
    smooth_l1_beta: Positive = 1 / 9


class AnchorDetectorConfig(DetectorConfig):
    """Base of detectors with anchors on a map; the defaults are as published for KITTI."""

    class_names: tuple[str, ...] = Field(
        tuple(KITTI_ANCHORS), min_length=1, max_length=MAX_CLASSES
    )
    grid: Grid = Grid(
        point_cloud_range=(0.0, -39.68, -3.0, 69.12, 39.68, 1.0), voxel_size=(0.16, 0.16, 4.0)
    )
    voxels: VoxelConfig = VoxelConfig()
    backbone: BackboneConfig = BackboneConfig()
    neck: StackNeckConfig = StackNeckConfig()
    norm_momentum: float = Field(
        0.01,
        gt=0.0,
        le=1.0,
        description='of the running statistics of batch norm; a run of a few hundred steps needs '
        'a larger one, or they lag behind its weights',
    )
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode='after')
    def _check_stages(self) -> AnchorDetectorConfig:
        if missing := [name for name in self.class_names if name not in self.head.anchors]:
            raise ValueError(
                f'head.anchors lacks classes {missing}; it has {sorted(self.head.anchors)}'
            )
        stages, neck = self.backbone, self.neck
        parts = (stages.layers, stages.strides, stages.channels, neck.strides, neck.channels)
        if len({len(part) for part in parts}) != 1:
            raise ValueError(
                'layers, strides and channels of the backbone, strides and channels of the neck '
                'must all have the same number of stages'
            )
        strides = list(accumulate((self.map_stride * stages.strides[0], *stages.strides[1:]), mul))
        self.grid.strided_bev_shape(strides[-1])
        levels = {level / up for level, up in zip(strides, neck.strides, strict=True)}
        if len(levels) != 1 or not levels.pop().is_integer():
            raise ValueError(
                f"neck.strides {neck.strides} do not bring the backbone's strides {strides} "
                'to one resolution'
            )
        return self

    @model_validator(mode='after')
    def _check_size(self) -> AnchorDetectorConfig:
        """Check that no map is too large to be computed."""
        kinds = sum(len(self.head.anchors[name].yaws) for name in self.class_names)
        (rows, columns), stride = self.grid.bev_shape, self.head_stride
        cells = rows * columns // stride**2
        sizes = {
            'the BEV map': rows * columns // self.map_stride**2 * self.scaled(self.map_channels),
            'the maps of the neck': cells * sum(map(self.scaled, self.neck.channels)),
            "the head's map": cells * kinds * (len(self.class_names) + 9),
        }
        for name, size in sizes.items():
            if size > MAX_MAP_VALUES:
                raise ValueError(
                    f'{name} has {size} values (grid of {rows} x {columns} cells), more than '
                    f'{MAX_MAP_VALUES}: choose a smaller range, larger cells or fewer channels'
                )
        return self

    @property
    def map_channels(self) -> int:
        """Channels of the map that the backbone sees, before `width`."""
        raise NotImplementedError

    @property
    def point_cloud_range(self) -> Range:
        """x_min, y_min, z_min, x_max, y_max, z_max [m], LiDAR frame."""
        return self.grid.point_cloud_range

    def usual_size(self, name: str) -> tuple[float, float, float]:
        """dx, dy, dz [m] of the anchors of a class."""
        return self.head.anchors[name].size

    @property
    def encoder_channels(self) -> dict[str, tuple[int, ...]]:
        """By key, channels of what is in front of the map, before `width`."""
        raise NotImplementedError

    @property
    def encoder_facts(self) -> dict[str, tuple[int, ...]]:
        """By key, what else decides what is in front of the map."""
        return {}

    @property
    def map_stride(self) -> int:
        """Cells of the grid per cell of the map that the backbone sees, along each axis."""
        return 1

    @property
    def head_stride(self) -> int:
        """Cells of the grid per cell of the head's map, along each axis."""
        return self.map_stride * self.backbone.strides[0] // self.neck.strides[0]
