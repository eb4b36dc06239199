# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Past sweeps of a node's clouds, merged into the newest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import Header

from pointdistiller_core.config import AGE
from pointdistiller_core.errors import CloudError, ConfigError
from pointdistiller_core.geometry.poses import PoseTrack, TransformError
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.messages.transforms import ODOMETRY_TYPE, odometry_of_cdr
from pointdistiller_core.pointcloud.sensors import usable_points
from pointdistiller_core.pointcloud.sweeps import SweepBuffer
from pointdistiller_ros.conversions import stamp_ns
from pointdistiller_ros.logs import RepeatedLog
from pointdistiller_ros.sensors import SensorCloud
from pointdistiller_ros.topics import create_subscription, message_class, quality_of
from pointdistiller_ros.transforms import GOES_ON_NS, MEASURED_NS, Transforms

if TYPE_CHECKING:
    from pointdistiller_ros.detector_setup import Setup

    Matrix = NDArray[np.float64]

KEPT_S = 20.0  # of odometry
QUEUE_DEPTH = 50


class Odometry:
    """Where the vehicle was, by messages of odometry.

    Args:
        node: that subscribes.
        topic: of `nav_msgs/Odometry`.
        log: of messages that are none.
        options: further arguments of `Node.create_subscription`.

    Raises:
        ConfigError: nav_msgs is not installed.
    """

    def __init__(self, node: Node, topic: str, log: RepeatedLog, **options: Any) -> None:
        kind = message_class(ODOMETRY_TYPE)
        if kind is None:
            raise ConfigError(
                'parameter sweeps.odometry needs nav_msgs, which is not installed; install '
                'ros-$ROS_DISTRO-nav-msgs, or set sweeps.fixed_frame for TF'
            )
        self._node, self._log, self._lock = node, log, Lock()
        self._track = PoseTrack(keep_s=KEPT_S)
        self.child_frame = ''
        quality = quality_of('best_effort', QUEUE_DEPTH)
        self._subscription = create_subscription(
            node, kind, topic, self.receive, quality, raw=True, **options
        )
        self.topic = self._subscription.topic_name

    def receive(self, cdr: bytes) -> None:
        """Take a serialized message."""
        try:
            found = odometry_of_cdr(cdr)
        except Exception as error:  # of a parser whose input may be anything
            self._log.warning('odometry', f'a message on {self.topic} is no odometry: {error}')
            return
        with self._lock:
            last_ns = self._track.last_ns
            if last_ns is not None and found.stamp_ns < last_ns - NANOSECONDS:
                self._track = PoseTrack(keep_s=KEPT_S)  # the recording begins again
            self.child_frame = found.child_frame
            self._track.add(found.stamp_ns, found.pose)

    def pose(self, header: Header, transforms: Transforms | None) -> Matrix:
        """(4, 4) pose of the sensor of a cloud.

        Without TF between the vehicle and the sensor, the vehicle's pose counts as the sensor's.

        Raises:
            CloudError: there is none at the time of the cloud.
        """
        try:
            with self._lock:
                pose = self._track.near(
                    stamp_ns(header.stamp), goes_on_ns=GOES_ON_NS, measured_ns=MEASURED_NS
                )
                child = self.child_frame
        except TransformError as error:
            raise CloudError(f'odometry on {self.topic}: {error}') from error
        if transforms is None or child in {'', header.frame_id}:
            return pose
        return pose @ transforms.matrix(child, header)

    def close(self) -> None:
        """Listen no more."""
        self._node.destroy_subscription(self._subscription)


class Sweeps:
    """Merges past sweeps into a node's clouds, if its bundle or its parameters ask for it.

    Args:
        log: says what is missing.

    Attributes:
        problem: why the last cloud is not of as many sweeps as it should be; empty if it is.
    """

    def __init__(self, log: RepeatedLog) -> None:
        self.problem = ''
        self._log = log
        self._buffer: SweepBuffer | None = None
        self._meaning: tuple[object, ...] = ()
        self._num_alone = 0
        self._values: dict[str, str] = {}

    def merge(
        self, cloud: SensorCloud, setup: Setup, odometry: Odometry | None = None
    ) -> SensorCloud:
        """The cloud with past sweeps, and with the columns that the detector expects."""
        self.problem = ''
        model, wanted = setup.detector.info.model, setup.settings.sweeps
        count, with_age = wanted.count or model.sweeps, AGE in model.point_features
        if count == 1 and not with_age:
            self._values, self._buffer = {}, None
            return cloud
        max_age_s = wanted.max_age_s or model.max_sweep_age_s
        meaning = (count, max_age_s, with_age, cloud.header.frame_id, wanted.fixed_frame)
        if self._buffer is None or meaning != self._meaning:
            self._buffer = SweepBuffer(count, max_age_s, with_age=with_age)
            self._meaning = meaning
        points, left_out = usable_points(cloud.points)
        pose = self._find_pose(cloud.header, setup, odometry) if count > 1 else None
        merged = self._buffer.add(points, stamp_ns(cloud.header.stamp), pose)
        self._values = {
            'sweeps': str(self._buffer.num_merged),
            'sweeps.wanted': str(count),
            'sweeps.alone': str(self._num_alone),
            'sweeps.restarts': str(self._buffer.restarts),
            'sweeps.points': str(len(merged)),
        }
        dropped = Counter(cloud.dropped)
        dropped.update(left_out)
        return replace(cloud, points=merged, dropped=dropped)

    def describe(self) -> dict[str, str]:
        """What the diagnostics say of it."""
        return self._values

    def _find_pose(self, header: Header, setup: Setup, odometry: Odometry | None) -> Matrix | None:
        """Where the sensor was; None, with a warning, if that is not known."""
        fixed = setup.settings.sweeps.fixed_frame
        self.problem = ''
        try:
            if odometry is not None:
                return odometry.pose(header, setup.transforms)
            if not fixed:
                raise CloudError(
                    'nothing says where the sensor was; set sweeps.fixed_frame (TF) or '
                    'sweeps.odometry'
                )
            assert setup.transforms is not None
            return setup.transforms.matrix(fixed, header)
        except CloudError as error:
            self._num_alone += 1
            self.problem = f'only one sweep: {error}'
            self._log.warning('sweeps', self.problem)
            return None
