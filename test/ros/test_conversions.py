# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to arrays and records, and back."""

from __future__ import annotations

from dataclasses import replace
import json
from math import cos, pi, sin
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Pose, Vector3
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from pointdistiller_core.config import PointPillarsConfig, PointRcnnConfig
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_core.messages.point_cloud2 import points_from_cloud, records_from_cloud
from pointdistiller_core.records import Detections, Importance
from pointdistiller_core.tracking.live import LiveTracks
from pointdistiller_ros import conversions
from pointdistiller_ros.conversions import (
    CLASS_COLORS,
    marker_keys,
    stamp_ns,
    to_box_markers,
    to_boxes_cloud,
    to_cloud,
    to_detection_array,
    to_diagnostics,
    to_importance_cloud,
    to_importance_markers,
    to_model_info,
    to_stamp,
    to_track_markers,
)

HEADER = Header(stamp=Time(sec=3, nanosec=7), frame_id='lidar')
CLASSES = ('Car', 'Pedestrian')


def build_detections(*labels):
    boxes = [[10.0 * i, 2.0, -1.0, 4.0, 2.0, 1.5, 0.5] for i in range(len(labels))]
    scores = np.linspace(0.9, 0.5, len(labels), dtype=np.float32)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 7), scores, np.array(labels, np.int64)
    )


def build_importance(*scores):
    values = np.array(scores, np.float32)
    return Importance(np.stack([values] * 3, axis=1), values, np.array([0.5, 1.0], np.float32))


def sent(message):
    """The message after a trip through the middleware's format."""
    return deserialize_message(serialize_message(message), type(message))


@pytest.mark.parametrize('nanoseconds', [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_stamps(nanoseconds):
    assert stamp_ns(to_stamp(nanoseconds)) == nanoseconds


def test_cloud_carries_points_and_header():
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    cloud = sent(to_cloud(points, HEADER))
    assert cloud.header == HEADER
    np.testing.assert_array_equal(points_from_cloud(cloud), points)


@pytest.mark.parametrize('labels', [(), (1,), (0, 1, 0)])
def test_boxes_cloud_carries_the_detections(labels):
    detections = build_detections(*labels)
    cloud = sent(to_boxes_cloud(detections, HEADER))
    assert cloud.header == HEADER
    names = ['x', 'y', 'z', 'dx', 'dy', 'dz', 'yaw', 'score', 'label']
    assert [field.name for field in cloud.fields] == names
    read = detections_from_boxes_cloud(cloud)
    np.testing.assert_array_equal(read.boxes, detections.boxes)
    np.testing.assert_array_equal(read.scores, detections.scores)
    np.testing.assert_array_equal(read.labels, detections.labels)


def test_importance_cloud_has_the_score_of_each_point():
    points = np.arange(8, dtype=np.float32).reshape(2, 4)
    cloud = sent(to_importance_cloud(points, build_importance(1.0), HEADER))
    assert cloud.header == HEADER
    np.testing.assert_array_equal(points_from_cloud(cloud), points)
    assert records_from_cloud(cloud, ['importance'])['importance'].tolist() == [0.5, 1.0]


def shown(message):
    return [(m.ns, m.id) for m in message.markers if m.action == Marker.ADD]


def deleted(message):
    return [(m.ns, m.id) for m in message.markers if m.action == Marker.DELETE]


def test_velocities_that_the_detector_gives_are_arrows():
    speeds = np.float32([[3, -4], [0.1, 0], [np.nan, np.nan]])
    found = replace(build_detections(0, 1, 1), velocities=speeds)
    message = sent(to_box_markers(found, HEADER, CLASSES))
    arrows = message.markers[-1]
    assert (arrows.ns, arrows.type) == ('velocity', Marker.LINE_LIST)
    assert xyz(arrows.points)[:2] == [(0, 2, -1), (3, -2, -1)]  # the others stand, or who knows
    assert len(arrows.points) == 4 * 2
    outline = message.markers[0]
    assert arrows.colors[0] == outline.color
    nothing = to_box_markers(build_detections(0), HEADER, CLASSES, marker_keys(message))
    assert ('velocity', 0) in deleted(nothing)
    tracked = replace(found, tracks=np.array([1, -1, -1]))
    assert len(to_box_markers(tracked, HEADER, CLASSES).markers) == 6
    read = detections_from_boxes_cloud(sent(to_boxes_cloud(found, HEADER)))
    np.testing.assert_array_equal(read.velocities, speeds)


def test_markers_count_within_their_class():
    message = sent(to_box_markers(build_detections(0, 1, 0), HEADER, CLASSES))
    assert shown(message) == [
        ('Car', 0),
        ('Car text', 0),
        ('Pedestrian', 0),
        ('Pedestrian text', 0),
        ('Car', 1),
        ('Car text', 1),
    ]
    assert {(m.header.frame_id, m.header.stamp.sec) for m in message.markers} == {('lidar', 3)}
    assert [m.text for m in message.markers if m.text] == [
        'Car 0.90',
        'Pedestrian 0.70',
        'Car 0.50',
    ]
    colors = [(m.color.r, m.color.g, m.color.b) for m in message.markers[::2]]
    expected = [CLASS_COLORS[0], CLASS_COLORS[1], CLASS_COLORS[0]]
    np.testing.assert_allclose(colors, expected, atol=1e-6)


def test_outline_is_the_box():
    box = np.array([[10.0, 2.0, -1.0, 4.0, 2.0, 1.5, pi / 2]], np.float32)
    detections = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64))
    outline = to_box_markers(detections, HEADER, CLASSES).markers[0]
    assert (outline.pose.position.x, outline.pose.position.y, outline.pose.position.z) == (
        10,
        2,
        -1,
    )
    assert outline.pose.orientation.z == pytest.approx(sin(pi / 4))
    assert outline.pose.orientation.w == pytest.approx(cos(pi / 4))
    points = np.array([[point.x, point.y, point.z] for point in outline.points])
    edges = points[:24].reshape(12, 2, 3)
    assert (np.abs(points[:24]) == [2.0, 1.0, 0.75]).all()
    assert (
        sorted(np.abs(edges[:, 0] - edges[:, 1]).max(axis=1)) == [1.5] * 4 + [2.0] * 4 + [4.0] * 4
    )
    assert points[24:].tolist() == [[0, 0, 0], [3, 0, 0]]  # to the front, past the box


def test_only_vanished_markers_are_deleted():
    before = to_box_markers(build_detections(0, 0, 1), HEADER, CLASSES)
    after = to_box_markers(build_detections(0, 1), HEADER, CLASSES, marker_keys(before))
    assert deleted(after) == [('Car', 1), ('Car text', 1)]
    assert shown(after) == [('Car', 0), ('Car text', 0), ('Pedestrian', 0), ('Pedestrian text', 0)]


def test_deletions_are_not_shown_markers():
    before = to_box_markers(build_detections(0), HEADER, CLASSES)
    nothing = to_box_markers(Detections.empty(), HEADER, CLASSES, marker_keys(before))
    assert marker_keys(nothing) == frozenset()
    assert to_box_markers(Detections.empty(), HEADER, CLASSES, marker_keys(nothing)).markers == []


def test_first_message_clears_the_display():
    message = to_box_markers(build_detections(0), HEADER, CLASSES, None)
    assert [marker.action for marker in message.markers] == [Marker.DELETEALL, *[Marker.ADD] * 2]


def test_more_classes_than_colors():
    label = len(CLASS_COLORS)
    classes = [f'class {index}' for index in range(label + 1)]
    color = to_box_markers(build_detections(label), HEADER, classes).markers[0].color
    assert color.r == pytest.approx(CLASS_COLORS[0][0], abs=1e-6)


def test_importance_markers_are_the_top_pillars():
    message = sent(to_importance_markers(build_importance(0.25, 1.0, 0.0, 0.5), HEADER, 3))
    (marker,) = message.markers
    assert marker.header == HEADER
    assert [point.x for point in marker.points] == [1.0, 0.5, 0.25]
    best, *_ = marker.colors
    assert (best.r, best.g, best.b) == pytest.approx((0.94, 0.98, 0.13), abs=1e-6)


def test_no_important_pillars_delete_the_marker():
    for importance, limit in ((build_importance(), 9), (build_importance(1.0), 0)):
        (marker,) = to_importance_markers(importance, HEADER, limit).markers
        assert marker.action == Marker.DELETE


def fake_vision_messages(monkeypatch):
    """vision_msgs as it is since version 4, for machines without it."""

    def hypothesis_with_pose():
        return SimpleNamespace(
            hypothesis=SimpleNamespace(class_id='', score=0.0), pose=SimpleNamespace(pose=Pose())
        )

    def detection(header, id):
        bbox = SimpleNamespace(center=Pose(), size=Vector3())
        return SimpleNamespace(header=header, results=[], bbox=bbox, id=id)

    def detections(header):
        return SimpleNamespace(header=header, detections=[])

    monkeypatch.setattr(conversions, 'ObjectHypothesisWithPose', hypothesis_with_pose)
    monkeypatch.setattr(conversions, 'Detection3D', detection)
    monkeypatch.setattr(conversions, 'Detection3DArray', detections)


def test_detection_array(monkeypatch):
    if conversions.Detection3DArray is None:
        fake_vision_messages(monkeypatch)
    message = to_detection_array(build_detections(1, 0), HEADER, CLASSES)
    assert message.header == HEADER
    first, second = message.detections
    assert (first.header, first.id) == (HEADER, '')
    (result,) = first.results
    assert result.hypothesis.class_id == 'Pedestrian'
    assert result.hypothesis.score == pytest.approx(0.9)
    assert result.pose.pose == first.bbox.center
    assert (first.bbox.size.x, first.bbox.size.y, first.bbox.size.z) == (4.0, 2.0, 1.5)
    assert second.bbox.center.position.x == 10.0
    assert second.bbox.center.orientation.z == pytest.approx(sin(0.25))
    tracked = replace(build_detections(1, 0), tracks=np.array([12, -1]))
    ids = [each.id for each in to_detection_array(tracked, HEADER, CLASSES).detections]
    assert ids == ['12', '']


def build_tracks(*labels, velocities=(), seen=(), trail=2):
    """Objects 5, 6, ... that were where they are."""
    found = build_detections(*labels)
    numbers = np.arange(5, 5 + len(labels))
    found = replace(found, tracks=numbers, velocities=np.array(velocities, np.float32))
    past = [(numbers, found.boxes[:, :3] - float(age)) for age in range(trail)[::-1]]
    return LiveTracks(found, found, np.array(seen), past, np.eye(4))


def xyz(points):
    return [(p.x, p.y, p.z) for p in points]


def test_track_markers():
    tracks = build_tracks(1, 0, velocities=[[3, -4], [0.1, 0]], seen=[True, False])
    message = sent(to_track_markers(tracks, HEADER, CLASSES))
    first, second, arrows, trails = message.markers
    assert [(m.ns, m.id, m.text) for m in (first, second)] == [
        ('track', 5, 'Pedestrian 5  5.0 m/s'),
        ('track', 6, 'Car 6'),
    ]
    assert (arrows.ns, trails.ns) == ('velocity', 'trail')
    assert {marker.type for marker in (arrows, trails)} == {Marker.LINE_LIST}
    assert xyz(arrows.points)[:2] == [(0, 2, -1), (3, -2, -1)]  # the other one stands
    assert xyz(arrows.points)[3] == pytest.approx((3 - 0.6 + 0.4, -2 + 0.8 + 0.3, -1))
    assert len(arrows.points) == len(arrows.colors) == 8
    assert xyz(trails.points) == [(-1, 1, -2), (0, 2, -1), (9, 1, -2), (10, 2, -1)]
    assert [color.a for color in trails.colors] == pytest.approx([1, 1, 0.4, 0.4])
    assert trails.colors[0] == arrows.colors[0] == first.color != second.color
    assert {marker.header.frame_id for marker in message.markers} == {'lidar'}


def test_track_markers_of_what_ended_are_deleted():
    before = to_track_markers(build_tracks(0, velocities=[[9, 0]], seen=[True]), HEADER, CLASSES)
    nothing = build_tracks(velocities=np.zeros((0, 2)), seen=np.zeros(0, bool), trail=1)
    after = to_track_markers(nothing, HEADER, CLASSES, marker_keys(before))
    assert deleted(after) == [('track', 5), ('trail', 0), ('velocity', 0)]
    assert shown(after) == []
    new = build_tracks(0, velocities=[[0, 0]], seen=[True], trail=1)
    first = to_track_markers(new, HEADER, CLASSES, None)
    assert [marker.action for marker in first.markers] == [Marker.DELETEALL, Marker.ADD]


def test_detection_array_travels():
    pytest.importorskip('vision_msgs', reason='vision_msgs is not installed')
    message = sent(to_detection_array(build_detections(1, 0), HEADER, CLASSES))
    assert [d.results[0].hypothesis.class_id for d in message.detections] == ['Pedestrian', 'Car']


def test_diagnostics():
    message = to_diagnostics('/detector', Time(sec=5), DiagnosticStatus.WARN, 'slow', {'a': '1'})
    (status,) = sent(message).status
    assert (status.name, status.level, status.message) == ('/detector', b'\x01', 'slow')
    assert [(pair.key, pair.value) for pair in status.values] == [('a', '1')]
    assert message.header.stamp.sec == 5


def test_model_info():
    info = BundleInfo(model=PointPillarsConfig(width=0.25), sensor_height=2.0, sha256={'a': 'b'})
    about = json.loads(sent(to_model_info(info, 'student', 'onnx', None)).data)
    assert about['class_names'] == ['Car', 'Pedestrian', 'Cyclist']
    assert (about['bundle'], about['backend'], about['width']) == ('student', 'onnx', 0.25)
    assert about['host_engine'] is None
    assert about['own_importance'] == 'num_points'
    assert about['point_cloud_range'] == list(info.model.grid.point_cloud_range)
    assert about['voxel_size'] == [0.16, 0.16, 4.0]
    assert (about['intensity_range'], about['sensor_height']) == ([0.0, 1.0], 2.0)
    assert about['sha256'] == {'a': 'b'}
    points = to_model_info(BundleInfo(model=PointRcnnConfig()), 'points', 'torch', None)
    assert json.loads(points.data)['own_importance'] == 'channel_max'


def test_tilted_boxes_are_shown_tilted():
    turn = np.array([[0.5, -0.5, 0.5, 0.5]], np.float32)
    tilted = replace(build_detections(0), orientations=turn)
    outline = to_box_markers(tilted, HEADER, CLASSES).markers[0]
    found = outline.pose.orientation
    assert (found.x, found.y, found.z, found.w) == (0.5, -0.5, 0.5, 0.5)
    upright = to_box_markers(build_detections(0), HEADER, CLASSES).markers[0].pose.orientation
    assert (upright.x, upright.y) == (0.0, 0.0)
    assert (upright.z, upright.w) == pytest.approx((np.sin(0.25), np.cos(0.25)))


def test_arguments_stay_as_they_are():
    detections, points = build_detections(0, 1), np.ones((2, 4), np.float32)
    boxes, importance = detections.boxes.copy(), build_importance(0.5, 1.0)
    scores = importance.scores.copy()
    to_boxes_cloud(detections, HEADER)
    to_box_markers(detections, HEADER, CLASSES)
    to_importance_cloud(points, importance, HEADER)
    to_importance_markers(importance, HEADER, 1)
    np.testing.assert_array_equal(detections.boxes, boxes)
    np.testing.assert_array_equal(importance.scores, scores)
    assert (points == 1).all()
    assert Header(stamp=Time(sec=3, nanosec=7), frame_id='lidar') == HEADER
