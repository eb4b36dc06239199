# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN in the real nodes: boxes, importance of each point, and a comparison."""

from __future__ import annotations

from functools import partial

from clouds import flat_ground
import numpy as np
import pytest
from ros_graph import listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
import torch

from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.detector import Detector
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_core.messages.point_cloud2 import records_from_cloud
from pointdistiller_core.models import build_detector
from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.conversions import to_cloud
from pointdistiller_ros.detector_node import DetectorNode
from pointdistiller_ros.detector_setup import load_detector

POINTS = flat_ground(1500)


@pytest.fixture
def save(tiny_pointrcnn, tmp_path):
    def make(name, seed=0, **changes):
        torch.manual_seed(seed)
        detection = tiny_pointrcnn.detection.model_copy(update={'score_threshold': 0.0})
        config = tiny_pointrcnn.model_copy(update={'detection': detection, **changes})
        save_bundle(tmp_path / name, build_detector(config), BundleInfo(model=config))
        return str(tmp_path / name)

    return make


def send(session, node, *topics):
    clouds = publisher(session, PointCloud2, '/points')
    spin_until(session, lambda: all(map(node.count_subscribers, topics)))
    clouds.publish(to_cloud(POINTS, Header(frame_id='lidar')))


def test_boxes_and_the_importance_of_each_point(session, save):
    bundle = save('rcnn')
    node = session.add(partial(DetectorNode, load_detector), bundle=bundle)
    topics = ('/detector/boxes', '/detector/importance')
    received = {topic: listen(session, PointCloud2, topic) for topic in topics}
    send(session, node, *topics)
    spin_until(session, lambda: all(received.values()))
    boxes, importance = (received[topic][0] for topic in topics)
    expected = Detector.load(bundle)(POINTS, importance=True)
    found = detections_from_boxes_cloud(boxes)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-4, atol=1e-4)
    scores = records_from_cloud(importance, ['importance'])['importance']
    np.testing.assert_allclose(scores, expected.importance.point_scores, rtol=1e-4, atol=1e-5)
    assert 0 < np.count_nonzero(scores) <= expected.cuts['points'].kept
    assert scores.max() == 1


def test_a_teacher_and_a_student_are_compared(session, save):
    bundles = {'teacher': save('teacher'), 'student': save('student', 1, width=0.5)}
    thresholds = {f'{role}_score_threshold': 0.0 for role in bundles}
    node = session.add(ComparisonNode, **bundles, **thresholds, num_threads=1)
    topics = [f'/comparison/{role}/boxes' for role in bundles]
    boxes = [listen(session, PointCloud2, topic) for topic in topics]
    send(session, node, *topics)
    spin_until(session, lambda: all(boxes))
    summary = node.summarize()
    assert summary['clouds']['compared'] == 1
    assert (summary['teacher']['width'], summary['student']['width']) == (1.0, 0.5)
