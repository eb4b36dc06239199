# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Layers on points and on groups of points (PointNet++, Qi et al., NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.pointcloud.point_neighbors import (
    ball_query,
    gather_rows,
    interpolate,
    three_nearest,
)
from pointdistiller_core.pointcloud.sampling import farthest_points

NORM_EPS = 1e-5  # PyTorch's value, unlike that of the detectors with anchors


class PointLayer(nn.Module):
    """Linear without bias, batch norm, ReLU; in evaluation the norm is part of the product."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = BatchNormRows(outputs, eps=NORM_EPS)

    def forward(self, rows: Tensor) -> Tensor:
        """(R, C) as (R, C')."""
        if self.training:
            normalized: Tensor = self.norm(self.linear(rows))
            return normalized.relu_()
        weight, shift = self.folded()
        return torch.addmm(shift, rows, weight.T).relu_()

    def folded(self) -> tuple[Tensor, Tensor]:
        """(C', C) weights and (C',) biases with the running statistics in them."""
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        return self.linear.weight * scale[:, None], self.norm.bias - self.norm.running_mean * scale

    def of_groups(self, points: Tensor, rest: Tensor, groups: Groups) -> Tensor:
        """The layer on (neighbor minus center, features of the neighbor) of each slot.

        The product is linear, so its larger part, of the features, is computed once per point and
        not once per slot.

        Args:
            points: (B, N, 3) x, y, z [m].
            rest: (B, N, C) features.
            groups: of these points.

        Returns:
            (B M k, C') of all slots.
        """
        weight, shift = (self.linear.weight, None) if self.training else self.folded()
        values = F.linear(rest, weight[:, 3:], shift)
        offsets = gather_rows(points, groups.neighbors) - groups.centers[:, :, None]
        slots = gather_rows(values, groups.neighbors).flatten(0, 2)
        rows = torch.addmm(slots, offsets.flatten(0, 2), weight[:, :3].T)
        if self.training:
            rows = self.norm(rows)
        return rows.relu_()


class Groups:
    """Neighbors of centers: centers (B, M, 3) and neighbors (B, M, k) int64 into the N points."""

    def __init__(self, centers: Tensor, neighbors: Tensor) -> None:
        self.centers, self.neighbors = centers, neighbors


def point_layers(inputs: int, channels: Sequence[int]) -> nn.Sequential:
    """`PointLayer`s one after another."""
    widths = [inputs, *channels]
    return nn.Sequential(*map(PointLayer, widths[:-1], widths[1:]))


class SetAbstraction(nn.Module):
    """Fewer points, each with the maximum over its neighbors, at one or more radii.

    Args:
        num_points: M, that are sampled.
        radii: [m] of each scale.
        num_neighbors: most neighbors at each scale.
        inputs: C of the features.
        channels: of the layers of each scale.
    """

    def __init__(
        self,
        num_points: int,
        *,
        radii: Sequence[float],
        num_neighbors: Sequence[int],
        inputs: int,
        channels: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.num_points, self.radii, self.num_neighbors = num_points, radii, num_neighbors
        self.scales = nn.ModuleList(point_layers(3 + inputs, own) for own in channels)
        self.channels = sum(own[-1] for own in channels)

    def forward(self, points: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, N, 3) [m] and features (B, N, C) as (B, M, 3) and (B, M, C')."""
        centers = gather_rows(points, farthest_points(points, self.num_points))
        neighbors = ball_query(points, centers, self.radii, self.num_neighbors)
        maxima = []
        for layers, own in zip(self.scales, neighbors, strict=True):
            rows = layers[0].of_groups(points, features, Groups(centers, own))  # type: ignore
            for layer in layers[1:]:  # type: ignore[index]
                rows = layer(rows)
            maxima.append(rows.view(*own.shape, rows.shape[1]).amax(dim=2))
        return centers, torch.cat(maxima, dim=2)


class WholeAbstraction(nn.Module):
    """The maximum over all points of what layers make of their positions and features."""

    def __init__(self, inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList([point_layers(3 + inputs, channels)])

    def forward(self, points: Tensor, features: Tensor) -> Tensor:
        """Points (B, N, 3) [m] and features (B, N, C) as (B, C')."""
        rows = torch.cat([points, features], dim=2)
        values: Tensor = self.scales[0](rows.flatten(0, 1))
        return values.view(*rows.shape[:2], values.shape[1]).amax(dim=1)


class FeaturePropagation(nn.Module):
    """Features of coarser points brought to finer ones, by the three nearest.

    Args:
        inputs: channels of the coarser and of the finer points together.
        channels: of the layers.
    """

    def __init__(self, inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.layers = point_layers(inputs, channels)

    def forward(self, points: Tensor, known: Tensor, features: Tensor, coarse: Tensor) -> Tensor:
        """(B, N, C') features.

        Args:
            points: (B, N, 3) [m].
            known: (B, M, 3) [m], the coarser ones.
            features: (B, N, C) of the points.
            coarse: (B, M, C) of the coarser ones.
        """
        mixed = interpolate(coarse, *three_nearest(points, known))
        rows = torch.cat([mixed, features], dim=2)
        result: Tensor = self.layers(rows.flatten(0, 1))
        return result.view(*rows.shape[:2], result.shape[1])
