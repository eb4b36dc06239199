# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression of rotated boxes, from above, in NumPy and torch alike."""

from __future__ import annotations

from typing import Any

from pointdistiller_core.geometry.arrays import ArrayT, descending_order, library_of
from pointdistiller_core.geometry.iou import rotated_iou_bev

BLOCK = 256


def rotated_nms(boxes: ArrayT, scores: ArrayT, iou_threshold: float) -> Any:
    """Keep the best box, drop what overlaps it by more than the threshold, and so on.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,); of equal scores the earlier box goes first.
        iou_threshold: BEV IoU; a strictly greater one suppresses.

    Returns:
        (kept,) int64 indices by descending score.
    """
    order = descending_order(scores)
    kept = [order[:0]]
    while len(order):
        block, order = order[:BLOCK], order[BLOCK:]
        block = block[_greedy(rotated_iou_bev(boxes[block], boxes[block]) > iou_threshold)]
        suppresses = rotated_iou_bev(boxes[block], boxes[order]) > iou_threshold
        order = order[~suppresses.any(0)]
        kept.append(block)
    return library_of(boxes).concatenate(kept)


def class_wise_nms(boxes: ArrayT, scores: ArrayT, labels: Any, iou_threshold: float) -> Any:
    """`rotated_nms` among the boxes of each class; classes do not suppress one another.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,).
        labels: (N,) class of each box.
        iou_threshold: BEV IoU; a strictly greater one suppresses.

    Returns:
        (kept,) int64 indices by descending score.
    """
    xp = library_of(boxes)
    kept = [descending_order(scores[:0])]  # so that there may be no box
    for label in xp.unique(labels):
        members = xp.where(labels == label)[0]
        kept.append(members[rotated_nms(boxes[members], scores[members], iou_threshold)])
    indices = xp.concatenate(kept)
    indices = indices[indices.argsort()]  # so that equal scores keep the order of the input
    return indices[descending_order(scores[indices])]


def _greedy(suppresses: Any) -> Any:
    """Which of the boxes, best first, survive one another.

    Every round settles at least one more box, usually nearly all of them.

    Args:
        suppresses: (N, N) bool, whether the row's box would drop the column's box.

    Returns:
        (N,) bool.
    """
    xp = library_of(suppresses)
    earlier = xp.triu(suppresses, 1)
    keep = xp.ones_like(earlier[0])
    while True:
        settled = ~(earlier & keep[:, None]).any(0)
        if (settled == keep).all():
            return keep
        keep = settled
