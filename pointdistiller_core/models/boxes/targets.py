# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Targets of the anchors: anchors matched with the ground truth of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistiller_core.config import AnchorConfig
from pointdistiller_core.geometry.iou import nearest_iou_bev
from pointdistiller_core.records import IGNORE_LABEL

_NEGATIVE = -2  # of `match_anchors`, beside indices of boxes and `IGNORE_LABEL`


@dataclass(frozen=True)
class AnchorTargets:
    """Targets of the anchors of one frame.

    Attributes:
        labels: (num_anchors,) int64 class index of a positive anchor, K of a negative one,
            `IGNORE_LABEL` of an ignored one.
        positives: (n,) int64 indices of the positive anchors, ascending.
        boxes: (n, 7) the ground-truth box of each positive anchor.
    """

    labels: Tensor
    positives: Tensor
    boxes: Tensor


def assign_targets(
    anchors: Tensor, boxes: Tensor, labels: Tensor, *, classes: Sequence[AnchorConfig]
) -> AnchorTargets:
    """Match the anchors of each class with the boxes of that class (PointPillars, section 4.2).

    Boxes labelled `IGNORE_LABEL` are of no class: anchors of any class that overlap one by the
    class's `unmatched_iou` and would be negative become ignored.

    Args:
        anchors: (num_anchors, 7) in the order of `make_anchors`.
        boxes: (G, 7) ground truth.
        labels: (G,) int64.
        classes: K anchor configurations, as the anchors were made from.
    """
    anchors_per_cell = [len(config.yaws) for config in classes]
    by_cell = anchors.view(-1, sum(anchors_per_cell), 7)
    parts = torch.split(by_cell, anchors_per_cell, dim=1)
    matches = [
        _match_class(part.flatten(0, 1), boxes, labels, label=label, config=config)
        for label, (part, config) in enumerate(zip(parts, classes, strict=True))
    ]
    per_anchor = torch.cat([match.view(len(by_cell), -1) for match in matches], dim=1).flatten()
    return _to_targets(per_anchor, boxes, labels, num_classes=len(classes))


def ignore_anchors(anchors: Tensor) -> AnchorTargets:
    """Targets of a frame without labels: all anchors (num_anchors, 7) are ignored."""
    labels = torch.full((len(anchors),), IGNORE_LABEL, device=anchors.device)
    return AnchorTargets(labels, labels[:0], anchors[:0])


def _match_class(
    anchors: Tensor, boxes: Tensor, labels: Tensor, *, label: int, config: AnchorConfig
) -> Tensor:
    """(N,) index into `boxes` for each anchor of one class, -1 ignored, -2 negative."""
    own = (labels == label).nonzero()[:, 0]
    matches = match_anchors(anchors, boxes[own], config)
    blurred = _best_iou(anchors, boxes[labels == IGNORE_LABEL]) >= config.unmatched_iou
    matches = torch.where(blurred & (matches == _NEGATIVE), IGNORE_LABEL, matches)
    # -2 and -1 count from the end, and so become themselves
    return torch.cat([own, own.new_tensor([_NEGATIVE, IGNORE_LABEL])])[matches]


def match_anchors(anchors: Tensor, boxes: Tensor, config: AnchorConfig) -> Tensor:
    """Match the anchors of one class with the boxes of that class by nearest BEV IoU.

    An anchor is positive if it overlaps a box by `matched_iou`, or if no other anchor overlaps
    some box more; it belongs to the box that it overlaps most. It is negative if it overlaps
    every box by less than `unmatched_iou`, and ignored in between.

    Args:
        anchors: (N, 7).
        boxes: (G, 7).
        config: thresholds of the class.

    Returns:
        (N,) int64 index of the anchor's box, -1 ignored, -2 negative.
    """
    if not len(boxes):
        return torch.full((len(anchors),), _NEGATIVE, device=anchors.device)
    iou = nearest_iou_bev(boxes, anchors)  # (G, N): twice as fast as (N, G)
    best_iou, best_box = iou.max(dim=0)
    forced = ((iou == iou.amax(dim=1, keepdim=True)) & (iou > 0)).any(dim=0)
    unmatched = torch.where(best_iou < config.unmatched_iou, _NEGATIVE, IGNORE_LABEL)
    return torch.where((best_iou >= config.matched_iou) | forced, best_box, unmatched)


def _best_iou(anchors: Tensor, boxes: Tensor) -> Tensor:
    """(N,) largest nearest BEV IoU of each anchor with any box; 0 without boxes."""
    if not len(boxes):
        return anchors.new_zeros(len(anchors))
    return nearest_iou_bev(boxes, anchors).amax(dim=0)


def _to_targets(
    matches: Tensor, boxes: Tensor, labels: Tensor, *, num_classes: int
) -> AnchorTargets:
    positives = (matches >= 0).nonzero()[:, 0]
    matched_boxes = matches[positives]
    target_labels = torch.where(matches == _NEGATIVE, num_classes, IGNORE_LABEL)
    target_labels[positives] = labels[matched_boxes]
    return AnchorTargets(target_labels, positives, boxes[matched_boxes])
