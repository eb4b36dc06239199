# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The detector node in a real ROS graph."""

from __future__ import annotations

from functools import partial
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from ros_graph import (
    TIMEOUT_S,
    FakeDetector,
    build_cloud,
    listen,
    publisher,
    spin_until,
    stamps,
)

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import MarkerArray

from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.messages.autoware_objects import OBJECTS_TYPE
from pointdistiller_core.messages.bags import read_clouds
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_core.messages.message_types import add_types, find_layout
from pointdistiller_core.messages.point_cloud2 import points_from_cloud, records_from_cloud
from pointdistiller_core.pipelines.make_bag import write_kitti_bag
from pointdistiller_ros import detector_outputs as outputs
from pointdistiller_ros.conversions import (
    marker_keys,
    to_cloud,
)
from pointdistiller_ros.detector_node import DetectorNode
from pointdistiller_ros.detector_setup import load_detector
from pointdistiller_ros.parameters import DetectorParameters
from pointdistiller_ros.run import RunCounts, RunOptions, run_detect

ROOT = Path(__file__).resolve().parents[2]


def add_node(session, detector=None, **parameters):
    build = partial(DetectorNode, lambda _: detector or FakeDetector())
    return session.add(build, bundle='fake', **parameters)


def test_every_cloud_has_one_result_with_its_header(session):
    node = add_node(session)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    for index in range(3):
        clouds.publish(build_cloud(index))
        spin_until(session, lambda index=index: len(boxes) == index + 1)
    assert stamps(boxes) == [1, 2, 3]
    assert {message.header.frame_id for message in boxes} == {'lidar'}
    found = detections_from_boxes_cloud(boxes[0])
    np.testing.assert_allclose(found.boxes, [[0.9, 0.9, 0.9, 4.0, 1.6, 1.5, 0.5]], rtol=1e-6)
    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.labels.tolist() == [0]
    counts = node.counts
    assert (counts.received, counts.results, counts.failed, counts.dropped) == (3, 3, 0, 0)


def road_below(height: float) -> np.ndarray:
    """(N, 4) points of a level road under a sensor at a height [m]."""
    rng = np.random.default_rng(0)
    road = np.column_stack([rng.uniform(-20, 20, (2000, 2)), np.full(2000, -height)])
    return np.column_stack([road, np.full(2000, 0.9)]).astype(np.float32)


@pytest.mark.parametrize(
    ('given', 'lifted'),
    [
        ({}, 1.2 - 1.73),
        ({'mounting.auto': False}, None),
        ({'mounting.height': 2.0}, 2.0 - 1.73),  # what is given goes before what is found
        ({'mounting.yaw': 0.5}, 1.2 - 1.73),  # no ground tells of it
    ],
)
def test_the_ground_of_a_cloud_tells_how_its_sensor_is_mounted(session, given, lifted):
    detector = FakeDetector()
    node = add_node(session, detector, **given)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    publisher(session, PointCloud2, '/points').publish(
        to_cloud(road_below(1.2), Header(frame_id='lidar'))
    )
    spin_until(session, lambda: boxes)
    (mounting,) = detector.mountings
    assert (mounting is None) == (lifted is None)
    if mounting is not None:
        yaw = np.arctan2(*mounting.training_from_sensor[[1, 0], 0])
        assert mounting.training_from_sensor[2, 3] == pytest.approx(lifted, abs=1e-3)
        assert yaw == pytest.approx(given.get('mounting.yaw', 0.0), abs=1e-6)
    found = '1.20 m below' in str(node._setup.describe().get('ground'))
    assert found == (lifted == 1.2 - 1.73)


def test_empty_cloud_has_an_empty_result(session):
    add_node(session)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    publisher(session, PointCloud2, '/points').publish(build_cloud(num_points=0))
    spin_until(session, lambda: boxes)
    assert len(detections_from_boxes_cloud(boxes[0])) == 0


@pytest.fixture
def built(monkeypatch):
    """Names of the functions that built a message, as they are called."""
    calls = []

    def count(name, build):
        return lambda *arguments: calls.append(name) or build(*arguments)

    for name in (
        'to_boxes_cloud',
        'to_detection_array',
        'to_box_markers',
        'to_importance_cloud',
        'to_importance_markers',
    ):
        monkeypatch.setattr(outputs, name, count(name, getattr(outputs, name)))
    return calls


def test_outputs_are_built_for_subscribers_only(session, built):
    detector = FakeDetector()
    node = add_node(session, detector)
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(0))
    spin_until(session, lambda: node.counts.results == 1)
    assert built == []
    boxes = listen(session, PointCloud2, '/detector/boxes')
    spin_until(session, lambda: node.count_subscribers('/detector/boxes'))
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: len(boxes) == 1)
    assert built == ['to_boxes_cloud']
    markers = listen(session, MarkerArray, '/detector/markers')
    importance = listen(session, PointCloud2, '/detector/importance')
    pillars = listen(session, MarkerArray, '/detector/importance_markers')
    for output in ('markers', 'importance', 'importance_markers'):
        spin_until(session, lambda name=output: node.count_subscribers(f'/detector/{name}'))
    clouds.publish(build_cloud(2))
    spin_until(session, lambda: len(boxes) == 2 and markers and importance and pillars)
    others = ['to_box_markers', 'to_importance_cloud', 'to_importance_markers', 'to_boxes_cloud']
    assert built == ['to_boxes_cloud', *others]
    assert detector.asked_importance == [False, False, 'own']
    assert marker_keys(markers[0]) == {('Car', 0), ('Car text', 0)}
    assert stamps(importance) == stamps(pillars[0].markers) == [3]
    scores = records_from_cloud(importance[0], ['importance'])['importance']
    assert scores.tolist() == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])


def test_objects_of_autoware_are_sent_as_bytes(session, monkeypatch):
    """On a topic of another type: Autoware's messages are not everywhere."""
    monkeypatch.setitem(outputs.OUTPUTS, 'objects', String)
    node, sent = add_node(session), []
    listener = session.add(partial(Node, 'raw_listener'))
    listener.create_subscription(String, '/detector/objects', sent.append, 10, raw=True)
    spin_until(session, lambda: node.count_subscribers('/detector/objects'))
    publisher(session, PointCloud2, '/points').publish(build_cloud())
    spin_until(session, lambda: sent)
    store = get_typestore(Stores.LATEST)
    add_types(store, OBJECTS_TYPE, find_layout)
    message = store.deserialize_cdr(sent[0], OBJECTS_TYPE)
    assert (message.header.frame_id, message.header.stamp.sec) == ('lidar', 1)
    assert [item.classification[0].label for item in message.objects] == [1]


def test_markers_of_vanished_boxes_are_deleted(session):
    add_node(session)
    markers = listen(session, MarkerArray, '/detector/markers')
    clouds = publisher(session, PointCloud2, '/points')
    for index, num_points in enumerate((1, 0, 0)):
        clouds.publish(build_cloud(index, num_points=num_points))
        spin_until(session, lambda index=index: len(markers) == index + 1)
    assert [len(message.markers) for message in markers] == [3, 2, 0]


def test_newest_cloud_wins_and_drops_are_counted(session):
    detector = FakeDetector(delay_s=0.5)
    node = add_node(session, detector)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(0))
    spin_until(session, lambda: detector.asked_importance)  # the first cloud is in work
    for index in range(1, 5):
        clouds.publish(build_cloud(index))
        spin_until(session, lambda index=index: node.counts.received == index + 1)
    spin_until(session, lambda: len(boxes) == 2)
    assert stamps(boxes) == [1, 5]
    assert node.counts.dropped == 3


@pytest.mark.parametrize('lie', [{'width': 99}, {'fields': []}, {'point_step': 2**32 - 1}])
def test_malformed_cloud_is_an_error_and_the_next_one_is_processed(session, lie):
    node = add_node(session)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    bad = build_cloud(0)
    for name, value in lie.items():
        setattr(bad, name, value)
    clouds.publish(bad)
    spin_until(session, lambda: node.counts.failed == 1)
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: boxes)
    assert stamps(boxes) == [2]


def test_detector_that_fails_does_not_end_the_node(session):
    class Moody(FakeDetector):
        def __call__(self, points, **options):
            if points[0, 3] < 0.5:
                raise RuntimeError('out of memory')
            return super().__call__(points, **options)

    node = add_node(session, Moody())
    boxes = listen(session, PointCloud2, '/detector/boxes')
    diagnostics = listen(session, DiagnosticArray, '/diagnostics')
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(0, score=0.1))
    # Earlier ones may warn that no cloud has come yet.
    spin_until(
        session,
        lambda: (
            node.counts.failed == 1
            and any(message.status[0].level == DiagnosticStatus.ERROR for message in diagnostics)
        ),
    )
    (status,) = diagnostics[-1].status
    assert (status.level, status.name) == (DiagnosticStatus.ERROR, '/detector')
    assert status.message == 'the last cloud failed: out of memory'
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: boxes)


def test_cloud_without_intensity(session):
    points = np.ones((2, 3), np.float32)
    for policy, result in (('error', 'failed'), ('zero', 'results')):
        node = add_node(session, missing_intensity=policy)
        publisher(session, PointCloud2, '/points').publish(to_cloud(points, Header()))
        spin_until(session, lambda node=node, result=result: getattr(node.counts, result) == 1)
        node.destroy_node()


def test_thresholds_change_while_the_node_runs(session):
    node = add_node(session)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    changes = [
        ('score_threshold', 0.95),
        ('score_thresholds.Car', 0.5),
        ('score_thresholds.Car', -1.0),
        ('score_threshold', -1.0),  # the bundle's: 0.1
    ]
    found = []
    for index, (name, value) in enumerate(changes):
        (answer,) = node.set_parameters([Parameter(name, value=value)])
        assert answer.successful, answer.reason
        clouds.publish(build_cloud(index))
        spin_until(session, lambda index=index: len(boxes) == index + 1)
        found.append(len(detections_from_boxes_cloud(boxes[-1])))
    assert found == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('score_threshold', 1.5),
        ('max_detections', -1),
        ('score_thresholds.Car', 1.1),
        ('reliability', 'reliable'),
        ('missing_intensity', 'x'),
    ],
)
def test_changes_out_of_range_or_of_fixed_parameters_are_refused(session, name, value):
    (answer,) = add_node(session).set_parameters([Parameter(name, value=value)])
    assert not answer.successful


@pytest.mark.parametrize(
    ('parameters', 'error', 'named'),
    [
        ({'bundle': ''}, ConfigError, 'parameter bundle is empty'),
        ({'score_threshold': 2.0}, ConfigError, r'score_threshold .*2\.0'),
        ({'reliability': 'maybe'}, ConfigError, "reliability is 'maybe'; choose from"),
        ({'bundle': 'absent'}, CheckpointError, 'absent'),
    ],
)
def test_node_that_cannot_start_says_why(session, parameters, error, named):
    with pytest.raises(error, match=named):
        session.add(DetectorNode, **{'bundle': 'absent'} | parameters)


def test_reliability(session):
    for reliability in ('reliable', 'best_effort'):
        add_node(session, reliability=reliability)
    observer = session.add(partial(Node, 'observer'))
    spin_until(session, lambda: observer.count_subscribers('/points') == 2)
    infos = observer.get_subscriptions_info_by_topic('/points')
    found = {info.qos_profile.reliability.name for info in infos}
    assert found == {'BEST_EFFORT', 'RELIABLE'}


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """A randomly initialized detector over the range of KITTI, with coarse pillars."""
    import torch

    from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
    from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
    from pointdistiller_core.grid import Grid
    from pointdistiller_core.models import build_detector

    torch.manual_seed(0)
    config = PointPillarsConfig(
        width=0.25,
        grid=Grid(
            point_cloud_range=(0.0, -20.48, -3.0, 40.96, 20.48, 1.0),
            voxel_size=(0.64,) * 2 + (4.0,),
        ),
        detection=DetectionConfig(score_threshold=0.0, max_detections=20),
    )
    folder = tmp_path_factory.mktemp('bundles') / 'tiny'
    save_bundle(folder, build_detector(config), BundleInfo(model=config))
    return folder


def test_real_frames_through_a_real_network(kitti_mini, bundle, tmp_path, monkeypatch):
    """Two KITTI sweeps from a bag: exactly one result each, with its stamp and frame."""
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    write_kitti_bag(kitti_mini, tmp_path / 'kitti', frames=['000008', '000010'])
    options = RunOptions(
        str(bundle),
        str(tmp_path / 'kitti'),
        record=str(tmp_path / 'out'),
        rate=None,
        parameters={'num_threads': 1, 'score_threshold': 0.0, 'mounting.auto': False},
    )
    assert run_detect(options) == RunCounts(played=2, results=2, failed=0, dropped=0)
    results = list(read_clouds(tmp_path / 'out', '/detector/boxes'))
    assert [(result.stamp_ns, result.frame_id) for result in results] == [
        (1_000_000_000, 'velodyne'),
        (1_100_000_000, 'velodyne'),
    ]
    detector = Detector.load(bundle)
    for cloud, result in zip(read_clouds(tmp_path / 'kitti'), results, strict=True):
        expected = detector(points_from_cloud(cloud.message))
        found = detections_from_boxes_cloud(result.message)
        assert len(found) == len(expected) == 20
        np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-5, atol=1e-5)
    counts = {
        topic: len(list(read_clouds(tmp_path / 'out', topic)))
        for topic in ('/points', '/detector/importance')
    }
    assert counts == {'/points': 2, '/detector/importance': 2}


def test_another_real_bundle_or_a_damaged_one(session, bundle, tmp_path):
    other, damaged = (shutil.copytree(bundle, tmp_path / name) for name in ('other', 'damaged'))
    (damaged / 'model.safetensors').write_bytes(b'0' * 100)
    node = session.add(DetectorNode, bundle=str(bundle), num_threads=1)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    reasons = []
    for index, folder in enumerate((damaged, other, tmp_path / 'absent')):
        answer = node.set_parameters_atomically([Parameter('bundle', value=str(folder))])
        reasons.append(answer.reason)
        clouds.publish(build_cloud(index))
        spin_until(session, lambda index=index: len(boxes) == index + 1)
    assert 'truncated or altered' in reasons[0]
    assert reasons[1] == ''
    assert 'no such folder' in reasons[2]
    assert node.get_parameter('bundle').value == str(other)


def start(*arguments, log_folder):
    """The node as its executable runs it."""
    return subprocess.Popen(
        [sys.executable, '-m', 'pointdistiller_ros.detector_node', '--ros-args', *arguments],
        cwd=ROOT,
        env=os.environ | {'ROS_LOG_DIR': str(log_folder), 'OMP_NUM_THREADS': '1'},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize('ending', [signal.SIGINT, signal.SIGTERM])
def test_executable_starts_and_ends_on_a_signal(session, bundle, tmp_path, ending):
    process = start('-p', f'bundle:={bundle}', log_folder=tmp_path)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points', 10)
    spin_until(session, lambda: clouds.publish(build_cloud()) or boxes)
    process.send_signal(ending)
    _, log = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, log
    assert 'Traceback' not in log


def test_executable_with_an_empty_bundle_says_so(tmp_path):
    process = start('-p', 'bundle:=""', log_folder=tmp_path)
    _, log = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert 'parameter bundle is empty' in log
    assert 'Traceback' not in log


def test_parameters_reach_the_detector(monkeypatch):
    monkeypatch.setattr(Detector, 'load', lambda bundle, **options: (bundle, options))
    parameters = DetectorParameters(bundle='student', backend='onnx', num_threads=2)
    options = {'backend': 'onnx', 'device': 'cpu', 'num_threads': 2}
    assert load_detector(parameters) == ('student', options)
    unset = load_detector(DetectorParameters(bundle='student'))
    assert unset == ('student', {'backend': 'auto', 'device': 'cpu', 'num_threads': None})
