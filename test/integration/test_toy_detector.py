# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A family that only a test knows runs in the node."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from ros_graph import listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
import torch

from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.detector import Detector
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_core.models import build_detector
from pointdistiller_ros.conversions import to_cloud
from pointdistiller_ros.detector_node import DetectorNode
from pointdistiller_ros.detector_setup import load_detector


def test_the_node_finds_what_the_detector_finds(session, toy, tmp_path):
    torch.manual_seed(0)
    save_bundle(tmp_path / 'toy', build_detector(toy), BundleInfo(model=toy))
    low, high = (0, -12, -2, 0), (25, 12, 0, 1)
    points = np.random.default_rng(0).uniform(low, high, (500, 4)).astype(np.float32)
    expected = Detector.load(tmp_path / 'toy')(points)
    session.add(partial(DetectorNode, load_detector), bundle=str(tmp_path / 'toy'))
    boxes = listen(session, PointCloud2, '/detector/boxes')
    reports = listen(session, DiagnosticArray, '/diagnostics')
    publisher(session, PointCloud2, '/points').publish(to_cloud(points, Header(frame_id='lidar')))
    spin_until(session, lambda: boxes)
    found = detections_from_boxes_cloud(boxes[0])
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    kept = str(expected.cuts['voxels'].kept)

    def kept_voxels():
        values = {value.key: value.value for value in reports[-1].status[0].values}
        return values.get('cuts.voxels.kept')

    spin_until(session, lambda: reports and kept_voxels() == kept)
