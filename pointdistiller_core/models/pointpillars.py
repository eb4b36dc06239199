# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointPillars (Lang et al., CVPR 2019): pillars, a 2D backbone and an anchor head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
from pointdistiller_core.geometry.detection import box_limits
from pointdistiller_core.models.boxes.anchors import make_anchors
from pointdistiller_core.models.boxes.detection import BoxPredictions, detect_boxes
from pointdistiller_core.models.boxes.losses import detection_losses
from pointdistiller_core.models.boxes.targets import assign_targets
from pointdistiller_core.models.stages.anchor_head import AnchorHead, HeadOutput
from pointdistiller_core.models.stages.bev_backbone import BevBackbone, BevNeck
from pointdistiller_core.models.stages.pillar_encoder import (
    PillarEncoder,
    SparseBatchNorm,
    scatter_to_bev,
)
from pointdistiller_core.pointcloud.voxels import Voxels, group_voxels
from pointdistiller_core.records import Batch, Places


def count_weights(config: PointPillarsConfig) -> int:
    """Weights of the convolutions, nearly all that there are, without making them."""
    first = config.scaled(config.encoder.channels)
    stages = [config.scaled(channels) for channels in config.backbone.channels]
    neck = [config.scaled(channels) for channels in config.neck.channels]
    backbone = sum(
        9 * out * (inputs + layers * out)
        for inputs, out, layers in zip(
            [first, *stages], stages, config.backbone.layers, strict=False
        )
    )
    upsamplers = sum(
        inputs * out * stride**2
        for inputs, out, stride in zip(stages, neck, config.neck.strides, strict=True)
    )
    kinds = sum(len(config.head.anchors[name].yaws) for name in config.class_names)
    return backbone + upsamplers + sum(neck) * kinds * (len(config.class_names) + 9)


class PointPillars(nn.Module):
    """The detector; its numbers agree with OpenPCDet's, so that its checkpoints can be imported.

    `group` and `detect` are the ends of the walk that have no weights: points to pillars, raw
    outputs to boxes.
    """

    def __init__(self, config: PointPillarsConfig) -> None:
        super().__init__()
        self.config = config
        self.anchor_configs = tuple(config.head.anchors[name] for name in config.class_names)
        encoder_channels = config.scaled(config.encoder.channels)
        backbone_channels = [config.scaled(channels) for channels in config.backbone.channels]
        neck_channels = [config.scaled(channels) for channels in config.neck.channels]
        self.encoder = PillarEncoder(encoder_channels, config.grid)
        self.backbone = BevBackbone(
            encoder_channels,
            layers=config.backbone.layers,
            strides=config.backbone.strides,
            channels=backbone_channels,
        )
        self.neck = BevNeck(backbone_channels, strides=config.neck.strides, channels=neck_channels)
        self.head = AnchorHead(
            sum(neck_channels),
            num_classes=len(config.class_names),
            anchors=make_anchors(config.grid, self.anchor_configs, stride=config.head_stride),
        )
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm2d, SparseBatchNorm)):
                module.momentum = config.norm_momentum

    def group(self, points: Sequence[Tensor]) -> Voxels:
        """Pillars of B clouds (N, 4) x, y, z [m], intensity; fewer of them while training."""
        caps = self.config.voxels
        return group_voxels(
            points,
            self.config.grid,
            max_points=caps.max_points,
            max_voxels=caps.max_voxels_training if self.training else caps.max_voxels,
        )

    def prepare(self, points: Sequence[Tensor]) -> Voxels:
        """The same, as every detector calls it."""
        return self.group(points)

    def encode(self, pillars: Voxels) -> Tensor:
        """(B, C, H, W) features of the pillars on their map."""
        return scatter_to_bev(
            self.encoder(pillars),
            pillars.coords,
            batch_size=pillars.batch_size,
            bev_shape=self.config.grid.bev_shape,
        )

    def forward(self, pillars: Voxels) -> HeadOutput:
        """Raw outputs of all anchors."""
        output: HeadOutput = self.head(self.neck(self.backbone(self.encode(pillars))))
        return output

    def places(self, pillars: Voxels, output: HeadOutput | None) -> list[Places]:  # noqa: ARG002
        """Of one frame: the means of its pillars' points, and their numbers."""
        centers = pillars.points[..., :3].sum(dim=1) / pillars.num_points[:, None]
        tensors = (centers, pillars.num_points, *pillars.owners)
        return [Places(*(tensor.cpu().numpy() for tensor in tensors))]

    def losses(self, output: HeadOutput, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the detection loss; their sum is to be minimized."""
        targets = [
            assign_targets(output.anchors, boxes, labels, classes=self.anchor_configs)
            for boxes, labels in zip(batch.boxes, batch.labels, strict=True)
        ]
        offset = self.config.head.direction_offset
        return detection_losses(output, targets, self.config.loss, direction_offset=offset)

    def detect(
        self, output: HeadOutput, detection: DetectionConfig | None = None
    ) -> list[BoxPredictions]:
        """Boxes of each frame after non-maximum suppression.

        Args:
            output: of the frames.
            detection: thresholds, caps and bounds; None is the configuration's.
        """
        detection = detection or self.config.detection
        return detect_boxes(
            output,
            detection,
            direction_offset=self.config.head.direction_offset,
            limits=box_limits(self.config, detection),
        )
