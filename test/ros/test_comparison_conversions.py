# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Agreement as messages, and labels out of them."""

from __future__ import annotations

from dataclasses import replace
from math import cos, nan, sin
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from pointdistiller_core.evaluation.comparison.report import summarize
from pointdistiller_core.evaluation.comparison.session import (
    CloudResult,
    ComparisonRules,
    OnlineComparison,
)
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth
from pointdistiller_ros.comparison_conversions import (
    GROUP_COLORS,
    to_agreement,
    to_agreement_markers,
    truth_from_detection_array,
    values_of_comparison,
)
from pointdistiller_ros.conversions import marker_keys

HEADER = Header(stamp=Time(sec=3, nanosec=7), frame_id='lidar')
CLASSES = ('Car', 'Van')


def found(*places, label=0):
    boxes = np.array([(x, 1, 0, 4, 2, 1.5, 0.5) for x in places], np.float32).reshape(-1, 7)
    scores = np.linspace(0.9, 0.5, len(places), dtype=np.float32)
    labels = np.full(len(places), label, np.int64)
    return Detections(boxes, scores, labels, latency_ms={'total': 10.0})


def summary_of(*, truth=False, **clouds):
    comparison = OnlineComparison(ComparisonRules(CLASSES, (0.7, 0.5)))
    comparison.add(CloudResult(1, np.zeros((1, 4), np.float32), found(5, 15), found(5)))
    if truth:
        labels = found(5)
        comparison.add_truth(1, GroundTruth(labels.boxes, labels.labels))
    return summarize(comparison, {'clouds': clouds})


def values_of(status):
    return {value.key: value.value for value in status.values}


def test_markers_by_group_and_class():
    groups = {'agreed': found(5), 'missed': found(15, 25, label=1), 'extra': found()}
    message = to_agreement_markers(groups, HEADER, CLASSES)
    message = deserialize_message(serialize_message(message), type(message))
    boxes = [marker for marker in message.markers if marker.type == Marker.LINE_LIST]
    assert [(box.ns, box.id) for box in boxes] == [
        ('agreed Car', 0),
        ('missed Van', 0),
        ('missed Van', 1),
    ]
    colors = [(box.color.r, box.color.g, box.color.b) for box in boxes]
    expected = [GROUP_COLORS['agreed'], GROUP_COLORS['missed'], GROUP_COLORS['missed']]
    np.testing.assert_allclose(colors, expected, rtol=1e-6)
    texts = [marker.text for marker in message.markers if marker.text]
    assert texts == ['agreed Car 0.90', 'missed Van 0.90', 'missed Van 0.50']


def test_markers_of_tilted_boxes_are_tilted():
    tilted = replace(found(5), orientations=np.float32([[0.6, 0, 0, 0.8]]))
    nothing = replace(found(), orientations=np.zeros((0, 4), np.float32))
    message = to_agreement_markers({'agreed': tilted, 'missed': nothing}, HEADER, CLASSES)
    turn = message.markers[0].pose.orientation
    assert [turn.x, turn.y, turn.z, turn.w] == pytest.approx([0.6, 0, 0, 0.8])


def test_only_vanished_markers_are_deleted():
    first = to_agreement_markers({'agreed': found(5), 'extra': found(9, 19)}, HEADER, CLASSES)
    second = to_agreement_markers(
        {'agreed': found(5), 'extra': found(9)}, HEADER, CLASSES, marker_keys(first)
    )
    deleted = [(one.ns, one.id) for one in second.markers if one.action == Marker.DELETE]
    assert deleted == [('extra Car', 1), ('extra Car text', 1)]


def test_agreement_has_a_status_for_everything():
    summary = summary_of(truth=True)
    message = to_agreement('/comparison', HEADER, {'recall': 0.5, 'f1': nan}, summary)
    message = deserialize_message(serialize_message(message), type(message))
    assert message.header == HEADER
    statuses = {status.name: status for status in message.status}
    bands = ('', ', 0-20 m', ', 20-40 m', ', 40+ m')
    for what in ('agreement', 'teacher beside ground truth', 'student beside ground truth'):
        for name in ('', ', Car', ', Van'):
            assert all(f'/comparison: {what}{name}{band}' in statuses for band in bands)
    assert len(statuses) == 3 * 3 * 4
    whole = statuses['/comparison: agreement']
    assert whole.message == 'recall 0.5000, precision 1.0000, f1 0.6667'
    values = values_of(whole)
    assert (values['recall'], values['num_matched']) == ('0.5000', '1')
    assert (values['cloud.recall'], values['cloud.f1']) == ('0.5000', 'nan')
    assert values['latency.median_ratio'] == '1.0000'
    assert values_of(statuses['/comparison: agreement, Van'])['recall'] == 'nan'
    assert not any('distances' in values_of(status) for status in message.status)


def test_values_of_the_diagnostics():
    values = values_of_comparison(summary_of(received=5))
    assert (values['clouds_received'], values['clouds_compared']) == ('5', '1')
    assert (values['latency_ratio'], values['recall']) == ('1.0000', '0.5000')


def test_truth_out_of_detections():
    """With messages that look like those of vision_msgs, which is not installed everywhere."""

    def detection(yaw, *names):
        rotation = Quaternion(x=0.0, y=0.0, z=sin(yaw / 2), w=cos(yaw / 2))
        pose = Pose(position=Point(x=1.0, y=2.0, z=3.0), orientation=rotation)
        box = SimpleNamespace(center=pose, size=Vector3(x=4.0, y=1.6, z=1.5))
        results = [SimpleNamespace(hypothesis=SimpleNamespace(class_id=name)) for name in names]
        return SimpleNamespace(bbox=box, results=results)

    message = SimpleNamespace(
        detections=[detection(0.3, 'Van', 'Car'), detection(-3.0, 'Bus'), detection(1.0)]
    )
    truth = truth_from_detection_array(message, CLASSES)
    assert truth.labels.tolist() == [1, IGNORE_LABEL, IGNORE_LABEL]
    np.testing.assert_allclose(truth.boxes[:, 6], [0.3, -3.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(truth.boxes[0, :6], [1, 2, 3, 4, 1.6, 1.5], rtol=1e-6)
    assert len(truth_from_detection_array(SimpleNamespace(detections=[]), CLASSES)) == 0
