# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors with anchors on a map: their grid, their networks, their loss."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator

from pointdistiller_core.config.base import (
    MAX_CLASSES,
    MAX_MAP_VALUES,
    MAX_STAGES,
    Channels,
    Choice,
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


class NeckConfig(Choice):
    """From the maps of the backbone's stages to those of the head."""

    key: ClassVar[str] = 'kind'
    kind: str

    def map_strides(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """Cells of the grid per cell of each map of the head, by those of the stages.

        Raises:
            ValueError: it does not fit such a backbone.
        """
        raise NotImplementedError

    def map_channels(self, config: AnchorDetectorConfig) -> int:
        """Channels of each map of the head, after `width`."""
        raise NotImplementedError


class StackNeckConfig(NeckConfig):
    """Brings the maps of all stages to one resolution and stacks them: one map."""

    kind: Literal['stack'] = 'stack'
    strides: tuple[Stride, ...] = Field((1, 2, 4), description='by which each map is enlarged')
    channels: tuple[Channels, ...] = (128, 128, 128)

    def map_strides(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """See `NeckConfig`."""
        if not len(strides) == len(self.strides) == len(self.channels):
            raise ValueError(
                'layers, strides and channels of the backbone, strides and channels of the neck '
                'must all have the same number of stages'
            )
        levels = {level / up for level, up in zip(strides, self.strides, strict=True)}
        if len(levels) != 1 or not (level := levels.pop()).is_integer():
            raise ValueError(
                f"neck.strides {self.strides} do not bring the backbone's strides "
                f'{list(strides)} to one resolution'
            )
        return (int(level),)

    def map_channels(self, config: AnchorDetectorConfig) -> int:
        """See `NeckConfig`."""
        return sum(map(config.scaled, self.channels))


class FpnNeckConfig(NeckConfig):
    """A feature pyramid (Lin et al., CVPR 2017): a map for each stage, with what is coarser."""

    kind: Literal['fpn'] = 'fpn'
    channels: Channels = Field(256, description='of each map')

    def map_strides(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """See `NeckConfig`."""
        return strides

    def map_channels(self, config: AnchorDetectorConfig) -> int:
        """See `NeckConfig`."""
        return config.scaled(self.channels)


NeckConfig.choices = {'stack': StackNeckConfig, 'fpn': FpnNeckConfig}


class AnchorConfig(Config):
    """Anchors of one class or shape: one box per yaw at every cell of the head's maps."""

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
    """Anchor head, the same for all maps of the neck."""

    anchors: dict[str, AnchorConfig] = Field(
        default_factory=lambda: dict(KITTI_ANCHORS),
        description='by class, whose order is theirs; shared ones by any name, in this order',
    )
    assignment: Literal['per_class', 'shared'] = Field(
        'per_class',
        description='per_class: anchors match the labels of their own class; shared: those of '
        'every class (mmdetection3d for nuScenes)',
    )
    scales: tuple[Positive, ...] = Field(
        (1.0,), min_length=1, description='factor on the anchors of each map, finest first'
    )
    centers: Literal['corners', 'cells'] = Field(
        'corners',
        description='corners: the outermost anchors stand on the limits of the range (OpenPCDet); '
        'cells: anchors stand in the middle of their cells (mmdetection3d for nuScenes)',
    )
    velocities: bool = Field(False, description='whether boxes have a velocity along x and y')
    direction_offset: Coordinate = 0.78539  # not pi/4: as in OpenPCDet's checkpoints


class LossConfig(Config):
    """Weights of the detection loss (SECOND, section 3.5; PointPillars, section 2.3)."""

    classification: float = 1.0
    box: float = 2.0
    direction: float = 0.2
    velocity: float = Field(0.2, description='of detectors that give velocities')
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
    neck: SerializeAsAny[NeckConfig] = StackNeckConfig()
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
        stages = self.backbone
        if len({len(part) for part in (stages.layers, stages.strides, stages.channels)}) != 1:
            raise ValueError(
                'layers, strides and channels of the backbone, strides and channels of the neck '
                'must all have the same number of stages'
            )
        for stride in (self.stage_strides[-1], *self.head_strides):
            self.grid.strided_bev_shape(stride)
        return self

    @model_validator(mode='after')
    def _check_anchors(self) -> AnchorDetectorConfig:
        head = self.head
        if len(head.scales) != len(self.head_strides):
            raise ValueError(
                f'head.scales {list(head.scales)}: give one for each of the '
                f'{len(self.head_strides)} maps of the neck'
            )
        if head.assignment == 'shared':
            if len({(each.matched_iou, each.unmatched_iou) for each in head.anchors.values()}) > 1:
                raise ValueError(
                    'head.anchors: shared anchors have one matched_iou, unmatched_iou'
                )
        elif missing := [name for name in self.class_names if name not in head.anchors]:
            raise ValueError(
                f'head.anchors lacks classes {missing}; it has {sorted(head.anchors)}'
            )
        return self

    @model_validator(mode='after')
    def _check_size(self) -> AnchorDetectorConfig:
        """Check that no map is too large to be computed."""
        (rows, columns), stride = self.grid.bev_shape, self.head_strides[0]
        cells = rows * columns // stride**2
        box_values = 11 if self.head.velocities else 9
        sizes = {
            'the BEV map': rows * columns // self.map_stride**2 * self.scaled(self.map_channels),
            'the maps of the neck': cells * self.neck.map_channels(self),
            "the head's map": cells * self.anchors_per_cell * (len(self.class_names) + box_values),
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

    def usual_size(self, name: str) -> tuple[float, float, float] | None:
        """dx, dy, dz [m] of the anchors of a class; None if all classes share them."""
        return None if self.head.assignment == 'shared' else self.head.anchors[name].size

    @property
    def anchor_names(self) -> tuple[str, ...]:
        """Keys of the anchors that the head has, in its order."""
        shared = self.head.assignment == 'shared'
        return tuple(self.head.anchors) if shared else self.class_names

    @property
    def anchor_configs(self) -> tuple[AnchorConfig, ...]:
        """The anchors of each cell, in the order of `anchor_names`."""
        return tuple(self.head.anchors[name] for name in self.anchor_names)

    @property
    def anchors_per_cell(self) -> int:
        """Anchors at each cell of a map of the head."""
        return sum(len(anchor.yaws) for anchor in self.anchor_configs)

    @property
    def input_size(self) -> str:
        """Cells of the BEV grid."""
        return f'{self.grid.bev_shape[0]} x {self.grid.bev_shape[1]} cells'

    @property
    def encoder_channels(self) -> dict[str, tuple[int, ...]]:
        """By key, channels of what is in front of the map, before `width`."""
        raise NotImplementedError

    @property
    def encoder_facts(self) -> dict[str, tuple[int | str, ...]]:
        """By key, what else decides what is in front of the map."""
        return {}

    @property
    def map_stride(self) -> int:
        """Cells of the grid per cell of the map that the backbone sees, along each axis."""
        return 1

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Cells of the grid per cell of the map of each stage of the backbone."""
        strides = self.backbone.strides
        return tuple(accumulate((self.map_stride * strides[0], *strides[1:]), mul))

    @property
    def head_strides(self) -> tuple[int, ...]:
        """Cells of the grid per cell of each map of the head, along each axis, finest first."""
        return self.neck.map_strides(self.stage_strides)

    @property
    def head_shapes(self) -> tuple[tuple[int, int], ...]:
        """(H, W) of each map of the head, finest first."""
        return tuple(map(self.grid.strided_bev_shape, self.head_strides))
