# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A detector: its grid, its networks, its loss."""

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
from pointdistiller_core.grid import Grid


class PillarConfig(Config):
    """Caps of the voxelization; what is cut is counted, never dropped silently."""

    max_points_per_pillar: int = Field(32, ge=1, le=1024)
    max_pillars: int = Field(40000, ge=1, le=2**24, description='per frame, at inference')
    max_pillars_training: int = Field(
        16000, ge=1, le=2**24, description='per frame, while training'
    )


class AnchorConfig(Config):
    """Anchors of one class: one box per yaw at every cell of the head's map."""

    size: tuple[Length, Length, Length] = Field(description='dx, dy, dz [m]')
    bottom: Coordinate = Field(description='z of the lower face [m], LiDAR frame')
    # 1.57, not pi/2: OpenPCDet's value, checkpoints need it
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
    direction_offset: Coordinate = 0.78539  # not pi/4: OpenPCDet's value, checkpoints need it


class LossConfig(Config):
    """Weights of the detection loss (SECOND, section 3.5; PointPillars, section 2.3)."""

    classification: float = 1.0
    box: float = 2.0
    direction: float = 0.2
    focal_alpha: Probability = 0.25
    focal_gamma: float = 2.0
    smooth_l1_beta: Positive = 1 / 9


Size = tuple[Positive, Positive, Positive]


class DetectionConfig(Config):
    """From raw head outputs to boxes."""

    score_threshold: Probability = 0.1
    score_thresholds: tuple[Probability, ...] = Field(
        (), description='of each class, instead of score_threshold for all'
    )
    nms_iou_threshold: Probability = 0.01
    max_candidates: int = Field(
        4096, ge=1, le=2**14, description='boxes that enter NMS, per frame'
    )
    max_detections: int = Field(500, ge=1, le=2**14, description='boxes kept after NMS, per frame')
    class_wise_nms: bool = True
    size_bounds: tuple[tuple[Size, Size], ...] = Field(
        (),
        description='least and largest dx, dy, dz [m] of a box of each class; other boxes, and '
        'those further out of the range than an anchor reaches, are refused. A training learns '
        'them from its labels; without any, no box is refused',
    )

    @model_validator(mode='after')
    def _check_bounds(self) -> DetectionConfig:
        for least, largest in self.size_bounds:
            if any(low > high for low, high in zip(least, largest, strict=True)):
                raise ValueError(f'size_bounds {least}, {largest}: give the least size first')
        return self


class ModelConfig(Config):
    """A detector. `width` scales every channel count; a student is its teacher, narrower."""

    name: Literal['pointpillars'] = 'pointpillars'
    width: float = Field(1.0, gt=0.0, le=64.0, description='channel multiplier')
    class_names: tuple[str, ...] = Field(
        ('Car', 'Pedestrian', 'Cyclist'), min_length=1, max_length=MAX_CLASSES
    )
    grid: Grid = Grid(
        point_cloud_range=(0.0, -39.68, -3.0, 69.12, 39.68, 1.0), voxel_size=(0.16, 0.16, 4.0)
    )
    pillars: PillarConfig = PillarConfig()
    encoder_channels: Channels = 64
    backbone_layers: tuple[Annotated[int, Field(ge=0, le=64)], ...] = Field(
        (3, 5, 5), min_length=1, max_length=MAX_STAGES
    )
    backbone_strides: tuple[Stride, ...] = (2, 2, 2)
    backbone_channels: tuple[Channels, ...] = (64, 128, 256)
    neck_strides: tuple[Stride, ...] = (1, 2, 4)
    neck_channels: tuple[Channels, ...] = (128, 128, 128)
    norm_momentum: float = Field(
        0.01,
        gt=0.0,
        le=1.0,
        description='of the running statistics of batch norm; a run of a few hundred steps needs '
        'a larger one, or they lag behind its weights',
    )
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    detection: DetectionConfig = DetectionConfig()

    @model_validator(mode='after')
    def _check_consistency(self) -> ModelConfig:
        if missing := [name for name in self.class_names if name not in self.head.anchors]:
            raise ValueError(
                f'head.anchors lacks classes {missing}; it has {sorted(self.head.anchors)}'
            )
        self.check_detection(self.detection)
        lengths = {
            len(self.backbone_layers),
            len(self.backbone_strides),
            len(self.backbone_channels),
            len(self.neck_strides),
            len(self.neck_channels),
        }
        if len(lengths) != 1:
            raise ValueError('backbone_* and neck_* must all have the same number of stages')
        for channels in (self.encoder_channels, *self.backbone_channels, *self.neck_channels):
            scaled = round(channels * self.width)
            if not scaled or abs(channels * self.width - scaled) > 1e-6:
                raise ValueError(f'width {self.width} does not divide {channels} channels evenly')
        return self

    @model_validator(mode='after')
    def _check_strides(self) -> ModelConfig:
        strides = list(accumulate(self.backbone_strides, mul))
        self.grid.strided_bev_shape(strides[-1])
        levels = {level / up for level, up in zip(strides, self.neck_strides, strict=True)}
        if len(levels) != 1 or not levels.pop().is_integer():
            raise ValueError(
                f"neck_strides {self.neck_strides} do not bring the backbone's strides {strides} "
                'to one resolution'
            )
        return self

    @model_validator(mode='after')
    def _check_size(self) -> ModelConfig:
        """See that no map is so large that it could not be computed anyway."""
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f'class_names {list(self.class_names)} has a name twice')
        if self.grid.shape[2] != 1:
            raise ValueError(f'pillars need one cell along z, the grid has {self.grid.shape[2]}')
        kinds = sum(len(self.head.anchors[name].yaws) for name in self.class_names)
        (rows, columns), stride = self.grid.bev_shape, self.head_stride
        cells = rows * columns // stride**2
        sizes = {
            'the BEV map': rows * columns * self.scaled(self.encoder_channels),
            'the maps of the neck': cells * sum(map(self.scaled, self.neck_channels)),
            "the head's map": cells * kinds * (len(self.class_names) + 9),
        }
        for name, size in sizes.items():
            if size > MAX_MAP_VALUES:
                raise ValueError(
                    f'{name} has {size} values (grid of {rows} x {columns} cells), more than '
                    f'{MAX_MAP_VALUES}: choose a smaller range, larger cells or fewer channels'
                )
        return self

    def check_detection(self, detection: DetectionConfig) -> None:
        """See that thresholds and bounds of classes fit the classes.

        Raises:
            ValueError: their number is another one.
        """
        if len(detection.score_thresholds) not in {0, len(self.class_names)}:
            raise ValueError(
                f'{len(detection.score_thresholds)} score_thresholds for {len(self.class_names)} '
                f'classes: give one for each of {list(self.class_names)}, or none'
            )
        if len(detection.size_bounds) not in {0, len(self.class_names)}:
            raise ValueError(
                f'{len(detection.size_bounds)} size_bounds for {len(self.class_names)} classes: '
                f'give those of each of {list(self.class_names)}, or none'
            )

    @property
    def head_stride(self) -> int:
        """Cells of the grid per cell of the head's map, along each axis."""
        return self.backbone_strides[0] // self.neck_strides[0]

    def scaled(self, channels: int) -> int:
        """Channels after the width factor."""
        return round(channels * self.width)
