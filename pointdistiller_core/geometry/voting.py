# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes as means of the candidates that they suppress, in NumPy and torch alike."""

from __future__ import annotations

import math
from typing import Any

from pointdistiller_core.geometry.arrays import ArrayT, library_of, to_type
from pointdistiller_core.geometry.iou import aligned_iou_bev, may_overlap
from pointdistiller_core.geometry.transforms import wrap_angle


def vote_boxes(
    kept: tuple[ArrayT, Any], voters: tuple[ArrayT, Any, ArrayT], least_iou: float
) -> ArrayT:
    """Move each box to the mean of the candidates around it, weighted by their scores.

    Neighboring anchors find the same object, each a little off towards itself. Their mean is less
    off than the best one (box voting, Gidaris and Komodakis, ICCV 2015, section 3.3).

    Args:
        kept: (K, 7) boxes x, y, z, dx, dy, dz [m], yaw [rad], and (K,) their labels.
        voters: (N, 7) candidates, with the kept ones among them, (N,) their labels and scores.
        least_iou: overlap from above from which a candidate of the same class votes.

    Returns:
        (K, 7) boxes. A voter that heads the other way votes for the axis as if it were turned
        around, and against which end is the front: the greater sum of scores decides.
    """
    boxes, labels = kept
    candidates, their_labels, scores = voters
    xp = library_of(boxes)
    near = may_overlap(boxes, candidates) & (labels[:, None] == their_labels)
    rows, columns = xp.where(near)
    votes = aligned_iou_bev(boxes[rows], candidates[columns]) >= least_iou
    rows, columns = rows[votes], columns[votes]
    weights, turns, fronts = (to_type(near, scores.dtype) * 0 for _ in range(3))  # (K, N)
    weights[rows, columns] = scores[columns]
    turn = candidates[columns, 6] - boxes[rows, 6]
    half_turn = xp.remainder(turn + math.pi / 2, math.pi) - math.pi / 2
    turns[rows, columns] = scores[columns] * half_turn
    fronts[rows, columns] = scores[columns] * xp.sign(xp.cos(turn))
    total = weights.sum(1)[:, None]
    voted = total > 0  # otherwise all scores are 0, or least_iou is 1 and its own was rounded
    total = xp.where(voted, total, total + 1)
    placed = weights @ candidates[:, :6] / total
    back = to_type(fronts.sum(1)[:, None] < 0, scores.dtype) * math.pi
    turned = wrap_angle(boxes[:, 6:] + turns.sum(1)[:, None] / total + back)
    moved: ArrayT = xp.where(voted, xp.concatenate([placed, turned], 1), boxes)
    return moved
