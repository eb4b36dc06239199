# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From the raw outputs of a head to boxes, in NumPy and torch alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DetectionConfig, DetectorConfig
from pointdistiller_core.geometry.arrays import (
    ArrayT,
    descending_order,
    highest,
    library_of,
    sigmoid,
)
from pointdistiller_core.geometry.box_coding import decode_boxes, resolve_headings
from pointdistiller_core.geometry.nms import class_wise_nms, rotated_nms
from pointdistiller_core.geometry.voting import vote_boxes


class FoundBoxes(NamedTuple, Generic[ArrayT]):
    """Boxes of one frame, by descending score; see `models.BoxPredictions`."""

    boxes: ArrayT
    scores: ArrayT
    labels: Any
    num_refused: int
    velocities: ArrayT | None


class RawOutputs(NamedTuple, Generic[ArrayT]):
    """What a head says about some anchors of one frame, map after map.

    Attributes:
        class_logits: (n, K).
        box_residuals: (n, 7), see `encode_boxes`.
        direction_logits: (n, 2), see `direction_bins`.
        velocities: (n, 2) [m/s]; None if there are none.
        sizes: anchors of each map; empty if there is only one map.
    """

    class_logits: ArrayT
    box_residuals: ArrayT
    direction_logits: ArrayT
    velocities: ArrayT | None = None
    sizes: Sequence[int] = ()


def detect_frame(
    raw: RawOutputs[ArrayT],
    anchors_at: Callable[[Any], ArrayT],
    config: DetectionConfig,
    *,
    direction_offset: float,
    limits: ArrayT | None = None,
) -> FoundBoxes[ArrayT]:
    """Threshold, decode and suppress the boxes of one frame.

    Args:
        raw: outputs of the head.
        anchors_at: (N,) indices of anchors to these anchors (N, 7).
        config: thresholds and caps.
        direction_offset: where the first direction bin begins [rad].
        limits: see `box_limits`; None refuses only what is not finite.

    Returns:
        (N, 7) boxes x, y, z, dx, dy, dz [m], yaw [rad] in the LiDAR frame, (N,) scores in [0, 1]
        and (N,) int64 labels, by descending score; the number of candidates that were refused
        because no object can be like that; and (N, 2) velocities, if there are any.
    """
    scores, best = best_anchors(raw.class_logits, config, raw.sizes)
    boxes = decode_boxes(raw.box_residuals[best], anchors_at(best))
    bins = raw.direction_logits[best].argmax(1)
    boxes[:, 6] = resolve_headings(boxes[:, 6], bins, direction_offset)
    labels = raw.class_logits[best].argmax(1)
    velocities = None if raw.velocities is None else raw.velocities[best]
    if config.labels_per_box == 'all':
        rows, labels, scores = _every_label(raw.class_logits[best], config)
        boxes = boxes[rows]
        velocities = None if velocities is None else velocities[rows]
    chosen, kept, num_refused = choose_boxes(boxes, scores, labels, config, limits=limits)
    velocities = None if velocities is None else velocities[kept]
    return FoundBoxes(chosen, scores[kept], labels[kept], num_refused, velocities)


def _every_label(logits: ArrayT, config: DetectionConfig) -> tuple[Any, Any, ArrayT]:
    """Rows, labels and scores of all classes of anchors (N, K) that pass their threshold."""
    scores = sigmoid(logits)
    passing = scores >= config.score_threshold
    for label, threshold in enumerate(config.score_thresholds):
        passing[:, label] = scores[:, label] >= threshold
    rows, labels = library_of(logits).where(passing)
    return rows, labels, scores[rows, labels]


def choose_boxes(
    boxes: ArrayT,
    scores: ArrayT,
    labels: Any,
    config: DetectionConfig,
    *,
    limits: ArrayT | None = None,
) -> tuple[ArrayT, Any, int]:
    """Refuse and suppress candidates (N, 7) of one frame, and let these vote.

    Returns:
        Boxes (K, 7) that are left, by descending score, moved by their voters if the configuration
        says so; their indices (K,); and the number of candidates that were refused because no
        object can be like that, see `box_limits`.
    """
    xp = library_of(boxes)
    # A broken network may ask for a size beyond float32, which is no box.
    possible = xp.isfinite(boxes).all(1)
    if limits is not None:
        least, most = limits[labels, 0], limits[labels, 1]
        possible &= ((boxes[:, :6] >= least) & (boxes[:, :6] <= most)).all(1)
    (indices,) = xp.where(possible)
    candidates, their_scores, their_labels = boxes[indices], scores[indices], labels[indices]
    kept = _suppress(candidates, their_scores, their_labels, config)
    chosen = candidates[kept]
    if config.voting_iou is not None:
        chosen = vote_boxes(
            (chosen, their_labels[kept]),
            (candidates, their_labels, their_scores),
            config.voting_iou,
        )
    return chosen, indices[kept], len(boxes) - len(indices)


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


def best_anchors(
    logits: ArrayT, config: DetectionConfig, sizes: Sequence[int] = ()
) -> tuple[ArrayT, Any]:
    """Scores above the threshold and their anchors, by descending score.

    Args:
        logits: (num_anchors, K) of one frame.
        config: score thresholds, and the largest number of anchors of each map.
        sizes: anchors of each map, one map after the other; empty if there is only one.

    Returns:
        (N,) scores of the best class, and (N,) int64 indices of the anchors.
    """
    if len(sizes) <= 1:
        return _best_of_map(logits, config)
    xp, found, start = library_of(logits), [], 0
    for size in sizes:
        scores, anchors = _best_of_map(logits[start : start + size], config)
        found.append((scores, anchors + start))
        start += size
    joined, anchors = (xp.concatenate(parts) for parts in zip(*found, strict=True))
    order = descending_order(joined)
    return joined[order], anchors[order]


def _best_of_map(logits: ArrayT, config: DetectionConfig) -> tuple[ArrayT, Any]:
    xp = library_of(logits)
    lowest = min(config.score_thresholds, default=config.score_threshold)
    anchors = _near_threshold(logits, lowest)
    scores = sigmoid(xp.amax(logits[anchors], 1))
    above = xp.where(scores >= lowest)[0]
    if config.score_thresholds and config.labels_per_box == 'best':
        labels = logits[anchors[above]].argmax(1)
        above = above[passes_threshold(scores[above], labels, config)]
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


def passes_threshold(scores: Any, labels: Any, config: DetectionConfig) -> Any:
    """(N,) whether each score reaches the threshold, that of its class if there are such."""
    if not config.score_thresholds:
        return scores >= config.score_threshold
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
