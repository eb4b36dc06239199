# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bag through a detector node in one process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
import threading

from kitti_folder import write_frame
import numpy as np
import pytest
from ros_graph import FakeDetector
from rosbags.highlevel import AnyReader
from typer.testing import CliRunner

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message

from pointdistiller_core.cli.app import app
from pointdistiller_core.deploy.bundle_format import DEFAULT_BUNDLE
from pointdistiller_core.errors import CheckpointError, ConfigError, DatasetError, WriteError
from pointdistiller_core.messages.bags import CloudBagWriter, bag_topics, read_clouds
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_core.pipelines.make_bag import write_kitti_bag
from pointdistiller_ros import run
from pointdistiller_ros.detector_outputs import OUTPUTS, TRACK_OUTPUTS
from pointdistiller_ros.parameters import DetectorParameters
from pointdistiller_ros.recorder import BagRecorderNode
from pointdistiller_ros.run import RunCounts, RunOptions, run_detect
from pointdistiller_ros.run_parameters import parse_parameter, settle_parameters

NUM_CLOUDS = 6


@pytest.fixture
def bag(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for index in range(NUM_CLOUDS):
            points = np.full((3, 4), index / 10 + 0.3, np.float32)
            writer.write('/front/points', (index + 1) * 10**8, 'velodyne', points)
    return str(tmp_path / 'bag')


def stamps(path, topic):
    return [cloud.stamp_ns for cloud in read_clouds(path, topic)]


def test_lockstep_loses_nothing_and_records_everything(bag, tmp_path):
    threads = set(threading.enumerate())
    progress = []
    options = RunOptions('bundle', bag, record=str(tmp_path / 'out'), rate=None)
    counts = run_detect(options, load=lambda _: FakeDetector(), on_cloud=progress.append)
    assert counts == RunCounts(played=NUM_CLOUDS, results=NUM_CLOUDS, failed=0, dropped=0)
    assert progress == sorted(progress)
    assert progress[-1] == NUM_CLOUDS
    names = {name for name, kind in OUTPUTS.items() if kind is not None}
    outputs = {f'/detector/{name}' for name in names - TRACK_OUTPUTS}  # which are off
    recorded = {'/front/points', '/diagnostics'}
    assert set(bag_topics(tmp_path / 'out')) == outputs | recorded
    clouds = [(index + 1) * 10**8 for index in range(NUM_CLOUDS)]
    assert stamps(tmp_path / 'out', '/front/points') == clouds
    results = list(read_clouds(tmp_path / 'out', '/detector/boxes'))
    assert [result.stamp_ns for result in results] == clouds
    assert [result.time_ns for result in results] == clouds  # in the bag's time
    scores = [detections_from_boxes_cloud(result.message).scores[0] for result in results]
    np.testing.assert_allclose(scores, np.arange(NUM_CLOUDS) / 10 + 0.3, rtol=1e-6)
    assert set(threading.enumerate()) <= threads


def test_results_that_are_recorded_late_have_the_time_of_their_cloud(bag, tmp_path, monkeypatch):
    record, steady = BagRecorderNode._record, Clock(clock_type=ClockType.STEADY_TIME)

    def record_late(node, topic, *message):
        def write():
            timer.cancel()
            record(node, topic, *message)

        timer = node.create_timer(0.02, write, clock=steady)

    monkeypatch.setattr(BagRecorderNode, '_record', record_late)
    run_detect(
        RunOptions('bundle', bag, record=str(tmp_path / 'out'), rate=None),
        load=lambda _: FakeDetector(),
    )
    results = list(read_clouds(tmp_path / 'out', '/detector/boxes'))
    assert [result.time_ns for result in results] == [
        (index + 1) * 10**8 for index in range(NUM_CLOUDS)
    ]


def test_slow_detector_at_full_speed_drops_clouds_and_counts_them(bag):
    counts = run_detect(RunOptions('bundle', bag, rate=5.0), load=lambda _: FakeDetector(0.1))
    assert counts.played == NUM_CLOUDS
    assert counts.dropped > 0
    assert counts.results + counts.dropped == NUM_CLOUDS
    assert counts.failed == 0


def test_refused_cloud_does_not_stop_the_lockstep(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    with CloudBagWriter(tmp_path / 'odd') as writer:
        for index, columns in enumerate((4, 3, 4)):  # the second has no intensity
            writer.write('/points', index + 1, 'lidar', np.ones((2, columns), np.float32))
    options = RunOptions('bundle', str(tmp_path / 'odd'), rate=None)
    counts = run_detect(options, load=lambda _: FakeDetector())
    assert counts == RunCounts(played=3, results=2, failed=1, dropped=0)


def test_diagnostics_are_recorded_to_the_last_cloud(bag, tmp_path):
    options = RunOptions('bundle', bag, record=str(tmp_path / 'out'), rate=None)
    run_detect(options, load=lambda _: FakeDetector())
    with AnyReader([tmp_path / 'out']) as reader:
        of_node = [one for one in reader.connections if one.topic == '/diagnostics']
        states = [
            deserialize_message(raw, DiagnosticArray) for *_, raw in reader.messages(of_node)
        ]
    values = {pair.key: pair.value for pair in states[-1].status[0].values}
    assert values['clouds_results'] == str(NUM_CLOUDS)


@pytest.mark.parametrize('pace', [['--lockstep'], []])
@pytest.mark.parametrize(('good', 'code'), [(0, 1), (1, 0)])
def test_exit_code_tells_that_every_cloud_failed(tmp_path, monkeypatch, capfd, pace, good, code):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    with CloudBagWriter(tmp_path / 'odd') as writer:
        for index, columns in enumerate((3, 3, 4)[: 2 + good]):  # 3: without intensity
            stamp = (index + 1) * 5 * 10**8  # time for each, for without lock-step
            writer.write('/points', stamp, 'lidar', np.ones((2, columns), np.float32))
    monkeypatch.setattr(run, 'run_detect', partial(run_detect, load=lambda _: FakeDetector()))
    words = ['detect', '--bundle', 'b', '--bag', str(tmp_path / 'odd'), *pace]
    assert run.main(words) == code
    log = capfd.readouterr().err
    assert f'{2 + good} clouds played: {good} results, 2 failed, 0 dropped' in log
    assert ('no cloud has a result' in log) == (code == 1)


@pytest.mark.parametrize('record', [True, False])
def test_ctrl_c_says_what_is_kept(bag, tmp_path, monkeypatch, capfd, record):
    def stop(num_played):
        if num_played:
            raise KeyboardInterrupt

    play = partial(run_detect, load=lambda _: FakeDetector(), on_cloud=stop)
    monkeypatch.setattr(run, 'run_detect', play)
    options = ['--record', str(tmp_path / 'out')] if record else []
    with pytest.raises(KeyboardInterrupt):
        run.main(['detect', '--bundle', 'b', '--bag', bag, '--lockstep', *options])
    kept = f'kept in {tmp_path / "out"}: what came until then' if record else 'nothing is kept'
    assert f'stopped; {kept}' in capfd.readouterr().err
    if record:
        assert (tmp_path / 'out' / 'metadata.yaml').exists()  # the bag is finished


def test_score_threshold(bag, tmp_path):
    options = RunOptions(
        'bundle',
        bag,
        record=str(tmp_path / 'out'),
        rate=None,
        parameters={'score_threshold': 0.55},
    )
    run_detect(options, load=lambda _: FakeDetector())
    results = read_clouds(tmp_path / 'out', '/detector/boxes')
    found = [len(detections_from_boxes_cloud(result.message)) for result in results]
    assert found == [0, 0, 0, 1, 1, 1]  # scores 0.3 to 0.8


@pytest.mark.parametrize(
    ('changes', 'error', 'named'),
    [
        ({'bag': 'absent'}, DatasetError, 'absent: no such bag'),
        ({'topic': '/none'}, DatasetError, '/front/points'),
        ({'rate': -1.0}, ConfigError, r'rate .*-1\.0'),
        ({'bundle': 'absent'}, CheckpointError, 'absent'),
        (
            {'parameters': {'mounting.hight': 2.0}},
            ConfigError,
            r'no parameter mounting\.hight; did you mean mounting\.height\?',
        ),
        (
            {'parameters': {'score_thresholds.car': 0.5}},
            ConfigError,
            r'no parameter score_thresholds\.car; did you mean score_thresholds\.Car\?',
        ),
        ({'parameters': {'mounting.height': 'two'}}, ConfigError, r'mounting\.height .*DOUBLE'),
        (
            {'parameters': {'num_threads': -2}},
            ConfigError,
            '^parameter num_threads of detector is -2; give one from 0 to 1024$',
        ),
    ],
)
def test_what_cannot_be_used_is_named(bag, changes, error, named):
    options = {'bundle': 'absent', 'bag': bag} | changes
    load = {} if error is CheckpointError else {'load': lambda _: FakeDetector()}
    with pytest.raises(error, match=named):
        run_detect(RunOptions(**options), **load)


@pytest.mark.parametrize(
    ('changes', 'error', 'named'),
    [
        ({'record': 'full'}, WriteError, 'full exists already'),
        ({'parameters': {'score_thresold': 0.3}}, ConfigError, 'did you mean score_threshold'),
    ],
)
def test_refused_before_a_network_is_loaded(bag, tmp_path, monkeypatch, changes, error, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'mine').touch()
    with pytest.raises(error, match=named):
        run_detect(RunOptions('bundle', bag, **changes), load=lambda _: pytest.fail('loaded'))


@pytest.mark.parametrize(
    ('given', 'settled'),
    [
        ({'mounting.height': 2}, 2.0),
        ({'score_thresholds.Car': 1}, 1.0),
        ({'num_threads': 2}, 2),
        ({'outputs.tracks': True}, True),
        ({'ego_box': [-1, -1, -1, 1, 1, 1]}, [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]),
        ({'use_sim_time': True}, True),
    ],
)
def test_whole_numbers_for_floats(given, settled):
    ((name, value),) = settle_parameters('detector', DetectorParameters, given).items()
    assert (name, value) == (*given, settled)
    assert type(value) is type(settled)
    if isinstance(value, list):
        assert {type(one) for one in value} == {float}


def test_command_line(monkeypatch):
    asked = []
    counts = RunCounts(played=2, results=1, failed=0, dropped=1)
    monkeypatch.setattr(run, 'run_detect', lambda options: asked.append(options) or counts)
    words = 'detect --bundle student --bag drive --record out --lockstep --score-threshold 0.3'
    assert run.main(words.split()) == 0
    assert asked == [
        RunOptions(
            'student', 'drive', record='out', rate=None, parameters={'score_threshold': 0.3}
        )
    ]


@pytest.mark.parametrize(('pace', 'told'), [([], True), (['--lockstep'], False)])
def test_who_drops_clouds_is_told_of_lockstep(monkeypatch, capfd, pace, told):
    counts = RunCounts(played=2, results=1, failed=0, dropped=1)
    monkeypatch.setattr(run, 'run_detect', lambda _: counts)
    assert run.main(['detect', '--bag', 'drive', *pace]) == 0
    assert ('1 dropped (--lockstep drops none)' in capfd.readouterr().err) == told


@pytest.mark.parametrize(('command', 'option'), [('detect', '--record'), ('compare', '--check')])
def test_help_on_a_command_lists_its_options(command, option):
    result = CliRunner().invoke(app, ['run', command, '--help'])
    assert result.exit_code == 0
    assert f'usage: pointdistiller run {command}' in result.stdout
    assert option in result.stdout


@pytest.mark.parametrize('words', ['student', '--bundle student'])
def test_bundle_in_the_form_of_either_detect(monkeypatch, words):
    asked = []
    counts = RunCounts(played=1, results=1, failed=0, dropped=0)
    monkeypatch.setattr(run, 'run_detect', lambda options: asked.append(options) or counts)
    assert run.main(f'detect {words} --bag drive'.split()) == 0
    assert run.main(f'detect --bag drive {words}'.split()) == 0
    assert asked == 2 * [RunOptions('student', 'drive')]
    assert run.main(['detect', '--bag', 'drive']) == 0
    assert asked[2] == RunOptions(DEFAULT_BUNDLE, 'drive')


def test_bag_with_ground_truth(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    write_frame(
        tmp_path / 'data', '000000', [[10, 0, 0, 0.5]], [[10, 0, 0, 4, 2, 1.5, 0]], ['Car']
    )
    write_kitti_bag(tmp_path / 'data', tmp_path / 'bag', ground_truth=('Car',))
    options = RunOptions('bundle', str(tmp_path / 'bag'), rate=None)
    counts = run_detect(options, load=lambda _: FakeDetector())
    assert counts == RunCounts(played=1, results=1, failed=0, dropped=0)


def test_any_parameter_on_the_command_line(bag, monkeypatch):
    detector = FakeDetector()
    play = partial(run_detect, load=lambda _: detector)
    monkeypatch.setattr(run, 'run_detect', play)
    given = ['-p', 'mounting.height:=2', '--param', 'intensity_scale:=0.5']
    assert run.main(['detect', '--bundle', 'b', '--bag', bag, '--lockstep', *given]) == 0
    assert len(detector.mountings) == NUM_CLOUDS
    lifted = 2.0 - detector.info.sensor_height
    assert {one.training_from_sensor[2, 3] for one in detector.mountings} == {lifted}


def test_scale_on_the_command_line(monkeypatch):
    asked = []
    counts = RunCounts(1, 1, 0, 0, {'intensity_outside': 5, 'boxes_refused': 0})
    monkeypatch.setattr(run, 'run_detect', lambda options: asked.append(options) or counts)
    words = ['detect', '--bundle', 'student', '--bag', 'drive', '--intensity-scale']
    for text in ('auto', '1/4'):
        assert run.main([*words, text]) == 0
    expected = [{'intensity_auto': True}, {'intensity_scale': 0.25}]
    assert [options.parameters for options in asked] == expected
    with pytest.raises(ConfigError, match="intensity scale 'x': expected auto"):
        run.main([*words, 'x'])


def test_what_was_clipped_is_counted_over_a_run(bag):
    class Repaired(FakeDetector):
        def __call__(self, points, **options):
            found = super().__call__(points, **options)
            return replace(found, counts={'intensity_outside': 2, 'boxes_refused': 1})

    counts = run_detect(RunOptions('b', str(bag), rate=None), load=lambda _: Repaired())
    assert counts.repairs == {'intensity_outside': 2 * NUM_CLOUDS, 'boxes_refused': NUM_CLOUDS}


def test_values_on_the_command_line_have_the_type_of_their_yaml():
    texts = ['a.b:=1', 'a:=1.0', 'a:=true', 'a:=', 'a:=[1.0, 2.0]', 'a:=b:=c']
    values = [parse_parameter(text) for text in texts]
    assert values == [
        *(('a.b', 1), ('a', 1.0), ('a', True), ('a', ''), ('a', [1.0, 2.0]), ('a', 'b:=c'))
    ]
    assert [type(value) for _, value in values[:2]] == [int, float]


@pytest.mark.parametrize(
    'words',
    [
        'detect --bag drive --bundle b -p mounting.height=2.0',
        'detect --bag drive --bundle b b',
    ],
)
def test_wrong_command_line(words, capsys):
    with pytest.raises(SystemExit):
        run.main(words.split())
    assert 'usage: pointdistiller run' in capsys.readouterr().err
