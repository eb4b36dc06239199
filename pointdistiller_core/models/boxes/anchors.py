# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Anchors: the prior boxes that the head's residuals refer to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pointdistiller_core.config import AnchorConfig
from pointdistiller_core.grid import Grid


def make_anchors(
    grid: Grid,
    kinds: Sequence[AnchorConfig],
    *,
    stride: int,
    scale: float = 1.0,
    centers: Literal['corners', 'cells'] = 'corners',
) -> Tensor:
    """The anchors of a map that is `stride` times coarser than the grid.

    Args:
        grid: the BEV grid.
        kinds: the anchors of each class or shape.
        stride: cells of the grid per cell of the map, along each axis.
        scale: factor on their sizes; their lower faces stay where they are.
        centers: `corners`: the first and the last of a row or column stand on the limits of the
            range, as in OpenPCDet; `cells`: all stand in the middle of their cells.

    Returns:
        (H, W, A, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame; A counts the yaws of
        the first kind, then those of the second, and so on.
    """
    x_min, y_min, _, x_max, y_max, _ = grid.point_cloud_range
    height, width = grid.strided_bev_shape(stride)
    shapes = torch.tensor(
        [
            (config.bottom + dz * scale / 2, dx * scale, dy * scale, dz * scale, yaw)
            for config in kinds
            for dx, dy, dz in [config.size]
            for yaw in config.yaws
        ],
        dtype=torch.float32,
    )
    anchors = shapes.new_empty(height, width, len(shapes), 7)
    anchors[..., 0] = _places(x_min, x_max, width, centers)[None, :, None]
    anchors[..., 1] = _places(y_min, y_max, height, centers)[:, None, None]
    anchors[..., 2:] = shapes
    return anchors


def _places(low: float, high: float, count: int, centers: str) -> Tensor:
    """(count,) coordinates [m] of the anchors along one axis."""
    inset = 0.0 if centers == 'corners' else (high - low) / count / 2
    return torch.linspace(low + inset, high - inset, count)
