# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Mountings from TF."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from ros_graph import spin_until

from pointdistiller_core.detector import Mounting
from pointdistiller_core.errors import CloudError, ConfigError
from pointdistiller_ros import transforms
from pointdistiller_ros.transforms import Transforms, to_mounting

NOSE_DOWN = Transform(
    translation=Vector3(x=1.2, y=-0.3, z=2.0),
    rotation=Quaternion(x=0.0, y=float(np.sin(0.1)), z=0.0, w=float(np.cos(0.1))),
)
EXPECTED = Mounting.from_angles(1.5, height=2.0, roll=0.0, pitch=0.2, yaw=0.0)


def test_mounting_of_a_transform():
    found = to_mounting(NOSE_DOWN, 1.5).training_from_sensor
    np.testing.assert_allclose(found, EXPECTED.training_from_sensor, atol=1e-12)


@pytest.mark.skipif(transforms.Buffer is not None, reason='tf2_ros is installed')
def test_without_tf2_the_error_says_what_to_do(session):
    with pytest.raises(ConfigError, match=r'mounting\.frame needs tf2_ros.*mounting\.height'):
        Transforms(session.add(partial(Node, 'node')))


def test_real_transforms(session):
    tf2_ros = pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    node = session.add(partial(Node, 'node'))
    listener = Transforms(node)
    with pytest.raises(CloudError, match="no transform from 'lidar' to 'base'"):
        listener.mounting('base', 'lidar', 1.5)
    sent = TransformStamped(child_frame_id='lidar', transform=NOSE_DOWN)
    sent.header.frame_id = 'base'
    broadcaster = tf2_ros.StaticTransformBroadcaster(session.add(partial(Node, 'sender')))
    broadcaster.sendTransform(sent)

    def arrived():
        try:
            return listener.mounting('base', 'lidar', 1.5)
        except CloudError:
            return None

    spin_until(session, arrived)
    found = arrived().training_from_sensor
    np.testing.assert_allclose(found, EXPECTED.training_from_sensor, atol=1e-12)
    listener.close()
