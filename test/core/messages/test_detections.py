# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes in messages of other programs, through real bags."""

from __future__ import annotations

import sqlite3

from detection_messages import (
    AUTOWARE_AUTO,
    TYPES,
    VISION,
    DetectionWriter,
    detected_object,
    detected_objects,
    detection3d,
    detection3d_array,
)
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as RosbagWriter
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pointdistiller_core.messages.bags import read_contents, summarize_bag
from pointdistiller_core.messages.boxes_cloud import to_box_columns
from pointdistiller_core.messages.detections import box_topics, find_boxes
from pointdistiller_core.records import Detections

BOX = (-10.0, 3.0, -0.5, 4.0, 1.75, 1.5, -2.5)  # behind; length, width and height differ
STAMP = 1_700_000_000_123_456_789


def read(path, topic='/objects'):
    (message,) = read_contents(path, topic)
    return find_boxes(message)


def through_a_bag(tmp_path, message):
    with DetectionWriter(tmp_path / 'bag') as writer:
        writer.detections(STAMP, message)
    return read(tmp_path / 'bag')


def test_a_detection_of_vision_msgs(tmp_path):
    item = detection3d(BOX, {'van': 0.3, 'car': 0.6}, identity='7')
    (found,) = through_a_bag(tmp_path, detection3d_array(STAMP, '/lidar', [item]))
    assert (found.stamp_ns, found.frame_id, dict(found.counts)) == (STAMP, 'lidar', {})
    (box,) = found.boxes
    assert (box.name, box.score, box.track) == ('car', 0.6, '7')
    np.testing.assert_allclose(box.box, BOX, atol=1e-12)
    assert np.isnan(box.velocity).all()


@pytest.mark.parametrize('kind', ['autoware_perception_msgs', 'autoware_auto_perception_msgs'])
def test_an_object_of_autoware(tmp_path, kind):
    item = detected_object(
        BOX, {6: 0.2, 1: 0.5}, exists=0.5, velocity=(8.0, 0.0, 0.0), package=kind
    )
    message = detected_objects(STAMP, 'base_link', [item], f'{kind}/msg/DetectedObjects')
    (found,) = through_a_bag(tmp_path, message)
    (box,) = found.boxes
    assert (found.frame_id, box.name, box.score) == ('base_link', 'CAR', 0.25)
    np.testing.assert_allclose(box.box, BOX, atol=1e-12)
    ahead = (8 * np.cos(BOX[6]), 8 * np.sin(BOX[6]), 0)
    np.testing.assert_allclose(box.velocity, ahead, atol=1e-12)


def test_other_shapes_and_probabilities_of_autoware(tmp_path):
    objects = [
        detected_object((5, 0, 0, 0.6, 0, 1.7, 0.3), {7: 0.8}, exists=0.0, shape=1),
        detected_object(
            (5, 0, 0, 0, 0, 2, np.pi / 2), {250: 1.0}, shape=2, footprint=[(-1, 1), (3, 0)]
        ),
        detected_object(BOX, {}),
    ]
    (found,) = through_a_bag(tmp_path, detected_objects(STAMP, 'base_link', objects))
    person, polygon = found.boxes
    assert (person.name, person.box[3:6]) == ('PEDESTRIAN', (0.6, 0.6, 1.7))
    assert person.score == pytest.approx(0.8)
    assert polygon.name == '250'
    np.testing.assert_allclose(polygon.box, (4.5, 1, 0, 4, 1, 2, np.pi / 2), atol=1e-12)
    assert found.counts == {'unrated': 1, 'without a class': 1}


def test_a_cloud_of_boxes(tmp_path):
    boxes = Detections(
        np.array([BOX, BOX], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([2, -1]),
        velocities=np.array([[1, 2], [np.nan, np.nan]], np.float32),
        tracks=np.array([3, -1]),
    )
    with DetectionWriter(tmp_path / 'bag') as writer:
        writer.name_classes('/boxes', ['Car', 'Van', 'Tram'])
        writer.write('/boxes', STAMP, 'lidar', *to_box_columns(boxes))
        writer.write('/points', STAMP, 'lidar', np.zeros((1, 4), np.float32))
    summary = summarize_bag(tmp_path / 'bag')
    assert summary.class_names == {'/boxes': ('Car', 'Van', 'Tram')}
    assert box_topics(tmp_path / 'bag', summary) == ['/boxes']
    (found,) = read(tmp_path / 'bag', '/boxes')
    (box,) = found.boxes
    assert (box.name, box.score, box.track, box.velocity) == ('2', 0.75, '3', (1, 2, 0))
    np.testing.assert_array_equal(np.float32(box.box), np.float32(BOX))
    assert found.counts == {'without a class': 1}


def test_what_cannot_be_a_box_is_counted(tmp_path):
    flat, lost = (*BOX[:5], 0.0, 0.0), (np.nan, *BOX[1:])
    items = [
        detection3d(BOX, {}),
        detection3d(flat, {'car': 0.5}),
        detection3d(lost, {'car': 0.5}),
        detection3d(BOX, {'car': float('nan')}),
        detection3d(BOX, {'car': 87.0}),
        detection3d(BOX, {'car': 0.5}, quaternion=(0, 0, 0, 0)),
    ]
    (found,) = through_a_bag(tmp_path, detection3d_array(STAMP, 'lidar', items))
    assert [(box.score, box.box[6]) for box in found.boxes] == [
        (1.0, pytest.approx(BOX[6])),
        (0.5, 0.0),
    ]
    assert found.counts == {
        **{'without a class': 1, 'without an extent': 1, 'not finite': 2, 'outside': 1}
    }


def test_detections_may_name_frames_of_their_own(tmp_path):
    items = [detection3d(BOX, {'car': 0.5}), detection3d(BOX, {'car': 0.5}, frame='map')]
    found = through_a_bag(tmp_path, detection3d_array(STAMP, 'lidar', items))
    assert [(each.frame_id, len(each.boxes)) for each in found] == [('lidar', 1), ('map', 1)]
    (empty,) = read_empty(tmp_path)
    assert (empty.frame_id, empty.boxes) == ('lidar', [])


def read_empty(tmp_path):
    with DetectionWriter(tmp_path / 'empty') as writer:
        writer.detections(STAMP, detection3d_array(STAMP, 'lidar', []))
    return read(tmp_path / 'empty')


def test_a_bag_of_sqlite3_without_definitions(tmp_path):
    item = detected_object(BOX, {1: 1.0}, package='autoware_auto_perception_msgs')
    message = detected_objects(STAMP, 'base_link', [item], AUTOWARE_AUTO)
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection('/objects', AUTOWARE_AUTO, typestore=TYPES)
        writer.write(connection, STAMP, TYPES.serialize_cdr(message, AUTOWARE_AUTO))
    (file,) = (tmp_path / 'bag').glob('*.db3')
    with sqlite3.connect(file) as database:
        database.execute('DROP TABLE message_definitions')
    (found,) = read(tmp_path / 'bag')
    np.testing.assert_allclose(found.boxes[0].box, BOX, atol=1e-12)


def test_a_bag_of_ros_1(tmp_path):
    """Its detections have numbers as classes, and its headers a sequence number."""
    store = get_typestore(Stores.ROS1_NOETIC)
    ros1 = {
        VISION: 'std_msgs/Header header\nDetection3D[] detections',
        'vision_msgs/msg/Detection3D': 'std_msgs/Header header\nObjectHypothesisWithPose[] results'
        '\nBoundingBox3D bbox',
        'vision_msgs/msg/ObjectHypothesisWithPose': 'int64 id\nfloat64 score\n'
        'geometry_msgs/PoseWithCovariance pose',
        'vision_msgs/msg/BoundingBox3D': 'geometry_msgs/Pose center\ngeometry_msgs/Vector3 size',
    }
    for name, text in ros1.items():
        store.register(get_types_from_msg(text, name))
    new, types = detection3d(BOX, {'car': 0.5}), store.types
    header = types['std_msgs/msg/Header'](
        7, types['builtin_interfaces/msg/Time'](*divmod(STAMP, 10**9)), 'lidar'
    )
    result = types['vision_msgs/msg/ObjectHypothesisWithPose'](2, 0.5, new.results[0].pose)
    item = types['vision_msgs/msg/Detection3D'](header, [result], new.bbox)
    with RosbagWriter(tmp_path / 'a.bag') as writer:
        connection = writer.add_connection('/objects', VISION, typestore=store)
        message = types[VISION](header, [item])
        writer.write(connection, STAMP, store.serialize_ros1(message, VISION))
    (found,) = read(tmp_path / 'a.bag')
    assert (found.stamp_ns, found.frame_id) == (STAMP, 'lidar')
    assert found.boxes[0].name == '2'
    np.testing.assert_allclose(found.boxes[0].box, BOX, atol=1e-12)


@pytest.mark.parametrize('plugin', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_an_older_layout_is_read_by_the_definition_in_the_bag(tmp_path, plugin):
    store = get_typestore(Stores.LATEST)
    old = {
        VISION: 'std_msgs/Header header\nDetection3D[] detections',
        'vision_msgs/msg/Detection3D': 'std_msgs/Header header\nObjectHypothesisWithPose[] results'
        '\nBoundingBox3D bbox\nbool is_tracking\nstring tracking_id',
        'vision_msgs/msg/ObjectHypothesisWithPose': 'string id\nfloat64 score\n'
        'geometry_msgs/PoseWithCovariance pose',
        'vision_msgs/msg/BoundingBox3D': 'geometry_msgs/Pose center\ngeometry_msgs/Vector3 size',
    }
    for name, text in old.items():
        store.register(get_types_from_msg(text, name))
    new = detection3d(BOX, {'car': 0.5}, identity='9')
    result = store.types['vision_msgs/msg/ObjectHypothesisWithPose'](
        'car', 0.5, new.results[0].pose
    )
    item = store.types['vision_msgs/msg/Detection3D'](new.header, [result], new.bbox, True, '9')
    message = store.types[VISION](detection3d_array(STAMP, 'lidar', []).header, [item])
    with Writer(tmp_path / 'bag', version=8, storage_plugin=plugin) as writer:
        connection = writer.add_connection('/objects', VISION, typestore=store)
        writer.write(connection, STAMP, store.serialize_cdr(message, VISION))
    (found,) = read(tmp_path / 'bag')
    (box,) = found.boxes
    assert (box.name, box.score, box.track) == ('car', 0.5, '9')
    np.testing.assert_allclose(box.box, BOX, atol=1e-12)
