# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Every object moved on its own, its points with it (VoxelNet, section 3.2; SECOND)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import ObjectNoiseConfig
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.geometry.transforms import rotate_xy, wrap_angle
from pointdistiller_core.records import Frame

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]


def move_objects(frame: Frame, config: ObjectNoiseConfig, rng: np.random.Generator) -> Frame:
    """Turn and shift each box with its points, unless it collides at every place tried.

    As in mmdetection3d, boxes are moved one after the other, also those of other classes. They may
    not overlap another box seen from above, a point in several boxes goes with the first one, and
    points at the new place stay there.

    Args:
        frame: one sweep, LiDAR frame; without labels it is not changed.
        config: how far.
        rng: source of all randomness.
    """
    truth = frame.ground_truth
    if truth is None or not len(truth):
        return frame
    moved = _find_places(truth.boxes, config, rng)
    points = _move_points(frame.points, truth.boxes, moved)
    velocities = truth.velocities
    if velocities is not None:
        turns = moved[:, 6] - truth.boxes[:, 6]
        velocities = rotate_xy(velocities, turns).astype(np.float32)
    return replace(
        frame, points=points, ground_truth=replace(truth, boxes=moved, velocities=velocities)
    )


def _find_places(
    boxes: FloatArray, config: ObjectNoiseConfig, rng: np.random.Generator
) -> FloatArray:
    """(G, 7) boxes at their first free place, or where they were."""
    tries = (len(boxes), config.num_tries)
    shifts = rng.normal(scale=config.translation, size=(*tries, 3))
    turns = rng.uniform(*config.rotation, size=tries)
    places = boxes.copy()
    for index, box in enumerate(boxes):
        others = np.delete(places, index, axis=0)
        candidates = np.repeat(box[None], config.num_tries, axis=0)
        candidates[:, :3] += shifts[index]
        candidates[:, 6] = wrap_angle(candidates[:, 6] + turns[index])
        free = (rotated_iou_bev(candidates, others) == 0).all(axis=1)
        if free.any():
            places[index] = candidates[free.argmax()]
    return places


def _move_points(points: FloatArray, boxes: FloatArray, moved: FloatArray) -> FloatArray:
    """The points (N, 4), those in a box turned about its center and shifted with it."""
    inside = points_in_boxes(points, boxes)
    own = np.flatnonzero(inside.any(axis=1))
    box = inside[own].argmax(axis=1)
    x, y, z = (points[own, :3] - boxes[box, :3]).T
    turn = (moved[:, 6] - boxes[:, 6])[box]
    cos, sin = np.cos(turn), np.sin(turn)
    result = points.copy()
    result[own, :3] = moved[box, :3] + np.stack([x * cos - y * sin, x * sin + y * cos, z], axis=1)
    return result
