# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes as residuals to anchors, headings as bins (PointPillars, section 3.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pointdistiller_core.geometry.arrays import ArrayT, library_of, to_type
from pointdistiller_core.geometry.transforms import wrap_angle

if TYPE_CHECKING:
    from torch import Tensor

_MIN_SIZE = 1e-5  # m; keeps the logarithm of a degenerate box finite


def encode_boxes(boxes: ArrayT, anchors: ArrayT) -> ArrayT:
    """Encode boxes as residuals to their anchors.

    Args:
        boxes: (..., 7) x, y, z, dx, dy, dz [m], yaw [rad].
        anchors: (..., 7), same encoding.

    Returns:
        (..., 7) residuals: center offsets over the anchor's BEV diagonal (z over its height), log
        size ratios, yaw difference [rad].
    """
    xp = library_of(boxes)
    sizes, anchor_sizes = boxes[..., 3:6].clip(min=_MIN_SIZE), anchors[..., 3:6]
    centers = (boxes[..., :3] - anchors[..., :3]) / _center_scales(anchors)
    yaws = boxes[..., 6:] - anchors[..., 6:]
    residuals: ArrayT = xp.concatenate([centers, xp.log(sizes / anchor_sizes), yaws], -1)
    return residuals


def decode_boxes(residuals: ArrayT, anchors: ArrayT) -> ArrayT:
    """The inverse of `encode_boxes`; (..., 7) boxes whose yaw is not wrapped."""
    xp = library_of(residuals)
    centers = residuals[..., :3] * _center_scales(anchors) + anchors[..., :3]
    sizes = xp.exp(residuals[..., 3:6]) * anchors[..., 3:6]
    yaws = residuals[..., 6:] + anchors[..., 6:]
    boxes: ArrayT = xp.concatenate([centers, sizes, yaws], -1)
    return boxes


def direction_bins(yaws: Tensor, offset: float) -> Tensor:
    """Which half turn from `offset` [rad] a yaw [rad] lies in: int64, 0 or 1."""
    return ((yaws - offset).remainder(2 * math.pi) / math.pi).long().clamp(max=1)


def resolve_headings(yaws: ArrayT, bins: Any, offset: float) -> ArrayT:
    """Yaws [rad] that are known up to half a turn, in the half turn that `bins` says.

    Returns:
        The yaws in [-pi, pi).
    """
    half_turns = library_of(yaws).remainder(yaws - offset, math.pi)
    resolved: ArrayT = half_turns + offset + math.pi * to_type(bins, yaws.dtype)
    return wrap_angle(resolved)


def _center_scales(anchors: ArrayT) -> ArrayT:
    """(..., 3) the unit [m] of x, y and z residuals."""
    xp = library_of(anchors)
    diagonals = xp.hypot(anchors[..., 3], anchors[..., 4])
    scales: ArrayT = xp.stack([diagonals, diagonals, anchors[..., 5]], -1)
    return scales
