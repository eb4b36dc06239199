# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where sensors are, by numbers or by TF: the only place that needs tf2_ros."""

from __future__ import annotations

from geometry_msgs.msg import Transform
import numpy as np
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from pointdistiller_core.detector import Mounting
from pointdistiller_core.errors import CloudError, ConfigError
from pointdistiller_ros.parameters import MountingParameters

try:
    from tf2_ros import Buffer, TransformException, TransformListener
except ImportError:  # not in every installation; a mounting can be given by numbers
    Buffer = TransformException = TransformListener = None

BACKWARDS = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1))


class Transforms:
    """Listens to TF.

    When the node's time jumps back, as when a bag begins again, all but the static transforms are
    forgotten. Otherwise tf2 would refuse the new ones as old, and the newest would be that of the
    bag's end.

    Args:
        node: the node that subscribes to it.

    Raises:
        ConfigError: tf2_ros is not installed.
    """

    def __init__(self, node: Node) -> None:
        if Buffer is None:
            raise ConfigError(
                'parameter mounting.frame needs tf2_ros, which is not installed; install '
                'ros-$ROS_DISTRO-tf2-ros-py, or give mounting.height, roll, pitch and yaw instead'
            )
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)
        self._jump = node.get_clock().create_jump_callback(
            BACKWARDS, post_callback=lambda _jump: self._buffer.clear()
        )

    def mounting(self, ground: str, sensor: str, training_height: float) -> Mounting:
        """The newest mounting of a sensor.

        Args:
            ground: frame with x forward, z up and the ground at z = 0.
            sensor: frame of the clouds.
            training_height: of the training sensor above the ground [m].

        Raises:
            CloudError: TF does not connect the frames.
        """
        try:
            found = self._buffer.lookup_transform(ground, sensor, Time())
        except TransformException as error:
            raise CloudError(f'no transform from {sensor!r} to {ground!r}: {error}') from error
        return to_mounting(found.transform, training_height)

    def close(self) -> None:
        """Stop listening."""
        self._jump.unregister()
        self._listener.unregister()


def find_mounting(
    parameters: MountingParameters,
    transforms: Transforms | None,
    sensor: str,
    training_height: float,
) -> Mounting | None:
    """The mounting that the parameters give; None if all have their defaults.

    `transforms` are needed if the parameters name a frame; the rest is as in
    `Transforms.mounting`.

    Raises:
        CloudError: TF does not connect the frames.
    """
    if parameters.frame:
        assert transforms is not None
        return transforms.mounting(parameters.frame, sensor, training_height)
    if parameters == MountingParameters():
        return None
    return Mounting.from_angles(
        training_height,
        height=parameters.height or training_height,
        roll=parameters.roll,
        pitch=parameters.pitch,
        yaw=parameters.yaw,
    )


def to_mounting(ground_from_sensor: Transform, training_height: float) -> Mounting:
    """The mounting of a sensor with a pose above the ground."""
    turn = ground_from_sensor.rotation
    return Mounting.from_quaternion(
        training_height,
        height=ground_from_sensor.translation.z,
        quaternion=np.array([turn.x, turn.y, turn.z, turn.w]),
    )
