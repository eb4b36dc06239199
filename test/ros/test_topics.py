# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Messages that are not what their topic says."""

from __future__ import annotations

from functools import partial

import pytest
from ros_graph import publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String

from pointdistiller_core.errors import CloudError
from pointdistiller_ros.topics import message_class, read_message, subscribe

GOOD = bytes(serialize_message(PointCloud2(header=Header(frame_id='lidar'), width=5)))
GARBAGE = {
    'nothing': b'',
    'no content': GOOD[:4],
    'cut off': GOOD[:20],
    'noise': bytes(range(200)),
    'sequence of 4 billion fields': GOOD[:-20] + b'\xff' * 20,
    'another message': bytes(serialize_message(String(data='hello'))),
}


def test_class_of_a_message_by_name():
    assert message_class('std_msgs/msg/String') is String
    assert message_class('std_msgs/msg/Absent') is None
    assert message_class('absent_msgs/msg/String') is None


def test_serialized_message():
    assert read_message(PointCloud2, GOOD).header.frame_id == 'lidar'


@pytest.mark.parametrize('payload', GARBAGE.values(), ids=GARBAGE)
def test_bytes_that_are_no_message(payload):
    named = f'^{len(payload)} bytes are no sensor_msgs/PointCloud2: '
    with pytest.raises(CloudError, match=named):
        read_message(PointCloud2, payload)


def test_garbage_is_reported_and_the_next_message_arrives(session):
    received, errors = [], []
    node = session.add(partial(Node, 'guarded'))
    subscribe(node, PointCloud2, '/points', received.append, 20, on_error=errors.append)
    sender = publisher(session, PointCloud2, '/points')
    for payload in GARBAGE.values():
        sender.publish(payload)
        sender.publish(GOOD)
    spin_until(session, lambda: len(received) == len(errors) == len(GARBAGE))
    assert {cloud.width for cloud in received} == {5}
    assert all(isinstance(error, CloudError) for error in errors)


def test_a_callback_that_fails_is_reported_and_called_again(session, capfd):
    received = []

    def receive(message):
        received.append(message.data)
        if message.data == 'bad':
            raise ZeroDivisionError

    subscribe(session.add(partial(Node, 'guarded')), String, '/text', receive, 10)
    sender = publisher(session, String, '/text')
    for text in ('bad', 'good'):
        sender.publish(String(data=text))
    spin_until(session, lambda: received == ['bad', 'good'])
    assert 'a message on /text was not worked on: ZeroDivisionError' in capfd.readouterr().err
