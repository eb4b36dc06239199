# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Anchors: the prior boxes that the head's residuals refer to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pointdistiller_core.config import AnchorConfig
from pointdistiller_core.grid import Grid


def make_anchors(grid: Grid, classes: Sequence[AnchorConfig], *, stride: int) -> Tensor:
    """The anchors of a map that is `stride` times coarser than the grid.

    As in OpenPCDet they do not stand at the cells' centers: the first and the last of a row or
    column stand on the limits of the range.

    Args:
        grid: the BEV grid.
        classes: the anchors of each class.
        stride: cells of the grid per cell of the map, along each axis.

    Returns:
        (H, W, A, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame; A counts the yaws of
        the first class, then those of the second, and so on.
    """
    x_min, y_min, _, x_max, y_max, _ = grid.point_cloud_range
    height, width = grid.strided_bev_shape(stride)
    shapes = torch.tensor(
        [
            (config.bottom + config.size[2] / 2, *config.size, yaw)
            for config in classes
            for yaw in config.yaws
        ],
        dtype=torch.float32,
    )
    anchors = shapes.new_empty(height, width, len(shapes), 7)
    anchors[..., 0] = torch.linspace(x_min, x_max, width)[None, :, None]
    anchors[..., 1] = torch.linspace(y_min, y_max, height)[:, None, None]
    anchors[..., 2:] = shapes
    return anchors
