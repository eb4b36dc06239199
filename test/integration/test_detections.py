# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`~/detections` of vision_msgs over the middleware."""

from __future__ import annotations

from functools import partial
from math import cos, sin

import numpy as np
import pytest
from ros_graph import FakeDetector, listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
pytest.importorskip('vision_msgs', reason='needs vision_msgs')

from builtin_interfaces.msg import Time
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from pointdistiller_core.records import Detections
from pointdistiller_ros.conversions import to_cloud
from pointdistiller_ros.detector_node import DetectorNode

BOXES = np.array([[10, 2, -1, 4, 1.6, 1.5, 0.5], [5, -3, -0.5, 0.8, 0.6, 1.7, -2]], np.float32)
HEADER = Header(stamp=Time(sec=7, nanosec=8), frame_id='lidar')


class Seeing(FakeDetector):
    """Sees a cyclist and a pedestrian, or nothing in an empty cloud."""

    def __call__(self, points, **options):
        super().__call__(points, **options)
        scores, labels = np.array([0.9, 0.4], np.float32), np.array([2, 1], np.int64)
        return Detections(BOXES, scores, labels) if len(points) else Detections.empty()


def test_detections_arrive_as_they_were_found(session):
    session.add(partial(DetectorNode, lambda _: Seeing()), bundle='fake')
    messages = listen(session, Detection3DArray, '/detector/detections')
    clouds = publisher(session, PointCloud2, '/points')
    for index, num_points in enumerate((3, 0)):
        clouds.publish(to_cloud(np.ones((num_points, 4), np.float32), HEADER))
        spin_until(session, lambda index=index: len(messages) == index + 1)
    found, none = messages
    assert found.header == none.header == HEADER
    assert len(none.detections) == 0
    assert [detection.id for detection in found.detections] == ['', '']
    hypotheses = [detection.results[0].hypothesis for detection in found.detections]
    assert [hypothesis.class_id for hypothesis in hypotheses] == ['Cyclist', 'Pedestrian']
    assert [hypothesis.score for hypothesis in hypotheses] == pytest.approx([0.9, 0.4])
    for detection, (*center, dx, dy, dz, yaw) in zip(
        found.detections, BOXES.tolist(), strict=True
    ):
        pose, size = detection.bbox.center, detection.bbox.size
        assert detection.header == HEADER
        assert detection.results[0].pose.pose == pose
        assert [pose.position.x, pose.position.y, pose.position.z] == center
        assert [size.x, size.y, size.z] == [dx, dy, dz]
        assert pose.orientation.z == pytest.approx(sin(yaw / 2))
        assert pose.orientation.w == pytest.approx(cos(yaw / 2))
        assert pose.orientation.x == pose.orientation.y == 0.0
