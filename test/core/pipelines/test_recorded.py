# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes that other programs left in a bag, in the frames of a dataset made of it."""

from __future__ import annotations

from detection_drives import BOX, IN_BASE, convert, stamp, vision, write_drive
from detection_messages import (
    DetectionWriter,
    detected_object,
    detected_objects,
    detection3d,
    detection3d_array,
)
import numpy as np
import pytest

from pointdistiller_core.config import ConversionConfig, FolderConfig, SplitConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.folder import DriveInfo, FolderInfo, FrameRow
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.messages.boxes_cloud import to_box_columns
from pointdistiller_core.pipelines.bag_conversion import convert_bags
from pointdistiller_core.pipelines.recorded import read_recorded
from pointdistiller_core.records import Detections


def only_box(found, frame):
    (label,) = found.by_frame[frame]
    return label.box


def test_boxes_that_no_camera_sees_stand_where_they_were(tmp_path):
    bag = write_drive(tmp_path / 'bag', [vision(0), vision(1, score=0.9)])
    found = read_recorded(convert(bag, tmp_path / 'own', height='keep'), bag)
    assert (found.topic, found.classes) == ('/objects', {'car': 2})
    np.testing.assert_allclose(only_box(found, 'a_000000'), BOX, atol=1e-5)
    assert found.by_frame['a_000001'][0].score == 0.9
    assert found.notes == ['2 of 4 frames have no message within 0.05 s']


def test_boxes_in_frames_of_tf_are_moved(tmp_path):
    in_odom = (IN_BASE[0] + 2, *IN_BASE[1:])
    moving = detected_object(in_odom, {1: 0.8}, velocity=(6.0, 0.0, 0.0))
    messages = [
        vision(1, IN_BASE, 'base_link'),
        (stamp(2), detected_objects(stamp(2), 'odom', [moving])),
    ]
    dataset = convert(write_drive(tmp_path / 'bag', []), tmp_path / 'own', height='keep')
    for number, message in enumerate(messages, start=1):
        bag = write_drive(tmp_path / f'{number}', [message], clouds=False)
        found = read_recorded(dataset, bag)
        np.testing.assert_allclose(only_box(found, f'a_00000{number}'), BOX, atol=1e-5)
    (label,) = found.by_frame['a_000002']
    ahead = (6 * np.cos(BOX[6]), 6 * np.sin(BOX[6]))
    np.testing.assert_allclose(label.velocity, ahead, atol=1e-5)
    assert (label.name, label.score) == ('CAR', pytest.approx(0.8))


def test_boxes_move_with_the_points_of_the_dataset(tmp_path):
    bag = write_drive(tmp_path / 'bag', [vision(0)])
    found = read_recorded(convert(bag, tmp_path / 'own', height=2.0, sensor_height=1.73), bag)
    raised = (*BOX[:2], BOX[2] + 0.27, *BOX[3:])
    np.testing.assert_allclose(only_box(found, 'a_000000'), raised, atol=1e-5)


def test_the_nearest_message_within_the_tolerance_is_taken(tmp_path):
    messages = [
        *(vision(0, offset_ns=30_000_000), vision(0, IN_BASE, offset_ns=-10_000_000)),
        *(vision(1, offset_ns=50_000_000), vision(9)),
    ]
    bag = write_drive(tmp_path / 'bag', messages)
    found = read_recorded(convert(bag, tmp_path / 'own', height='keep'), bag, tolerance_s=0.04)
    assert list(found.by_frame) == ['a_000000']
    np.testing.assert_allclose(only_box(found, 'a_000000'), IN_BASE, atol=1e-5)
    assert found.notes == [
        '3 of 4 frames have no message within 0.04 s',
        '2 messages have no frame within 0.04 s',
        '1 messages are left out, for another is nearer to their frame',
        '1 messages have not quite the time of their frame; moving objects, and all while the '
        'sensor moves, are off by their way in between',
    ]


def test_what_does_not_fit_is_refused(tmp_path):
    bag = write_drive(tmp_path / 'bag', [vision(1, frame='camera')])
    dataset = convert(bag, tmp_path / 'own', height='keep')
    with pytest.raises(DatasetError, match=r"no transform connects 'lidar' and 'camera'"):
        read_recorded(dataset, bag)
    late = write_drive(tmp_path / 'late', [vision(77)], clouds=False)
    with pytest.raises(DatasetError, match=r'none of 1 messages on /objects is within 0.05 s'):
        read_recorded(dataset, late)
    with pytest.raises(
        ConfigError, match=r'/points \(sensor_msgs/msg/PointCloud2\) holds no boxes'
    ):
        read_recorded(dataset, bag, '/points')
    with pytest.raises(ConfigError, match=r"no topic '/x'; choose one of \['/objects'\]"):
        read_recorded(dataset, bag, '/x')
    empty = write_drive(tmp_path / 'empty', [])
    with pytest.raises(ConfigError, match='no topic holds boxes: neither vision_msgs'):
        read_recorded(dataset, empty)


def test_drives_of_the_same_time_are_told_apart_by_their_bags(tmp_path):
    one = write_drive(tmp_path / 'one', [vision(0)])
    two = write_drive(tmp_path / 'two', [vision(1)])
    drives = {'one': one, 'two': two}
    convert_bags(drives, tmp_path / 'own', ConversionConfig(height='keep'), SplitConfig())
    dataset = FolderDataset(FolderConfig(root=tmp_path / 'own', split='all'), (), labelled=False)
    assert list(read_recorded(dataset, one).by_frame) == ['one_000000']
    assert list(read_recorded(dataset, two).by_frame) == ['two_000001']
    other = write_drive(tmp_path / 'other', [vision(0)], clouds=False)
    with pytest.raises(ConfigError, match='belong to the drive one or two, whose times overlap'):
        read_recorded(dataset, other)


def test_boxes_that_lie_are_left_out_and_tilted_ones_stand_up(tmp_path):
    half = np.sqrt(0.5)
    on_its_side = (half, 0.0, 0.0, half)
    tilted = (np.sin(0.05), 0.0, 0.0, np.cos(0.05))
    time_ns = stamp(0)
    items = [detection3d(BOX, {'car': 0.5}, quaternion=turn) for turn in (on_its_side, tilted)]
    bag = write_drive(tmp_path / 'bag', [(time_ns, detection3d_array(time_ns, 'lidar', items))])
    found = read_recorded(convert(bag, tmp_path / 'own', height='keep'), bag)
    np.testing.assert_allclose(only_box(found, 'a_000000'), (*BOX[:6], 0), atol=1e-5)
    assert any(note.startswith('1 boxes are left out: they do not stand') for note in found.notes)
    assert any(note.startswith('1 boxes were tilted by more than 0.02') for note in found.notes)


def test_numbers_of_a_boxes_cloud_have_names(tmp_path):
    boxes = Detections(np.array([BOX], np.float32), np.float32([0.5]), np.array([1]))
    for name, classes in (('said', ('Van', 'Tram')), ('unsaid', ())):
        with DetectionWriter(tmp_path / name) as writer:
            if classes:
                writer.name_classes('/boxes', classes)
            writer.write('/boxes', stamp(0), 'lidar', *to_box_columns(boxes))
    dataset = convert(write_drive(tmp_path / 'bag', []), tmp_path / 'own', height='keep')
    assert read_recorded(dataset, tmp_path / 'said').classes == {'Tram': 1}
    usual = read_recorded(dataset, tmp_path / 'unsaid')
    assert usual.classes == {'Pedestrian': 1}
    assert 'the numbers of its classes are taken as 0 Car, 1 Pedestrian, 2 Cyclist' in usual.notes
    given = read_recorded(dataset, tmp_path / 'unsaid', label_names=('A', 'B'))
    assert given.classes == {'B': 1}


def test_boxes_of_a_tilted_sensor_stand_as_in_the_dataset(tmp_path):
    """As its detector publishes them: with orientations, or as clouds with the yaw from above."""
    mounting = Mounting.from_angles(1.73, height=2.1, roll=0.05, pitch=-0.2, yaw=0.4)
    upright = np.array([BOX, (12, -3, -0.8, 0.8, 0.6, 1.7, 0.9)], np.float32)
    seen, turns = mounting.boxes_to_sensor(upright)
    choices = {
        'frame': 'lidar',
        'height': {'training_from_sensor': mounting.training_from_sensor.tolist()},
    }
    with FolderWriter(tmp_path / 'own', FolderInfo()) as writer:
        writer.update_drive('a', DriveInfo(choices=choices))
        for number in range(2):
            row = FrameRow(f'a_{number}', 'a', stamp(number))
            writer.add(row, np.zeros((1, 4), np.float32))
    dataset = FolderDataset(FolderConfig(root=tmp_path / 'own', split='all'), (), labelled=False)
    items = [
        detection3d(box, {'car': 0.5}, quaternion=turn.tolist())
        for box, turn in zip(seen.tolist(), turns, strict=True)
    ]
    found = Detections(seen, np.float32([0.5, 0.5]), np.array([0, 0]))
    with DetectionWriter(tmp_path / 'bag') as writer:
        writer.detections(stamp(0), detection3d_array(stamp(0), 'lidar', items))
        writer.write('/boxes', stamp(1), 'lidar', *to_box_columns(found))
    for topic, name in (('/objects', 'a_0'), ('/boxes', 'a_1')):
        labels = read_recorded(dataset, tmp_path / 'bag', topic).by_frame[name]
        np.testing.assert_allclose([label.box for label in labels], upright, atol=2e-5)
