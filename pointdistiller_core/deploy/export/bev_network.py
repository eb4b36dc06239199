# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The part of a detector that other libraries run, in the form that they run fastest.

Its numbers are the detector's; only the order of the same sums differs:

* A transposed convolution whose kernel is its stride gives each cell of the coarse map a block of
  cells of its own: a 1x1 convolution, then a shuffle.
* The head's 1x1 convolution of stacked maps is the sum of 1x1 convolutions of each of them, so
  the maps are never stacked.
* Class logits are separate from the rest, of which only a few cells are read.

A pyramid has its own form: its maps stay apart, and one pair of 1x1 convolutions reads each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from pointdistiller_core.models import AnchorDetector
from pointdistiller_core.models.stages.bev_backbone import FpnNeck, StackNeck


class Maps(NamedTuple):
    """Maps between layers whose channels go together.

    Attributes:
        producers: convolutions that make them.
        channels: of each; a producer may make several cells of them.
        readers: convolutions that read them.
    """

    producers: Sequence[nn.Conv2d]
    channels: int
    readers: Sequence[nn.Conv2d]


class BevNetwork(nn.Module):
    """A detector from the backbone on, which other libraries run. It shares no weight with it.

    Attributes:
        stages: convolutions of the backbone, with their batch norm; a ReLU follows each.
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

    def forward(self, canvas: Tensor) -> tuple[Tensor, ...]:
        """(1, rows, columns, C) pillar features to the outputs of the head's maps.

        Returns:
            For each map (1, A * K, H, W) class logits, or (1, H, W, A * K), see `logits_by_cell`;
            and (1, H, W, A * 9): box residuals of all A anchors of a cell, then direction logits
            of all of them, then their velocities, with which these are A * 11.
        """
        features, levels = canvas.permute(0, 3, 1, 2), []
        for stage in self.stages:
            for conv in stage:
                features = torch.relu(conv(features))
            levels.append(features)
        return tuple(
            each
            for logits, others in self.heads(levels)
            for each in (self.order(logits), others.permute(0, 2, 3, 1))
        )

    def order(self, logits: Tensor) -> Tensor:
        """Class logits (1, A * K, H, W) as they leave the network."""
        return logits

    @abstractmethod
    def heads(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(1, A * K, H, W) class logits and (1, A * 9, H, W) others of each map of the head."""

    @abstractmethod
    def level_readers(self, level: int) -> list[nn.Conv2d]:
        """What reads the map of a stage, beside the next stage."""

    @abstractmethod
    def neck_maps(self) -> Iterator[Maps]:
        """The maps behind the backbone."""

    def maps(self) -> Iterator[Maps]:
        """All maps between two layers."""
        trunk = [conv for stage in self.stages for conv in stage]
        readers: dict[nn.Conv2d, list[nn.Conv2d]] = {conv: [] for conv in trunk}
        for conv, reader in pairwise(trunk):
            readers[conv].append(reader)
        for level, stage in enumerate(self.stages):
            readers[stage[-1]] += self.level_readers(level)
        for conv in trunk:
            yield Maps([conv], conv.out_channels, readers[conv])
        yield from self.neck_maps()


class StackNetwork(BevNetwork):
    """With maps that are stacked.

    Attributes:
        upsamplers: of each stage's map.
        class_head: class logits of the upsampled maps.
        box_head: all other outputs.
    """

    def __init__(self, detector: AnchorDetector) -> None:
        super().__init__(detector)
        assert isinstance(detector.neck, StackNeck)
        self.upsamplers = cast(
            'Sequence[Upsampler]',
            nn.ModuleList(Upsampler(_fold_norm(layer)) for layer in detector.neck.upsamplers),
        )
        sizes = [upsampler.channels for upsampler in self.upsamplers]
        (weight, bias), (box_weight, box_bias) = _head_parts(detector)
        self.class_head = SplitConv(weight, bias, sizes)
        self.box_head = SplitConv(box_weight, box_bias, sizes)
        self.eval().requires_grad_(False)

    def heads(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """See `BevNetwork`."""
        maps = [up(level) for up, level in zip(self.upsamplers, levels, strict=True)]
        return [(self.class_head(maps), self.box_head(maps))]

    def level_readers(self, level: int) -> list[nn.Conv2d]:
        """See `BevNetwork`."""
        return [self.upsamplers[level].conv]

    def neck_maps(self) -> Iterator[Maps]:
        """See `BevNetwork`."""
        heads = zip(self.class_head.convs, self.box_head.convs, strict=True)
        for upsampler, convs in zip(self.upsamplers, heads, strict=True):
            yield Maps([upsampler.conv], upsampler.channels, list(convs))


class PyramidNetwork(BevNetwork):
    """With a feature pyramid.

    Attributes:
        laterals: 1x1 convolutions of each stage's map.
        outputs: 3x3 convolutions of the sums.
        class_head: class logits of each map.
        box_head: all other outputs of each map.
    """

    def __init__(self, detector: AnchorDetector) -> None:
        super().__init__(detector)
        neck = detector.neck
        assert isinstance(neck, FpnNeck)
        self.laterals, self.outputs = (
            cast('Sequence[nn.Conv2d]', nn.ModuleList(map(_fold_norm, layers)))
            for layers in (neck.laterals, neck.outputs)
        )
        self.class_head, self.box_head = (_to_conv(*part) for part in _head_parts(detector))
        self.eval().requires_grad_(False)

    def heads(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """See `BevNetwork`."""
        maps = [torch.relu(conv(level)) for conv, level in zip(self.laterals, levels, strict=True)]
        for finer in reversed(range(len(maps) - 1)):
            stride = maps[finer].shape[2] // maps[finer + 1].shape[2]
            maps[finer] = maps[finer] + functional.interpolate(
                maps[finer + 1], scale_factor=float(stride)
            )
        outputs = [torch.relu(conv(each)) for conv, each in zip(self.outputs, maps, strict=True)]
        return [(self.class_head(each), self.box_head(each)) for each in outputs]

    def order(self, logits: Tensor) -> Tensor:
        """See `logits_by_cell`."""
        return logits.permute(0, 2, 3, 1)

    def level_readers(self, level: int) -> list[nn.Conv2d]:
        """See `BevNetwork`."""
        return [self.laterals[level]]

    def neck_maps(self) -> Iterator[Maps]:
        """See `BevNetwork`; maps that are added, or that one head reads, have their scales."""
        channels = self.class_head.in_channels
        yield Maps(self.laterals, channels, self.outputs)
        yield Maps(self.outputs, channels, [self.class_head, self.box_head])


def build_network(detector: AnchorDetector) -> BevNetwork:
    """The network behind the map of a detector, with the neck that it has."""
    kind = PyramidNetwork if isinstance(detector.neck, FpnNeck) else StackNetwork
    return kind(detector)


def _head_parts(detector: AnchorDetector) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Weight and bias of the class logits, and of the rest."""
    num_logits = detector.head.channels[0]
    weight, bias = (each.detach().clone() for each in detector.head.conv.parameters())
    return (weight[:num_logits], bias[:num_logits]), (weight[num_logits:], bias[num_logits:])


def _to_conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight, conv.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias)
    return conv


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


def _fold_norm(layer: nn.Module) -> Any:
    """A convolution with the batch norm that follows it, of either kind."""
    assert isinstance(layer, nn.Sequential)
    conv, norm, _ = layer
    assert isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d))
