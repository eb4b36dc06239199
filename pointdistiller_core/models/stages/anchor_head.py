# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Anchor head: class, box residuals and direction of every anchor."""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import Tensor, nn

_PRIOR = 0.01  # first probability of an object: the negatives are many and must not dominate


@dataclass(frozen=True)
class HeadOutput:
    """Raw outputs; anchors are numbered row by row, cell by cell, then as `make_anchors` has them.

    Attributes:
        class_logits: (B, num_anchors, K).
        box_residuals: (B, num_anchors, 7), see `encode_boxes`.
        direction_logits: (B, num_anchors, 2), see `direction_bins`.
        anchors: (num_anchors, 7) x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
    """

    class_logits: Tensor
    box_residuals: Tensor
    direction_logits: Tensor
    anchors: Tensor


class AnchorHead(nn.Module):
    """A 1x1 convolution; every anchor has a logit for every class, whatever its own.

    Channels: the class logits of all A anchors, their box residuals, their direction logits. One
    convolution, because three would read the large map three times.
    """

    anchors: Tensor

    def __init__(self, in_channels: int, *, num_classes: int, anchors: Tensor) -> None:
        """Build the head for anchors (H, W, A, 7)."""
        super().__init__()
        self.channels = [anchors.shape[2] * size for size in (num_classes, 7, 2)]
        self.conv = nn.Conv2d(in_channels, sum(self.channels), 1)
        # derived from the configuration, hence not part of a checkpoint
        self.register_buffer('anchors', anchors.reshape(-1, 7), persistent=False)
        self._initialize()

    def forward(self, bev_features: Tensor) -> HeadOutput:
        """(B, C, H, W) to the outputs of all anchors."""
        maps = self.conv(bev_features).permute(0, 2, 3, 1)
        class_logits, box_residuals, direction_logits = (
            part.reshape(len(maps), len(self.anchors), -1)
            for part in torch.split(maps, self.channels, dim=3)
        )
        return HeadOutput(class_logits, box_residuals, direction_logits, self.anchors)

    def _initialize(self) -> None:
        """OpenPCDet's: few positives and small residuals at first."""
        assert self.conv.bias is not None
        num_logits, num_residuals, _ = self.channels
        nn.init.constant_(self.conv.bias[:num_logits], -math.log((1 - _PRIOR) / _PRIOR))
        nn.init.normal_(self.conv.weight[num_logits : num_logits + num_residuals], std=0.001)
