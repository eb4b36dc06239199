# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""2D backbone and necks: maps of decreasing resolution, stacked or as a pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointdistiller_core.models.stages.layers import norm_relu


class BevBackbone(nn.Module):
    """Stages of 3x3 convolutions; the first of each stage has the stage's stride."""

    def __init__(
        self,
        in_channels: int,
        *,
        layers: Sequence[int],
        strides: Sequence[int],
        channels: Sequence[int],
    ) -> None:
        super().__init__()
        inputs = [in_channels, *channels[:-1]]
        self.stages = nn.ModuleList(
            build_stage(*sizes, num_layers=num_layers, stride=stride)
            for *sizes, num_layers, stride in zip(inputs, channels, layers, strides, strict=True)
        )

    def forward(self, bev_features: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) to one map per stage, finest first."""
        levels: list[Tensor] = []
        for stage in self.stages:
            bev_features = stage(bev_features)
            levels.append(bev_features)
        return tuple(levels)


def build_stage(
    in_channels: int, out_channels: int, *, num_layers: int, stride: int
) -> nn.Sequential:
    """One strided 3x3 convolution and `num_layers` further ones."""
    first = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    others = (
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False) for _ in range(num_layers)
    )
    return nn.Sequential(*map(norm_relu, (first, *others)))


class StackNeck(nn.Module):
    """Brings all levels to one resolution with transposed convolutions and stacks them.

    As in PointPillars, section 2.2.
    """

    def __init__(
        self, in_channels: Sequence[int], *, strides: Sequence[int], channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.upsamplers = nn.ModuleList(
            norm_relu(nn.ConvTranspose2d(inputs, outputs, stride, stride=stride, bias=False))
            for inputs, outputs, stride in zip(in_channels, channels, strides, strict=True)
        )
        self.out_channels = sum(channels)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor]:
        """One map per level to a single map (B, sum of channels, H, W)."""
        maps = [upsample(level) for upsample, level in zip(self.upsamplers, levels, strict=True)]
        return (torch.cat(maps, dim=1),)


class FpnNeck(nn.Module):
    """A feature pyramid: each level gets the sum of the coarser ones (Lin et al., CVPR 2017).

    As in mmdetection3d for nuScenes, a norm and a ReLU follow every convolution.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            norm_relu(nn.Conv2d(inputs, channels, 1, bias=False)) for inputs in in_channels
        )
        self.outputs = nn.ModuleList(
            norm_relu(nn.Conv2d(channels, channels, 3, padding=1, bias=False)) for _ in in_channels
        )
        self.out_channels = channels

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One map per level, finest first, to as many maps (B, channels, H, W) of their sizes."""
        maps = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        for finer in reversed(range(len(maps) - 1)):
            size = maps[finer].shape[2:]
            maps[finer] = maps[finer] + functional.interpolate(maps[finer + 1], size=size)
        return tuple(output(each) for output, each in zip(self.outputs, maps, strict=True))
