# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND's middle: voxels of decreasing resolution in 3D (Yan et al., Sensors 2018, section 3.1).

As in OpenPCDet's `VoxelBackBone8x`: submanifold convolutions keep the occupied cells, strided ones
halve the resolution, and a last one halves the height.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.sparse.convolution import SparseConv3d, SparseTensor

HALF, NEAR = (2, 2, 2), (1, 1, 1)
NO_PADDING_UP = (0, 1, 1)  # of the last stage: 11 layers become 5, and then 2
FLAT_KERNEL, FLAT_STRIDE = (3, 1, 1), (2, 1, 1)


class SparseBlock(nn.Module):
    """A sparse convolution, batch norm and ReLU."""

    def __init__(self, conv: SparseConv3d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = BatchNormRows(conv.weight.shape[0])

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """(R, C) features to (R', C') ones, none below 0."""
        result: SparseTensor = self.conv(tensor)
        return result.with_features(self.norm(result.features).relu())


class SparseBackbone(nn.Module):
    """Stages of sparse convolutions, and a last one along the height.

    Args:
        in_channels: of the voxels.
        channels: of each stage; the first keeps the resolution, each further one halves it.
        layers: submanifold convolutions of each stage; the first stage has nothing else.
        out_channels: of the result.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Sequence[int],
        layers: Sequence[int],
        out_channels: int,
    ) -> None:
        super().__init__()
        stages = []
        for number, (outputs, num_layers) in enumerate(zip(channels, layers, strict=True)):
            padding = NO_PADDING_UP if number == len(channels) - 1 else NEAR
            blocks = []
            if number:
                conv = SparseConv3d(in_channels, outputs, stride=HALF, padding=padding)
                blocks.append(SparseBlock(conv))
            inputs = outputs if number else in_channels
            for layer in range(num_layers):
                blocks.append(SparseBlock(SparseConv3d(inputs if not layer else outputs, outputs)))
            stages.append(nn.Sequential(*blocks))
            in_channels = outputs if blocks else in_channels
        self.stages = nn.ModuleList(stages)
        flat = SparseConv3d(in_channels, out_channels, FLAT_KERNEL, stride=FLAT_STRIDE)
        self.output = SparseBlock(flat)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features of the voxels to those of few layers of coarser cells; always in float32."""
        with torch.autocast(tensor.features.device.type, enabled=False):
            for stage in self.stages:
                tensor = stage(tensor)
            result: SparseTensor = self.output(tensor)
        return result


def mean_features(points: Tensor, num_points: Tensor) -> Tensor:
    """(P, F) means of the points of each voxel.

    Args:
        points: (P, M, F), unused slots zero.
        num_points: (P,) used slots.
    """
    return points.sum(dim=1) / num_points[:, None].clamp(min=1)
