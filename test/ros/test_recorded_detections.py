# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes that the node publishes, as ROS serializes them, are read out of a bag without ROS."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from pointdistiller_core.messages.bags import CloudBagWriter, read_contents
from pointdistiller_core.messages.detections import find_boxes
from pointdistiller_core.messages.message_types import find_layout
from pointdistiller_core.records import Detections
from pointdistiller_ros.conversions import to_boxes_cloud, to_detection_array, to_stamp

STAMP = 1_700_000_000_123_456_789
NAMES = ('Car', 'Pedestrian')
FOUND = Detections(
    np.array([[-10, 3, -0.5, 4, 1.75, 1.5, -2.5], [5, 0, -1, 0.8, 0.6, 1.7, 0.25]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([0, 1]),
)


def through_a_bag(path, message, message_type):
    with CloudBagWriter(path, find_layout) as writer:
        writer.write_serialized('/boxes', message_type, STAMP, serialize_message(message))
    (content,) = read_contents(path, '/boxes')
    (found,) = find_boxes(content)
    assert (found.stamp_ns, found.frame_id, dict(found.counts)) == (STAMP, 'lidar', {})
    boxes = np.array([item.box for item in found.boxes])
    np.testing.assert_allclose(boxes, FOUND.boxes, atol=1e-6)
    assert [item.score for item in found.boxes] == [0.75, 0.5]
    return [item.name for item in found.boxes]


@pytest.fixture
def header() -> Header:
    return Header(stamp=to_stamp(STAMP), frame_id='lidar')


def test_boxes_of_the_node(tmp_path, header):
    cloud = to_boxes_cloud(FOUND, header)
    names = through_a_bag(tmp_path / 'bag', cloud, 'sensor_msgs/msg/PointCloud2')
    assert names == ['0', '1']


def test_detections_of_the_node(tmp_path, header):
    pytest.importorskip('vision_msgs', reason='vision_msgs is not installed')
    message = to_detection_array(FOUND, header, NAMES)
    names = through_a_bag(tmp_path / 'bag', message, 'vision_msgs/msg/Detection3DArray')
    assert names == list(NAMES)
