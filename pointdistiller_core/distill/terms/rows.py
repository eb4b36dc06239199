# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Features of every tap as rows: one per pillar, or one per cell of a map, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor

from pointdistiller_core.pointcloud.voxels import Voxels


def rows_of(features: Tensor) -> Tensor:
    """(R, C) rows of pillars (P, C), or of the cells of a map (B, C, H, W) with R = B H W."""
    if features.ndim == 2:
        return features
    return features.flatten(2).transpose(1, 2).flatten(0, 1)


def frame_rows(features: Tensor, pillars: Voxels) -> list[Tensor]:
    """Indices of the rows of each frame; see `rows_of`."""
    if features.ndim > 2:
        batch_size, num_cells = len(features), features[0, 0].numel()
        rows = torch.arange(batch_size * num_cells, device=features.device)
        return [*rows.view(batch_size, num_cells)]
    frames = pillars.coords[:, 0]
    return [torch.nonzero(frames == frame).squeeze(1) for frame in range(pillars.batch_size)]


def points_per_row(features: Tensor, pillars: Voxels, bev_shape: tuple[int, int]) -> Tensor:
    """(R,) int64 points behind each row: of the pillar, or of all pillars in a coarser cell.

    Args:
        features: (P, C), or (B, C, H, W).
        pillars: what the features were made of.
        bev_shape: rows and columns of the pillars' grid, multiples of H and W.
    """
    if features.ndim == 2:
        return pillars.num_points
    batch_size, _, *shape = features.shape
    strides = [fine // coarse for fine, coarse in zip(bev_shape, shape, strict=True)]
    frame, _, row, column = pillars.coords.unbind(1)
    cell = (frame * shape[0] + row // strides[0]) * shape[1] + column // strides[1]
    counts = pillars.num_points.new_zeros(batch_size * shape[0] * shape[1])
    return counts.index_add(0, cell, pillars.num_points)
