# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Overlaps of rotated boxes, exact and without a compiled extension.

In the frame of box b, a box a covers at each x the part of [-dy/2, dy/2] between its lower and its
upper outline. The intersection is therefore the integral of the outline's clamped y over the
clamped x, edge by edge: no corner sorting and no tolerance, hence no special case when boxes are
identical, touch, contain one another or have no area.
"""

from __future__ import annotations

from collections.abc import Callable
import math

import torch
from torch import Tensor

from pointdistiller_core.geometry.boxes import box_corners_bev

PAIRS_AT_ONCE = 1 << 18  # bounds the memory of the exact overlap: about 100 MB
TESTS_AT_ONCE = 1 << 20  # and of the test for boxes that are near enough


def aligned_intersection_bev(a: Tensor, b: Tensor) -> Tensor:
    """Area that each box of `a` shares with the box of `b` in the same row, seen from above.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (N, 7), same frame.

    Returns:
        (N,) [m^2], in the type of `a`; computed in double precision.
    """
    areas = a.new_empty(len(a))
    for start in range(0, len(a), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        areas[part] = _intersection(a[part].double(), b[part].double()).to(a.dtype)
    return areas


def aligned_iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union from above, row by row; 0 where neither box has an area.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (N, 7), same frame.

    Returns:
        (N,) in [0, 1].
    """
    shared = aligned_intersection_bev(a, b)
    return _over_union(shared, a[:, 3] * a[:, 4], b[:, 3] * b[:, 4])


def aligned_iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of the volumes, row by row; 0 where neither box has a volume.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (N, 7), same frame.

    Returns:
        (N,) in [0, 1].
    """
    reach = (a[:, 5] + b[:, 5]) / 2 - (a[:, 2] - b[:, 2]).abs()
    height = reach.clamp(min=0).minimum(a[:, 5]).minimum(b[:, 5])
    shared = aligned_intersection_bev(a, b) * height
    return _over_union(shared, a[:, 3:6].prod(dim=1), b[:, 3:6].prod(dim=1))


def rotated_iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union from above of every pair; 0 where neither box has an area.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (M, 7), same frame.

    Returns:
        (N, M) in [0, 1].
    """
    return _for_near_pairs(aligned_iou_bev, a, b)


def rotated_iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of the volumes of every pair; 0 where neither has a volume.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (M, 7), same frame.

    Returns:
        (N, M) in [0, 1].
    """
    return _for_near_pairs(aligned_iou_3d, a, b)


def nearest_iou_bev(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union from above with each yaw rounded to the nearest axis.

    This is what SECOND and OpenPCDet match anchors with.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (M, 7), same frame.

    Returns:
        (N, M) in [0, 1].
    """
    extents_a, extents_b = _nearest_extents(a), _nearest_extents(b)
    shared_x = _shared_length(a[:, 0], extents_a[:, 0], b[:, 0], extents_b[:, 0])
    shared_y = _shared_length(a[:, 1], extents_a[:, 1], b[:, 1], extents_b[:, 1])
    return _over_union(shared_x * shared_y, a[:, None, 3] * a[:, None, 4], b[:, 3] * b[:, 4])


def _shared_length(
    center_a: Tensor, extent_a: Tensor, center_b: Tensor, extent_b: Tensor
) -> Tensor:
    """Length (N, M) of what two sets of intervals share."""
    high = torch.minimum((center_a + extent_a / 2)[:, None], center_b + extent_b / 2)
    low = torch.maximum((center_a - extent_a / 2)[:, None], center_b - extent_b / 2)
    return (high - low).clamp(min=0)


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    half_x, half_y = b[:, 3] / 2, b[:, 4] / 2
    x, y = _corners_seen_from(b, a)
    rise, run = y.roll(-1, dims=0) - y, x.roll(-1, dims=0) - x
    clamped_x = x.clamp(-half_x, half_x)
    next_clamped_x = clamped_x.roll(-1, dims=0)
    slope = rise / _not_zero(run)
    start = y + (clamped_x - x) * slope
    stop = y + (next_clamped_x - x) * slope
    mean = _mean_clamped(start, stop, half_y)
    area = (mean * (clamped_x - next_clamped_x)).sum(dim=0)
    rounding = 1e-13 * b[:, 3] * b[:, 4]
    return torch.where(area > rounding, area, torch.zeros_like(area))


def _corners_seen_from(observer: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The corners' x and y, each (4, N), in the frame of the observer in the same row."""
    offset_x, offset_y = (boxes[:, :2] - observer[:, :2]).unbind(-1)
    cos, sin = observer[:, 6].cos(), observer[:, 6].sin()
    center = [offset_x * cos + offset_y * sin, offset_y * cos - offset_x * sin]
    yaw = boxes[:, 6] - observer[:, 6]
    local = torch.stack([*center, *boxes[:, 2:6].unbind(-1), yaw], dim=1)
    x, y = box_corners_bev(local).permute(2, 1, 0).contiguous().unbind(0)
    return x, y


def _mean_clamped(start: Tensor, stop: Tensor, half: Tensor) -> Tensor:
    """Mean over a line from `start` to `stop` of its height above -half, clamped to [0, 2 half].

    The clamped line is flat, rises linearly and is flat again. `enter` and `leave` are the ends of
    its middle part as fractions of its length, in either order.
    """
    rise = _not_zero(stop - start)
    enter = ((-half - start) / rise).clamp(0, 1)
    leave = ((half - start) / rise).clamp(0, 1)
    first, last = start.clamp(-half, half) + half, stop.clamp(-half, half) + half
    return last + (first - last) * (enter + leave) / 2


def _not_zero(values: Tensor) -> Tensor:
    return torch.where(values == 0, torch.ones_like(values), values)


def _over_union(shared: Tensor, size_a: Tensor, size_b: Tensor) -> Tensor:
    union = size_a + size_b - shared
    return shared / union.clamp(min=torch.finfo(shared.dtype).tiny)


def _for_near_pairs(overlap: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """`overlap` of all pairs as (N, M), evaluated only where the boxes' circles meet."""
    result = a.new_zeros(len(a), len(b))
    rows = max(1, TESTS_AT_ONCE // max(1, len(b)))
    for start in range(0, len(a), rows):
        i, j = _near(a[start : start + rows], b).nonzero(as_tuple=True)
        result[i + start, j] = overlap(a[i + start], b[j])
    return result


def _near(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) bool: whether the circles around the boxes meet, seen from above."""
    reach = _radius(a)[:, None] + _radius(b)
    distance_x, distance_y = a[:, None, 0] - b[:, 0], a[:, None, 1] - b[:, 1]
    return distance_x.square() + distance_y.square() <= reach.square()


def _radius(boxes: Tensor) -> Tensor:
    slack = 1 + 1e-5  # rounding must not part boxes that overlap by a corner
    return torch.hypot(boxes[:, 3], boxes[:, 4]) * (slack / 2)


def _nearest_extents(boxes: Tensor) -> Tensor:
    """(N, 2) extents along x and y of boxes turned to the nearest axis."""
    period = torch.floor(boxes[:, 6] / math.pi + 0.5) * math.pi
    along_x = (boxes[:, 6] - period).abs() < math.pi / 4
    return torch.where(along_x[:, None], boxes[:, 3:5], boxes[:, 3:5].flip(-1))
