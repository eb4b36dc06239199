# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Mountings from TF."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from ros_graph import publisher, spin_until
from rosgraph_msgs.msg import Clock

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


def test_a_bag_that_begins_again(session):
    """Its transforms are older than those of its end; the static ones are not sent again."""
    tf2_ros = pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    tf2_msgs = pytest.importorskip('tf2_msgs.msg')
    node = session.add(partial(Node, 'node'), use_sim_time=True)
    listener = Transforms(node)
    static = TransformStamped(child_frame_id='lidar')
    static.header.frame_id = 'cabin'
    static.transform.translation.z = 0.5
    fixed = tf2_ros.StaticTransformBroadcaster(session.add(partial(Node, 'fixed')))
    fixed.sendTransform(static)
    moving = publisher(session, tf2_msgs.TFMessage, '/tf')
    clock = publisher(session, Clock, '/clock')

    def turn_to(seconds):
        clock.publish(Clock(clock=Time(sec=seconds)))
        spin_until(session, lambda: node.get_clock().now().nanoseconds == seconds * 10**9)

    def lift_to(height, seconds):
        sent = TransformStamped(child_frame_id='cabin')
        sent.header.frame_id, sent.header.stamp.sec = 'base', seconds
        sent.transform.translation.z = height
        moving.publish(tf2_msgs.TFMessage(transforms=[sent]))

    def lidar_is_at(height):
        try:
            found = listener.mounting('base', 'lidar', 0.0).training_from_sensor
        except CloudError:
            return False
        return found[2, 3] == pytest.approx(height)

    turn_to(100)
    lift_to(2.0, seconds=100)
    spin_until(session, lambda: lidar_is_at(2.5))
    turn_to(90)
    with pytest.raises(CloudError, match="no transform from 'lidar' to 'base'"):
        listener.mounting('base', 'lidar', 0.0)  # rather none than that of the bag's end
    lift_to(3.0, seconds=90)
    spin_until(session, lambda: lidar_is_at(3.5))
    turn_to(120)  # forward is no reason
    assert lidar_is_at(3.5)
    listener.close()
    turn_to(80)  # nobody listens any more
    assert lidar_is_at(3.5)
