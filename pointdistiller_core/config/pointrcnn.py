# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN: a network on points that proposes boxes, and one that refines them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointdistiller_core.config.base import (
    MAX_CLASSES,
    MAX_STAGES,
    Channels,
    Config,
    Length,
    Positive,
    Probability,
)
from pointdistiller_core.config.detector import DetectionConfig, DetectorConfig, Size
from pointdistiller_core.grid import Range

MeanSizes = dict[str, tuple[Length, Length, Length]]
Layers = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=MAX_STAGES)]
Points = Annotated[int, Field(ge=1, le=2**20)]
Neighbors = Annotated[int, Field(ge=1, le=4096)]

KITTI_MEAN_SIZES: MeanSizes = {
    'Car': (3.9, 1.6, 1.56),
    'Pedestrian': (0.8, 0.6, 1.73),
    'Cyclist': (1.76, 0.6, 1.73),
}


class SampleConfig(Config):
    """The points that the network sees; their number is always the same."""

    point_cloud_range: Range = Field(
        (0.0, -40.0, -3.0, 70.4, 40.0, 1.0),
        description='x_min, y_min, z_min, x_max, y_max, z_max [m]; points beyond are not seen',
    )
    num_points: Points = Field(16384, description='per frame; of fewer, some are seen twice')
    far: Positive = Field(
        40.0, description='points from here on [m] are all kept if there are too many'
    )

    @model_validator(mode='after')
    def _check_range(self) -> SampleConfig:
        low, high = self.point_cloud_range[:3], self.point_cloud_range[3:]
        if any(least >= most for least, most in zip(low, high, strict=True)):
            raise ValueError(f'point_cloud_range {self.point_cloud_range}: give the least first')
        return self


class PointBackboneConfig(Config):
    """PointNet++: levels of ever fewer points, and the way back; channels before `width`.

    Each level is a set abstraction at several radii; level 1 takes its points from the frame.
    """

    num_points: tuple[Points, ...] = Field(
        (4096, 1024, 256, 64), min_length=1, max_length=MAX_STAGES, description='of each level'
    )
    radii: tuple[tuple[Positive, ...], ...] = Field(
        ((0.1, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0)), description='of each level [m]'
    )
    num_neighbors: tuple[tuple[Neighbors, ...], ...] = Field(
        ((16, 32), (16, 32), (16, 32), (16, 32)), description='most within each radius'
    )
    channels: tuple[tuple[Layers, ...], ...] = Field(
        (
            ((16, 16, 32), (32, 32, 64)),
            ((64, 64, 128), (64, 96, 128)),
            ((128, 196, 256), (128, 196, 256)),
            ((256, 256, 512), (256, 384, 512)),
        ),
        description='of the layers at each radius',
    )
    propagation: tuple[Layers, ...] = Field(
        ((128, 128), (256, 256), (512, 512), (512, 512)),
        description='of the layers on the way back, finest level first',
    )

    @model_validator(mode='after')
    def _check_levels(self) -> PointBackboneConfig:
        parts = (self.num_points, self.radii, self.num_neighbors, self.channels, self.propagation)
        if len({len(part) for part in parts}) != 1:
            raise ValueError(
                'num_points, radii, num_neighbors, channels and propagation of the backbone must '
                'all have the same number of levels'
            )
        scales = zip(self.radii, self.num_neighbors, self.channels, strict=True)
        if any(len({len(part) for part in level}) != 1 or not level[0] for level in scales):
            raise ValueError(
                'radii, num_neighbors and channels of a level of the backbone must have the same '
                'number of radii, and at least one'
            )
        return self


class PointHeadConfig(Config):
    """First stage: classes and boxes of all points; channels before `width`."""

    class_channels: Layers = (256, 256)
    box_channels: Layers = (256, 256)
    mean_sizes: MeanSizes = Field(
        default_factory=lambda: dict(KITTI_MEAN_SIZES),
        description='dx, dy, dz [m] of a usual object of each class',
    )
    label_margin: float = Field(
        0.2,
        ge=0.0,
        description='points that are this much outside of a box, both sides together, are ignored '
        '[m]',
    )


class ProposalConfig(Config):
    """From the boxes of the points to a few proposals."""

    max_candidates: int = Field(9000, ge=1, le=2**20, description='boxes that enter NMS')
    nms_iou_threshold: Probability = 0.85
    max_proposals: int = Field(100, ge=1, le=2**14)
    nms_iou_threshold_training: Probability = 0.8
    max_proposals_training: int = Field(512, ge=1, le=2**14)


class RefinementConfig(Config):
    """Second stage: the points inside a proposal, in its own frame; channels before `width`."""

    pooled_points: Points = Field(512, description='of a proposal')
    depth_scale: Positive = Field(70.0, description='distance [m] that counts as 1')
    point_channels: Layers = Field((128, 128), description='of position, score and depth')
    num_points: tuple[Points, ...] = Field((128, 32), description='of each level but the last')
    radii: tuple[Positive, ...] = Field((0.2, 0.4), description='of each level but the last [m]')
    num_neighbors: tuple[Neighbors, ...] = (16, 16)
    channels: tuple[Layers, ...] = Field(
        ((128, 128, 128), (128, 128, 256), (256, 256, 512)),
        description='of each level; the last one is of all points that are left',
    )
    class_channels: Layers = (256, 256)
    box_channels: Layers = (256, 256)

    @model_validator(mode='after')
    def _check_levels(self) -> RefinementConfig:
        parts = (self.num_points, self.radii, self.num_neighbors, self.channels[:-1])
        if len({len(part) for part in parts}) != 1 or not self.channels:
            raise ValueError(
                'num_points, radii and num_neighbors of the refinement must have one level less '
                'than its channels'
            )
        return self


class ProposalTargetConfig(Config):
    """Which proposals train the second stage, and what for; overlaps are in 3D."""

    num_proposals: int = Field(128, ge=1, le=2**14, description='of a frame')
    foreground_share: Probability = Field(0.5, description='at most')
    easy_iou: Probability = Field(0.1, description='below which the background is easy')
    hard_share: Probability = Field(0.8, description='of the background')
    class_iou: tuple[Probability, Probability] = Field(
        (0.45, 0.6),
        description='up to the first: no object; above the second: an object; between: ignored',
    )
    box_iou: Probability = Field(
        0.55,
        description='above which boxes are learned; from here on, or from where it is an '
        'object, a proposal is foreground',
    )


class PointRcnnLossConfig(Config):
    """Weights of the detection loss."""

    point_class: float = 1.0
    point_box: float = 1.0
    classification: float = 1.0
    box: float = 1.0
    corner: float = 1.0
    focal_alpha: Probability = 0.25
    focal_gamma: float = 2.0
    smooth_l1_beta: Positive = 1 / 9


class PointRcnnConfig(DetectorConfig):
    """PointRCNN (Shi et al., CVPR 2019) as in OpenPCDet, whose values for KITTI these are."""

    name: Literal['pointrcnn'] = 'pointrcnn'
    class_names: tuple[str, ...] = Field(
        tuple(KITTI_MEAN_SIZES), min_length=1, max_length=MAX_CLASSES
    )
    sample: SampleConfig = SampleConfig()
    backbone: PointBackboneConfig = PointBackboneConfig()
    head: PointHeadConfig = PointHeadConfig()
    proposals: ProposalConfig = ProposalConfig()
    refinement: RefinementConfig = RefinementConfig()
    targets: ProposalTargetConfig = ProposalTargetConfig()
    loss: PointRcnnLossConfig = PointRcnnLossConfig()
    norm_momentum: float = Field(
        0.1, gt=0.0, le=1.0, description='of the running statistics of batch norm'
    )
    detection: DetectionConfig = DetectionConfig(nms_iou_threshold=0.1, class_wise_nms=False)

    @model_validator(mode='after')
    def _check_head(self) -> PointRcnnConfig:
        if missing := [name for name in self.class_names if name not in self.head.mean_sizes]:
            raise ValueError(
                f'head.mean_sizes lacks classes {missing}; it has {sorted(self.head.mean_sizes)}'
            )
        levels = (self.sample.num_points, *self.backbone.num_points)
        pooled = (self.refinement.pooled_points, *self.refinement.num_points)
        for numbers in (levels, pooled):
            if any(fewer > more for more, fewer in pairwise(numbers)):
                raise ValueError(
                    f'{list(numbers)} points: a level cannot have more than the one before'
                )
        return self

    @property
    def point_cloud_range(self) -> Range:
        """x_min, y_min, z_min, x_max, y_max, z_max [m], LiDAR frame."""
        return self.sample.point_cloud_range

    @property
    def taught_layer(self) -> str:
        """The features of all points: the last of the way back."""
        return 'points'

    @property
    def taught_by(self) -> dict[str, str]:
        """Importance and weights of points follow from features: every point is one point."""
        return {'importance': 'channel_max', 'reweight': 'graph'}

    @property
    def input_size(self) -> str:
        """Points of a frame."""
        return f'{self.sample.num_points} points'

    def usual_size(self, name: str) -> Size:
        """dx, dy, dz [m] of the mean object of a class."""
        return self.head.mean_sizes[name]

    @property
    def point_columns(self) -> int:
        """Columns of a point besides x, y, z."""
        return len(self.point_features) - 3
