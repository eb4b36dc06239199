# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How a sensor is mounted, compared with the one that a detector was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.geometry.ground import Ground, fit_ground
from pointdistiller_core.geometry.transforms import (
    invert_rigid,
    quaternion_from_rotation,
    rotation_from_angles,
    rotation_from_quaternion,
    transform_points,
    wrap_angle,
)

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

HEIGHT_TOLERANCE = 0.02  # [m] between sensors that count as equally high


@dataclass(frozen=True)
class Mounting:
    """Moves clouds from a sensor's frame to the training frame, and results back.

    The training frame is level and has its origin above or below the sensor, as high above the
    ground as the training sensor was.

    Attributes:
        training_from_sensor: (4, 4) rotation and translation [m].
    """

    training_from_sensor: NDArray[np.float64]

    @classmethod
    def above_ground(
        cls, ground_from_sensor: NDArray[np.float64], training_height: float
    ) -> Mounting:
        """The mounting of a sensor whose pose is known.

        Args:
            ground_from_sensor: (4, 4) pose of the sensor in a frame with x forward, z up and the
                ground at z = 0; its origin in x and y does not matter.
            training_height: of the training sensor above the ground [m].
        """
        training_from_sensor = np.eye(4)
        training_from_sensor[:3, :3] = ground_from_sensor[:3, :3]
        training_from_sensor[2, 3] = ground_from_sensor[2, 3] - training_height
        return cls(training_from_sensor)

    @classmethod
    def at_height(cls, training_height: float, height: float | None) -> Mounting | None:
        """The mounting of a level sensor at a height [m]; None where there is nothing to move.

        Args:
            training_height: of the training sensor above the ground [m].
            height: of the sensor above the ground [m]; None if it is not known.
        """
        if height is None or abs(height - training_height) < HEIGHT_TOLERANCE:
            return None
        return cls.from_angles(training_height, height=height, roll=0.0, pitch=0.0, yaw=0.0)

    @classmethod
    def found_in(
        cls, points: NDArray[np.floating[Any]], training_height: float
    ) -> Mounting | None:
        """The mounting by the ground that one sweep sees; None if it sees none.

        Args:
            points: (N, 3 or more) x, y, z [m] of the sensor's frame, z up, more or less.
            training_height: of the training sensor above the ground [m].
        """
        ground = fit_ground(points)
        return cls.on_ground(ground, training_height) if ground else None

    @classmethod
    def on_ground(cls, ground: Ground, training_height: float, *, yaw: float = 0.0) -> Mounting:
        """The mounting of a sensor whose ground is known.

        Args:
            ground: in the sensor's frame.
            training_height: of the training sensor above the ground [m].
            yaw: of the sensor about z [rad], which no ground tells.
        """
        pose = ground.ground_from_sensor
        pose[:3, :3] = rotation_from_angles(0.0, 0.0, yaw) @ pose[:3, :3]
        return cls.above_ground(pose, training_height)

    @classmethod
    def from_quaternion(
        cls, training_height: float, *, height: float, quaternion: NDArray[np.float64]
    ) -> Mounting:
        """The mounting of a sensor by its height [m] and orientation (4,) x, y, z, w."""
        pose = np.eye(4)
        pose[:3, :3] = rotation_from_quaternion(quaternion)
        pose[2, 3] = height
        return cls.above_ground(pose, training_height)

    @classmethod
    def from_angles(
        cls, training_height: float, *, height: float, roll: float, pitch: float, yaw: float
    ) -> Mounting:
        """The mounting of a sensor by its height [m] and angles [rad], see `rotation_from_angles`.

        Args:
            training_height: of the training sensor above the ground [m].
            height: of the sensor above the ground [m].
            roll: about x, left side up.
            pitch: about y, front down.
            yaw: about z, counter-clockwise from above.
        """
        pose = np.eye(4)
        pose[:3, :3] = rotation_from_angles(roll, pitch, yaw)
        pose[2, 3] = height
        return cls.above_ground(pose, training_height)

    @products_in_calling_thread()
    def points_to_training(self, points: FloatArray) -> FloatArray:
        """Points (N, F) x, y, z [m], ... of the sensor, in the training frame.

        What is not finite, or leaves the range of float32, is not finite there either.
        """
        width = points.shape[1]
        motion, offset = np.eye(width, dtype=np.float32), np.zeros(width, np.float32)
        motion[:3, :3] = self.training_from_sensor[:3, :3]
        offset[:3] = self.training_from_sensor[:3, 3]
        with np.errstate(over='ignore', invalid='ignore'):
            moved: FloatArray = points @ motion.T
            moved += offset
        return moved

    def points_to_sensor(self, points: FloatArray) -> FloatArray:
        """Points (N, 3) x, y, z [m] of the training frame, in the sensor's."""
        sensor_from_training = invert_rigid(self.training_from_sensor)
        return transform_points(sensor_from_training, points).astype(np.float32)

    def velocities_to_training(self, velocities: FloatArray) -> FloatArray:
        """Velocities (N, 2) along x and y of the sensor's frame [m/s], taken to be level."""
        rotation = self.training_from_sensor[:2, :2]
        return (velocities @ rotation.T).astype(np.float32)

    def velocities_to_sensor(self, velocities: FloatArray) -> FloatArray:
        """Velocities (N, 2) along x and y [m/s]; from a tilted sensor, what it sees of them."""
        rotation = invert_rigid(self.training_from_sensor)[:2, :2]
        return (velocities @ rotation.T).astype(np.float32)

    def boxes_to_sensor(self, boxes: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Boxes of the training frame, in the sensor's.

        Args:
            boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad].

        Returns:
            (N, 7) boxes with the yaw of their heading as the sensor sees it from above, and
            (N, 4) orientations as quaternions x, y, z, w, because boxes are tilted in a tilted
            sensor's frame; None if the sensor is level, so that the yaw suffices.
        """
        rotation = invert_rigid(self.training_from_sensor)[:3, :3]
        yaw = boxes[:, 6].astype(np.float64)
        headings = np.stack([np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)], axis=1) @ rotation.T
        moved = boxes.copy()
        moved[:, :3] = self.points_to_sensor(boxes[:, :3])
        moved[:, 6] = wrap_angle(np.arctan2(headings[:, 1], headings[:, 0]).astype(np.float32))
        if rotation[2, 2] == 1.0:
            return moved, None
        return moved, _turned(quaternion_from_rotation(rotation), yaw)

    def boxes_to_training(self, boxes: FloatArray) -> FloatArray:
        """Boxes as `boxes_to_sensor` returns them, or labelled in that way, moved back.

        Args:
            boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad] of the heading as the sensor sees it
                from above; a sensor that lies on its side sees none.

        Returns:
            (N, 7) boxes that are upright in the training frame.
        """
        (a, b), (c, d) = self.training_from_sensor[:2, :2].T  # of level headings, in the sensor
        side = np.copysign(1, a * d - b * c)  # -1 if the sensor hangs upside down
        yaw = boxes[:, 6].astype(np.float64)
        x, y = side * np.cos(yaw), side * np.sin(yaw)
        moved = boxes.copy()
        moved[:, :3] = transform_points(self.training_from_sensor, boxes[:, :3])
        moved[:, 6] = wrap_angle(np.arctan2(a * y - c * x, d * x - b * y).astype(np.float32))
        return moved


def _turned(quaternion: NDArray[np.float64], yaw: NDArray[np.floating[Any]]) -> FloatArray:
    """(N, 4) a rotation after turns about z [rad]: the product of their quaternions."""
    x, y, z, w = quaternion
    cos, sin = np.cos(yaw / 2), np.sin(yaw / 2)
    columns = [x * cos + y * sin, y * cos - x * sin, z * cos + w * sin, w * cos - z * sin]
    return np.stack(columns, axis=1).astype(np.float32)
