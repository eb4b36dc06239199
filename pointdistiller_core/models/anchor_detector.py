# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors that lay voxels out as a map and have anchors on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from torch import Tensor, nn
import torch.nn.functional as F

from pointdistiller_core.config import AnchorDetectorConfig, DetectionConfig
from pointdistiller_core.geometry.detection import box_limits
from pointdistiller_core.models.boxes.anchors import make_anchors
from pointdistiller_core.models.boxes.detection import decode_candidates, detect_boxes
from pointdistiller_core.models.boxes.losses import detection_losses
from pointdistiller_core.models.boxes.targets import assign_targets, ignore_anchors
from pointdistiller_core.models.detector_model import BoxPredictions, DetectorModel
from pointdistiller_core.models.layer import Layer, Rows, map_layer
from pointdistiller_core.models.stages.anchor_head import AnchorHead, AnchorOutput
from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.models.stages.bev_backbone import BevBackbone, StackNeck
from pointdistiller_core.pointcloud.voxels import Voxels, cells_at, group_voxels
from pointdistiller_core.records import Batch, Places


class AnchorDetector(DetectorModel[Voxels, AnchorOutput]):
    """Everything behind the map: 2D backbone, neck, anchor head, targets, losses and boxes.

    A family adds `encode`.

    Args:
        config: of the detector.
        encoder: of the voxels, which `encode` runs.
        map_channels: of the map that `encode` gives.
    """

    config: AnchorDetectorConfig

    def __init__(
        self,
        config: AnchorDetectorConfig,
        encoder: nn.Module,
        *,
        map_channels: int,
    ) -> None:
        super().__init__(config)
        self.anchor_configs = tuple(config.head.anchors[name] for name in config.class_names)
        self.smooth_l1_beta = config.loss.smooth_l1_beta
        self.encoder = encoder
        backbone_channels = [config.scaled(channels) for channels in config.backbone.channels]
        neck_channels = [config.scaled(channels) for channels in config.neck.channels]
        self.backbone = BevBackbone(
            map_channels,
            layers=config.backbone.layers,
            strides=config.backbone.strides,
            channels=backbone_channels,
        )
        self.neck = StackNeck(
            backbone_channels, strides=config.neck.strides, channels=neck_channels
        )
        self.head = AnchorHead(
            self.neck.out_channels,
            num_classes=len(config.class_names),
            anchors=[make_anchors(config.grid, self.anchor_configs, stride=config.head_stride)],
        )
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm2d, BatchNormRows)):
                module.momentum = config.norm_momentum

    def prepare(self, points: Sequence[Tensor]) -> Voxels:
        """Voxels of B clouds (N, F) x, y, z [m] and further columns; fewer while training."""
        caps = self.config.voxels
        return group_voxels(
            points,
            self.config.grid,
            max_points=caps.max_points,
            max_voxels=caps.max_voxels_training if self.training else caps.max_voxels,
        )

    @abstractmethod
    def encode(self, voxels: Voxels) -> Tensor:
        """(B, C, H, W) map of the features of the voxels."""

    def forward(self, voxels: Voxels, _batch: Batch | None = None) -> AnchorOutput:
        """Raw outputs of all anchors; they do not depend on labels."""
        output: AnchorOutput = self.head(self.neck(self.backbone(self.encode(voxels))))
        return output

    def losses(self, output: AnchorOutput, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the detection loss; see `DetectorModel`."""
        targets = [
            ignore_anchors(output.anchors)
            if frame in batch.unlabelled
            else assign_targets(output.anchors, boxes, labels, classes=self.anchor_configs)
            for frame, (boxes, labels) in enumerate(zip(batch.boxes, batch.labels, strict=True))
        ]
        offset = self.config.head.direction_offset
        return detection_losses(output, targets, self.config.loss, direction_offset=offset)

    def candidates(self, output: AnchorOutput, detection: DetectionConfig) -> list[BoxPredictions]:
        """Boxes of each frame before suppression; their yaws may be half a turn off."""
        return decode_candidates(output, detection)

    def detect(
        self, output: AnchorOutput, detection: DetectionConfig | None = None
    ) -> list[BoxPredictions]:
        """Boxes of each frame after suppression; see `DetectorModel`."""
        detection = detection or self.config.detection
        return detect_boxes(
            output,
            detection,
            direction_offset=self.config.head.direction_offset,
            limits=box_limits(self.config, detection),
        )

    def confidences(self, output: AnchorOutput, rows: Rows) -> Tensor:
        """(R, K) the best score of each class among the anchors where the rows are.

        A row of a coarser map has the best of the head's cells in it.
        """
        height, width = shape = self.config.grid.strided_bev_shape(self.config.head_stride)
        logits = output.class_logits
        cells = logits.reshape(len(logits), height, width, -1, logits.shape[2])
        best = cells.amax(dim=3).float()
        if rows.map_shape is not None and rows.map_shape < shape:
            shape = rows.map_shape
            best = F.adaptive_max_pool2d(best.movedim(3, 1), shape).movedim(1, 3)
        row, column = cells_at(rows.positions, self.config.grid, shape)
        confidences: Tensor = best[rows.frames, row, column].sigmoid()
        return confidences

    def layers(self) -> Mapping[str, Layer]:
        """The encoder's, `backbone.0`, ..., `neck`; `backbone.0.norm`, ... before their ReLU."""
        grid, layers = self.config.grid, self.encoder_layers()
        strides = accumulate(self.config.backbone.strides, mul, initial=self.config.map_stride)
        next(strides)
        for i, (stage, stride) in enumerate(zip(self.backbone.stages, strides, strict=True)):
            norm: Any = stage[-1][1]  # type: ignore[index]
            size = {'channels': norm.num_features, 'stride': stride}
            layers[f'backbone.{i}.norm'] = map_layer(norm, grid, **size, norm=norm)
            layers[f'backbone.{i}'] = map_layer(stage, grid, **size)
        layers['neck'] = map_layer(
            self.neck,
            grid,
            channels=self.neck.out_channels,
            stride=self.config.head_stride,
            level=0,
        )
        return layers

    @abstractmethod
    def encoder_layers(self) -> dict[str, Layer]:
        """By name, the layers before the map; in the order in which they run."""

    def places(self, voxels: Voxels, _output: AnchorOutput | None) -> list[Places]:
        """The voxels of each frame and their numbers of points (PointDistiller, section 3.1)."""
        return voxels.places()

    def input_facts(self) -> dict[str, Any]:
        """Grid, caps of the voxels, classes and sweeps."""
        names = (
            *('grid', 'class_names', 'voxels'),
            *('point_features', 'sweeps', 'max_sweep_age_s'),
        )
        return {name: getattr(self.config, name) for name in names}
