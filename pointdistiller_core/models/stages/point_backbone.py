# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN's first stage: PointNet++ at several scales, and a head on every point."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from pointdistiller_core.config import PointBackboneConfig
from pointdistiller_core.models.stages.point_layers import (
    FeaturePropagation,
    SetAbstraction,
    point_layers,
)


class PointBackbone(nn.Module):
    """Features of all points.

    Args:
        config: its levels.
        scaled: channels after `width`.
        inputs: columns of a point besides x, y, z.
    """

    def __init__(
        self, config: PointBackboneConfig, scaled: Callable[[int], int], inputs: int
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        widths = [inputs]
        for level, num_points in enumerate(config.num_points):
            abstraction = SetAbstraction(
                num_points,
                radii=config.radii[level],
                num_neighbors=config.num_neighbors[level],
                inputs=widths[-1],
                channels=[list(map(scaled, own)) for own in config.channels[level]],
            )
            self.levels.append(abstraction)
            widths.append(abstraction.channels)
        coarser = [scaled(own[-1]) for own in config.propagation[1:]] + widths[-1:]
        self.propagation = nn.ModuleList(
            FeaturePropagation(coarse + fine, list(map(scaled, channels)))
            for coarse, fine, channels in zip(
                coarser, widths[:-1], config.propagation, strict=True
            )
        )
        self.channels = scaled(config.propagation[0][-1])

    def forward(self, points: Tensor) -> Tensor:
        """(B, N, F) x, y, z [m] and further columns as features (B, N, C)."""
        positions, features = [points[..., :3].contiguous()], [points[..., 3:]]
        for level in self.levels:
            centers, maxima = level(positions[-1], features[-1])
            positions.append(centers)
            features.append(maxima)
        values = features[-1]
        for fine in reversed(range(len(self.levels))):
            propagate: nn.Module = self.propagation[fine]
            values = propagate(*positions[fine : fine + 2], features[fine], values)
        return values


def head_layers(inputs: int, channels: Sequence[int], outputs: int) -> nn.Sequential:
    """Layers with norm, and a last one without, but with bias."""
    last = nn.Linear([inputs, *channels][-1], outputs)
    # named as the products of the other layers
    named = nn.Sequential(OrderedDict(linear=last))
    return nn.Sequential(*point_layers(inputs, channels), named)
