# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Small recordings of a vehicle: clouds, TF and odometry, as a recorder would leave them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from pointdistiller_core.geometry.transforms import quaternion_from_rotation, rotation_from_angles
from pointdistiller_core.messages.bags import CloudBagWriter

TYPES = get_typestore(Stores.LATEST)
SECOND = 10**9
START = 1000 * SECOND


def scene(seed: int = 0, *, height: float = 1.73, count: int = 2000) -> np.ndarray:
    """(N, 4) a flat road below a sensor, and walls beside it."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-30, 30, count), rng.uniform(-8, 8, count)
    z = np.where(abs(y) > 6, rng.uniform(-height, 2, count), rng.normal(-height, 0.01, count))
    return np.stack([x, y, z, rng.uniform(0, 1, count)], axis=1).astype(np.float32)


def transform(parent: str, child: str, stamp_ns: int, *, xyz=(0, 0, 0), rpy=(0, 0, 0)) -> Any:
    """A geometry_msgs/TransformStamped."""
    kinds = TYPES.types
    turn = quaternion_from_rotation(rotation_from_angles(*rpy))
    motion = kinds['geometry_msgs/msg/Transform'](
        kinds['geometry_msgs/msg/Vector3'](*map(float, xyz)),
        kinds['geometry_msgs/msg/Quaternion'](*map(float, turn)),
    )
    return kinds['geometry_msgs/msg/TransformStamped'](header(stamp_ns, parent), child, motion)


def odometry(parent: str, child: str, stamp_ns: int, *, xyz=(0, 0, 0)) -> Any:
    """A nav_msgs/Odometry."""
    kinds = TYPES.types
    zero = kinds['geometry_msgs/msg/Vector3'](0.0, 0.0, 0.0)
    pose = kinds['geometry_msgs/msg/Pose'](
        kinds['geometry_msgs/msg/Point'](*map(float, xyz)),
        kinds['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0),
    )
    covariance = np.zeros(36)
    return kinds['nav_msgs/msg/Odometry'](
        header(stamp_ns, parent),
        child,
        kinds['geometry_msgs/msg/PoseWithCovariance'](pose, covariance),
        kinds['geometry_msgs/msg/TwistWithCovariance'](
            kinds['geometry_msgs/msg/Twist'](zero, zero), covariance
        ),
    )


def header(stamp_ns: int, frame: str) -> Any:
    """A std_msgs/Header."""
    stamp = TYPES.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, SECOND))
    return TYPES.types['std_msgs/msg/Header'](stamp, frame)


class RecordingWriter(CloudBagWriter):
    """Writes what a vehicle records."""

    def tf(self, time_ns: int, transforms: Iterable[Any], topic: str = '/tf') -> None:
        """Append a message of TF."""
        kind = 'tf2_msgs/msg/TFMessage'
        message = TYPES.types[kind](list(transforms))
        self.write_serialized(topic, kind, time_ns, TYPES.serialize_cdr(message, kind))

    def odometry(self, time_ns: int, message: Any, topic: str = '/odom') -> None:
        """Append a message of odometry."""
        kind = 'nav_msgs/msg/Odometry'
        self.write_serialized(topic, kind, time_ns, TYPES.serialize_cdr(message, kind))


def write_recording(
    path: Path,
    *,
    num_clouds: int = 10,
    stamps_ns: Sequence[int] | None = None,
    speed: float = 10.0,
    height: float = 1.73,
    tf: bool = False,
    odometry_topic: str = '',
    num_points: int = 300,
) -> Path:
    """Ten clouds a second on /points in `lidar`, which is 1 m before and above `base_link`."""
    stamps_ns = stamps_ns or [START + number * SECOND // 10 for number in range(num_clouds)]
    with RecordingWriter(path) as writer:
        if tf:
            mounted = transform('base_link', 'lidar', START, xyz=(1, 0, 1))
            writer.tf(START, [mounted], '/tf_static')
        for number, stamp_ns in enumerate(stamps_ns):
            time_ns = START + number * SECOND // 10
            x = speed * number / 10
            if tf:
                moved = transform('odom', 'base_link', time_ns, xyz=(x, 0, 0))
                writer.tf(time_ns, [moved])
            if odometry_topic:
                moved = odometry('odom', 'base_link', time_ns, xyz=(x, 0, 0))
                writer.odometry(time_ns, moved, odometry_topic)
            points = scene(number, height=height, count=num_points)
            cloud = _cloud(stamp_ns, points)
            writer.write_serialized('/points', 'sensor_msgs/msg/PointCloud2', time_ns, cloud)
    return path


def _cloud(stamp_ns: int, points: np.ndarray) -> bytes:
    from bag_files import cloud_message

    return bytes(
        TYPES.serialize_cdr(cloud_message(stamp_ns, points), 'sensor_msgs/msg/PointCloud2')
    )
