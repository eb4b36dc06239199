# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From the raw outputs of a head to boxes, in NumPy and torch alike."""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.geometry.arrays import ArrayT, highest, library_of, sigmoid
from pointdistiller_core.geometry.box_coding import decode_boxes, resolve_headings
from pointdistiller_core.geometry.nms import class_wise_nms, rotated_nms


def detect_frame(
    class_logits: ArrayT,
    box_residuals: ArrayT,
    direction_logits: ArrayT,
    anchors_at: Callable[[Any], ArrayT],
    config: DetectionConfig,
    *,
    direction_offset: float,
) -> tuple[ArrayT, ArrayT, Any]:
    """Threshold, decode and suppress the boxes of one frame.

    The score of an anchor is that of its best class, which is also its label.

    Args:
        class_logits: (num_anchors, K).
        box_residuals: (num_anchors, 7), see `encode_boxes`.
        direction_logits: (num_anchors, 2), see `direction_bins`.
        anchors_at: (N,) indices of anchors to these anchors (N, 7).
        config: thresholds and caps.
        direction_offset: where the first direction bin begins [rad].

    Returns:
        (N, 7) boxes x, y, z, dx, dy, dz [m], yaw [rad] in the LiDAR frame, (N,) scores in [0, 1]
        and (N,) int64 labels, by descending score.
    """
    scores, best = best_anchors(class_logits, config)
    boxes = decode_boxes(box_residuals[best], anchors_at(best))
    bins = direction_logits[best].argmax(1)
    boxes[:, 6] = resolve_headings(boxes[:, 6], bins, direction_offset)
    labels = class_logits[best].argmax(1)
    # A network that has gone wrong may ask for a size beyond float32: that is no box.
    finite = library_of(boxes).isfinite(boxes).all(1)
    kept = _suppress(boxes[finite], scores[finite], labels[finite], config)
    return boxes[finite][kept], scores[finite][kept], labels[finite][kept]


def best_anchors(logits: ArrayT, config: DetectionConfig) -> tuple[ArrayT, Any]:
    """Scores above the threshold and their anchors, by descending score.

    Args:
        logits: (num_anchors, K) of one frame.
        config: threshold of the score, and how many at most.

    Returns:
        (N,) scores of the best class, and (N,) int64 indices of the anchors.
    """
    anchors = _near_threshold(logits, config.score_threshold)
    scores = sigmoid(library_of(logits).amax(logits[anchors], 1))
    above = library_of(logits).where(scores >= config.score_threshold)[0]
    order = highest(scores[above], config.max_candidates)
    return scores[above][order], anchors[above][order]


def _near_threshold(logits: ArrayT, score_threshold: float) -> Any:
    """(N,) ascending anchors whose best score may reach the threshold, and few others.

    Nearly all anchors are far below it: one comparison of their logits drops them, which takes a
    tenth of the time that their scores take.
    """
    rounding = 1e-6  # of a score in float32, with a margin
    chance = score_threshold - rounding
    lowest = math.log(chance / (1 - chance)) if chance > 0 else -math.inf
    xp = library_of(logits)
    (near,) = xp.where(logits.reshape(-1) >= lowest)
    return xp.unique(near // logits.shape[1])


def _suppress(boxes: ArrayT, scores: ArrayT, labels: Any, config: DetectionConfig) -> Any:
    """Indices of the boxes that survive, by descending score."""
    if config.class_wise_nms:
        kept = class_wise_nms(boxes, scores, labels, config.nms_iou_threshold)
    else:
        kept = rotated_nms(boxes, scores, config.nms_iou_threshold)
    return kept[: config.max_detections]
