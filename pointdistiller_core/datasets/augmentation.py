# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Global augmentation of a frame; points and boxes move together (VoxelNet, section 3.2)."""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np

from pointdistiller_core.config import AugmentationConfig
from pointdistiller_core.geometry.transforms import wrap_angle
from pointdistiller_core.records import Frame, GroundTruth


def augment(frame: Frame, config: AugmentationConfig, rng: np.random.Generator) -> Frame:
    """Flip, rotate, scale and shuffle a frame, as the published KITTI schedules do.

    Args:
        frame: one sweep, LiDAR frame.
        config: probabilities and ranges.
        rng: source of all randomness; equal generators give equal frames.
    """
    if rng.random() < config.flip_probability:
        frame = flip_y(frame)
    frame = rotate_z(frame, rng.uniform(*config.rotation))
    frame = scale(frame, rng.uniform(*config.scaling))
    if config.shuffle_points:
        frame = replace(frame, points=rng.permutation(frame.points))
    return frame


def flip_y(frame: Frame) -> Frame:
    """The frame in a mirror: left and right (y, -y) change places."""
    return _transform(frame, np.diag((1.0, -1.0, 1.0)), yaw_sign=-1.0)


def rotate_z(frame: Frame, angle: float) -> Frame:
    """The frame turned about the vertical axis.

    Args:
        frame: one sweep, LiDAR frame.
        angle: counter-clockwise, seen from above [rad].
    """
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return _transform(frame, rotation, yaw_offset=angle)


def scale(frame: Frame, factor: float) -> Frame:
    """The frame grown about the sensor: positions and sizes times `factor`."""
    return _transform(frame, np.eye(3) * factor, size_factor=factor)


def _transform(
    frame: Frame,
    matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    *,
    yaw_sign: float = 1.0,
    yaw_offset: float = 0.0,
    size_factor: float = 1.0,
) -> Frame:
    """Apply one linear map (3, 3) to the points and to the centers of the boxes."""
    matrix = matrix.astype(np.float32)
    points = np.concatenate([frame.points[:, :3] @ matrix.T, frame.points[:, 3:]], axis=1)
    if frame.ground_truth is None:
        return replace(frame, points=points)
    boxes = frame.ground_truth.boxes.astype(np.float64)
    boxes[:, :3] = boxes[:, :3] @ matrix.T
    boxes[:, 3:6] *= size_factor
    boxes[:, 6] = wrap_angle(yaw_sign * boxes[:, 6] + yaw_offset)
    truth = GroundTruth(boxes.astype(np.float32), frame.ground_truth.labels)
    return replace(frame, points=points, ground_truth=truth)
