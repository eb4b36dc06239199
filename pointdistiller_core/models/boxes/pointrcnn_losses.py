# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN's loss: of points and of proposals, of one frame each."""

from __future__ import annotations

import math

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import PointRcnnLossConfig
from pointdistiller_core.geometry.boxes import box_corners
from pointdistiller_core.models.boxes.losses import focal_loss
from pointdistiller_core.models.boxes.proposals import (
    PointTargets,
    ProposalTargets,
    decode_refined,
    encode_point_boxes,
    encode_refined,
)


def point_losses(
    logits: Tensor,
    codes: Tensor,
    points: Tensor,
    targets: PointTargets,
    *,
    sizes: Tensor,
    config: PointRcnnLossConfig,
) -> tuple[Tensor, Tensor]:
    """Losses of classes and of boxes, each per point inside a box.

    Args:
        logits: (N, K).
        codes: (N, 8), see `encode_point_boxes`.
        points: (N, 3) x, y, z [m].
        targets: of these points.
        sizes: (K, 3) mean dx, dy, dz [m] of the classes.
        config: shapes of the terms.
    """
    kept = targets.positives
    classes = focal_loss(
        logits, targets.labels, alpha=config.focal_alpha, gamma=config.focal_gamma
    )
    expected = encode_point_boxes(targets.boxes, points[kept], sizes[targets.labels[kept]])
    boxes = F.smooth_l1_loss(codes[kept], expected, beta=config.smooth_l1_beta, reduction='sum')
    count = max(1, len(kept))
    return classes / count, boxes / count


def proposal_losses(
    logits: Tensor,
    residuals: Tensor,
    proposals: Tensor,
    targets: ProposalTargets,
    config: PointRcnnLossConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of objectness, of residuals and of corners.

    Args:
        logits: (R,).
        residuals: (R, 7).
        proposals: (R, 7) boxes.
        targets: of these proposals.
        config: shapes of the terms.
    """
    certain = targets.labels >= 0
    objects = F.binary_cross_entropy_with_logits(
        logits[certain], targets.labels[certain].to(logits.dtype), reduction='sum'
    )
    learned = targets.learned
    found, of, boxes = residuals[learned], proposals[learned], targets.boxes[learned]
    error = F.smooth_l1_loss(
        found, encode_refined(boxes, of), beta=config.smooth_l1_beta, reduction='sum'
    )
    corners = corner_loss(decode_refined(found, of), boxes)
    count = max(1, len(found))
    return objects / max(1, int(certain.sum())), error / count, corners / count


def corner_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Sum over boxes (n, 7) of the mean Huber loss of their corners' distances [m] to targets.

    A target that points the other way is as good, corner by corner.
    """
    turned = torch.cat([targets[:, :6], targets[:, 6:] + math.pi], dim=1)
    corners = box_corners(boxes)
    distances = torch.minimum(
        (corners - box_corners(targets)).norm(dim=2), (corners - box_corners(turned)).norm(dim=2)
    )
    losses = F.smooth_l1_loss(distances, torch.zeros_like(distances), reduction='none')
    return losses.mean(dim=1).sum()
