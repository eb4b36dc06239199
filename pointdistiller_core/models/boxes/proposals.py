# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN's boxes: codes of points, proposals, residuals to proposals; and targets of both."""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor

from pointdistiller_core.config import ProposalTargetConfig
from pointdistiller_core.geometry.box_coding import decode_boxes, encode_boxes
from pointdistiller_core.geometry.iou import rotated_iou_3d
from pointdistiller_core.geometry.nms import rotated_nms
from pointdistiller_core.pointcloud.box_points import first_box
from pointdistiller_core.records import IGNORE_LABEL

# --- first stage -----------------------------------------------------------------------------


def encode_point_boxes(boxes: Tensor, points: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (n, 7) as codes (n, 8), seen from points (n, 3) [m].

    Args:
        boxes: x, y, z, dx, dy, dz [m], yaw [rad].
        points: x, y, z.
        sizes: (n, 3) mean dx, dy, dz of the boxes' classes.

    Returns:
        Offset of the center over the diagonal of the mean box (z over its height), logarithms of
        the ratios of sizes, cosine and sine of the yaw.
    """
    centers = (boxes[:, :3] - points) / _scales(sizes)
    ratios = (boxes[:, 3:6].clamp(min=1e-5) / sizes).log()
    return torch.cat([centers, ratios, boxes[:, 6:].cos(), boxes[:, 6:].sin()], dim=1)


def decode_point_boxes(codes: Tensor, points: Tensor, sizes: Tensor) -> Tensor:
    """The inverse of `encode_point_boxes`."""
    centers = codes[:, :3] * _scales(sizes) + points
    yaws = torch.atan2(codes[:, 7:], codes[:, 6:7])
    return torch.cat([centers, codes[:, 3:6].exp() * sizes, yaws], dim=1)


def _scales(sizes: Tensor) -> Tensor:
    diagonal = sizes[:, :2].norm(dim=1, keepdim=True)
    return torch.cat([diagonal, diagonal, sizes[:, 2:]], dim=1)


@dataclass(frozen=True)
class PointTargets:
    """Targets of the points of one frame.

    Attributes:
        labels: (N,) int64 class of a point inside a box, K of the background, `IGNORE_LABEL`.
        positives: (n,) int64 indices of the points inside a box, ascending.
        boxes: (n, 7) their boxes.
    """

    labels: Tensor
    positives: Tensor
    boxes: Tensor


def assign_points(
    points: Tensor, boxes: Tensor, labels: Tensor, *, num_classes: int, margin: float
) -> PointTargets:
    """Points inside boxes learn the first one; those just outside of one are ignored.

    Points inside a box that is to be ignored, and in no other, are ignored, too.

    Args:
        points: (N, 3) x, y, z [m].
        boxes: (G, 7) ground truth.
        labels: (G,) int64.
        num_classes: K.
        margin: added to each extent of a box [m].
    """
    learned = labels >= 0
    owners = first_box(points, boxes[learned])
    enlarged = boxes + boxes.new_tensor([0, 0, 0, margin, margin, margin, 0])
    near = first_box(points, enlarged) >= 0
    targets = torch.where(near, IGNORE_LABEL, num_classes)
    positives = (owners >= 0).nonzero()[:, 0]
    targets[positives] = labels[learned][owners[positives]]
    return PointTargets(targets, positives, boxes[learned][owners[positives]])


# --- proposals -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proposals:
    """Boxes that the first stage proposes in one frame, best first.

    Attributes:
        boxes: (R, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        labels: (R,) int64 class.
        targets: what they should become, while training.
    """

    boxes: Tensor
    labels: Tensor
    targets: ProposalTargets | None = None

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def propose(
    boxes: Tensor, logits: Tensor, *, max_candidates: int, iou_threshold: float, most: int
) -> Proposals:
    """The best boxes of the points of one frame that do not overlap too much.

    All classes suppress one another; there is no threshold of the score.

    Args:
        boxes: (N, 7); those that are not finite are left out.
        logits: (N, K).
        max_candidates: boxes that enter the suppression.
        iou_threshold: from above; a strictly greater one suppresses.
        most: proposals.
    """
    scores, labels = logits.max(dim=1)
    possible = (boxes.isfinite().all(dim=1) & scores.isfinite()).nonzero()[:, 0]
    order = scores[possible].topk(min(max_candidates, len(possible))).indices
    best = possible[order]
    kept = best[rotated_nms(boxes[best], scores[best], iou_threshold, most=most)]
    return Proposals(boxes[kept], labels[kept])


# --- second stage ----------------------------------------------------------------------------


def decode_refined(residuals: Tensor, proposals: Tensor) -> Tensor:
    """Boxes (R, 7) from residuals (R, 7) to proposals (R, 7), whose yaw is not wrapped."""
    at_origin = torch.cat([torch.zeros_like(proposals[:, :3]), proposals[:, 3:]], dim=1)
    boxes = decode_boxes(residuals, at_origin)
    centers = _turned(boxes[:, :3], proposals[:, 6]) + proposals[:, :3]
    return torch.cat([centers, boxes[:, 3:]], dim=1)


def encode_refined(boxes: Tensor, proposals: Tensor) -> Tensor:
    """Residuals (R, 7) of boxes (R, 7) to proposals (R, 7).

    The yaw is the smaller of the differences to the heading and to its opposite.
    """
    yaws = proposals[:, 6] % (2 * math.pi)
    centers = _turned(boxes[:, :3] - proposals[:, :3], -yaws)
    turns = (boxes[:, 6] - yaws) % (2 * math.pi)
    opposite = (turns > 0.5 * math.pi) & (turns < 1.5 * math.pi)
    turns = torch.where(opposite, (turns + math.pi) % (2 * math.pi), turns)
    turns = torch.where(turns > math.pi, turns - 2 * math.pi, turns)
    turns = turns.clamp(-math.pi / 2, math.pi / 2)
    canonical = torch.cat([centers, boxes[:, 3:6], turns[:, None]], dim=1)
    zeros = torch.zeros_like(canonical[:, :3])
    anchors = torch.cat([zeros, proposals[:, 3:6], zeros[:, :1]], dim=1)
    return encode_boxes(canonical, anchors)


def _turned(offsets: Tensor, yaws: Tensor) -> Tensor:
    cos, sin = yaws.cos(), yaws.sin()
    x, y, z = offsets.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos, z], dim=-1)


@dataclass(frozen=True)
class ProposalTargets:
    """Targets of proposals.

    Attributes:
        labels: (R,) int64 1 of an object, 0 of none, `IGNORE_LABEL`.
        boxes: (R, 7) the box that each overlaps most, of its own class; only where `learned`.
        learned: (R,) bool, whether it overlaps that enough to learn it.
    """

    labels: Tensor
    boxes: Tensor
    learned: Tensor


@torch.no_grad()
def sample_proposals(
    proposals: Proposals,
    boxes: Tensor,
    labels: Tensor,
    config: ProposalTargetConfig,
    *,
    generator: torch.Generator | None,
) -> Proposals:
    """Draw proposals to learn from, with their targets.

    Args:
        proposals: of one frame.
        boxes: (G, 7) its ground truth.
        labels: (G,) int64.
        config: how many, and the overlaps.
        generator: of the draws, on the CPU; None is torch's global one.
    """
    overlaps, owners = match_proposals(proposals, boxes, labels)
    drawn = draw_proposals(overlaps.cpu(), config, generator).to(boxes.device)
    chosen = Proposals(proposals.boxes[drawn], proposals.labels[drawn])
    targets = assign_proposals(
        chosen, overlaps[drawn], owners[drawn], boxes=boxes, labels=labels, config=config
    )
    return Proposals(chosen.boxes, chosen.labels, targets)


def match_proposals(proposals: Proposals, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) largest 3D IoU with a box of the same class, and (R,) int64 that box; 0 without any."""
    if not len(boxes):
        none = proposals.boxes.new_zeros(len(proposals))
        return none, none.long()
    iou = rotated_iou_3d(proposals.boxes, boxes)
    best = (iou * (proposals.labels[:, None] == labels)).max(dim=1)
    return best.values, best.indices


def draw_proposals(
    overlaps: Tensor, config: ProposalTargetConfig, generator: torch.Generator | None
) -> Tensor:
    """(num_proposals,) int64 drawn by overlaps (R,); foreground once, background repeatedly.

    Without background, foreground is drawn repeatedly; without any proposal, nothing.
    """

    def repeated(indices: Tensor, count: int) -> Tensor:
        return indices[torch.randint(len(indices), (count,), generator=generator)]

    wanted = config.num_proposals
    (foreground,) = (overlaps >= min(config.box_iou, config.class_iou[1])).nonzero(as_tuple=True)
    (easy,) = (overlaps < config.easy_iou).nonzero(as_tuple=True)
    between = (overlaps < config.box_iou) & (overlaps >= config.easy_iou)
    (hard,) = between.nonzero(as_tuple=True)
    if not len(easy) and not len(hard):
        return repeated(foreground, wanted) if len(foreground) else foreground
    most = round(config.foreground_share * wanted)
    order = torch.randperm(len(foreground), generator=generator)
    chosen = foreground[order[:most]]
    rest = wanted - len(chosen)
    if not len(easy) or not len(hard):
        return torch.cat([chosen, repeated(easy if len(easy) else hard, rest)])
    num_hard = min(int(rest * config.hard_share), len(hard))
    return torch.cat([chosen, repeated(hard, num_hard), repeated(easy, rest - num_hard)])


def assign_proposals(
    proposals: Proposals,
    overlaps: Tensor,
    owners: Tensor,
    *,
    boxes: Tensor,
    labels: Tensor,
    config: ProposalTargetConfig,
) -> ProposalTargets:
    """Targets by overlaps (R,) with boxes `owners` (R,) of the ground truth (G, 7).

    A proposal that overlaps a box to be ignored, but no object, is ignored.
    """
    low, high = config.class_iou
    targets = torch.where((overlaps > low) & (overlaps < high), IGNORE_LABEL, 0)
    if (labels == IGNORE_LABEL).any():
        blurred = rotated_iou_3d(proposals.boxes, boxes[labels == IGNORE_LABEL]).amax(dim=1)
        targets = torch.where(blurred >= low, IGNORE_LABEL, targets)
    targets = torch.where(overlaps > high, 1, targets)
    learned = overlaps > config.box_iou
    own = boxes[owners] if len(boxes) else proposals.boxes
    return ProposalTargets(targets, own, learned)
