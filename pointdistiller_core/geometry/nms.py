# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression of rotated boxes, seen from above."""

from __future__ import annotations

import torch
from torch import Tensor

from pointdistiller_core.geometry.iou import rotated_iou_bev

BLOCK = 256


def rotated_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep the best box, drop what overlaps it by more than the threshold, and so on.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,); of equal scores the earlier box goes first.
        iou_threshold: BEV IoU; a strictly greater one suppresses.

    Returns:
        (kept,) int64 indices by descending score.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = [order[:0]]
    while len(order):
        block, order = order[:BLOCK], order[BLOCK:]
        block = block[_greedy(rotated_iou_bev(boxes[block], boxes[block]) > iou_threshold)]
        suppresses = rotated_iou_bev(boxes[block], boxes[order]) > iou_threshold
        order = order[~suppresses.any(dim=0)]
        kept.append(block)
    return torch.cat(kept)


def class_wise_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """`rotated_nms` among the boxes of each class; classes do not suppress one another.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,).
        labels: (N,) class of each box.
        iou_threshold: BEV IoU; a strictly greater one suppresses.

    Returns:
        (kept,) int64 indices by descending score.
    """
    kept = [labels.new_zeros(0, dtype=torch.int64)]
    for label in torch.unique(labels):
        members = (labels == label).nonzero().squeeze(1)
        kept.append(members[rotated_nms(boxes[members], scores[members], iou_threshold)])
    indices = torch.cat(kept).sort().values  # so that equal scores keep the order of the input
    return indices[scores[indices].argsort(descending=True, stable=True)]


def _greedy(suppresses: Tensor) -> Tensor:
    """Which of the boxes, best first, survive one another.

    Every round settles at least one more box, usually nearly all of them.

    Args:
        suppresses: (N, N) bool, whether the row's box would drop the column's box.

    Returns:
        (N,) bool.
    """
    earlier = suppresses.triu(diagonal=1)
    keep = torch.ones_like(earlier[0])
    while True:
        settled = ~(earlier & keep[:, None]).any(dim=0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
