# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation of a frame; points and boxes stay together.

Every step is a pure function of a frame and a random generator, in the order of the published
KITTI schedules (SECOND, PointPillars).
"""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.config import AugmentationConfig
from pointdistiller_core.datasets.ground_truth_database import GroundTruthDatabase, paste_objects
from pointdistiller_core.datasets.object_noise import move_objects
from pointdistiller_core.geometry.transforms import wrap_angle
from pointdistiller_core.records import Frame

Range = tuple[float, float, float, float, float, float]


@products_in_calling_thread()
def augment(
    frame: Frame,
    config: AugmentationConfig,
    rng: np.random.Generator,
    *,
    database: GroundTruthDatabase | None = None,
    point_cloud_range: Range | None = None,
) -> Frame:
    """Paste objects, move them, flip, rotate, scale, crop and shuffle, as configured.

    Args:
        frame: one sweep, LiDAR frame.
        config: probabilities and ranges.
        rng: source of all randomness; equal generators give equal frames.
        database: usable objects, for `config.ground_truth_sampling`.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max [m]; crops to it.

    Raises:
        ValueError: there are objects to paste, and no database.
    """
    if config.ground_truth_sampling is not None:
        if database is None:
            raise ValueError('ground_truth_sampling needs a database')
        frame = paste_objects(frame, database, config.ground_truth_sampling, rng)
    if config.object_noise is not None:
        frame = move_objects(frame, config.object_noise, rng)
    if rng.random() < config.flip_probability:
        frame = flip_y(frame)
    if config.flip_x_probability and rng.random() < config.flip_x_probability:
        frame = flip_x(frame)
    frame = rotate_z(frame, rng.uniform(*config.rotation))
    frame = scale(frame, rng.uniform(*config.scaling))
    if point_cloud_range is not None:
        frame = crop(frame, point_cloud_range)
    if config.shuffle_points:
        frame = replace(frame, points=rng.permutation(frame.points))
    return frame


def flip_y(frame: Frame) -> Frame:
    """The frame mirrored: left and right (y, -y) change places."""
    return _transform(frame, np.diag((1.0, -1.0, 1.0)), yaw_sign=-1.0)


def flip_x(frame: Frame) -> Frame:
    """The frame mirrored: ahead and behind (x, -x) change places."""
    return _transform(frame, np.diag((-1.0, 1.0, 1.0)), yaw_sign=-1.0, yaw_offset=math.pi)


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
    """The frame scaled about the sensor: positions and sizes times `factor`."""
    return _transform(frame, np.eye(3) * factor, size_factor=factor)


def crop(frame: Frame, point_cloud_range: Range) -> Frame:
    """The points in a range, and the boxes whose center is in it, seen from above.

    Args:
        frame: one sweep, LiDAR frame.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max [m]; its ends are inside.
    """
    low, high = np.array(point_cloud_range, np.float32).reshape(2, 3)
    x, y, z = frame.points[:, :3].T
    inside = (x >= low[0]) & (y >= low[1]) & (z >= low[2])
    inside &= (x <= high[0]) & (y <= high[1]) & (z <= high[2])
    points, truth = frame.points[inside], frame.ground_truth
    if truth is not None:
        x, y = truth.boxes[:, :2].T
        truth = truth[(x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])]
    return replace(frame, points=points, ground_truth=truth)


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
    truth = replace(frame.ground_truth, boxes=boxes.astype(np.float32))
    if truth.velocities is not None:
        velocities = truth.velocities @ matrix[:2, :2].T
        truth = replace(truth, velocities=velocities.astype(np.float32))
    return replace(frame, points=points, ground_truth=truth)
