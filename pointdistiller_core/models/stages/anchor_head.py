# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Anchor head: class, box residuals and direction of every anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math
from typing import Any

import torch
from torch import Tensor, nn

PRIOR = 0.01  # initial probability of an object: negatives are many and must not dominate


@dataclass(frozen=True)
class AnchorOutput:
    """Raw outputs of all anchors.

    They are numbered map by map, row by row, cell by cell, then as `make_anchors` has them.

    Attributes:
        class_logits: (B, num_anchors, K).
        box_residuals: (B, num_anchors, 7), see `encode_boxes`.
        direction_logits: (B, num_anchors, 2), see `direction_bins`.
        anchors: (num_anchors, 7) x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        velocities: (B, num_anchors, 2) along x and y [m/s]; None if the head gives none.
        sizes: anchors of each map.
    """

    class_logits: Tensor
    box_residuals: Tensor
    direction_logits: Tensor
    anchors: Tensor
    velocities: Tensor | None = None
    sizes: tuple[int, ...] = ()

    def float(self) -> AnchorOutput:
        """The same in single precision, which is needed under autocast."""
        changes: dict[str, Any] = {
            name: value.float() for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changes)


class AnchorHead(nn.Module):
    """A 1x1 convolution; every anchor has a logit for every class, not only for its own.

    Channels: the class logits of all A anchors, their box residuals, their direction logits, and
    their velocities if it gives these. One convolution, because three would read the large map
    three times. It is the same for all maps.
    """

    anchors: Tensor

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        anchors: Sequence[Tensor],
        velocities: bool = False,
    ) -> None:
        """Build the head for the anchors (H, W, A, 7) of each map."""
        super().__init__()
        sizes = (num_classes, 7, 2, 2) if velocities else (num_classes, 7, 2)
        self.sizes = tuple(of_map.shape[:3].numel() for of_map in anchors)
        self.channels = [anchors[0].shape[2] * size for size in sizes]
        self.conv = nn.Conv2d(in_channels, sum(self.channels), 1)
        # derived from the configuration, so not part of a checkpoint
        all_anchors = torch.cat([of_map.reshape(-1, 7) for of_map in anchors])
        self.register_buffer('anchors', all_anchors, persistent=False)
        self._initialize()

    def forward(self, maps: Sequence[Tensor]) -> AnchorOutput:
        """One or more maps (B, C, H, W) to the outputs of all anchors."""
        parts = zip(*(self._outputs(bev_features) for bev_features in maps), strict=True)
        logits, residuals, directions, *velocities = map(_join, parts)
        velocity = velocities[0] if velocities else None
        return AnchorOutput(logits, residuals, directions, self.anchors, velocity, self.sizes)

    def _outputs(self, bev_features: Tensor) -> list[Tensor]:
        """(B, n, ...) of the anchors of one map."""
        cells = self.conv(bev_features).permute(0, 2, 3, 1)
        kinds = self.channels[1] // 7
        parts = torch.split(cells, self.channels, dim=3)
        return [
            part.reshape(len(cells), -1, size // kinds)
            for part, size in zip(parts, self.channels, strict=True)
        ]

    def _initialize(self) -> None:
        """As OpenPCDet: few positives and small residuals at first."""
        assert self.conv.bias is not None
        num_logits, num_residuals = self.channels[:2]
        nn.init.constant_(self.conv.bias[:num_logits], -math.log((1 - PRIOR) / PRIOR))
        nn.init.normal_(self.conv.weight[num_logits : num_logits + num_residuals], std=0.001)


def _join(parts: Sequence[Tensor]) -> Tensor:
    """(B, n, ...) of each map, joined; copied only if there are several."""
    return parts[0] if len(parts) == 1 else torch.cat([*parts], dim=1)
