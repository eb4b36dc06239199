# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A topic of a bag that follows the clock."""

from __future__ import annotations

import numpy as np
import pytest
from ros_graph import listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.datasets.bags import CloudBagWriter
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_ros.bag_follower_node import BagFollowerNode
from pointdistiller_ros.conversions import to_stamp


@pytest.fixture
def bag(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for second in range(1, 6):
            for topic in ('/points', '/truth'):
                writer.write(topic, second * 10**9, 'lidar', np.zeros((1, 4), np.float32))
    return str(tmp_path / 'bag')


def seconds(messages):
    return [message.header.stamp.sec for message in messages]


def test_messages_follow_the_clock_and_go_back_with_it(session, bag):
    node = session.add(BagFollowerNode, bag=bag, topic='/truth', ahead=0.0)
    truths = listen(session, PointCloud2, '/truth')
    clock = publisher(session, Clock, '/clock')
    spin_until(session, lambda: node.num_subscribers)
    sent = []
    for now, expected in ((0.5, []), (3.2, [1, 2, 3]), (3.2, []), (9.0, [4, 5]), (1.0, [1])):
        clock.publish(Clock(clock=to_stamp(round(now * 1e9))))
        sent += expected
        count = len(sent)
        spin_until(session, lambda count=count: node.num_sent == count)
    spin_until(session, lambda: len(truths) == len(sent))
    assert seconds(truths) == sent


def test_ahead_of_the_clock(session, bag):
    node = session.add(BagFollowerNode, bag=bag, topic='/truth', ahead=1.5)
    truths = listen(session, PointCloud2, '/truth')
    clock = publisher(session, Clock, '/clock')
    spin_until(session, lambda: node.num_subscribers)
    clock.publish(Clock(clock=to_stamp(10**9)))
    spin_until(session, lambda: len(truths) == 2)
    assert seconds(truths) == [1, 2]


def test_nothing_is_sent_to_nobody(session, bag):
    node = session.add(BagFollowerNode, bag=bag, topic='/truth')
    clock = publisher(session, Clock, '/clock')
    ticks = listen(session, Clock, '/clock')
    clock.publish(Clock(clock=to_stamp(2 * 10**9)))
    spin_until(session, lambda: ticks)
    assert node.num_sent == 0
    truths = listen(session, PointCloud2, '/truth')
    spin_until(session, lambda: node.num_subscribers)
    clock.publish(Clock(clock=to_stamp(2 * 10**9)))
    spin_until(session, lambda: len(truths) == 3)
    assert seconds(truths) == [1, 2, 3]


@pytest.mark.parametrize(
    ('parameters', 'error', 'named'),
    [
        ({'topic': ''}, ConfigError, 'parameter topic is empty'),
        ({'topic': '/none'}, DatasetError, r"no PointCloud2 topic '/none'.*'/truth'"),
        ({'bag': 'absent'}, DatasetError, 'absent: no such bag'),
    ],
)
def test_what_cannot_be_used_is_named(session, bag, parameters, error, named):
    with pytest.raises(error, match=named):
        session.add(BagFollowerNode, **{'bag': bag, 'topic': '/truth'} | parameters)
