# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From the raw outputs of a head to boxes, in NumPy and torch alike."""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DetectionConfig, DetectorConfig
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
    limits: ArrayT | None = None,
) -> tuple[ArrayT, ArrayT, Any, int]:
    """Threshold, decode and suppress the boxes of one frame.

    The score of an anchor is that of its best class, which is also its label.

    Args:
        class_logits: (num_anchors, K).
        box_residuals: (num_anchors, 7), see `encode_boxes`.
        direction_logits: (num_anchors, 2), see `direction_bins`.
        anchors_at: (N,) indices of anchors to these anchors (N, 7).
        config: thresholds and caps.
        direction_offset: where the first direction bin begins [rad].
        limits: see `box_limits`; None refuses only what is not finite.

    Returns:
        (N, 7) boxes x, y, z, dx, dy, dz [m], yaw [rad] in the LiDAR frame, (N,) scores in [0, 1]
        and (N,) int64 labels, by descending score; and the number of candidates that were refused
        because no object can be like that.
    """
    scores, best = best_anchors(class_logits, config)
    boxes = decode_boxes(box_residuals[best], anchors_at(best))
    bins = direction_logits[best].argmax(1)
    boxes[:, 6] = resolve_headings(boxes[:, 6], bins, direction_offset)
    labels = class_logits[best].argmax(1)
    kept, num_refused = choose_boxes(boxes, scores, labels, config, limits=limits)
    return boxes[kept], scores[kept], labels[kept], num_refused


def choose_boxes(
    boxes: ArrayT,
    scores: ArrayT,
    labels: Any,
    config: DetectionConfig,
    *,
    limits: ArrayT | None = None,
) -> tuple[Any, int]:
    """Refuse and suppress candidates (N, 7) of one frame.

    Returns:
        Indices of the boxes that are left, by descending score; and the number of candidates that
        were refused because no object can be like that, see `box_limits`.
    """
    xp = library_of(boxes)
    # A broken network may ask for a size beyond float32, which is no box.
    possible = xp.isfinite(boxes).all(1)
    if limits is not None:
        least, most = limits[labels, 0], limits[labels, 1]
        possible &= ((boxes[:, :6] >= least) & (boxes[:, :6] <= most)).all(1)
    (indices,) = xp.where(possible)
    kept = _suppress(boxes[indices], scores[indices], labels[indices], config)
    return indices[kept], len(boxes) - len(indices)


def box_limits(config: DetectorConfig, detection: DetectionConfig) -> NDArray[np.float32] | None:
    """Limits of a box of each class: the sizes of the labels, and how far an anchor reaches.

    An anchor at the rim of the range reaches beyond it by its diagonal, and up and down by its
    height.

    Args:
        config: range, classes, anchors, and the bounds that hold where `detection` has none.
        detection: of a sweep.

    Returns:
        (K, 2, 6) least and largest x, y, z, dx, dy, dz [m]; None without `size_bounds`.
    """
    bounds = detection.size_bounds or config.detection.size_bounds
    if not bounds:
        return None
    low, high = np.array(config.point_cloud_range).reshape(2, 3)
    limits = []
    for name, (least, largest) in zip(config.class_names, bounds, strict=True):
        dx, dy, dz = config.usual_size(name) or largest
        reach = np.array([math.hypot(dx, dy), math.hypot(dx, dy), dz])
        limits.append([[*(low - reach), *least], [*(high + reach), *largest]])
    return np.array(limits, np.float32)


def best_anchors(logits: ArrayT, config: DetectionConfig) -> tuple[ArrayT, Any]:
    """Scores above the threshold and their anchors, by descending score.

    Args:
        logits: (num_anchors, K) of one frame.
        config: score thresholds, and the largest number of boxes.

    Returns:
        (N,) scores of the best class, and (N,) int64 indices of the anchors.
    """
    xp = library_of(logits)
    lowest = min(config.score_thresholds, default=config.score_threshold)
    anchors = _near_threshold(logits, lowest)
    scores = sigmoid(xp.amax(logits[anchors], 1))
    above = xp.where(scores >= lowest)[0]
    if config.score_thresholds:
        labels = logits[anchors[above]].argmax(1)
        above = above[_pass_own_threshold(scores[above], labels, config)]
    order = highest(scores[above], config.max_candidates)
    return scores[above][order], anchors[above][order]


def _near_threshold(logits: ArrayT, score_threshold: float) -> Any:
    """(N,) ascending anchors whose best score may reach the threshold, and few others.

    Nearly all anchors are far below it. Comparing their logits once drops them, in a tenth of the
    time that computing their scores takes.
    """
    rounding = 1e-6  # of a score in float32, with a margin
    chance = score_threshold - rounding
    lowest = math.log(chance / (1 - chance)) if chance > 0 else -math.inf
    xp = library_of(logits)
    (near,) = xp.where(logits.reshape(-1) >= lowest)
    return xp.unique(near // logits.shape[1])


def _pass_own_threshold(scores: Any, labels: Any, config: DetectionConfig) -> Any:
    """(N,) whether each score reaches the threshold of its class."""
    passing = scores < 0
    for label, threshold in enumerate(config.score_thresholds):
        passing |= (labels == label) & (scores >= threshold)
    return passing


def _suppress(boxes: ArrayT, scores: ArrayT, labels: Any, config: DetectionConfig) -> Any:
    """Indices of the boxes that survive, by descending score."""
    if config.class_wise_nms:
        kept = class_wise_nms(boxes, scores, labels, config.nms_iou_threshold)
    else:
        kept = rotated_nms(boxes, scores, config.nms_iou_threshold)
    return kept[: config.max_detections]
