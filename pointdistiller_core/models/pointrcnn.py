# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN (Shi et al., CVPR 2019): boxes from points, refined by the points inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Any

import torch
from torch import Tensor, nn

from pointdistiller_core.config import DetectionConfig, PointRcnnConfig
from pointdistiller_core.geometry.arrays import highest
from pointdistiller_core.geometry.detection import passes_threshold
from pointdistiller_core.geometry.transforms import wrap_angle
from pointdistiller_core.models.boxes.pointrcnn_losses import point_losses, proposal_losses
from pointdistiller_core.models.boxes.proposals import (
    Proposals,
    assign_points,
    decode_point_boxes,
    decode_refined,
    propose,
    sample_proposals,
)
from pointdistiller_core.models.detector_model import BoxPredictions, DetectorModel
from pointdistiller_core.models.layer import Layer, Rows, split_frames
from pointdistiller_core.models.stages.anchor_head import PRIOR
from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.models.stages.point_backbone import PointBackbone, head_layers
from pointdistiller_core.models.stages.refinement import (
    POINT_INPUTS,
    Refinement,
    pool_proposals,
)
from pointdistiller_core.pointcloud.sampled_points import SampledPoints, sample_points
from pointdistiller_core.records import Batch, Places

LOSSES = ('point_class', 'point_box', 'classification', 'box', 'corner')


@dataclass(frozen=True)
class PointRcnnOutput:
    """Raw outputs of both stages; D of the B frames have points.

    Attributes:
        points: what the network saw.
        features: (D, N, C) of the points.
        point_logits: (D, N, K).
        point_codes: (D, N, 8), see `encode_point_boxes`.
        proposals: of each of the D frames, R in all.
        logits: (R,) whether a proposal is an object.
        residuals: (R, 7) of its box, see `encode_refined`.
    """

    points: SampledPoints
    features: Tensor
    point_logits: Tensor
    point_codes: Tensor
    proposals: tuple[Proposals, ...]
    logits: Tensor
    residuals: Tensor

    def of_proposals(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values (R, ...) as those of each of the D frames."""
        return split_frames(values, tuple(map(len, self.proposals)))


class PointRcnn(DetectorModel[SampledPoints, PointRcnnOutput]):
    """The detector; its numbers agree with OpenPCDet's, so its checkpoints can be imported.

    It computes in float32 even under autocast: half precision would round metres to decimetres.
    """

    config: PointRcnnConfig

    def __init__(self, config: PointRcnnConfig) -> None:
        super().__init__(config)
        scaled, head = config.scaled, config.head
        self.smooth_l1_beta = config.loss.smooth_l1_beta
        self.num_classes = len(config.class_names)
        self.backbone = PointBackbone(config.backbone, scaled, config.point_columns)
        channels = self.backbone.channels
        self.classifier = head_layers(
            channels, list(map(scaled, head.class_channels)), self.num_classes
        )
        # Most points are background: the focal loss begins small, as in the heads with anchors.
        last: Any = self.classifier[-1]
        nn.init.constant_(last.linear.bias, -math.log((1 - PRIOR) / PRIOR))
        self.regressor = head_layers(channels, list(map(scaled, head.box_channels)), 8)
        self.refinement = Refinement(config.refinement, scaled, channels)
        for module in self.modules():
            if isinstance(module, BatchNormRows):
                module.momentum = config.norm_momentum

    def prepare(self, points: Sequence[Tensor]) -> SampledPoints:
        """Points of B clouds (N', F); the same for the same cloud, but drawn while training."""
        sample = self.config.sample
        return sample_points(
            points,
            sample.point_cloud_range,
            num_points=sample.num_points,
            far=sample.far,
            seed=None if self.training else 0,
        )

    def forward(self, points: SampledPoints, batch: Batch | None = None) -> PointRcnnOutput:
        """Raw outputs; with a batch, the second stage sees proposals drawn by its labels."""
        device = points.points.device
        with torch.autocast(device.type, enabled=False):
            features: Tensor = self.backbone(points.points.float())
            rows = features.flatten(0, 1)
            logits, codes = (
                head(rows).view(*features.shape[:2], width)
                for head, width in ((self.classifier, self.num_classes), (self.regressor, 8))
            )
            proposals = tuple(
                self._propose(points, place, logits[place], codes[place], batch)
                for place in range(len(points.frames))
            )
            found = self.refine(points, features, logits, [own.boxes for own in proposals])
        return PointRcnnOutput(points, features, logits, codes, proposals, *found)

    def refine(
        self,
        points: SampledPoints,
        features: Tensor,
        point_logits: Tensor,
        proposals: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The second stage on proposals (R, 7) of each of the D frames with points.

        Args:
            points: of the first stage.
            features: (D, N, C) of the points.
            point_logits: (D, N, K).
            proposals: boxes of each frame.

        Returns:
            (R,) logits and (R, 7) residuals of all proposals.
        """
        scores = point_logits.detach().amax(dim=2).sigmoid()
        pooled = [
            pool_proposals(
                *(cloud[:, :3], own_scores, own_features.detach(), boxes), self.config.refinement
            )
            for cloud, own_scores, own_features, boxes in zip(
                points.points, scores, features, proposals, strict=True
            )
        ]
        inputs = POINT_INPUTS + features.shape[2]
        none = features.new_zeros(0, self.config.refinement.pooled_points, inputs)
        with torch.autocast(features.device.type, enabled=False):
            logits, residuals = self.refinement(torch.cat([none, *pooled]))
        return logits, residuals

    def _mean_sizes(self, like: Tensor) -> Tensor:
        """(K, 3) dx, dy, dz [m] of the classes."""
        return like.new_tensor([self.config.usual_size(name) for name in self.config.class_names])

    def _propose(
        self,
        points: SampledPoints,
        place: int,
        logits: Tensor,
        codes: Tensor,
        batch: Batch | None,
    ) -> Proposals:
        """Proposals of one of the D frames."""
        config, frame = self.config.proposals, points.frames[place]
        sizes = self._mean_sizes(codes)[logits.argmax(dim=1)]
        boxes = decode_point_boxes(codes.detach(), points.points[place, :, :3], sizes)
        training = batch is not None
        proposals = propose(
            boxes,
            logits.detach(),
            max_candidates=config.max_candidates,
            iou_threshold=config.nms_iou_threshold_training
            if training
            else config.nms_iou_threshold,
            most=config.max_proposals_training if training else config.max_proposals,
        )
        if batch is None:
            return proposals
        return sample_proposals(
            *(proposals, batch.boxes[frame], batch.labels[frame], self.config.targets),
            generator=None if self.training else torch.Generator().manual_seed(0),
        )

    def losses(self, output: PointRcnnOutput, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the detection loss; see `DetectorModel`."""
        # They depend on all outputs even if there is nothing to learn.
        nothing = sum(
            (values[:0].sum() for values in (output.point_logits, output.point_codes)),
            output.logits[:0].sum() + output.residuals[:0].sum(),
        )
        terms = torch.stack(
            [
                torch.stack(self._frame_losses(output, place, batch))
                for place, frame in enumerate(output.points.frames)
                if frame not in batch.unlabelled
            ]
            or [output.logits.new_zeros(len(LOSSES))]
        )
        weights = terms.new_tensor([getattr(self.config.loss, name) for name in LOSSES])
        means = terms.sum(dim=0) / len(batch) * weights + nothing
        return dict(zip(LOSSES, means, strict=True))

    def _frame_losses(
        self, output: PointRcnnOutput, place: int, batch: Batch
    ) -> tuple[Tensor, ...]:
        frame, config = output.points.frames[place], self.config
        points = output.points.points[place, :, :3]
        targets = assign_points(
            *(points, batch.boxes[frame], batch.labels[frame]),
            num_classes=self.num_classes,
            margin=config.head.label_margin,
        )
        of_points = point_losses(
            *(output.point_logits[place], output.point_codes[place], points, targets),
            sizes=self._mean_sizes(points),
            config=config.loss,
        )
        proposals = output.proposals[place]
        assert proposals.targets is not None, 'forward was called without the labels'
        logits, residuals = (
            output.of_proposals(values)[place] for values in (output.logits, output.residuals)
        )
        return *of_points, *proposal_losses(
            logits, residuals, proposals.boxes, proposals.targets, config.loss
        )

    def candidates(
        self, output: PointRcnnOutput, detection: DetectionConfig
    ) -> list[BoxPredictions]:
        """Refined boxes of each frame before suppression, with gradients; all are finite."""
        zeros = output.residuals[:0]
        found = [BoxPredictions(zeros, zeros[:, 0], zeros[:, 0].long())] * output.points.batch_size
        parts = (output.of_proposals(values) for values in (output.logits, output.residuals))
        for place, (logits, residuals) in enumerate(zip(*parts, strict=True)):
            proposals = output.proposals[place]
            boxes = decode_refined(residuals, proposals.boxes)
            yaws = boxes[:, 6:]  # there is no gradient of wrapping
            wrapped = wrap_angle(yaws.detach()) + (yaws - yaws.detach())
            boxes = torch.cat([boxes[:, :6], wrapped], dim=1)
            scores = logits.sigmoid()
            possible = boxes.isfinite().all(dim=1)
            possible &= passes_threshold(scores, proposals.labels, detection)
            (kept,) = possible.nonzero(as_tuple=True)
            kept = kept[highest(scores[kept].detach(), detection.max_candidates)]
            found[output.points.frames[place]] = BoxPredictions(
                boxes[kept], scores[kept], proposals.labels[kept]
            )
        return found

    def layers(self) -> Mapping[str, Layer]:
        """`points`: the features of all points."""
        last: Any = self.backbone.propagation[0].layers
        size = self.config.sample.num_points
        return {
            'points': Layer(
                self.backbone, self.backbone.channels, size, _point_rows, last[-1].norm
            )
        }

    def places(self, points: SampledPoints, output: PointRcnnOutput | None) -> list[Places]:
        """The points of each frame and their largest features (PointDistiller, section 3.1)."""
        centers = points.points[..., :3].reshape(-1, 3)
        values = centers.new_zeros(len(centers))
        if output is not None:
            values = output.features.detach().flatten(0, 1).amax(dim=1)
        places, start = [], 0
        for size, owners in zip(points.sizes, points.owners, strict=True):
            own = slice(start, start + size)
            of_frame = torch.where(owners >= 0, owners - start, -1)
            columns = [each.cpu().numpy() for each in (centers[own], values[own], of_frame)]
            places.append(Places(columns[0], columns[1], columns[2]))
            start += size
        return places

    def confidences(self, output: PointRcnnOutput, _rows: Rows) -> Tensor:
        """(R, K) the first stage's scores: there are no other rows than those of points."""
        return output.point_logits.flatten(0, 1).sigmoid()

    def fixed_work(self) -> Sequence[tuple[nn.Module, Tensor]]:
        """Both stages, with as many points and proposals as they can have."""
        config, channels = self.config, self.backbone.channels
        size, pooled = config.sample.num_points, config.refinement.pooled_points
        shapes: list[tuple[nn.Module, tuple[int, ...]]] = [
            (self.backbone, (1, size, len(config.point_features))),
            (self.classifier, (size, channels)),
            (self.regressor, (size, channels)),
            (self.refinement, (config.proposals.max_proposals, pooled, POINT_INPUTS + channels)),
        ]
        return [(part, torch.empty(shape, device='meta')) for part, shape in shapes]

    def input_facts(self) -> dict[str, Any]:
        """How points are drawn, the classes, the sweeps and levelling."""
        names = (
            *('sample', 'class_names'),
            *('point_features', 'sweeps', 'max_sweep_age_s', 'levelled'),
        )
        return {name: getattr(self.config, name) for name in names}


def _point_rows(features: Tensor, points: SampledPoints) -> Rows:
    """A row per point, of features (D, N, C)."""
    return Rows(
        features.flatten(0, 1),
        points.sizes,
        points.points[..., :3].reshape(-1, 3),
        points.num_points.flatten(),
    )
