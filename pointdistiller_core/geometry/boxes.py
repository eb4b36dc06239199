# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes (x, y, z, dx, dy, dz, yaw): metres, geometric center, yaw counter-clockwise from +x."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.arrays import ArrayT, library_of
from pointdistiller_core.geometry.transforms import transform_points, wrap_angle

__all__ = ['box_corners', 'box_corners_bev', 'points_in_boxes', 'transform_boxes', 'wrap_angle']


def box_corners_bev(boxes: ArrayT) -> ArrayT:
    """Corners seen from above, counter-clockwise from the front left one.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].

    Returns:
        (N, 4, 2) x, y [m], same frame.
    """
    xp = library_of(boxes)
    cos, sin = xp.cos(boxes[:, 6]), xp.sin(boxes[:, 6])
    forward = xp.stack([cos, sin], 1) * (boxes[:, 3:4] / 2)
    left = xp.stack([-sin, cos], 1) * (boxes[:, 4:5] / 2)
    offsets = [forward + left, left - forward, -forward - left, forward - left]
    corners: ArrayT = boxes[:, None, :2] + xp.stack(offsets, 1)
    return corners


def box_corners(boxes: ArrayT) -> ArrayT:
    """Corners of the lower face, then of the upper face, each as `box_corners_bev` orders them.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].

    Returns:
        (N, 8, 3) x, y, z [m], same frame.
    """
    xp = library_of(boxes)
    corners = box_corners_bev(boxes)
    lower, upper = boxes[:, 2] - boxes[:, 5] / 2, boxes[:, 2] + boxes[:, 5] / 2
    heights = xp.stack([lower] * 4 + [upper] * 4, 1)[..., None]
    both_faces: ArrayT = xp.concatenate([xp.concatenate([corners, corners], 1), heights], -1)
    return both_faces


def transform_boxes(
    target_from_source: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Boxes in another frame, upright there; size and heading are kept.

    Args:
        target_from_source: (4, 4); for a tilted sensor use `Mounting`.
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad], source frame.

    Returns:
        (N, 7), target frame, in the type of the boxes.
    """
    moved = boxes.copy()
    moved[:, :3] = transform_points(target_from_source, boxes[:, :3])
    turn = np.arctan2(target_from_source[1, 0], target_from_source[0, 0])
    moved[:, 6] = wrap_angle(boxes[:, 6] + turn.astype(boxes.dtype))
    return moved


def points_in_boxes(points: ArrayT, boxes: ArrayT) -> Any:
    """Which points lie in which boxes; points on a face are inside.

    Args:
        points: (N, 3 or more) x, y, z first [m].
        boxes: (G, 7) x, y, z, dx, dy, dz [m], yaw [rad], same frame.

    Returns:
        (N, G) bool.
    """
    x, y, z = points.T[:3]
    rows: list[Any] = [_in_box(x, y, z, box) for box in boxes]
    none = points.T[:0] > 0  # also right without any box
    return library_of(points).concatenate([none, *(row[None] for row in rows)]).T


def _in_box(x: ArrayT, y: ArrayT, z: ArrayT, box: ArrayT) -> Any:
    """(N,) whether each point, by coordinate, is in a box (7,)."""
    xp = library_of(x)
    center_x, center_y, center_z, dx, dy, dz, yaw = box
    # Most points are too far away along x alone. The few others fit into the processor's cache.
    # The slack is for rounding.
    inside = abs(x - center_x) <= xp.hypot(dx, dy) * (0.5 + 1e-5)
    near = xp.where(inside)[0]
    offset_x, offset_y, offset_z = x[near] - center_x, y[near] - center_y, z[near] - center_z
    cos, sin = xp.cos(yaw), xp.sin(yaw)
    inside[near] = (
        (abs(offset_x * cos + offset_y * sin) <= dx / 2)
        & (abs(offset_y * cos - offset_x * sin) <= dy / 2)
        & (abs(offset_z) <= dz / 2)
    )
    return inside
