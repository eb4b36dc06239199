# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Points inside boxes, as the public CUDA kernels of PointRCNN decide and pool them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_MARGIN = 1e-5  # [m] that a side face is further out, as in the kernel
_TESTS_AT_ONCE = 1 << 22


class PooledPoints(NamedTuple):
    """Points of R boxes.

    Attributes:
        indices: (R, S) int64 into the points, ascending and then again from the first; 0 in a box
            without any.
        counts: (R,) int64 points inside, also those beyond S.
    """

    indices: Tensor
    counts: Tensor


@torch.no_grad()
def pool_points(points: Tensor, boxes: Tensor, num_points: int) -> PooledPoints:
    """The first points inside each box, repeated until all slots are full.

    Args:
        points: (N, 3) x, y, z [m].
        boxes: (R, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        num_points: S.
    """
    indices = boxes.new_zeros(len(boxes), num_points, dtype=torch.int64)
    counts = indices.new_zeros(len(boxes))
    slots = torch.arange(num_points, device=boxes.device)
    if not len(points):
        return PooledPoints(indices, counts)
    rows = max(1, _TESTS_AT_ONCE // len(points))
    for first in range(0, len(boxes), rows):
        owners, inside = inside_boxes(points, boxes[first : first + rows]).nonzero(as_tuple=True)
        own = owners.bincount(minlength=len(boxes[first : first + rows]))
        starts = own.cumsum(0) - own
        filled = own > 0
        places = starts[filled, None] + slots % own[filled, None]
        indices[first : first + rows][filled] = inside[places]
        counts[first : first + rows] = own
    return PooledPoints(indices, counts)


def first_box(points: Tensor, boxes: Tensor) -> Tensor:
    """(N,) int64 first of the boxes (G, 7) that each point (N, 3) is inside of; -1 for none."""
    if not len(boxes):
        return torch.full((len(points),), -1, device=points.device)
    inside = inside_boxes(points, boxes)
    return torch.where(inside.any(dim=0), inside.int().argmax(dim=0), -1)


def inside_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points are inside boxes; on the lower and upper face they are.

    Args:
        points: (N, 3) x, y, z [m].
        boxes: (R, 7) x, y, z, dx, dy, dz [m], yaw [rad].

    Returns:
        (R, N) bool.
    """
    x, y, z = points[:, :3].T.contiguous()
    center_x, center_y, center_z, dx, dy, dz, yaw = boxes.T[..., None]
    offset_x, offset_y = x - center_x, y - center_y
    cos, sin = yaw.cos(), yaw.sin()
    forward = (offset_x * cos + offset_y * sin).abs_() < dx / 2 + _MARGIN
    left = (offset_y * cos - offset_x * sin).abs_() < dy / 2 + _MARGIN
    inside: Tensor = forward & left & ((z - center_z).abs_() <= dz / 2)
    return inside
