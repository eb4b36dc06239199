# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detection loss (PointPillars, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pointdistiller_core.config import LossConfig
from pointdistiller_core.geometry.box_coding import direction_bins, encode_boxes
from pointdistiller_core.models.boxes.targets import AnchorTargets
from pointdistiller_core.models.stages.anchor_head import AnchorOutput


def detection_losses(
    output: AnchorOutput,
    targets: Sequence[AnchorTargets],
    config: LossConfig,
    *,
    direction_offset: float,
) -> dict[str, Tensor]:
    """The weighted terms: sums over anchors per positive anchor, averaged over the frames.

    Args:
        output: of B frames.
        targets: of the same B frames.
        config: weights and shapes of the terms.
        direction_offset: where the first direction bin begins [rad].

    Returns:
        Scalars `classification`, `box`, `direction` and, of detectors that give velocities,
        `velocity`; finite without any ground truth.
    """
    terms = torch.stack(
        [
            _frame_terms(output, i, target, config, direction_offset) / max(1, len(target.boxes))
            for i, target in enumerate(targets)
        ]
    )
    names = ('classification', 'box', 'direction', 'velocity')[: terms.shape[1]]
    weights = terms.new_tensor([getattr(config, name) for name in names])
    return dict(zip(names, terms.mean(dim=0) * weights, strict=True))


def _frame_terms(
    output: AnchorOutput, frame: int, target: AnchorTargets, config: LossConfig, offset: float
) -> Tensor:
    """(3,) classification, box and direction loss of one frame, summed over its anchors.

    (4,) with the loss of the velocities, if there are any.
    """
    anchors = output.anchors[target.positives]
    residuals = output.box_residuals[frame, target.positives]
    directions = output.direction_logits[frame, target.positives]
    terms = [
        focal_loss(
            output.class_logits[frame],
            target.labels,
            alpha=config.focal_alpha,
            gamma=config.focal_gamma,
        ),
        box_loss(residuals, encode_boxes(target.boxes, anchors), beta=config.smooth_l1_beta),
        functional.cross_entropy(
            directions.float(), direction_bins(target.boxes[:, 6], offset), reduction='sum'
        ),
    ]
    if output.velocities is not None:
        velocities = output.velocities[frame, target.positives]
        terms.append(velocity_loss(velocities, target.velocities, beta=config.smooth_l1_beta))
    return torch.stack(terms)


def focal_loss(logits: Tensor, labels: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Sum of the sigmoid focal loss (Lin et al., ICCV 2017, eq. 5) over anchors and classes.

    Args:
        logits: (N, K).
        labels: (N,) int64 class index, K for background, negative for ignored anchors.
        alpha: weight of the positives; the negatives have 1 - alpha.
        gamma: the higher, the less easy ones count.
    """
    positive = labels[:, None] == torch.arange(logits.shape[1], device=logits.device)
    # with this sign, sigmoid is the probability of being wrong and softplus the cross entropy
    wrong = torch.where(positive, -logits, logits).float()
    losses = wrong.sigmoid() ** gamma * functional.softplus(wrong)
    weights = torch.where(positive, alpha, 1 - alpha) * (labels >= 0)[:, None]
    return (weights * losses).sum()


def box_loss(residuals: Tensor, targets: Tensor, *, beta: float) -> Tensor:
    """Sum of the smooth L1 loss of residuals (n, 7) over boxes and their coordinates.

    Yaws enter as the sine of their difference: opposite headings cost nothing, because the
    direction distinguishes them.
    """
    difference = residuals.float() - targets
    difference = torch.cat([difference[:, :6], difference[:, 6:].sin()], dim=1)
    return functional.smooth_l1_loss(
        difference, torch.zeros_like(difference), beta=beta, reduction='sum'
    )


def velocity_loss(velocities: Tensor, targets: Tensor | None, *, beta: float) -> Tensor:
    """Sum of the smooth L1 loss of velocities (n, 2) [m/s] over boxes and both axes.

    Args:
        velocities: of the boxes.
        targets: (n, 2); NaN, or None for all: not known, which costs nothing.
        beta: where the loss changes from square to absolute [m/s].
    """
    if targets is None:
        targets = torch.full_like(velocities, torch.nan)
    difference = torch.where(targets.isnan(), 0.0, velocities.float() - targets.nan_to_num())
    return functional.smooth_l1_loss(
        difference, torch.zeros_like(difference), beta=beta, reduction='sum'
    )
