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
