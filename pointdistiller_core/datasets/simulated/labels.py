# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels as annotators make them: boxes drawn towards the visible points."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array = NDArray[np.float64]

Box: TypeAlias = tuple[float, float, float, float, float, float, float]

FEWEST_POINTS = 5  # points that show where an object ends
MOST = 0.15  # largest part of an extent that is cut off at one end
TOP = 0.1  # most that is cut off the height [m]; the ground below is seen


def shrink_box(box: Box, points: Array, part: float) -> Box:
    """A box whose ends are moved towards the outermost points on it.

    Args:
        box: x, y, z, dx, dy, dz [m], yaw [rad].
        points: (N, 3) x, y, z [m] on the object.
        part: of the gap between an end and the points that is closed.
    """
    if part == 0 or len(points) < FEWEST_POINTS:
        return box
    center, size, yaw = np.array(box[:3]), np.array(box[3:6]), box[6]
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])  # box to frame
    local = (points - center) @ turn
    most = MOST * size
    low_gap = np.clip(local.min(axis=0) + size / 2, 0, most / part) * part
    high_gap = np.clip(size / 2 - local.max(axis=0), 0, most / part) * part
    low_gap[2], high_gap[2] = 0.0, min(high_gap[2], TOP)
    moved = center + turn @ ((low_gap - high_gap) / 2)
    shrunk = size - low_gap - high_gap
    return (*moved.tolist(), *shrunk.tolist(), yaw)
