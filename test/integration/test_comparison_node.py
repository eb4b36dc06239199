# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison node in a real ROS graph."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import partial
import json
import os
from pathlib import Path
import signal
import subprocess
import sys

import numpy as np
import pytest
from ros_graph import TIMEOUT_S, FakeDetector, listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.detector import Mounting
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.evaluation.comparison.report import format_table
from pointdistiller_core.grid import Grid
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC, detections_from_boxes_cloud
from pointdistiller_core.pipelines.comparison import BagSelection, ComparisonConfig
from pointdistiller_core.pipelines.comparison import compare as compare_offline
from pointdistiller_core.records import Detections
from pointdistiller_ros import conversions, transforms
from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.conversions import (
    marker_keys,
    to_boxes_cloud,
    to_cloud,
)
from pointdistiller_ros.run_compare import CompareOptions, run_compare

ROOT = Path(__file__).resolve().parents[2]
WIDE = (-99, -99, -9, 99, 99, 9)


class FakeModel(FakeDetector):
    """Sees an upright car around each point whose intensity is at least its own limit."""

    def __init__(self, limit=0.0, delay_s=0.0, class_names=('Car', 'Van'), height=1.73, seen=WIDE):
        super().__init__(delay_s)
        self.limit, self.class_names = limit, class_names
        grid = Grid(point_cloud_range=seen, voxel_size=(1, 1, 1))
        model = PointPillarsConfig().model_copy(update={'grid': grid})
        self.info = BundleInfo.model_construct(model=model, sensor_height=height)

    def __call__(self, points, *, mounting=None, **options):
        found = super().__call__(points, mounting=mounting, **options)
        level = mounting.points_to_training(points) if mounting else points
        seen = level[points[:, 3] >= self.limit]
        sizes = np.tile(np.array([4, 2, 1.5, 0.3], np.float32), (len(seen), 1))
        boxes, turns = np.concatenate([seen[:, :3], sizes], axis=1), None
        if mounting:
            boxes, turns = mounting.boxes_to_sensor(boxes)
        labels = np.full(len(seen), self.class_names.index('Car'), np.int64)
        numbers = {'counts': found.counts, 'latency_ms': {'total': 10.0}, 'orientations': turns}
        return Detections(boxes, seen[:, 3], labels, **numbers)


def add_node(session, teacher=None, student=None, *, names=None, **parameters):
    models = {'big': teacher or FakeModel(0.3), 'small': student or FakeModel(0.6)}

    def load(bundle, *, backend, device, num_threads):
        assert (backend, device, num_threads) == ('auto', 'cpu', 0)
        return models[bundle]

    build = partial(ComparisonNode, load)
    return session.add(build, names, teacher='big', student='small', **parameters)


def build_cloud(second, *intensities, mounting=None):
    """A point each 10 m: at 0.5 the teacher alone sees a car there, at 0.7 both do."""
    points = [(10 * (index + 1), 0, 0, value) for index, value in enumerate(intensities)]
    rows = np.array(points, np.float32).reshape(-1, 4)
    if mounting:
        rows[:, :3] = mounting.points_to_sensor(rows[:, :3])
    return to_cloud(rows, Header(stamp=Time(sec=second), frame_id='lidar'))


def build_truth(second, *places, label=0, mounting=None, frame_id='lidar'):
    boxes = np.array([(x, 0, 0, 4, 2, 1.5, 0.2) for x in places], np.float32).reshape(-1, 7)
    if mounting:
        boxes, _ = mounting.boxes_to_sensor(boxes)
    ones = np.ones(len(places), np.float32)
    truth = Detections(boxes, ones, np.full(len(places), label, np.int64))
    return to_boxes_cloud(truth, Header(stamp=Time(sec=second), frame_id=frame_id))


def compare(session, node, clouds, *messages):
    """Send clouds one after another, each when the one before is compared."""
    for message in messages:
        done = sum(node.counts[key] for key in ('compared', 'repeated', 'failed'))
        clouds.publish(message)
        spin_until(
            session,
            lambda done=done: (
                sum(node.counts[key] for key in ('compared', 'repeated', 'failed')) == done + 1
            ),
        )


def values_of(status):
    return {value.key: value.value for value in status.values}


def test_both_see_the_same_cloud_and_all_outputs_have_its_header(session):
    node = add_node(session)
    received = {
        name: listen(session, kind, f'/comparison/{name}')
        for name, kind in (
            ('teacher/boxes', PointCloud2),
            ('student/boxes', PointCloud2),
            ('markers', MarkerArray),
            ('agreement', DiagnosticArray),
        )
    }
    clouds = publisher(session, PointCloud2, '/points')
    spin_until(session, lambda: all(map(node.count_subscribers, node.output_topics)))
    clouds.publish(build_cloud(5, 0.7, 0.5, 0.2))
    spin_until(session, lambda: all(received.values()))
    teacher, student = (received[f'{role}/boxes'][0] for role in ('teacher', 'student'))
    assert detections_from_boxes_cloud(teacher).boxes[:, 0].tolist() == [10, 20]
    assert detections_from_boxes_cloud(student).boxes[:, 0].tolist() == [10]
    agreement, markers = received['agreement'][0], received['markers'][0]
    for message in (teacher, student, agreement, *markers.markers):
        assert (message.header.stamp.sec, message.header.frame_id) == (5, 'lidar')
    keys = {key for key in marker_keys(markers) if not key[0].endswith('text')}
    assert keys == {('agreed Car', 0), ('missed Car', 0)}
    values = values_of(agreement.status[0])
    assert (values['recall'], values['precision']) == ('0.5000', '1.0000')
    assert values['cloud.recall'] == '0.5000'


def test_student_is_published_last_and_for_every_cloud(session):
    node = add_node(session)
    assert node.output_topics[-1] == '/comparison/student/boxes'
    boxes = listen(session, PointCloud2, '/comparison/student/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    for second in range(1, 4):
        clouds.publish(build_cloud(second, *[0.7] * (second - 1)))
        spin_until(session, lambda second=second: len(boxes) == second)
    assert [len(detections_from_boxes_cloud(message)) for message in boxes] == [0, 1, 2]
    assert node.counts['compared'] == 3


def test_first_run_of_the_networks_is_not_measured(session):
    teacher = FakeModel(0.3)
    node = add_node(session, teacher)
    compare(
        *(session, node, publisher(session, PointCloud2, '/points')),
        *(build_cloud(1, 0.7), build_cloud(2, 0.7)),
    )
    assert teacher.mountings == [None] * 3
    assert node.summarize()['latency']['teacher']['clouds'] == 2


def test_a_cloud_that_comes_again_is_answered_and_not_compared_again(session):
    node = add_node(session)
    boxes = listen(session, PointCloud2, '/comparison/student/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, *(build_cloud(1, 0.7) for _ in range(3)))
    spin_until(session, lambda: len(boxes) == 3)
    counts = node.counts
    assert (counts['received'], counts['compared'], counts['repeated']) == (3, 1, 2)


def test_newest_cloud_wins_and_drops_are_counted(session):
    teacher = FakeModel(0.3, delay_s=0.3)
    node = add_node(session, teacher)
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(1, 0.7))
    spin_until(session, lambda: teacher.asked_importance)  # the first cloud is in work
    for second in range(2, 6):
        clouds.publish(build_cloud(second, 0.7))
        spin_until(session, lambda second=second: node.counts['received'] == second)
    spin_until(session, lambda: node.counts['compared'] == 2)
    summary = node.summarize(ended=True)
    assert summary['clouds']['received'] == 5
    assert summary['clouds']['dropped'] == 3


@pytest.mark.parametrize('lie', [{'width': 99}, {'fields': []}])
def test_malformed_cloud_is_an_error_and_the_next_one_is_compared(session, lie):
    node = add_node(session)
    diagnostics = listen(session, DiagnosticArray, '/diagnostics')
    clouds = publisher(session, PointCloud2, '/points')
    bad = build_cloud(1, 0.7)
    for name, value in lie.items():
        setattr(bad, name, value)
    compare(session, node, clouds, bad)
    spin_until(
        session,
        lambda: any(one.status[0].level == DiagnosticStatus.ERROR for one in diagnostics),
    )
    compare(session, node, clouds, build_cloud(2, 0.7))
    assert (node.counts['failed'], node.counts['compared']) == (1, 1)


@pytest.mark.parametrize('payload', [b'', bytes(range(200))])
def test_bytes_that_are_no_cloud_are_one_error(session, payload):
    node = add_node(session)
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, payload, build_cloud(2, 0.7))
    counts = node.counts
    assert (counts['received'], counts['failed'], counts['compared']) == (2, 1, 1)


def test_errors_without_a_text_are_logged_by_their_kind(session, monkeypatch, capfd):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(FakeModel, '__call__', fail)
    monkeypatch.setattr('pointdistiller_ros.comparison_node.truth_from_boxes_cloud', fail)
    node = add_node(session, ground_truth_type='boxes')
    states = listen(session, DiagnosticArray, '/diagnostics')
    publisher(session, PointCloud2, '/ground_truth').publish(build_truth(1, 10))
    compare(session, node, publisher(session, PointCloud2, '/points'), build_cloud(1, 0.7))
    spin_until(session, lambda: node.num_truth == 1)
    assert node.wait_until_idle(TIMEOUT_S)  # it counts before it logs
    log = capfd.readouterr().err
    assert 'a cloud is not compared: ZeroDivisionError' in log
    assert 'a ground truth is not used: ZeroDivisionError' in log
    problem = 'the last cloud failed: ZeroDivisionError'
    spin_until(session, lambda: states and states[-1].status[0].message == problem)


def test_machine_is_looked_at_once(session, monkeypatch):
    asked = []
    monkeypatch.setattr(
        'pointdistiller_ros.comparison_node.describe_machine', lambda: asked.append(1) or {}
    )
    node = add_node(session)
    agreement = listen(session, DiagnosticArray, '/comparison/agreement')
    spin_until(session, lambda: node.count_subscribers('/comparison/agreement'))
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7), build_cloud(2, 0.7))
    spin_until(session, lambda: len(agreement) == 2)
    assert asked == [1]


def test_message_that_cannot_be_built_keeps_no_other_back(session, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr('pointdistiller_ros.comparison_outputs.to_agreement_markers', fail)
    node = add_node(session)
    listen(session, MarkerArray, '/comparison/markers')
    received = [
        listen(session, kind, f'/comparison/{name}')
        for kind, name in ((DiagnosticArray, 'agreement'), (PointCloud2, 'student/boxes'))
    ]
    states = listen(session, DiagnosticArray, '/diagnostics')
    spin_until(session, lambda: all(map(node.count_subscribers, node.output_topics[1:])))
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7), build_cloud(2, 0.7))
    spin_until(session, lambda: all(len(messages) == 2 for messages in received))
    summary = node.summarize(ended=True)
    assert summary['unsent_messages'] == 2
    counts = {'compared': 2, 'failed': 0, 'dropped': 0}
    assert {name: summary['clouds'][name] for name in counts} == counts
    problem = 'a message on ~/markers is not sent: ZeroDivisionError'
    spin_until(session, lambda: states and states[-1].status[0].message == problem)
    assert states[-1].status[0].level == DiagnosticStatus.ERROR


def test_bytes_that_are_no_ground_truth_are_one_error(session):
    node = add_node(session, ground_truth_type='boxes')
    truths = publisher(session, PointCloud2, '/ground_truth')
    for message in (b'', build_truth(1, 10)):
        truths.publish(message)
    compare(session, node, publisher(session, PointCloud2, '/points'), build_cloud(1, 0.7))
    spin_until(session, lambda: node.num_truth == 2)
    summary = node.summarize()
    assert summary['unusable_ground_truths'] == 1
    assert summary['clouds']['with_truth'] == 1


@pytest.mark.parametrize(
    ('parameters', 'recall'),
    [
        ({'intensity_field': 'strength'}, 0.5),  # 0.7 and 0.5
        ({'intensity_field': 'strength', 'intensity_scale': 2.0}, 1.0),
        ({'missing_intensity': 'constant', 'constant_intensity': 0.7}, 1.0),
        ({'missing_intensity': 'zero'}, None),
    ],
)
def test_intensity_as_the_parameters_say(session, parameters, recall):
    node = add_node(session, **parameters)
    cloud = build_cloud(1, 0.7, 0.5)
    cloud.fields[3].name = 'strength'
    compare(session, node, publisher(session, PointCloud2, '/points'), cloud)
    assert node.counts['compared'] == 1
    assert node.summarize()['agreement']['recall'] == recall


@pytest.mark.parametrize('auto', [False, True])
def test_intensity_is_judged_for_both(session, auto):
    node = add_node(session, intensity_auto=auto)
    states = listen(session, DiagnosticArray, '/diagnostics')
    cloud = build_cloud(1, *np.linspace(1, 255, 30))
    compare(session, node, publisher(session, PointCloud2, '/points'), cloud)
    intensity = node.summarize()['intensity']
    assert intensity['problem'].count('likely scale 1/255') == (0 if auto else 2)
    assert (intensity['scale'] == pytest.approx(1 / 255)) is auto
    states.clear()
    spin_until(session, lambda: states)
    assert ('likely scale' in states[-1].status[0].message) is not auto


def test_what_was_clipped_and_refused_is_in_the_summary(session):
    class Repaired(FakeModel):
        def __call__(self, points, **options):
            found = super().__call__(points, **options)
            return replace(found, counts={'intensity_outside': 3, 'boxes_refused': 1})

    node = add_node(session, Repaired(0.3))
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7), build_cloud(2, 0.7))
    summary = node.summarize()
    assert summary['repairs'] == {
        'teacher': {'intensity_outside': 6, 'boxes_refused': 2},
        'student': {'intensity_outside': 0, 'boxes_refused': 0},
    }
    assert 'teacher: 6 intensities clipped, 2 boxes refused' in format_table(summary)


def test_no_parameter_changes_while_clouds_are_compared(session):
    node = add_node(session)
    (answer,) = node.set_parameters([Parameter('missing_intensity', value='zero')])
    assert not answer.successful
    assert node.get_parameter('missing_intensity').value == 'error'


POSE = {'height': 3.0, 'roll': 0.1, 'pitch': 0.35, 'yaw': -1.2}
MOUNTED = {f'mounting.{name}': value for name, value in POSE.items()}


def test_each_model_gets_the_mounting_against_its_own_training(session):
    models = FakeModel(0.3, height=1.7), FakeModel(0.6, height=1.0)
    node = add_node(session, *models, **MOUNTED)
    markers = listen(session, MarkerArray, '/comparison/markers')
    boxes = listen(session, PointCloud2, '/comparison/student/boxes')
    spin_until(session, lambda: all(map(node.count_subscribers, node.output_topics[1::2])))
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7))
    for model in models:
        expected = Mounting.from_angles(model.info.sensor_height, **POSE).training_from_sensor
        assert len(model.mountings) == 2  # the first run is not measured
        for found in model.mountings:
            np.testing.assert_array_equal(found.training_from_sensor, expected)
    spin_until(session, lambda: boxes and markers)
    places = detections_from_boxes_cloud(boxes[0]).boxes[:, :3]
    np.testing.assert_allclose(places, [[10, 0, 0]], atol=1e-5)  # in the cloud's frame
    (car,) = (one for one in markers[0].markers if one.type == Marker.LINE_LIST)
    assert abs(car.pose.orientation.x) > 0.1  # as tilted as a level car is from there
    assert node.summarize()['settings']['mounting'] == {'auto': False, 'frame': ''} | POSE


def numbers_of(part):
    """All numbers of a part of the summary; NaN is what there is not."""
    for value in part.values():
        yield from (
            numbers_of(value) if isinstance(value, dict) else [np.nan if value is None else value]
        )


def assert_same_numbers(first, second):
    for part in ('agreement', 'ground_truth'):
        numbers = [list(numbers_of(one.summarize()[part] or {})) for one in (first, second)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-3, abs=1e-4, nan_ok=True)


def test_sensor_that_is_tilted_and_higher_changes_no_number(session):
    mounting = Mounting.from_angles(1.73, **POSE)
    small = (0, -5, -1, 35, 5, 1)  # the last label is not in it
    models = FakeModel(0.3, seen=small), FakeModel(0.6, seen=small)
    level = add_node(session, *models, ground_truth_type='boxes')
    names = {'points': '/tilted/points', 'ground_truth': '/tilted/truth'}
    tilted = add_node(session, *models, names=names, ground_truth_type='boxes', **MOUNTED)
    for node, base, place in ((level, '', None), (tilted, '/tilted', mounting)):
        truths = publisher(session, PointCloud2, f'{base}/{"truth" if base else "ground_truth"}')
        truths.publish(build_truth(1, 10, 20, 30, 40, mounting=place))
        clouds = publisher(session, PointCloud2, f'{base}/points')
        compare(session, node, clouds, build_cloud(1, 0.7, 0.5, mounting=place))
        spin_until(session, lambda node=node: node.num_truth == 1)
    assert_same_numbers(level, tilted)
    summary = tilted.summarize()
    assert summary['agreement']['recall'] == 0.5
    assert summary['ground_truth']['teacher']['recall'] == pytest.approx(2 / 3)
    assert summary['agreement']['distances']['0-20 m']['num_matched'] == 1


@pytest.mark.skipif(transforms.Buffer is not None, reason='tf2_ros is installed')
def test_frame_of_tf_without_tf(session, tmp_path):
    parameters = {'mounting.frame': 'base_footprint', 'output': str(tmp_path / 'report')}
    with pytest.raises(ConfigError, match=r'parameter mounting\.frame needs tf2_ros'):
        add_node(session, **parameters)
    assert not (tmp_path / 'report').exists()


@pytest.mark.parametrize('truth_first', [True, False])
def test_ground_truth_by_stamp(session, truth_first):
    node = add_node(session, ground_truth_type='boxes')
    clouds = publisher(session, PointCloud2, '/points')
    truths = publisher(session, PointCloud2, '/ground_truth')

    def send_truths():
        for message in (build_truth(2, 10, 20), build_truth(9, 10)):
            truths.publish(message)
        spin_until(session, lambda: node.num_truth == 2)

    def send_clouds():
        compare(session, node, clouds, build_cloud(1, 0.7), build_cloud(2, 0.7, 0.5))

    steps = [send_truths, send_clouds]
    for step in steps if truth_first else reversed(steps):
        step()
    truth = node.summarize()['ground_truth']
    assert (truth['teacher']['recall'], truth['student']['recall']) == (1.0, 0.5)
    assert truth['labels_without_cloud'] == truth['clouds_without_labels'] == 1


def test_ground_truth_with_other_classes_and_tolerance(session):
    node = add_node(
        session,
        ground_truth_type='boxes',
        ground_truth_classes=['Bicycle', 'Car'],
        stamp_tolerance=1.0,
    )
    truths = publisher(session, PointCloud2, '/ground_truth')
    truths.publish(build_truth(3, 10, label=1))
    truths.publish(build_truth(13, 10, label=0))  # a bicycle: counts neither way
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(2, 0.7), build_cloud(12, 0.7))
    spin_until(session, lambda: node.num_truth == 2)
    truth = node.summarize()['ground_truth']['student']
    assert (truth['num_reference'], truth['num_matched'], truth['num_found']) == (1, 1, 1)


def test_unusable_ground_truth_is_counted(session):
    node = add_node(session, ground_truth_type='boxes')
    truths = publisher(session, PointCloud2, '/ground_truth')
    truths.publish(build_cloud(1, 0.5))  # no boxes at all
    spin_until(session, lambda: node.num_truth == 1)
    assert node.summarize()['unusable_ground_truths'] == 1


def test_ground_truth_in_another_frame_is_not_used(session, capfd):
    node = add_node(session, ground_truth_type='boxes')
    truths = publisher(session, PointCloud2, '/ground_truth')
    for second, frame_id in ((1, 'map'), (2, 'lidar'), (3, 'map')):
        truths.publish(build_truth(second, 10, frame_id=frame_id))
    spin_until(session, lambda: node.num_truth == 3)
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, *(build_cloud(second, 0.7) for second in (1, 2, 3)))
    assert node.wait_until_idle(TIMEOUT_S)  # it counts before it logs
    summary = node.summarize()
    assert (summary['unusable_ground_truths'], summary['clouds']['with_truth']) == (2, 1)
    assert summary['ground_truth']['labels_without_cloud'] == 0
    log = capfd.readouterr().err
    assert log.count("ground truth in the frame 'map' of a cloud in 'lidar' is not used") == 1


def test_only_common_classes_are_compared(session):
    teacher = FakeModel(0.3, class_names=('Van', 'Bus', 'Car'))
    node = add_node(session, teacher, FakeModel(0.6, class_names=('Car', 'Van')))
    boxes = listen(session, PointCloud2, '/comparison/student/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7))
    summary = node.summarize()
    assert summary['rules']['classes'] == ['Van', 'Car']
    assert summary['agreement']['classes']['Car']['recall'] == 1
    spin_until(session, lambda: boxes)
    assert detections_from_boxes_cloud(boxes[0]).labels.tolist() == [1]


def test_thresholds(session):
    same = FakeModel(0.0)
    node = add_node(session, same, same, teacher_score_threshold=0.5, student_score_threshold=0.65)
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7, 0.6, 0.4))
    assert node.summarize()['agreement']['recall'] == 0.5


def read_csv(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_report_at_the_end(session, tmp_path):
    node = add_node(session, output=str(tmp_path / 'report'), distances=[15.0])
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7, 0.5), build_cloud(2, 0.5))
    rows = read_csv(tmp_path / 'report' / 'clouds.csv')  # while it runs
    assert [row['stamp_ns'] for row in rows] == ['1000000000', '2000000000']
    node.destroy_node()
    names = {path.name for path in (tmp_path / 'report').iterdir()}
    assert names == {'clouds.csv', 'comparison.json', 'comparison.html'}
    summary = json.loads((tmp_path / 'report' / 'comparison.json').read_text(encoding='utf-8'))
    assert (summary['complete'], summary['error']) == (True, None)
    assert summary['clouds']['compared'] == 2
    assert summary['agreement']['recall'] == pytest.approx(1 / 3)
    assert list(summary['agreement']['distances']) == ['0-15 m', '15+ m']
    about = {'name': 'big', 'backend': 'fake', 'width': 1.0, 'classes': ['Car', 'Van']}
    assert {name: summary['teacher'][name] for name in about} == about
    assert '</html>' in (tmp_path / 'report' / 'comparison.html').read_text(encoding='utf-8')


def test_report_that_cannot_be_written_ends_the_node(session, tmp_path):
    node = add_node(session, output=str(tmp_path / 'report'))
    (tmp_path / 'report').rmdir()
    clouds = publisher(session, PointCloud2, '/points')
    compare(session, node, clouds, build_cloud(1, 0.7))
    with pytest.raises(Exception, match=r'clouds\.csv: cannot be written'):
        node.finished()
    (tmp_path / 'report').mkdir()  # there is room again
    node.destroy_node()
    written = (tmp_path / 'report' / 'comparison.json').read_text(encoding='utf-8')
    summary = json.loads(written)
    assert summary['complete'] is False
    assert 'cannot be written' in summary['error']


@pytest.mark.parametrize(
    ('parameters', 'error', 'named'),
    [
        ({'teacher': ''}, ConfigError, 'parameter teacher is empty'),
        ({'student': ''}, ConfigError, 'parameter student is empty'),
        ({'teacher': 'absent'}, CheckpointError, 'absent'),
        ({'min_iou': 2.0}, ConfigError, r'min_iou .*2\.0'),
        ({'distances': [40.0, 20.0]}, ConfigError, r'distances is \[40\.0, 20\.0\]'),
        ({'distances': [0.0]}, ConfigError, r'distances is \[0\.0\]'),
        ({'ground_truth_type': 'labels'}, ConfigError, "ground_truth_type is 'labels'; choose"),
    ],
)
def test_node_that_cannot_start_says_why(session, parameters, error, named):
    with pytest.raises(error, match=named):
        session.add(ComparisonNode, **{'teacher': 'absent', 'student': 'absent'} | parameters)


def test_detections_need_vision_msgs(session, monkeypatch):
    monkeypatch.setattr('pointdistiller_ros.comparison_parameters.Detection3DArray', None)
    with pytest.raises(ConfigError, match='vision_msgs is not installed'):
        add_node(session, ground_truth_type='detections')


@pytest.mark.skipif(conversions.Detection3DArray is None, reason='vision_msgs is not installed')
def test_ground_truth_of_vision_msgs(session):
    node = add_node(session, ground_truth_type='detections')
    boxes = build_truth(1, 10)
    message = conversions.to_detection_array(
        detections_from_boxes_cloud(boxes), boxes.header, ('Car', 'Van')
    )
    publisher(session, conversions.Detection3DArray, '/ground_truth').publish(message)
    compare(session, node, publisher(session, PointCloud2, '/points'), build_cloud(1, 0.7))
    spin_until(session, lambda: node.num_truth == 1)
    assert node.summarize()['ground_truth']['student']['recall'] == 1


def test_nothing_in_common(session):
    with pytest.raises(ConfigError, match=r"no class in common: the teacher \['Car'\], the stu"):
        add_node(session, FakeModel(class_names=('Car',)), FakeModel(class_names=('Bus',)))


def test_a_report_is_never_overwritten(session, tmp_path):
    (tmp_path / 'comparison.json').write_text('{}', encoding='utf-8')
    with pytest.raises(ConfigError, match='holds a report or other files already'):
        add_node(session, output=str(tmp_path))
    assert (tmp_path / 'comparison.json').read_text(encoding='utf-8') == '{}'


@pytest.fixture(scope='module')
def bundles(tmp_path_factory):
    """Two randomly initialized detectors with coarse pillars."""
    import torch

    from pointdistiller_core.deploy.bundle import save_bundle
    from pointdistiller_core.grid import Grid
    from pointdistiller_core.models import build_detector

    grid = Grid(point_cloud_range=(0, -12.8, -3, 25.6, 12.8, 1), voxel_size=(0.8, 0.8, 4))
    detection = DetectionConfig(score_threshold=0.0, max_detections=20)
    config = PointPillarsConfig(width=0.25, grid=grid, detection=detection)
    folders = [tmp_path_factory.mktemp('bundles') / name for name in ('tiny', 'small')]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        save_bundle(folder, build_detector(config), BundleInfo(model=config))
    return folders


@pytest.fixture(scope='module')
def bundle(bundles):
    """One of them."""
    return bundles[0]


def test_real_detectors_on_a_sensor_that_is_tilted_and_higher(session, bundles):
    given = dict(zip(('teacher', 'student'), map(str, bundles), strict=True))
    given |= {'teacher_score_threshold': 0.0, 'student_score_threshold': 0.0, 'num_threads': 1}
    level = session.add(ComparisonNode, **given, min_iou=0.01)
    names = {'points': '/tilted/points'}
    tilted = session.add(ComparisonNode, names, **given, **MOUNTED, min_iou=0.01)
    points = np.random.default_rng(0).uniform((1, -9, -2, 0), (22, 9, 0, 1), (300, 4))
    points = points.astype(np.float32)
    seen = points.copy()
    seen[:, :3] = Mounting.from_angles(1.73, **POSE).points_to_sensor(points[:, :3])
    for node, name, rows in ((level, '/points', points), (tilted, '/tilted/points', seen)):
        clouds = publisher(session, PointCloud2, name)
        cloud = to_cloud(rows, Header(stamp=Time(sec=1), frame_id='lidar'))
        compare(session, node, clouds, cloud)
    assert_same_numbers(level, tilted)
    assert 0 < tilted.summarize()['agreement']['recall'] < 1


def test_real_detectors_agree_as_much_without_ros(bundles, tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    rng = np.random.default_rng(0)
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for second in (1, 2, 3):
            points = rng.uniform((1, -9, -2, 0), (22, 9, 0, 1), (300, 4)).astype(np.float32)
            writer.write('/points', second * 10**9, 'lidar', points)
            boxes = rng.uniform((1, -9, -2), (22, 9, 0), (5, 3)).astype(np.float32)
            sizes = {'dx': 4, 'dy': 2, 'dz': 2, 'yaw': 0, 'score': 1}
            columns = {name: np.full(5, size, np.float32) for name, size in sizes.items()}
            columns['label'] = np.zeros(5, np.int32)
            writer.write(TRUTH_TOPIC, second * 10**9, 'lidar', boxes, columns)
    teacher, student = map(str, bundles)
    counts = {'teacher_score_threshold': 0.0, 'student_score_threshold': 0.0, 'min_iou': 0.01}
    node = run_compare(
        CompareOptions(
            *(teacher, student, str(tmp_path / 'bag'), '/points', TRUTH_TOPIC),
            parameters={**counts, 'num_threads': 1},
        )
    )
    config = ComparisonConfig(teacher, student, num_threads=1, **counts)
    verb = compare_offline(config, BagSelection(tmp_path / 'bag', topic='/points'))
    assert 0 < node['agreement']['recall'] < 1
    assert node['ground_truth']['teacher']['num_matched'] > 0
    for key in ('rules', 'clouds', 'agreement', 'ground_truth', 'repairs', 'teacher', 'student'):
        assert verb[key] == node[key], key


@pytest.mark.parametrize('ending', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_executable_leaves_a_report_however_it_ends(session, bundle, tmp_path, ending):
    parameters = {
        'teacher': bundle,
        'student': bundle,
        'output': tmp_path / 'report',
        'num_threads': 1,
    }
    words = [word for pair in parameters.items() for word in ('-p', ':='.join(map(str, pair)))]
    process = subprocess.Popen(
        [sys.executable, '-m', 'pointdistiller_ros.comparison_node', '--ros-args', *words],
        cwd=ROOT,
        env=os.environ | {'ROS_LOG_DIR': str(tmp_path), 'OMP_NUM_THREADS': '1'},
        stderr=subprocess.PIPE,
        text=True,
    )
    boxes = listen(session, PointCloud2, '/comparison/student/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    # The first may come before the other side knows the sender; the same again is no new cloud.
    spin_until(session, lambda: clouds.publish(build_cloud(1, 0.7)) or boxes)
    process.send_signal(ending)
    _, log = process.communicate(timeout=TIMEOUT_S)
    rows = read_csv(tmp_path / 'report' / 'clouds.csv')
    assert [row['stamp_ns'] for row in rows] == ['1000000000']
    if ending == signal.SIGKILL:
        return
    assert process.returncode == 0, log
    assert 'Traceback' not in log
    text = (tmp_path / 'report' / 'comparison.json').read_text(encoding='utf-8')
    summary = json.loads(text)
    assert summary['clouds']['compared'] == 1
    assert summary['teacher']['sha256'] == summary['student']['sha256'] != {}
    assert summary['student']['backend'] == 'torch'
    assert summary['agreement']['recall'] in {None, 1.0}  # the same bundle twice
    assert (tmp_path / 'report' / 'comparison.html').is_file()
