# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors that lay voxels out as a map and have anchors on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pointdistiller_core.config import (
    AnchorDetectorConfig,
    DetectionConfig,
    FpnNeckConfig,
    StackNeckConfig,
)
from pointdistiller_core.geometry.detection import box_limits
from pointdistiller_core.models.boxes.anchors import make_anchors
from pointdistiller_core.models.boxes.detection import decode_candidates, detect_boxes
from pointdistiller_core.models.boxes.losses import detection_losses
from pointdistiller_core.models.boxes.targets import (
    AnchorTargets,
    Labels,
    assign_shared_targets,
    assign_targets,
    ignore_anchors,
)
from pointdistiller_core.models.detector_model import BoxPredictions, DetectorModel
from pointdistiller_core.models.layer import Layer, Rows, map_layer
from pointdistiller_core.models.stages.anchor_head import AnchorHead, AnchorOutput
from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.models.stages.bev_backbone import BevBackbone, FpnNeck, StackNeck
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
        self.smooth_l1_beta = config.loss.smooth_l1_beta
        self.encoder = encoder
        backbone_channels = [config.scaled(channels) for channels in config.backbone.channels]
        self.backbone = BevBackbone(
            map_channels,
            layers=config.backbone.layers,
            strides=config.backbone.strides,
            channels=backbone_channels,
        )
        self.neck = build_neck(config, backbone_channels)
        self.head = AnchorHead(
            self.neck.out_channels,
            num_classes=len(config.class_names),
            anchors=[
                make_anchors(
                    config.grid,
                    config.anchor_configs,
                    stride=stride,
                    scale=scale,
                    centers=config.head.centers,
                )
                for stride, scale in zip(config.head_strides, config.head.scales, strict=True)
            ],
            velocities=config.head.velocities,
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
        targets = [self._assign(output.anchors, batch, frame) for frame in range(len(batch))]
        offset = self.config.head.direction_offset
        return detection_losses(output, targets, self.config.loss, direction_offset=offset)

    def _assign(self, anchors: Tensor, batch: Batch, frame: int) -> AnchorTargets:
        """The targets of one frame."""
        if frame in batch.unlabelled:
            return ignore_anchors(anchors)
        velocities = None if batch.velocities is None else batch.velocities[frame]
        truth = Labels(batch.boxes[frame], batch.labels[frame], velocities)
        kinds = self.config.anchor_configs
        if self.config.head.assignment == 'per_class':
            return assign_targets(anchors, truth, classes=kinds)
        num_classes = len(self.config.class_names)
        return assign_shared_targets(anchors, truth, config=kinds[0], num_classes=num_classes)

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
        shapes = self.config.head_shapes
        best = torch.stack(
            [
                F.interpolate(of_map.movedim(3, 1), size=shapes[0])
                for of_map in self._best_logits(output)
            ]
        ).amax(dim=0)
        shape = shapes[0]
        if rows.map_shape is not None and rows.map_shape < shape:
            shape = rows.map_shape
            best = F.adaptive_max_pool2d(best, shape)
        row, column = cells_at(rows.positions, self.config.grid, shape)
        confidences: Tensor = best.movedim(1, 3)[rows.frames, row, column].sigmoid()
        return confidences

    def _best_logits(self, output: AnchorOutput) -> list[Tensor]:
        """(B, H, W, K) best class logits of the cells of each map of the head."""
        parts = torch.split(output.class_logits.float(), list(self.head.sizes), dim=1)
        frames, classes = output.class_logits.shape[::2]
        return [
            part.reshape(frames, *shape, -1, classes).amax(dim=3)
            for part, shape in zip(parts, self.config.head_shapes, strict=True)
        ]

    def layers(self) -> Mapping[str, Layer]:
        """The encoder's, `backbone.0`, ..., `neck`; `backbone.0.norm`, ... before their ReLU."""
        grid, layers = self.config.grid, self.encoder_layers()
        strides = self.config.stage_strides
        for i, (stage, stride) in enumerate(zip(self.backbone.stages, strides, strict=True)):
            norm: Any = stage[-1][1]  # type: ignore[index]
            size = {'channels': norm.num_features, 'stride': stride}
            layers[f'backbone.{i}.norm'] = map_layer(norm, grid, **size, norm=norm)
            layers[f'backbone.{i}'] = map_layer(stage, grid, **size)
        return {**layers, **self._neck_layers()}

    def _neck_layers(self) -> dict[str, Layer]:
        """`neck`, the finest map; of a pyramid also `neck.1`, ..., which are coarser."""
        stack = isinstance(self.neck, StackNeck)
        modules = [*self.neck.outputs] if isinstance(self.neck, FpnNeck) else [self.neck]
        return {
            f'neck.{level}' if level else 'neck': map_layer(
                module,
                self.config.grid,
                channels=self.neck.out_channels,
                stride=stride,
                level=0 if stack else None,
            )
            for level, (module, stride) in enumerate(
                zip(modules, self.config.head_strides, strict=True)
            )
        }

    def fixed_work(self) -> Sequence[tuple[nn.Module, Tensor]]:
        """All that lies behind the map."""
        (nothing,) = (prepared for _, prepared in super().fixed_work())
        of_map = torch.empty_like(self.encode(nothing), device='meta')
        return [(nn.Sequential(self.backbone, self.neck, self.head), of_map)]

    @abstractmethod
    def encoder_layers(self) -> dict[str, Layer]:
        """By name, the layers before the map; in the order in which they run."""

    def places(self, voxels: Voxels, _output: AnchorOutput | None) -> list[Places]:
        """The voxels of each frame and their numbers of points (PointDistiller, section 3.1)."""
        return voxels.places()

    def input_facts(self) -> dict[str, Any]:
        """Grid, caps of the voxels, classes, sweeps and levelling."""
        names = (
            *('grid', 'class_names', 'voxels'),
            *('point_features', 'sweeps', 'max_sweep_age_s', 'levelled'),
        )
        return {name: getattr(self.config, name) for name in names}


def build_neck(config: AnchorDetectorConfig, in_channels: Sequence[int]) -> StackNeck | FpnNeck:
    """The neck of a configuration, for maps of the backbone with so many channels."""
    neck = config.neck
    if isinstance(neck, FpnNeckConfig):
        return FpnNeck(in_channels, channels=config.scaled(neck.channels))
    assert isinstance(neck, StackNeckConfig)
    channels = [config.scaled(each) for each in neck.channels]
    return StackNeck(in_channels, strides=neck.strides, channels=channels)
