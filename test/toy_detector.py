# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A detector that shares nothing with PointPillars but voxels: what a further family has to write.

Every voxel says whether an object is above it, of which class, and what box is around its points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pointdistiller_core.config import DetectionConfig, DetectorConfig
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.grid import Grid
from pointdistiller_core.models import BoxPredictions, DetectorModel
from pointdistiller_core.models.layer import Layer, voxel_layer
from pointdistiller_core.pointcloud.voxels import Voxels, group_voxels
from pointdistiller_core.records import Batch, Places


class ToyConfig(DetectorConfig):
    """The toy's configuration."""

    name: Literal['toy'] = 'toy'
    class_names: tuple[str, ...] = ('Car',)
    grid: Grid = Grid(point_cloud_range=(0, -12.8, -3, 25.6, 12.8, 1), voxel_size=(1.6, 1.6, 1))
    channels: int = 16

    @property
    def point_cloud_range(self) -> tuple[float, float, float, float, float, float]:
        """Of its grid."""
        return self.grid.point_cloud_range


@dataclass(frozen=True)
class ToyOutput:
    """Of the voxels of B frames: class logits (P, K), boxes (P, 7) and sizes of the frames."""

    logits: Tensor
    boxes: Tensor
    sizes: list[int]


class ToyDetector(DetectorModel[Voxels, ToyOutput]):
    """One hidden layer on the mean of a voxel's points."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        channels, self.num_classes = config.scaled(config.channels), len(config.class_names)
        self.features = nn.Sequential(nn.Linear(4, channels), nn.ReLU())
        self.head = nn.Linear(channels, self.num_classes + 7)

    def prepare(self, points: Sequence[Tensor]) -> Voxels:
        return group_voxels(points, self.config.grid, max_points=8, max_voxels=2000)

    def forward(self, voxels: Voxels, _batch: Batch | None = None) -> ToyOutput:
        means = voxels.points.sum(dim=1) / voxels.num_points[:, None]
        logits, moves = self.head(self.features(means)).split([self.num_classes, 7], dim=1)
        sizes = moves[:, 3:6].clamp(-3, 3).exp()
        boxes = torch.cat([means[:, :3] + moves[:, :3], sizes, moves[:, 6:]], dim=1)
        return ToyOutput(logits, boxes, voxels.sizes)

    def losses(self, output: ToyOutput, batch: Batch) -> dict[str, Tensor]:
        logits, boxes = (values.split(output.sizes) for values in (output.logits, output.boxes))
        frames = zip(logits, boxes, batch.boxes, batch.labels, strict=True)
        terms = torch.stack(
            [
                self._frame_losses(*frame) * (place not in batch.unlabelled)
                for place, frame in enumerate(frames)
            ]
        )
        return dict(zip(('classification', 'box'), terms.mean(dim=0), strict=True))

    def _frame_losses(
        self, logits: Tensor, found: Tensor, boxes: Tensor, labels: Tensor
    ) -> Tensor:
        inside = points_in_boxes(found[:, :3].detach(), boxes) & (labels >= 0)
        voxels, objects = inside.nonzero(as_tuple=True)
        targets = torch.zeros_like(logits)
        targets[voxels, labels[objects]] = 1
        scores = F.binary_cross_entropy_with_logits(logits, targets, reduction='sum')
        error = F.smooth_l1_loss(found[voxels], boxes[objects], reduction='sum')
        return torch.stack([scores, error]) / max(1, len(voxels))

    def candidates(self, output: ToyOutput, detection: DetectionConfig) -> list[BoxPredictions]:
        found = []
        logits, boxes = (values.split(output.sizes) for values in (output.logits, output.boxes))
        for of_frame, around in zip(logits, boxes, strict=True):
            scores, labels = of_frame.sigmoid().max(dim=1)
            order = scores.argsort(descending=True)
            kept = order[scores[order] >= detection.score_threshold][: detection.max_candidates]
            found.append(BoxPredictions(around[kept], scores[kept], labels[kept]))
        return found

    def layers(self) -> Mapping[str, Layer]:
        channels = self.head.in_features
        grid = self.config.grid
        return {'voxels': voxel_layer(self.features, grid, channels=channels, max_voxels=2000)}

    def places(self, voxels: Voxels, _output: ToyOutput | None) -> list[Places]:
        return voxels.places()

    def input_facts(self) -> dict[str, Any]:
        return {name: getattr(self.config, name) for name in ('grid', 'class_names')}
