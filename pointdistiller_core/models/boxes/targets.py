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
        velocities: (n, 2) of these boxes [m/s], NaN if not known; None if no label has any.
    """

    labels: Tensor
    positives: Tensor
    boxes: Tensor
    velocities: Tensor | None = None


@dataclass(frozen=True)
class Labels:
    """Ground truth of one frame.

    Attributes:
        boxes: (G, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        classes: (G,) int64, `IGNORE_LABEL` for boxes of no class.
        velocities: (G, 2) [m/s], NaN if not known; None without any.
    """

    boxes: Tensor
    classes: Tensor
    velocities: Tensor | None = None


def assign_targets(
    anchors: Tensor, truth: Labels, *, classes: Sequence[AnchorConfig]
) -> AnchorTargets:
    """Match the anchors of each class with the boxes of that class (PointPillars, section 4.2).

    Boxes labelled `IGNORE_LABEL` are of no class: anchors of any class that overlap one by the
    class's `unmatched_iou` and would be negative become ignored.

    Args:
        anchors: (num_anchors, 7) in the order of `make_anchors`.
        truth: of the frame.
        classes: K anchor configurations, as the anchors were made from.
    """
    anchors_per_cell = [len(config.yaws) for config in classes]
    by_cell = anchors.view(-1, sum(anchors_per_cell), 7)
    parts = torch.split(by_cell, anchors_per_cell, dim=1)
    matches = [
        _match_class(part.flatten(0, 1), truth, label=label, config=config)
        for label, (part, config) in enumerate(zip(parts, classes, strict=True))
    ]
    per_anchor = torch.cat([match.view(len(by_cell), -1) for match in matches], dim=1).flatten()
    return _to_targets(per_anchor, truth, num_classes=len(classes))


def assign_shared_targets(
    anchors: Tensor, truth: Labels, *, config: AnchorConfig, num_classes: int
) -> AnchorTargets:
    """Match all anchors with the boxes of all classes, as mmdetection3d does for nuScenes.

    Differences from `assign_targets`: an anchor that overlaps some box most is that box's, even if
    it overlaps another one more, and of the later box if several claim it; and only if the overlap
    reaches `unmatched_iou`. So a box may go without an anchor.

    Args:
        anchors: (num_anchors, 7).
        truth: of the frame; boxes of no class as in `assign_targets`.
        config: with the thresholds.
        num_classes: K.
    """
    (own,) = (truth.classes != IGNORE_LABEL).nonzero(as_tuple=True)
    matches = _match_shared(anchors, truth.boxes[own], config)
    matches = _blur(matches, anchors, truth, config)
    matches = torch.cat([own, own.new_tensor([_NEGATIVE, IGNORE_LABEL])])[matches]
    return _to_targets(matches, truth, num_classes=num_classes)


def _match_shared(anchors: Tensor, boxes: Tensor, config: AnchorConfig) -> Tensor:
    """(N,) index into `boxes` for each anchor, -1 ignored, -2 negative."""
    if not len(boxes):
        return torch.full((len(anchors),), _NEGATIVE, device=anchors.device)
    iou = nearest_iou_bev(boxes, anchors)
    best_iou, best_box = iou.max(dim=0)
    unmatched = torch.where(best_iou < config.unmatched_iou, _NEGATIVE, IGNORE_LABEL)
    matches = torch.where(best_iou >= config.matched_iou, best_box, unmatched)
    highest = iou.amax(dim=1, keepdim=True)
    claims = (iou == highest) & (highest >= config.unmatched_iou)
    numbers = torch.arange(len(boxes), device=boxes.device)[:, None]
    claimed_by = torch.where(claims, numbers, -1).amax(dim=0)
    return torch.where(claimed_by >= 0, claimed_by, matches)


def ignore_anchors(anchors: Tensor) -> AnchorTargets:
    """Targets of a frame without labels: all anchors (num_anchors, 7) are ignored."""
    labels = torch.full((len(anchors),), IGNORE_LABEL, device=anchors.device)
    return AnchorTargets(labels, labels[:0], anchors[:0])


def _match_class(anchors: Tensor, truth: Labels, *, label: int, config: AnchorConfig) -> Tensor:
    """(N,) index into `boxes` for each anchor of one class, -1 ignored, -2 negative."""
    own = (truth.classes == label).nonzero()[:, 0]
    matches = match_anchors(anchors, truth.boxes[own], config)
    matches = _blur(matches, anchors, truth, config)
    # -2 and -1 count from the end, and so become themselves
    return torch.cat([own, own.new_tensor([_NEGATIVE, IGNORE_LABEL])])[matches]


def _blur(matches: Tensor, anchors: Tensor, truth: Labels, config: AnchorConfig) -> Tensor:
    """Matches (N,) in which negative anchors on boxes of no class are ignored."""
    nobody = truth.boxes[truth.classes == IGNORE_LABEL]
    blurred = _best_iou(anchors, nobody) >= config.unmatched_iou
    return torch.where(blurred & (matches == _NEGATIVE), IGNORE_LABEL, matches)


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


def _to_targets(matches: Tensor, truth: Labels, *, num_classes: int) -> AnchorTargets:
    positives = (matches >= 0).nonzero()[:, 0]
    matched = matches[positives]
    labels = torch.where(matches == _NEGATIVE, num_classes, IGNORE_LABEL)
    labels[positives] = truth.classes[matched]
    velocities = None if truth.velocities is None else truth.velocities[matched]
    return AnchorTargets(labels, positives, truth.boxes[matched], velocities)
