# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes as residuals to anchors, headings as bins (PointPillars, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pointdistiller_core.geometry.transforms import wrap_angle

_MIN_SIZE = 1e-5  # m; keeps the logarithm of a degenerate box finite


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Encode boxes as residuals to their anchors.

    Args:
        boxes: (..., 7) x, y, z, dx, dy, dz [m], yaw [rad].
        anchors: (..., 7), same encoding.

    Returns:
        (..., 7) residuals: center offsets over the anchor's BEV diagonal (z over its height), log
        size ratios, yaw difference [rad].
    """
    sizes, anchor_sizes = boxes[..., 3:6].clamp(min=_MIN_SIZE), anchors[..., 3:6]
    centers = (boxes[..., :3] - anchors[..., :3]) / _center_scales(anchors)
    yaws = boxes[..., 6:] - anchors[..., 6:]
    return torch.cat([centers, (sizes / anchor_sizes).log(), yaws], dim=-1)


def decode_boxes(residuals: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode_boxes`; (..., 7) boxes whose yaw is not wrapped."""
    centers = residuals[..., :3] * _center_scales(anchors) + anchors[..., :3]
    sizes = residuals[..., 3:6].exp() * anchors[..., 3:6]
    yaws = residuals[..., 6:] + anchors[..., 6:]
    return torch.cat([centers, sizes, yaws], dim=-1)


def direction_bins(yaws: Tensor, offset: float) -> Tensor:
    """Which half turn from `offset` [rad] a yaw [rad] lies in: int64, 0 or 1."""
    return ((yaws - offset).remainder(2 * math.pi) / math.pi).long().clamp(max=1)


def resolve_headings(yaws: Tensor, bins: Tensor, offset: float) -> Tensor:
    """Yaws [rad] that are known up to half a turn, in the half turn that `bins` says.

    Returns:
        The yaws in [-pi, pi).
    """
    return wrap_angle((yaws - offset).remainder(math.pi) + offset + math.pi * bins.to(yaws.dtype))


def _center_scales(anchors: Tensor) -> Tensor:
    """(..., 3) the unit [m] of x, y and z residuals."""
    diagonals = torch.hypot(anchors[..., 3], anchors[..., 4])
    return torch.stack([diagonals, diagonals, anchors[..., 5]], dim=-1)
