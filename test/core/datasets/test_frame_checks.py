# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the frames of a bag."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.datasets.bag import TRUTH_TOPIC
from pointdistiller_core.datasets.checks import Finding
from pointdistiller_core.datasets.frame_checks import check_frames
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import to_box_columns
from pointdistiller_core.records import GroundTruth

NEAR, FAR = [10, 0, 0, 4, 2, 1.5, 0], [30, 0, 0, 4, 2, 1.5, 0]
POINTS = np.array([[10, 0, 0, 0.5], [11, 0, 0, 0.25], [5, 1, 0, 1]], np.float32)


@pytest.fixture
def bag(tmp_path):
    """Three clouds, the last of which repeats the first; a car with points and one without."""
    truth = GroundTruth(np.array([NEAR, FAR, FAR], np.float32), np.array([0, 1, -1]))
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for second, points in enumerate((POINTS, POINTS * [1, 1, 1, 3], POINTS), start=1):
            stamp_ns = second * 10**9
            writer.write('/points', stamp_ns, 'lidar', points.astype(np.float32))
            writer.write(TRUTH_TOPIC, stamp_ns, 'lidar', *to_box_columns(truth))
    return tmp_path / 'bag'


def test_a_labelled_bag(bag):
    done = []
    report = check_frames(bag, on_frame=lambda *progress: done.append(progress))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert report.splits == {'all': 3}
    assert report.points_per_sweep.tolist() == [3, 3, 3]
    classes = report.to_dict()['classes']
    assert {name: facts['objects'] for name, facts in classes.items()} == {
        'Car': 3,
        'Pedestrian': 3,
        'ignored': 3,
    }
    assert [classes[name]['empty'] for name in ('Car', 'Pedestrian', 'ignored')] == [0, 3, 3]
    assert report.num_broken == 0
    empty = '2 of 3 boxes have no points: Pedestrian at 30.0 m, ignored at 30.0 m'
    assert report.findings == (
        Finding('000000', empty),
        Finding('000001', empty),
        Finding('000002', 'has the same sweep as 000000'),
        Finding('000002', empty),
        Finding('000001', 'intensities from 0 to 3; expected 0 to 1'),
    )


def test_a_bag_without_labels(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/points', 10**9, 'lidar', POINTS)
    report = check_frames(tmp_path / 'bag')
    assert report.findings == (Finding('bag', 'has no labels'),)
    assert len(report.objects.names) == 0


def test_boxes_without_a_cloud_are_broken(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/points', 10**9, 'lidar', POINTS)
        writer.write(TRUTH_TOPIC, 2 * 10**9, 'lidar', *to_box_columns(GroundTruth.empty()))
    report = check_frames(tmp_path / 'bag')
    assert report.num_broken == 1
    assert 'no boxes on /ground_truth/boxes have the stamp of a cloud' in report.findings[0].what


def test_a_cloud_without_intensities_is_broken(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/points', 10**9, 'lidar', POINTS)
        writer.write('/points', 2 * 10**9, 'lidar', POINTS[:, :3])
    report = check_frames(tmp_path / 'bag')
    (broken,) = [finding for finding in report.findings if finding.broken]
    assert broken.where == '000001'
    assert 'intensity' in broken.what
