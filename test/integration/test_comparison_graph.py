# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison node among other nodes: quality of service, slow and dead neighbors, time."""

from __future__ import annotations

from functools import partial

import pytest
from ros_graph import FakeDetector, build_cloud, listen, publisher, spin_until, stamps

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistiller_ros.comparison_node import ANSWER, ComparisonNode, Model

RELIABLE = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)


def add_node(session, **parameters):
    def load(bundle, **_):
        return Model(FakeDetector(), {'name': bundle})

    build = partial(ComparisonNode, load)
    return session.add(build, teacher='big', student='small', **parameters)


def test_driver_that_dies_and_comes_back(session):
    limits = {'diagnostics.warn.stale_after_s': 0.2, 'diagnostics.error.stale_after_s': 0.4}
    node = add_node(session, **limits)
    boxes = listen(session, PointCloud2, f'/comparison/{ANSWER}')
    states = listen(session, DiagnosticArray, '/diagnostics')
    driver = session.add(partial(Node, 'driver'))
    for life in range(2):
        clouds = driver.create_publisher(PointCloud2, '/points', RELIABLE)
        spin_until(session, clouds.get_subscription_count)
        clouds.publish(build_cloud(life))
        spin_until(session, lambda life=life: stamps(boxes)[-1:] == [life + 1])
        driver.destroy_publisher(clouds)
        spin_until(session, lambda: node.count_publishers('/points') == 0)
        states.clear()
        spin_until(
            session, lambda: states and states[-1].status[0].level == DiagnosticStatus.ERROR
        )
        assert states[-1].status[0].message.startswith('no cloud for ')
    assert node.counts['compared'] == 2


def test_silence_is_measured_in_simulated_time(session):
    node = add_node(session, use_sim_time=True)
    clock = publisher(session, Clock, '/clock')
    states = listen(session, DiagnosticArray, '/diagnostics')
    clouds = publisher(session, PointCloud2, '/points')

    def message_at(seconds):
        clock.publish(Clock(clock=Time(sec=seconds)))
        spin_until(session, lambda: node.get_clock().now().nanoseconds == seconds * 10**9)
        states.clear()
        spin_until(session, lambda: states)
        return states[-1].status[0].message

    assert message_at(100) == 'no cloud so far'
    clouds.publish(build_cloud())
    spin_until(session, lambda: node.counts['compared'] == 1)
    assert message_at(100) == 'comparing'
    assert message_at(107) == 'no cloud for 7.0 s'
    assert message_at(50) == 'comparing'  # the bag began again
    assert message_at(52) == 'no cloud for 2.0 s'
