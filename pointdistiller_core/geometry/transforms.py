# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Angles and rigid transforms, named `target_from_source`; needs no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

AngleT = TypeVar('AngleT', float, 'NDArray[np.float32]', 'NDArray[np.float64]', 'Tensor')


def wrap_angle(yaw: AngleT) -> AngleT:
    """The same direction in [-pi, pi); angles inside already keep every bit.

    Args:
        yaw: [rad], a number, an array or a tensor of any shape.
    """
    half_turns = yaw // math.pi  # exact, where yaw + pi would be rounded
    turns = (half_turns + 1) // 2
    return yaw - turns * (2 * math.pi)


def rotate_xy(
    vectors: NDArray[np.floating[Any]], angle: NDArray[np.floating[Any]] | float
) -> NDArray[np.floating[Any]]:
    """Vectors (N, 2) turned counter-clockwise by one angle or by (N,) angles [rad]."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vectors.T
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def transform_points(
    target_from_source: NDArray[np.floating[Any]], points: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Move points from the source to the target frame.

    Args:
        target_from_source: (4, 4).
        points: (N, 3) [m], source frame.

    Returns:
        (N, 3) [m], target frame, in the wider of the two types.
    """
    rotation, translation = target_from_source[:3, :3], target_from_source[:3, 3]
    moved: NDArray[np.floating[Any]] = points @ rotation.T + translation
    return moved


def invert_rigid(target_from_source: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """`source_from_target` of a rotation and a translation.

    Args:
        target_from_source: (4, 4), its 3 x 3 part orthonormal.
    """
    rotation = target_from_source[:3, :3].T
    inverse = np.eye(4, dtype=target_from_source.dtype)
    inverse[:3, :3] = rotation
    inverse[:3, 3] = -rotation @ target_from_source[:3, 3]
    return inverse


def rotation_from_angles(roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    """(3, 3) turn about the fixed axes x, then y, then z [rad], as in REP 103."""
    (sin_r, sin_p, sin_y), (cos_r, cos_p, cos_y) = (
        [function(angle) for angle in (roll, pitch, yaw)] for function in (math.sin, math.cos)
    )
    about_x = np.array([[1, 0, 0], [0, cos_r, -sin_r], [0, sin_r, cos_r]])
    about_y = np.array([[cos_p, 0, sin_p], [0, 1, 0], [-sin_p, 0, cos_p]])
    about_z = np.array([[cos_y, -sin_y, 0], [sin_y, cos_y, 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation


def rotation_from_quaternion(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation of a quaternion (4,) x, y, z, w of any length but zero."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(4,) x, y, z, w of a rotation (3, 3), w not negative.

    The eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, 2000), which
    needs no case for small w.
    """
    r = rotation
    symmetric = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    quaternion: NDArray[np.float64] = np.linalg.eigh(symmetric)[1][:, -1]
    return quaternion if quaternion[3] >= 0 else -quaternion
