# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bag through teacher and student in one process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
import json
from pathlib import Path
import sys
import threading

from kitti_folder import write_frame
import numpy as np
import pytest
from ros_graph import FakeDetector, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from std_msgs.msg import String

from pointdistiller_core.cli import main
from pointdistiller_core.detector import DEFAULT_BUNDLE, DEFAULT_TEACHER
from pointdistiller_core.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    PointDistillerError,
    WriteError,
)
from pointdistiller_core.messages.bags import CloudBagWriter, bag_topics, read_clouds
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC
from pointdistiller_core.pipelines.comparison import BagSelection, ComparisonConfig, compare
from pointdistiller_core.pipelines.make_bag import KITTI_TOPIC, write_kitti_bag
from pointdistiller_core.records import Detections
from pointdistiller_ros import playback, run
from pointdistiller_ros import run_compare as runner
from pointdistiller_ros.bag_player_node import BagPlayerNode
from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.comparison_outputs import OUTPUTS
from pointdistiller_ros.run_compare import RESULT_TOPIC, CompareOptions, run_compare

NUM_CLOUDS = 6


class FakeModel(FakeDetector):
    """Sees a car around the first point where its intensity is at least a limit."""

    def __init__(self, limit, delay_s=0.0):
        super().__init__(delay_s)
        self.limit = limit

    def __call__(self, points, **options):
        found = super().__call__(points, **options)
        found = found[found.scores >= self.limit]
        return Detections(
            found.boxes, found.scores, found.labels, None, found.counts, {'total': 10.0}
        )


def load(bundle, **_):
    limits = {'teacher': 0.35, 'student': 0.55, 'slow': 0.0}
    return FakeModel(limits[bundle], 0.15 if bundle == 'slow' else 0.0)


@pytest.fixture
def bag(tmp_path, monkeypatch):
    """Clouds with intensities 0.3 to 0.8; after each but the first one its labels."""
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for index in range(NUM_CLOUDS):
            stamp, value = (index + 1) * 10**8, index / 10 + 0.3
            writer.write('/front/points', stamp, 'velodyne', np.full((3, 4), value, np.float32))
            if index:
                box = {'dx': 4.0, 'dy': 1.6, 'dz': 1.5, 'yaw': 0.5, 'score': 1.0}
                columns = {name: np.full(1, size, np.float32) for name, size in box.items()}
                columns['label'] = np.zeros(1, np.int32)
                center = np.full((1, 3), value, np.float32)
                writer.write('/truth', stamp + 1000, 'velodyne', center, columns)
        text = bytes(serialize_message(String(data='no real transform')))
        writer.write_serialized('/tf', 'std_msgs/msg/String', stamp, text)
    return str(tmp_path / 'bag')


def options_of(bag, **changes):
    return CompareOptions('teacher', 'student', bag, **{'topic': '/front/points'} | changes)


def test_lockstep_compares_every_cloud_and_records_everything(bag, tmp_path):
    threads = set(threading.enumerate())
    progress = []
    summary = run_compare(
        options_of(bag, record=str(tmp_path / 'out'), output=str(tmp_path / 'report')),
        load=load,
        on_cloud=progress.append,
    )
    assert summary['clouds'] == {
        'received': NUM_CLOUDS,
        'compared': NUM_CLOUDS,
        'repeated': 0,
        'failed': 0,
        'dropped': 0,
        'lost': 0,
        'with_truth': 0,
    }
    # The teacher sees five cars, of 0.4 to 0.8, and the student the last three.
    assert (summary['agreement']['recall'], summary['agreement']['precision']) == (3 / 5, 1)
    assert summary['ground_truth'] is None
    assert progress[-1] == NUM_CLOUDS
    outputs = {f'/comparison/{name}' for name in OUTPUTS}
    recorded = {'/front/points', '/diagnostics'}
    assert set(bag_topics(tmp_path / 'out')) == outputs | recorded
    clouds = [(index + 1) * 10**8 for index in range(NUM_CLOUDS)]
    for topic in ('/front/points', '/comparison/teacher/boxes', '/comparison/student/boxes'):
        assert [one.stamp_ns for one in read_clouds(tmp_path / 'out', topic)] == clouds
    written = json.loads((tmp_path / 'report' / 'comparison.json').read_text(encoding='utf-8'))
    assert written['agreement'] == summary['agreement']
    assert written['complete'] is True
    assert set(threading.enumerate()) <= threads


def test_ground_truth_of_the_bag(bag):
    parameters = {'stamp_tolerance': 0.01}
    summary = run_compare(options_of(bag, ground_truth='/truth', parameters=parameters), load=load)
    assert summary['clouds']['with_truth'] == NUM_CLOUDS - 1
    truth = summary['ground_truth']
    assert (truth['teacher']['recall'], truth['student']['recall']) == (1.0, 3 / 5)
    assert truth['clouds_without_labels'] == 1
    assert truth['labels_without_cloud'] == 0


def test_bag_in_a_loop_has_each_ground_truth_once(bag, session):
    node = session.add(
        partial(ComparisonNode, load),
        {'points': '/front/points', 'ground_truth': '/truth'},
        teacher='teacher',
        student='student',
        ground_truth_type='boxes',
        stamp_tolerance=0.11,  # the neighbor without labels is within it
        reliability='reliable',
    )
    player = session.add(
        BagPlayerNode,
        bag=bag,
        topic='/front/points',
        extra_topics=['/truth'],
        acknowledgment=RESULT_TOPIC,
        loop=True,
    )
    spin_until(session, lambda: player.num_extra_subscribers['/truth'])
    player.start()
    spin_until(session, lambda: node.num_truth >= 3 * (NUM_CLOUDS - 1))
    summary = node.summarize()
    assert summary['clouds']['compared'] == NUM_CLOUDS
    assert summary['clouds']['repeated'] > 0
    assert summary['clouds']['with_truth'] == NUM_CLOUDS - 1
    truth = summary['ground_truth']
    assert (truth['labels_without_cloud'], truth['clouds_without_labels']) == (0, 1)
    assert truth['repeated_labels'] >= 2 * (NUM_CLOUDS - 1)


def test_transforms_are_played_with_the_ground_truth(bag, monkeypatch):
    players = []

    def build(**options):
        players.append(BagPlayerNode(**options))
        return players[0]

    monkeypatch.setattr(playback, 'BagPlayerNode', build)
    run_compare(options_of(bag, ground_truth='/truth'), load=load)
    assert players[0].num_extra_played == {'/tf': 1, '/truth': NUM_CLOUDS - 1}


def test_every_cloud_of_make_bag_gets_its_ground_truth(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    box, num_clouds = [10, 0, 0, 4, 1.6, 1.5, 0.5], 25
    for index in range(num_clouds):
        write_frame(tmp_path, f'{index:06}', [[10, 0, 0, 0.5]], [box], ['Car'])
    bag = tmp_path / 'bag'
    words = ['pointdistiller', 'make-bag', str(tmp_path), str(bag), '--ground-truth']
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    options = CompareOptions(
        'teacher', 'student', str(bag), topic=KITTI_TOPIC, ground_truth=TRUTH_TOPIC
    )
    summary = run_compare(options, load=load)
    truth, clouds = summary['ground_truth'], summary['clouds']
    assert clouds['with_truth'] == clouds['compared'] == clouds['received'] == num_clouds
    assert truth['clouds_without_labels'] == 0
    assert (truth['teacher']['recall'], truth['student']['recall']) == (1.0, 0.0)


def test_verb_without_ros_gives_the_same_numbers(bag, tmp_path):
    parameters = {'stamp_tolerance': 0.01, 'student_score_threshold': 0.6}
    node = run_compare(
        options_of(
            bag, ground_truth='/truth', output=str(tmp_path / 'node'), parameters=parameters
        ),
        load=load,
    )
    config = ComparisonConfig('teacher', 'student', student_score_threshold=0.6)
    clouds = BagSelection(
        Path(bag), topic='/front/points', ground_truth='/truth', stamp_tolerance_s=0.01
    )
    verb = compare(config, clouds, output=tmp_path / 'verb', load=load)
    numbers = ('rules', 'clouds', 'latency', 'agreement', 'ground_truth', 'repairs', 'intensity')
    assert node['agreement']['num_matched']
    assert node['clouds']['with_truth'] == NUM_CLOUDS - 1
    for key in (*numbers, 'teacher', 'student', 'complete', 'unusable_ground_truths'):
        assert verb[key] == node[key], key
    for name in ('clouds.csv', 'ground_truth.csv'):
        assert (tmp_path / 'verb' / name).read_text() == (tmp_path / 'node' / name).read_text()


def test_node_and_verb_read_the_classes_that_a_bag_names(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    write_frame(tmp_path, '000000', [[10, 0, 0, 0.5]], [[10, 0, 0, 4, 1.6, 1.5, 0.5]], ['Car'])
    write_kitti_bag(tmp_path, tmp_path / 'bag', ground_truth=('Pedestrian', 'Car'))
    options = CompareOptions(
        *('teacher', 'student', str(tmp_path / 'bag'), KITTI_TOPIC, TRUTH_TOPIC),
    )
    node = run_compare(options, load=load)['ground_truth']
    clouds = BagSelection(tmp_path / 'bag')
    verb = compare(ComparisonConfig('teacher', 'student'), clouds, load=load)['ground_truth']
    assert verb == node
    assert node['teacher']['classes']['Car']['recall'] == 1


def test_slow_teacher_at_full_speed_drops_clouds_and_counts_them(bag):
    options = CompareOptions('slow', 'student', bag, topic='/front/points', rate=5.0)
    clouds = run_compare(options, load=load)['clouds']
    assert clouds['dropped'] > 0
    assert clouds['compared'] + clouds['dropped'] == clouds['received'] == NUM_CLOUDS


def test_answer_that_cannot_be_sent_does_not_stop_the_lockstep(bag, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr('pointdistiller_ros.comparison_outputs.to_boxes_cloud', fail)
    summary = run_compare(options_of(bag), load=load)
    clouds = summary['clouds']
    assert (clouds['compared'], clouds['failed'], clouds['dropped']) == (NUM_CLOUDS, 0, 0)
    assert summary['unsent_messages'] == NUM_CLOUDS


def test_refused_cloud_does_not_stop_the_lockstep(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    with CloudBagWriter(tmp_path / 'odd') as writer:
        for index, columns in enumerate((4, 3, 4)):  # the second has no intensity
            writer.write('/points', index + 1, 'lidar', np.ones((2, columns), np.float32))
    summary = run_compare(CompareOptions('teacher', 'student', str(tmp_path / 'odd')), load=load)
    assert (summary['clouds']['compared'], summary['clouds']['failed']) == (2, 1)


def read_report(folder):
    return json.loads((folder / 'comparison.json').read_text(encoding='utf-8'))


def test_report_of_a_recording_that_was_cut_off_has_what_can_be_read(bag, tmp_path, capfd):
    (recording,) = Path(bag).glob('*.mcap')
    content = recording.read_bytes()
    cut = tmp_path / 'cut.mcap'
    cut.write_bytes(content[: -len(content) // 4])  # the chunk with the clouds stays whole
    options = CompareOptions('teacher', 'student', str(cut), topic='/front/points')
    run_compare(replace(options, output=str(tmp_path / 'report')), load=load)
    summary = read_report(tmp_path / 'report')
    assert summary['complete'] is True
    assert summary['clouds']['compared'] == summary['clouds']['received'] > 0
    assert 'was cut off while it was recorded' in capfd.readouterr().err


def test_report_without_its_page_is_not_complete(bag, tmp_path, monkeypatch):
    def fail(*_):
        raise WriteError('no room for the page')

    monkeypatch.setattr('pointdistiller_core.evaluation.comparison.page.build_page', fail)
    with pytest.raises(WriteError, match='no room for the page'):
        run_compare(options_of(bag, output=str(tmp_path / 'report')), load=load)
    summary = read_report(tmp_path / 'report')
    assert (summary['complete'], summary['clouds']['compared']) == (False, NUM_CLOUDS)
    assert summary['error'] == 'comparison.html is not written'


def test_exit_code_tells_that_every_cloud_failed(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    with CloudBagWriter(tmp_path / 'odd') as writer:
        for index in range(2):  # without intensity
            writer.write('/points', index + 1, 'lidar', np.ones((2, 3), np.float32))
    monkeypatch.setattr(runner, 'run_compare', partial(run_compare, load=load))
    words = ['--teacher', 'teacher', '--student', 'student', '--bag', str(tmp_path / 'odd')]
    assert run.main(['compare', *words]) == 1
    assert 'no cloud could be compared' in capfd.readouterr().err


def test_report_of_a_lockstep_without_an_answer_is_not_complete(bag, tmp_path, monkeypatch):
    def build_impatient(**options):
        options['parameter_overrides'].append(Parameter('timeout', value=0.1))
        return BagPlayerNode(**options)

    monkeypatch.setattr(playback, 'BagPlayerNode', build_impatient)
    options = CompareOptions('slow', 'student', bag, topic='/front/points')
    with pytest.raises(PointDistillerError, match='was not acknowledged'):
        run_compare(replace(options, output=str(tmp_path / 'report')), load=load)
    summary = read_report(tmp_path / 'report')
    assert summary['complete'] is False
    assert 'was not acknowledged' in summary['error']


@pytest.mark.parametrize(
    ('changes', 'error', 'named'),
    [
        ({'bag': 'absent'}, DatasetError, 'absent: no such bag'),
        ({'topic': '/none'}, DatasetError, '/front/points'),
        ({'ground_truth': '/none'}, DatasetError, '/truth'),
        ({'rate': -1.0}, ConfigError, r'rate .*-1\.0'),
        ({'rate': 0.0}, ConfigError, r'rate .*0\.0'),
        ({'parameters': {'min_iou': 3.0}}, ConfigError, r'min_iou .*3\.0'),
        (
            {'parameters': {'max_iou': 1.0}},
            ConfigError,
            'no parameter max_iou; did you mean min_iou',
        ),
        ({'teacher': 'absent'}, CheckpointError, 'absent'),
    ],
)
def test_what_cannot_be_used_is_named(bag, changes, error, named):
    options = {'teacher': 'teacher', 'student': 'student', 'bag': bag, 'topic': '/front/points'}
    loading = {} if error is CheckpointError else {'load': load}
    with pytest.raises(error, match=named):
        run_compare(CompareOptions(**options | changes), **loading)


@pytest.mark.parametrize(
    ('checks', 'code', 'failed'),
    [
        ([], 0, []),
        (['--check', 'recall>=0.6'], 0, []),
        (['--check', 'recall>=0.61', '--check', 'precision>=1'], 1, ['recall>=0.61']),
    ],
)
def test_command_line(bag, monkeypatch, capfd, checks, code, failed):
    asked = []

    def compare(options):
        asked.append(options)
        return run_compare(options, load=load)

    monkeypatch.setattr(runner, 'run_compare', compare)
    words = ['compare', '--teacher', 'teacher', '--student', 'student', '--bag', bag]
    words += ['--topic', '/front/points', '--student-score-threshold', '0.2', *checks]
    words += ['--intensity-scale', '1']
    assert run.main([*words, '-p', 'mounting.height:=2']) == code
    parameters = {'student_score_threshold': 0.2, 'mounting.height': 2.0, 'intensity_scale': 1.0}
    assert asked == [options_of(bag, topic=['/front/points'], parameters=parameters)]
    out, log = capfd.readouterr()
    assert out.splitlines()[1].split()[:3] == ['all', '0.600', '1.000']
    assert [line.split(': ')[-1] for line in log.splitlines() if 'does not hold' in line] == failed


def test_without_bundles_the_shipped_ones_are_compared(bag, monkeypatch):
    asked = []

    def compare(options):
        asked.append((options.teacher, options.student))
        return run_compare(replace(options, teacher='teacher', student='student'), load=load)

    monkeypatch.setattr(runner, 'run_compare', compare)
    assert run.main(['compare', '--bag', bag, '--topic', '/front/points']) == 0
    assert asked == [(DEFAULT_TEACHER, DEFAULT_BUNDLE)]


@pytest.mark.parametrize(
    'words', ['compare', 'compare --teacher a --student b --bag c --rate 1 --lockstep']
)
def test_wrong_command_line(words, capsys):
    with pytest.raises(SystemExit):
        run.main(words.split())
    assert 'usage: pointdistiller run compare' in capsys.readouterr().err
