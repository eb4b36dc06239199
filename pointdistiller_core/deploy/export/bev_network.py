# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The part of a detector that other libraries run, in the form that they run fastest.

Its numbers are the detector's; only the order of the same sums differs:

* A transposed convolution whose kernel is its stride gives each cell of the coarse map a block of
  cells of its own: a 1x1 convolution, then a shuffle.
* The head's 1x1 convolution of stacked maps is the sum of 1x1 convolutions of each of them, so
  the maps are never stacked.
* Class logits are separate from the rest, of which only a few cells are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from pointdistiller_core.models import AnchorDetector
from pointdistiller_core.models.stages.bev_backbone import StackNeck


class BevNetwork(nn.Module):
    """A detector from the backbone on, which other libraries run. It shares no weight with it.

    Attributes:
        stages: convolutions of the backbone, with their batch norm; a ReLU follows each.
        upsamplers: of each stage's map.
        class_head: class logits of the upsampled maps.
        box_head: box residuals and direction logits.
    """

    def __init__(self, detector: AnchorDetector) -> None:
        super().__init__()
        self.stages = cast(
            'Sequence[Sequence[nn.Conv2d]]',
            nn.ModuleList(
                nn.ModuleList(_fold_norm(layer) for layer in cast('nn.Sequential', stage))
                for stage in detector.backbone.stages
            ),
        )
        self.upsamplers = cast(
            'Sequence[Upsampler]',
            nn.ModuleList(
                Upsampler(_fold_norm(layer)) for layer in _stack_neck(detector).upsamplers
            ),
        )
        sizes = [upsampler.channels for upsampler in self.upsamplers]
        num_logits = detector.head.channels[0]
        weight, bias = (each.detach().clone() for each in detector.head.conv.parameters())
        self.class_head = SplitConv(weight[:num_logits], bias[:num_logits], sizes)
        self.box_head = SplitConv(weight[num_logits:], bias[num_logits:], sizes)
        self.eval().requires_grad_(False)

    def forward(self, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """(1, rows, columns, C) pillar features to the outputs of the head's map.

        Returns:
            (1, A * K, H, W) class logits, and (1, H, W, A * 9): box residuals of all A anchors of
            a cell, then direction logits of all of them.
        """
        features, maps = canvas.permute(0, 3, 1, 2), []
        for stage, upsample in zip(self.stages, self.upsamplers, strict=True):
            for conv in stage:
                features = torch.relu(conv(features))
            maps.append(upsample(features))
        return self.class_head(maps), self.box_head(maps).permute(0, 2, 3, 1)


class Upsampler(nn.Module):
    """A transposed convolution without overlap, and its ReLU.

    Attributes:
        conv: 1x1, to the channels of the first cell of a block, then of the next one in its row.
        channels: of the finer map.
    """

    def __init__(self, transposed: nn.ConvTranspose2d) -> None:
        """Take over the weights of a transposed convolution whose kernel is its stride."""
        super().__init__()
        self.channels = transposed.out_channels
        self._stride = transposed.stride[0]
        assert transposed.kernel_size == transposed.stride == (self._stride, self._stride)
        assert transposed.bias is not None
        cells = self._stride**2
        self.conv = nn.Conv2d(transposed.in_channels, cells * self.channels, 1)
        weight = transposed.weight.detach().permute(2, 3, 1, 0)  # from (in, out, row, column)
        self.conv.weight = nn.Parameter(weight.reshape(cells * self.channels, -1, 1, 1))
        self.conv.bias = nn.Parameter(transposed.bias.detach().repeat(cells))

    def forward(self, level: Tensor) -> Tensor:
        """(1, C, H, W) to (1, channels, stride * H, stride * W)."""
        blocks = torch.relu(self.conv(level))
        if self._stride == 1:
            return blocks
        stride, (height, width) = self._stride, level.shape[2:]
        cells = blocks.reshape(1, stride, stride, self.channels, height, width)
        ordered = cells.permute(0, 3, 4, 1, 5, 2)
        return ordered.reshape(1, self.channels, height * stride, width * stride)


class SplitConv(nn.Module):
    """A 1x1 convolution of stacked maps, without the stack."""

    def __init__(self, weight: Tensor, bias: Tensor, sizes: Sequence[int]) -> None:
        """Split a weight (out, sum of sizes, 1, 1) by the channels of each map."""
        super().__init__()
        parts = [part.contiguous() for part in torch.split(weight, list(sizes), 1)]
        convs = [nn.Conv2d(part.shape[1], part.shape[0], 1, bias=False) for part in parts]
        for conv, part in zip(convs, parts, strict=True):
            conv.weight = nn.Parameter(part)
        convs[0].bias = nn.Parameter(bias)
        self.convs = cast('Sequence[nn.Conv2d]', nn.ModuleList(convs))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(1, size, H, W) each to (1, out, H, W)."""
        total: Tensor = self.convs[0](maps[0])
        for conv, each in zip(self.convs[1:], maps[1:], strict=True):
            total = total + conv(each)
        return total


def _stack_neck(detector: AnchorDetector) -> StackNeck:
    assert isinstance(detector.neck, StackNeck)
    return detector.neck


def _fold_norm(layer: nn.Module) -> Any:
    """A convolution with the batch norm that follows it, of either kind."""
    assert isinstance(layer, nn.Sequential)
    conv, norm, _ = layer
    assert isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d))
