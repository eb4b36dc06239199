# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From raw head outputs to boxes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.geometry.nms import class_wise_nms, rotated_nms
from pointdistiller_core.models.anchor_head import HeadOutput
from pointdistiller_core.models.box_coding import decode_boxes, resolve_headings


@dataclass(frozen=True)
class BoxPredictions:
    """Boxes of one frame, by descending score.

    Attributes:
        boxes: (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 index into the class names.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: Tensor) -> BoxPredictions:
        return BoxPredictions(self.boxes[keep], self.scores[keep], self.labels[keep])


def detect_boxes(
    output: HeadOutput, config: DetectionConfig, *, direction_offset: float
) -> list[BoxPredictions]:
    """Threshold, decode and suppress the boxes of each frame.

    The score of an anchor is that of its best class, which is also its label.

    Args:
        output: of B frames.
        config: thresholds and caps.
        direction_offset: where the first direction bin begins [rad].
    """
    return [
        _suppress(_candidates(output, frame, config, direction_offset), config)
        for frame in range(len(output.class_logits))
    ]


def _candidates(
    output: HeadOutput, frame: int, config: DetectionConfig, offset: float
) -> BoxPredictions:
    """The best anchors above the threshold, decoded, by descending score."""
    logits = output.class_logits[frame].float()
    scores, best = best_anchors(logits, config)
    boxes = decode_boxes(output.box_residuals[frame, best].float(), output.anchors[best])
    bins = output.direction_logits[frame, best].argmax(dim=1)
    boxes[:, 6] = resolve_headings(boxes[:, 6], bins, offset)
    # A network that has gone wrong may ask for a size beyond float32: that is no box.
    finite = boxes.isfinite().all(dim=1)
    return BoxPredictions(boxes, scores, logits[best].argmax(dim=1))[finite]


def best_anchors(logits: Tensor, config: DetectionConfig) -> tuple[Tensor, Tensor]:
    """Scores above the threshold and their anchors, by descending score.

    Args:
        logits: (num_anchors, K) of one frame.
        config: threshold of the score, and how many at most.

    Returns:
        (N,) scores of the best class, and (N,) int64 indices of the anchors.
    """
    scores = logits.amax(dim=1).sigmoid()
    above = (scores >= config.score_threshold).nonzero()[:, 0]
    scores, order = scores[above].sort(descending=True, stable=True)
    return scores[: config.max_candidates], above[order[: config.max_candidates]]


def _suppress(candidates: BoxPredictions, config: DetectionConfig) -> BoxPredictions:
    boxes, scores, labels = candidates.boxes, candidates.scores, candidates.labels
    if config.class_wise_nms:
        kept = class_wise_nms(boxes, scores, labels, config.nms_iou_threshold)
    else:
        kept = rotated_nms(boxes, scores, config.nms_iou_threshold)
    return candidates[kept[: config.max_detections]]
