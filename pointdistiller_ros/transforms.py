# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where sensors are, by numbers or by TF: the only place that needs tf2_ros."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from geometry_msgs.msg import Transform
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from pointdistiller_core.detector import Ground, Mounting
from pointdistiller_core.errors import CloudError, ConfigError
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.tracking.live import pose_at
from pointdistiller_ros.conversions import stamp_ns
from pointdistiller_ros.parameters import InputParameters, MountingParameters

if TYPE_CHECKING:
    from pointdistiller_core.tracking.live import StampedPose

try:
    from tf2_ros import Buffer, ExtrapolationException, TransformException, TransformListener
except ImportError:  # not in every installation; a mounting can be given by numbers
    Buffer = ExtrapolationException = TransformException = TransformListener = None

FOLLOW_EVERY = 5  # clouds; twice a second, usually
BACKWARDS = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1))


NEEDED_FOR = {  # parameter: what else may be done
    'sensors.frame': 'leave it empty for the frame of the clouds',
    'mounting.frame': 'give mounting.height, roll, pitch and yaw instead',
    'sweeps.fixed_frame': 'set sweeps.odometry instead',
    'tracking.fixed_frame': 'leave it empty to track in the frame of the clouds',
}
# A cloud may come before the transforms of its time: the motion of the last tenth of a second then
# goes on for so long.
GOES_ON_NS, MEASURED_NS = NANOSECONDS // 4, NANOSECONDS // 10


def needs_transforms(settings: InputParameters) -> str:
    """A parameter of a node's clouds that asks for TF; empty if none does.

    Several sensors may send in one frame: without tf2_ros they have to.
    """
    if settings.sensors.frame or (len(settings.points) > 1 and Buffer is not None):
        return 'sensors.frame'
    return 'mounting.frame' if settings.mounting.frame else ''


class Transforms:
    """Listens to TF.

    When the node's time jumps back, as when a bag begins again, all but the static transforms are
    forgotten. Otherwise tf2 would refuse the new ones as old, and the newest would be that of the
    bag's end.

    Args:
        node: the node that subscribes to it.
        needed_for: parameter that asks for it.

    Raises:
        ConfigError: tf2_ros is not installed.
    """

    def __init__(self, node: Node, needed_for: str = 'mounting.frame') -> None:
        if Buffer is None:
            raise ConfigError(
                f'parameter {needed_for} needs tf2_ros, which is not installed; install '
                f'ros-$ROS_DISTRO-tf2-ros-py, or {NEEDED_FOR[needed_for]}'
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

    def poses(self, fixed: str, sensor: str, time_ns: int) -> list[StampedPose]:
        """Where a sensor is at a time, in a frame that does not move.

        Returns:
            The pose at that time; or two poses before it, if it is a little later than TF.

        Raises:
            CloudError: TF does not connect the frames, or not at that time.
        """
        try:
            try:
                return [self._pose(fixed, sensor, time_ns)]
            except ExtrapolationException:
                newest = self._pose(fixed, sensor, 0)
                if not 0 < time_ns - newest[0] <= GOES_ON_NS:
                    raise
                return [self._pose(fixed, sensor, newest[0] - MEASURED_NS), newest]
        except TransformException as error:
            raise CloudError(f'no transform from {sensor!r} to {fixed!r}: {error}') from error

    def matrix(self, target: str, header: Header) -> NDArray[np.float64]:
        """(4, 4) `target_from_sensor` at the time of a cloud.

        Raises:
            CloudError: TF does not connect the frames, or not at that time.
        """
        time_ns = stamp_ns(header.stamp)
        return pose_at(time_ns, self.poses(target, header.frame_id, time_ns))

    def _pose(self, fixed: str, sensor: str, time_ns: int) -> StampedPose:
        """At a time, or the newest one at 0."""
        found = self._buffer.lookup_transform(fixed, sensor, Time(nanoseconds=time_ns))
        shift, turn = found.transform.translation, found.transform.rotation
        values = (shift.x, shift.y, shift.z, turn.x, turn.y, turn.z, turn.w)
        return stamp_ns(found.header.stamp), values

    def close(self) -> None:
        """Stop listening."""
        self._jump.unregister()
        self._listener.unregister()


def follow_ground(parameters: MountingParameters) -> bool:
    """Whether the ground that clouds see tells how their sensor is mounted."""
    given = parameters.frame or parameters.height or parameters.roll or parameters.pitch
    return parameters.auto and not given


def find_mounting(
    parameters: MountingParameters,
    transforms: Transforms | None,
    sensor: str,
    training_height: float,
    ground: Ground | None = None,
) -> Mounting | None:
    """The mounting that the parameters give; None if nothing tells it.

    `transforms` are needed if the parameters name a frame, and `ground` counts if they
    `follow_ground`; the rest is as in `Transforms.mounting`.

    Raises:
        CloudError: TF does not connect the frames.
    """
    if parameters.frame:
        assert transforms is not None
        return transforms.mounting(parameters.frame, sensor, training_height)
    if ground is not None and follow_ground(parameters):
        return Mounting.on_ground(ground, training_height, yaw=parameters.yaw)
    if replace(parameters, auto=True) == MountingParameters():
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
