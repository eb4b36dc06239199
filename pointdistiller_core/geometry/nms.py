# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression of rotated boxes, from above, in NumPy and torch alike."""

from __future__ import annotations

from typing import Any

from pointdistiller_core.geometry.arrays import ArrayT, descending_order, library_of
from pointdistiller_core.geometry.iou import aligned_iou_bev, may_overlap

BLOCK = 128  # boxes that are compared with all worse ones at once


def rotated_nms(
    boxes: ArrayT, scores: ArrayT, iou_threshold: float, *, most: int | None = None
) -> Any:
    """Keep the best box, drop what overlaps it by more than the threshold, and so on.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,); of equal scores the earlier box goes first.
        iou_threshold: BEV IoU; a strictly greater one suppresses.
        most: boxes to keep; far fewer than there are take far less time. None keeps all.

    Returns:
        (kept,) int64 indices by descending score.
    """
    labels = library_of(boxes).zeros_like(scores)
    if most is None:
        return class_wise_nms(boxes, scores, labels, iou_threshold)
    order = descending_order(scores)
    kept = order[:0]
    while len(order) and len(kept) < most:
        block, order = order[:BLOCK], order[BLOCK:]
        dropped = _suppresses(boxes, labels, kept, block, iou_threshold).any(0)
        block = block[~dropped]
        if not len(block):
            continue
        block = block[_greedy(_suppresses(boxes, labels, block, block, iou_threshold))]
        kept = library_of(boxes).concatenate([kept, block])
    return kept[:most]


def class_wise_nms(boxes: ArrayT, scores: ArrayT, labels: Any, iou_threshold: float) -> Any:
    """`rotated_nms` among the boxes of each class; classes do not suppress one another.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,); of equal scores the earlier box goes first.
        labels: (N,) class of each box.
        iou_threshold: BEV IoU; a strictly greater one suppresses.

    Returns:
        (kept,) int64 indices by descending score.
    """
    order = descending_order(scores)
    kept = [order[:0]]
    while len(order):
        block, order = order[:BLOCK], order[BLOCK:]
        block = block[_greedy(_suppresses(boxes, labels, block, block, iou_threshold))]
        if len(order):
            suppresses = _suppresses(boxes, labels, block, order, iou_threshold)
            order = order[~suppresses.any(0)]
        kept.append(block)
    return library_of(boxes).concatenate(kept)


def _suppresses(boxes: ArrayT, labels: Any, better: Any, worse: Any, iou_threshold: float) -> Any:
    """(N, M) whether each box of one list of indices drops each (worse) box of the other."""
    xp = library_of(boxes)
    candidates = may_overlap(boxes[better], boxes[worse])
    candidates &= labels[better, None] == labels[worse]
    if better is worse:
        candidates = xp.triu(candidates, 1)
    rows, columns = xp.where(candidates)
    overlaps = aligned_iou_bev(boxes[better[rows]], boxes[worse[columns]])
    candidates[rows, columns] = overlaps > iou_threshold
    return candidates


def _greedy(earlier: Any) -> Any:
    """Which of the boxes, best first, survive one another.

    Every round settles at least one more box, usually nearly all of them.

    Args:
        earlier: (N, N) bool, whether the row's box would drop the column's box, which is worse.

    Returns:
        (N,) bool.
    """
    keep = library_of(earlier).ones_like(earlier[0])
    while True:
        settled = ~(earlier & keep[:, None]).any(0)
        if (settled == keep).all():
            return keep
        keep = settled
