# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations as nuScenes writes them: quaternions w, x, y, z, of any length but zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.transforms import quaternion_from_rotation

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]


def rotations_of(quaternions: FloatArray) -> FloatArray:
    """(N, 3, 3) rotations of quaternions (N, 4); no turn for a zero one."""
    lengths = np.linalg.norm(quaternions, axis=1, keepdims=True)
    unit = np.where(lengths > 0, quaternions / np.where(lengths > 0, lengths, 1), [1, 0, 0, 0])
    w, x, y, z = unit.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def yaws_of(rotations: FloatArray) -> FloatArray:
    """(N,) directions [rad] of the turned x axes, seen from above, of rotations (N, 3, 3)."""
    yaws: FloatArray = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    return yaws


def quaternion_of(rotation: FloatArray) -> FloatArray:
    """(4,) w, x, y, z of a rotation (3, 3), w not negative."""
    return np.roll(quaternion_from_rotation(rotation), 1)


def quaternions_about_z(yaws: FloatArray) -> FloatArray:
    """(N, 4) turns about the vertical axis by yaws (N,) [rad]."""
    zero = np.zeros(len(yaws))
    return np.stack([np.cos(yaws / 2), zero, zero, np.sin(yaws / 2)], axis=1)


def quaternion_product(first: FloatArray, second: FloatArray) -> FloatArray:
    """(N, 4) the turn `second` in a frame that is turned by `first`; each (N, 4) or (4,)."""
    (w, x, y, z), (u, i, j, k) = np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0)
    columns = [
        w * u - x * i - y * j - z * k,
        w * i + x * u + y * k - z * j,
        w * j - x * k + y * u + z * i,
        w * k + x * j - y * i + z * u,
    ]
    return np.stack(columns, axis=-1)


def matrix_of(pose: FloatArray) -> FloatArray:
    """(4, 4) of a pose (7,) x, y, z [m], quaternion w, x, y, z."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotations_of(pose[None, 3:])[0]
    matrix[:3, 3] = pose[:3]
    return matrix
