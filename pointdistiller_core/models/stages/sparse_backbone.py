# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND's middle in torch; see `sparse.middle`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.sparse.convolution import SparseConv3d, SparseTensor
from pointdistiller_core.sparse.middle import Convolution


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
        stages: the convolutions of each.
    """

    def __init__(self, stages: Sequence[Sequence[Convolution]]) -> None:
        super().__init__()
        *before, (flat,) = ([_build_block(each) for each in stage] for stage in stages)
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in before)
        self.output = flat

    @property
    def blocks(self) -> list[SparseBlock]:
        """All of them, in the order in which they run."""
        return [module for module in self.modules() if isinstance(module, SparseBlock)]

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Features of the voxels to those of few layers of coarser cells; always in float32."""
        with torch.autocast(tensor.features.device.type, enabled=False):
            for stage in self.stages:
                tensor = stage(tensor)
            result: SparseTensor = self.output(tensor)
        return result


def _build_block(conv: Convolution) -> SparseBlock:
    inputs, outputs, kernel, stride, padding = conv
    return SparseBlock(SparseConv3d(inputs, outputs, kernel, stride=stride, padding=padding))


def mean_features(points: Tensor, num_points: Tensor) -> Tensor:
    """(P, F) means of the points of each voxel.

    Args:
        points: (P, M, F), unused slots zero.
        num_points: (P,) used slots.
    """
    return points.sum(dim=1) / num_points[:, None].clamp(min=1)
