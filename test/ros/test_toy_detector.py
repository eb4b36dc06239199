# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Both nodes run detectors of a family that only a test knows, out of bundles."""

from __future__ import annotations

import json
from types import SimpleNamespace

from clouds import flat_ground
import numpy as np
import pytest
from ros_graph import listen, publisher, spin_until
import torch

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import MarkerArray

from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.detector import Detector, facts_of
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_core.messages.point_cloud2 import records_from_cloud
from pointdistiller_core.models import build_detector
from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.conversions import to_cloud
from pointdistiller_ros.detector_node import DetectorNode

SHOWN = {
    **dict.fromkeys(('boxes', 'importance'), PointCloud2),
    **dict.fromkeys(('markers', 'importance_markers'), MarkerArray),
}
POINTS = flat_ground()
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def save(toy, tmp_path):
    """`save(name, seed, **changes)`: a toy's bundle, which believes in all that it sees."""

    def make(name, seed=0, **changes):
        torch.manual_seed(seed)
        detection = toy.detection.model_copy(update={'score_threshold': 0.0})
        config = toy.model_copy(update={'detection': detection, **changes})
        save_bundle(tmp_path / name, build_detector(config), BundleInfo(model=config))
        return str(tmp_path / name)

    return make


def send(session, node, base, names):
    """Send points once a node knows that these outputs are listened to."""
    clouds = publisher(session, PointCloud2, '/points')
    spin_until(session, lambda: all(node.count_subscribers(f'{base}/{name}') for name in names))
    clouds.publish(to_cloud(POINTS, Header(stamp=Time(sec=5), frame_id='lidar')))


def test_boxes_and_importance_come_out(session, save):
    bundle = save('toy')
    node = session.add(DetectorNode, bundle=bundle, num_threads=1)
    received = {name: listen(session, kind, f'/detector/{name}') for name, kind in SHOWN.items()}
    about = listen(session, String, '/detector/model_info', LATCHED)
    states = listen(session, DiagnosticArray, '/diagnostics')
    send(session, node, '/detector', SHOWN)
    spin_until(session, lambda: all(received.values()) and about)

    expected = Detector.load(bundle)(POINTS, importance=True)
    found = detections_from_boxes_cloud(received['boxes'][0])
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-5, atol=1e-5)
    scores = records_from_cloud(received['importance'][0], ['importance'])['importance']
    np.testing.assert_array_equal(scores, expected.importance.point_scores)
    (heat,) = received['importance_markers'][0].markers
    assert len(heat.points) == len(expected.importance.scores)
    boxes = [marker for marker in received['markers'][0].markers if marker.ns == 'Car']
    assert len(boxes) == len(expected)

    facts = json.loads(about[0].data)
    assert (facts['model'], facts['backend']) == ('toy', 'torch')
    assert facts['point_cloud_range'] == list(Detector.load(bundle).info.model.point_cloud_range)
    spin_until(session, lambda: states and 'cuts.voxels.kept' in values_of(states[-1]))
    kept = expected.cuts['voxels'].kept
    assert values_of(states[-1])['cuts.voxels.kept'] == str(kept)


def test_a_teacher_and_a_student_are_compared(session, save):
    bundles = {'teacher': save('teacher'), 'student': save('student', 1, width=0.5)}
    thresholds = {f'{role}_score_threshold': 0.0 for role in bundles}
    node = session.add(ComparisonNode, **bundles, **thresholds, num_threads=1)
    boxes = {role: listen(session, PointCloud2, f'/comparison/{role}/boxes') for role in bundles}
    send(session, node, '/comparison', ['teacher/boxes', 'student/boxes'])
    spin_until(session, lambda: all(boxes.values()))
    for role, bundle in bundles.items():
        found = detections_from_boxes_cloud(boxes[role][0])
        np.testing.assert_allclose(found.scores, Detector.load(bundle)(POINTS).scores, rtol=1e-5)
    summary = node.summarize()
    assert summary['clouds']['compared'] == 1
    assert (summary['teacher']['width'], summary['student']['width']) == (1.0, 0.5)


def values_of(message):
    return {value.key: value.value for value in message.status[0].values}


def test_a_detector_without_a_grid_has_no_voxel_size():
    model = SimpleNamespace(width=0.5, point_cloud_range=(0, -1, -1, 2, 1, 1))
    facts = facts_of(SimpleNamespace(model=model))
    assert facts == {'width': 0.5, 'point_cloud_range': [0, -1, -1, 2, 1, 1]}
