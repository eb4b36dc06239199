# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes (x, y, z, dx, dy, dz, yaw): metres, geometric center, yaw counter-clockwise from +x."""

from __future__ import annotations

import torch
from torch import Tensor

from pointdistiller_core.geometry.transforms import wrap_angle

__all__ = ['box_corners', 'box_corners_bev', 'points_in_boxes', 'wrap_angle']


def box_corners_bev(boxes: Tensor) -> Tensor:
    """Corners seen from above, counter-clockwise from the front left one.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].

    Returns:
        (N, 4, 2) x, y [m], same frame.
    """
    signs = boxes.new_tensor([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    forward, left = (signs * boxes[:, None, 3:5]).unbind(-1)
    cos, sin = boxes[:, None, 6].cos(), boxes[:, None, 6].sin()
    offsets = torch.stack([forward * cos - left * sin, forward * sin + left * cos], dim=-1)
    return boxes[:, None, :2] + offsets


def box_corners(boxes: Tensor) -> Tensor:
    """Corners of the lower face, then of the upper face, each as `box_corners_bev` orders them.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].

    Returns:
        (N, 8, 3) x, y, z [m], same frame.
    """
    corners = box_corners_bev(boxes).repeat(1, 2, 1)
    lower, upper = boxes[:, 2] - boxes[:, 5] / 2, boxes[:, 2] + boxes[:, 5] / 2
    heights = torch.stack([lower, upper], dim=1).repeat_interleave(4, dim=1)
    return torch.cat([corners, heights[..., None]], dim=-1)


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points lie in which boxes; points on a face are inside.

    Args:
        points: (N, 3 or more) x, y, z first [m].
        boxes: (G, 7) x, y, z, dx, dy, dz [m], yaw [rad], same frame.

    Returns:
        (N, G) bool.
    """
    x, y, z = (points[:, None, :3] - boxes[:, :3]).unbind(-1)
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    half = boxes[:, 3:6] / 2
    return (
        ((x * cos + y * sin).abs() <= half[:, 0])
        & ((y * cos - x * sin).abs() <= half[:, 1])
        & (z.abs() <= half[:, 2])
    )
