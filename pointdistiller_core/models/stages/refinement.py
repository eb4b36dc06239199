# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN's second stage: the points inside each proposal, seen from its own frame."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from pointdistiller_core.config import RefinementConfig
from pointdistiller_core.models.stages.point_backbone import head_layers
from pointdistiller_core.models.stages.point_layers import (
    SetAbstraction,
    WholeAbstraction,
)
from pointdistiller_core.pointcloud.box_points import pool_points

POINT_INPUTS = 5  # position in the proposal's frame, score, depth


class Refinement(nn.Module):
    """Whether a proposal is an object, and how its box differs from it.

    Args:
        config: its levels.
        scaled: channels after `width`.
        inputs: C of the features of points.
    """

    def __init__(
        self, config: RefinementConfig, scaled: Callable[[int], int], inputs: int
    ) -> None:
        super().__init__()
        self.config = config
        widths = [POINT_INPUTS, *map(scaled, config.point_channels)]
        self.point_layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(*pair), nn.ReLU(inplace=True)) for pair in pairwise(widths))
        )
        self.merge = nn.Sequential(nn.Linear(widths[-1] + inputs, widths[-1]), nn.ReLU())
        self.levels = nn.ModuleList()
        current = widths[-1]
        *channels, last = [list(map(scaled, own)) for own in config.channels]
        for level, own in enumerate(channels):
            self.levels.append(
                SetAbstraction(
                    config.num_points[level],
                    radii=[config.radii[level]],
                    num_neighbors=[config.num_neighbors[level]],
                    inputs=current,
                    channels=[own],
                )
            )
            current = own[-1]
        self.levels.append(WholeAbstraction(current, last))
        self.classifier = head_layers(last[-1], list(map(scaled, config.class_channels)), 1)
        self.regressor = head_layers(last[-1], list(map(scaled, config.box_channels)), 7)
        self._initialize()

    def _initialize(self) -> None:
        """First weights as OpenPCDet's: boxes begin as their proposals."""
        products = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for product in products:
            nn.init.xavier_normal_(product.weight)
            if product.bias is not None:
                nn.init.zeros_(product.bias)
        nn.init.normal_(products[-1].weight, std=0.001)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R,) and box residuals (R, 7) of proposals.

        Args:
            pooled: (R, S, 5 + C) of `pool_proposals`.
        """
        points, features = pooled[..., :3], pooled[..., POINT_INPUTS:]
        local = self.point_layers(pooled[..., :POINT_INPUTS])
        values = self.merge(torch.cat([local, features], dim=2))
        *levels, last = self.levels
        for level in levels:
            points, values = level(points, values)
        whole = last(points, values)
        return self.classifier(whole)[:, 0], self.regressor(whole)


@torch.no_grad()
def pool_proposals(
    points: Tensor, scores: Tensor, features: Tensor, proposals: Tensor, config: RefinementConfig
) -> Tensor:
    """What the second stage sees of the points inside each proposal of one frame.

    No gradient flows from the second stage to the first.

    Args:
        points: (N, 3) x, y, z [m].
        scores: (N,) of the first stage, in [0, 1].
        features: (N, C) of the first stage.
        proposals: (R, 7) boxes.
        config: number of points, and scale of the depth.

    Returns:
        (R, S, 5 + C) position in the proposal's frame [m], score, depth, features; all 0 in a
        proposal without points.
    """
    pooled = pool_points(points, proposals, config.pooled_points)
    depth = points.norm(dim=1) / config.depth_scale - 0.5
    values = torch.cat([points, scores[:, None], depth[:, None], features], dim=1)
    rows = values[pooled.indices]
    rows[..., :3] = to_local(rows[..., :3] - proposals[:, None, :3], proposals[:, 6])
    return rows * (pooled.counts > 0)[:, None, None]


def to_local(offsets: Tensor, yaws: Tensor) -> Tensor:
    """Offsets (R, S, 3) [m] from the centers of boxes, turned by their yaws (R,) [rad]."""
    cos, sin = yaws.cos()[:, None], yaws.sin()[:, None]
    x, y, z = offsets.unbind(-1)
    return torch.stack([x * cos + y * sin, y * cos - x * sin, z], dim=-1)
