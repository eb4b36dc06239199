# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Overlaps of rotated boxes, exact and without a compiled extension, in NumPy and torch alike.

In the frame of box b, a box a covers at each x the part of [-dy/2, dy/2] between its lower and its
upper outline. The intersection is therefore the integral of the outline's clamped y over the
clamped x, edge by edge: no corner sorting and no tolerance, hence no special case when boxes are
identical, touch, contain one another or have no area.
"""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any

from pointdistiller_core.geometry.arrays import ArrayT, library_of, to_type
from pointdistiller_core.geometry.boxes import box_corners_bev

PAIRS_AT_ONCE = 1 << 18  # bounds the memory of the exact overlap: about 100 MB
TESTS_AT_ONCE = 1 << 20  # and of the test for boxes that are near enough


def aligned_intersection_bev(a: ArrayT, b: ArrayT) -> ArrayT:
    """Area that each box of `a` shares with the box of `b` in the same row, seen from above.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (N, 7), same frame.

    Returns:
        (N,) [m^2], in the type of `a`; computed in double precision.
    """
    xp = library_of(a)
    areas = []
    for start in range(0, max(1, len(a)), PAIRS_AT_ONCE):
        rows = slice(start, start + PAIRS_AT_ONCE)
        areas.append(_intersection(to_type(a[rows], xp.float64), to_type(b[rows], xp.float64)))
    joined: ArrayT = to_type(xp.concatenate(areas), a.dtype)
    return joined


def aligned_iou_bev(a: ArrayT, b: ArrayT) -> ArrayT:
    """Intersection over union from above, row by row; 0 if neither box has an area.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (N, 7), same frame.

    Returns:
        (N,) in [0, 1].
    """
    shared = aligned_intersection_bev(a, b)
    return _over_union(shared, a[:, 3] * a[:, 4], b[:, 3] * b[:, 4])


def aligned_iou_3d(a: ArrayT, b: ArrayT) -> ArrayT:
    """Intersection over union of the volumes, row by row; 0 if neither box has a volume.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (N, 7), same frame.

    Returns:
        (N,) in [0, 1].
    """
    xp = library_of(a)
    reach = (a[:, 5] + b[:, 5]) / 2 - abs(a[:, 2] - b[:, 2])
    height = xp.minimum(reach.clip(min=0), xp.minimum(a[:, 5], b[:, 5]))
    shared: ArrayT = aligned_intersection_bev(a, b) * height
    return _over_union(shared, _volume(a), _volume(b))


def rotated_iou_bev(a: ArrayT, b: ArrayT) -> ArrayT:
    """Intersection over union from above of every pair; 0 if neither box has an area.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (M, 7), same frame.

    Returns:
        (N, M) in [0, 1].
    """
    return _for_near_pairs(aligned_iou_bev, a, b)


def rotated_iou_3d(a: ArrayT, b: ArrayT) -> ArrayT:
    """Intersection over union of the volumes of every pair; 0 if neither has a volume.

    Args:
        a: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].
        b: (M, 7), same frame.

    Returns:
        (N, M) in [0, 1].
    """
    return _for_near_pairs(aligned_iou_3d, a, b)


def nearest_iou_bev(a: ArrayT, b: ArrayT) -> ArrayT:
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
    center_a: ArrayT, extent_a: ArrayT, center_b: ArrayT, extent_b: ArrayT
) -> ArrayT:
    """Length (N, M) of what two sets of intervals share."""
    xp = library_of(center_a)
    high = xp.minimum((center_a + extent_a / 2)[:, None], center_b + extent_b / 2)
    low = xp.maximum((center_a - extent_a / 2)[:, None], center_b - extent_b / 2)
    shared: ArrayT = (high - low).clip(min=0)
    return shared


def _intersection(a: ArrayT, b: ArrayT) -> ArrayT:
    xp = library_of(a)
    half_x, half_y = b[:, 3] / 2, b[:, 4] / 2
    x, y = _corners_seen_from(b, a)
    rise, run = xp.roll(y, -1, 0) - y, xp.roll(x, -1, 0) - x
    clamped_x = x.clip(-half_x, half_x)
    next_clamped_x = xp.roll(clamped_x, -1, 0)
    slope = rise / _not_zero(run)
    start = y + (clamped_x - x) * slope
    stop = y + (next_clamped_x - x) * slope
    mean = _mean_clamped(start, stop, half_y)
    area = (mean * (clamped_x - next_clamped_x)).sum(0)
    rounding = 1e-13 * b[:, 3] * b[:, 4]
    result: ArrayT = xp.where(area > rounding, area, 0.0)
    return result


def _corners_seen_from(observer: ArrayT, boxes: ArrayT) -> tuple[ArrayT, ArrayT]:
    """The corners' x and y, each (4, N), in the frame of the observer in the same row."""
    xp = library_of(boxes)
    offset_x, offset_y = boxes[:, 0] - observer[:, 0], boxes[:, 1] - observer[:, 1]
    cos, sin = xp.cos(observer[:, 6]), xp.sin(observer[:, 6])
    center: list[ArrayT] = [offset_x * cos + offset_y * sin, offset_y * cos - offset_x * sin]
    columns = [*center, *boxes[:, 2:6].T, boxes[:, 6] - observer[:, 6]]
    corners = box_corners_bev(xp.stack(columns, 1))
    return corners[..., 0].T, corners[..., 1].T


def _mean_clamped(start: ArrayT, stop: ArrayT, half: ArrayT) -> ArrayT:
    """Mean over a line from `start` to `stop` of its height above -half, clamped to [0, 2 half].

    The clamped line is flat, rises linearly and is flat again. `enter` and `leave` are the ends of
    its middle part as fractions of its length, in either order.
    """
    rise = _not_zero(stop - start)
    enter = ((-half - start) / rise).clip(0, 1)
    leave = ((half - start) / rise).clip(0, 1)
    first, last = start.clip(-half, half) + half, stop.clip(-half, half) + half
    mean: ArrayT = last + (first - last) * (enter + leave) / 2
    return mean


def _not_zero(values: ArrayT) -> ArrayT:
    result: ArrayT = library_of(values).where(values == 0, 1.0, values)
    return result


def _over_union(shared: ArrayT, size_a: ArrayT, size_b: ArrayT) -> ArrayT:
    tiny = float(library_of(shared).finfo(shared.dtype).tiny)
    overlap: ArrayT = shared / (size_a + size_b - shared).clip(min=tiny)
    return overlap


def _volume(boxes: ArrayT) -> ArrayT:
    volume: ArrayT = boxes[:, 3] * boxes[:, 4] * boxes[:, 5]
    return volume


def _for_near_pairs(overlap: Callable[[ArrayT, ArrayT], ArrayT], a: ArrayT, b: ArrayT) -> ArrayT:
    """`overlap` of all pairs as (N, M), evaluated only where the boxes' circles meet."""
    xp = library_of(a)
    parts = []
    rows = max(1, TESTS_AT_ONCE // max(1, len(b)))
    for start in range(0, max(1, len(a)), rows):
        near = may_overlap(a[start : start + rows], b)
        i, j = xp.where(near)
        part = to_type(near, a.dtype)
        part[i, j] = overlap(a[i + start], b[j])
        parts.append(part)
    joined: ArrayT = xp.concatenate(parts)
    return joined


def may_overlap(a: ArrayT, b: ArrayT) -> Any:
    """(N, M) bool: whether the circles around the boxes meet, seen from above."""
    reach = _radius(a)[:, None] + _radius(b)
    distance_x, distance_y = a[:, None, 0] - b[:, 0], a[:, None, 1] - b[:, 1]
    return distance_x**2 + distance_y**2 <= reach**2


def _radius(boxes: ArrayT) -> ArrayT:
    slack = 1 + 1e-5  # rounding must not part boxes that overlap by a corner
    radius: ArrayT = library_of(boxes).hypot(boxes[:, 3], boxes[:, 4]) * (slack / 2)
    return radius


def _nearest_extents(boxes: ArrayT) -> ArrayT:
    """(N, 2) extents along x and y of boxes turned to the nearest axis."""
    xp = library_of(boxes)
    period = xp.floor(boxes[:, 6] / math.pi + 0.5) * math.pi
    along_x = abs(boxes[:, 6] - period) < math.pi / 4
    extents: ArrayT = xp.where(along_x[:, None], boxes[:, 3:5], boxes[:, [4, 3]])
    return extents
