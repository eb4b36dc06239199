# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several sensors in one detector, in a real ROS graph."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from ros_graph import FakeDetector, build_cloud, listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from pointdistiller_core.errors import CloudError, ConfigError, DatasetError
from pointdistiller_core.geometry.poses import Pose
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_ros import detector_setup, transforms
from pointdistiller_ros.conversions import stamp_ns, to_cloud, to_stamp
from pointdistiller_ros.detector_node import DetectorNode
from pointdistiller_ros.run import RunCounts, RunOptions, run_detect
from pointdistiller_ros.run_compare import CompareOptions, run_compare

PATIENT = {f'diagnostics.{level}.stale_after_s': 1e6 for level in ('warn', 'error')}
PATIENT |= {f'diagnostics.{level}.max_latency_ms': 1e6 for level in ('warn', 'error')}
START_NS, STEP_NS = 5_000_000_000, 100_000_000
TOPICS = ['/front', '/rear']


class Seeing(FakeDetector):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __call__(self, points, **options):
        self.seen.append(points.copy())
        return super().__call__(points, **options)


class Rear:
    """Stands for TF: the rear sensor looks back, two metres behind the front one."""

    known = True

    def __init__(self, *_):
        pass

    def matrix(self, target, header):
        if not self.known:
            raise CloudError(f'no transform from {header.frame_id!r} to {target!r}')
        values = {'rear': (-2, 0, 0, 0, 0, 1, 0), 'front': (0, 0, 0, 0, 0, 0, 1)}
        return Pose.from_values(values[header.frame_id]).matrix

    def close(self):
        pass


class Vehicle:
    """A node with two sensors."""

    def __init__(self, session, **parameters):
        self.detector = Seeing()
        build = partial(DetectorNode, lambda _: self.detector)
        given = {'points': TOPICS, 'sensors.max_wait': 10.0} | PATIENT | parameters
        self.node = session.add(build, bundle='fake', **given)
        self.session = session
        self.boxes = listen(session, PointCloud2, '/detector/boxes')
        self.states = listen(session, DiagnosticArray, '/diagnostics')
        names = [topic[1:] for topic in TOPICS if topic in parameters.get('points', TOPICS)]
        self.senders = {name: publisher(session, PointCloud2, f'/{name}') for name in names}
        spin_until(session, lambda: self.node.count_subscribers('/detector/boxes'))

    def send(self, name, step, points=((10, 1, -1, 0.5),), frame=None):
        header = Header(stamp=to_stamp(START_NS + round(step * STEP_NS)), frame_id=frame or name)
        self.senders[name].publish(to_cloud(np.array(points, np.float32).reshape(-1, 4), header))

    def answer(self, number):
        """The points and the header of one answer, once so many are there."""
        spin_until(self.session, lambda: len(self.boxes) == number)
        return self.detector.seen[-1], self.boxes[-1].header

    def status(self) -> DiagnosticStatus:
        """What the diagnostics say from now on."""
        self.states.clear()
        spin_until(self.session, lambda: self.states)
        return self.states[-1].status[0]

    def set(self, name, value):
        return self.node.set_parameters([Parameter(name, value=value)])[0]


@pytest.fixture
def vehicle(session, monkeypatch):
    monkeypatch.setattr(detector_setup, 'Transforms', Rear)
    monkeypatch.setattr(transforms, 'Buffer', object)
    return partial(Vehicle, session)


def values(status) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_two_sensors_are_one_cloud_of_the_first_ones_stamp_and_frame(vehicle):
    car = vehicle()
    car.send('rear', 0.2, [(5, 1, -1, 0.25), (0, 0, 0, 0)])  # a ray without return
    car.send('front', 0)
    points, header = car.answer(1)
    np.testing.assert_allclose(points, [[10, 1, -1, 0.5], [-7, -1, -1, 0.25]], atol=1e-6)
    assert (stamp_ns(header.stamp), header.frame_id) == (START_NS, 'front')
    car.send('front', 1)
    car.send('rear', 0.8)
    car.answer(2)
    status = car.status()
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'detecting')
    found = values(status)
    assert (found['clouds_received'], found['clouds_results']) == ('2', '2')
    assert (found['sensors.merged'], found['sensors./rear.missing']) == ('2', '0')
    assert found['sensors./rear.received'] == '2'
    assert float(found['latency_ms.gather']) > 0
    assert float(found['sensors./rear.stamps_apart_s']) == pytest.approx(-0.02)


def test_dropped_points_are_counted(vehicle):
    car = vehicle(ego_box=[-1.0, -1.0, -2.0, 3.0, 1.0, 1.0], points='/front')
    car.send('front', 0, [(2, 0, 0, 0.1), (0, 0, 0, 0), (3.5, 0, 0, 0.5), (np.nan, 1, 1, 1)])
    points, _ = car.answer(1)
    np.testing.assert_array_equal(points, np.array([[3.5, 0, 0, 0.5]], np.float32))
    found = values(car.status())
    assert found['points'] == '4'
    names = ('points_in_ego_box', 'points_without_return', 'points_not_finite')
    assert [found[name] for name in names] == ['1', '1', '1']
    refused = car.set('ego_box', [1.0, 0.0, 0.0, -1.0, 1.0, 1.0])
    assert not refused.successful
    assert 'low x, y, z, then high' in refused.reason
    assert car.set('ego_box', [0.0] * 6).successful
    car.send('front', 1, [(2, 0, 0, 0.1)])
    assert len(car.answer(2)[0]) == 1


def test_a_missing_cloud_is_told_and_the_rest_is_used(vehicle, capfd):
    car = vehicle(**{'sensors.max_wait': 0.05})
    for step in range(3):
        car.send('front', step)
        points, _ = car.answer(step + 1)
        assert len(points) == 1
    status = car.status()
    assert status.level == DiagnosticStatus.WARN
    assert 'clouds without /rear: no cloud came within 0.05 s' in status.message
    assert values(status)['sensors./rear.missing'] == '3'
    assert capfd.readouterr().err.count('a cloud without /rear') == 1
    car.send('rear', 3)
    received = car.node._clouds.sets.counts['/rear']
    spin_until(car.session, lambda: received.received)  # a busy machine may take its time
    car.send('front', 3)
    assert len(car.answer(4)[0]) == 2
    car.status()
    assert car.status().level == DiagnosticStatus.OK


def test_a_missing_transform_is_told_and_the_rest_is_used(vehicle, monkeypatch):
    monkeypatch.setattr(Rear, 'known', False)
    car = vehicle()
    car.send('rear', 0)
    car.send('front', 0)
    assert len(car.answer(1)[0]) == 1
    status = car.status()
    assert status.level == DiagnosticStatus.WARN
    assert status.message == ("1 of 1 clouds without /rear: no transform from 'rear' to 'front'")


def test_a_cloud_that_lacks_a_sensor_is_refused_on_request(vehicle):
    car = vehicle(**{'sensors.max_wait': 0.01, 'sensors.keep_incomplete': False})
    car.send('front', 0)
    spin_until(car.session, lambda: car.node.counts.failed == 1)
    status = car.status()
    assert status.level == DiagnosticStatus.ERROR
    assert 'the last cloud failed: /rear: no cloud came' in status.message
    assert car.set('sensors.keep_incomplete', True).successful
    car.send('front', 1)
    car.answer(1)


def test_a_broken_cloud_does_not_spoil_the_others(vehicle):
    car = vehicle()
    broken = build_cloud()
    broken.fields = broken.fields[:2]
    broken.header = Header(stamp=to_stamp(START_NS), frame_id='rear')
    car.senders['rear'].publish(broken)
    car.send('front', 0)
    assert len(car.answer(1)[0]) == 1
    assert "without /rear: cloud in 'rear' has none of the intensity" in car.status().message


def test_the_second_goes_on_without_the_first(vehicle):
    car = vehicle(**{'sensors.frame': 'base', 'sensors.max_wait': 0.01})
    for step in range(14):
        car.send('rear', step)
        car.session.spin_until(lambda: False, 0.1)
    assert car.boxes
    assert {message.header.frame_id for message in car.boxes} == {'base'}
    assert len(car.detector.seen[-1]) == 1
    assert int(values(car.status())['sensors./front.missing']) == len(car.boxes)


@pytest.mark.skipif(transforms.Buffer is not None, reason='tf2_ros is installed')
def test_without_tf2_sensors_of_one_frame_are_merged(session):
    car = Vehicle(session)
    car.send('rear', 0, frame='base')
    car.send('front', 0, frame='base')
    assert len(car.answer(1)[0]) == 2
    car.send('rear', 1, frame='rear')
    car.send('front', 1, frame='base')
    assert len(car.answer(2)[0]) == 1
    assert 'tf2_ros is not installed' in car.status().message


@pytest.mark.skipif(transforms.Buffer is not None, reason='tf2_ros is installed')
def test_a_frame_needs_tf2(session):
    with pytest.raises(ConfigError, match=r'sensors\.frame needs tf2_ros.*leave it empty'):
        Vehicle(session, **{'sensors.frame': 'base'})


@pytest.mark.parametrize('points', [['/front', '/front'], ['/front', ''], '', 3])
def test_topics_that_are_none_are_refused(session, points):
    with pytest.raises(ConfigError, match='parameter points'):
        Vehicle(session, points=points)


@pytest.fixture
def bag(tmp_path):
    """Two sensors that send one after the other, in one frame."""
    path = tmp_path / 'two'
    with CloudBagWriter(path) as writer:
        for step in range(5):
            for late, topic in enumerate(TOPICS):
                points = np.full((2 + late, 4), 1 + late, np.float32)
                writer.write(
                    topic, START_NS + step * STEP_NS + late * STEP_NS // 5, 'base', points
                )
    return str(path)


def test_a_bag_of_two_sensors_in_lockstep(bag):
    detector = Seeing()
    parameters = {'sensors.max_wait': 5.0}
    options = RunOptions('fake', bag, topic=TOPICS, rate=None, parameters=parameters)
    counts = run_detect(options, load=lambda _: detector)
    assert counts == RunCounts(played=5, results=5, failed=0, dropped=0)
    assert [len(points) for points in detector.seen] == [5] * 5


def test_a_sensor_that_the_bag_lacks(bag):
    with pytest.raises(DatasetError, match='no clouds on /left'):
        run_detect(RunOptions('fake', bag, topic=['/front', '/left']), load=lambda _: Seeing())


def test_both_models_see_all_sensors(bag):
    seeing = {name: Seeing() for name in ('teacher', 'student')}
    options = CompareOptions('teacher', 'student', bag, topic=TOPICS)
    found = run_compare(options, load=lambda bundle, **_: seeing[bundle])
    assert found['clouds']['compared'] == 5
    for detector in seeing.values():
        assert {len(points) for points in detector.seen} == {5}


def test_real_transforms(session):
    pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    from geometry_msgs.msg import TransformStamped
    from tf2_ros import StaticTransformBroadcaster

    car = Vehicle(session)
    sent = TransformStamped(child_frame_id='rear')
    sent.header.frame_id = 'front'
    sent.transform.translation.x, sent.transform.rotation.z = -2.0, 1.0
    sent.transform.rotation.w = 0.0
    broadcaster = StaticTransformBroadcaster(session.add(partial(Node, 'broadcaster')))
    broadcaster.sendTransform(sent)
    known = car.node._setup.transforms

    def arrived():
        try:
            return known.matrix('front', Header(frame_id='rear')) is not None
        except CloudError:
            return False

    spin_until(session, arrived)
    car.send('rear', 0.2, [(5, 1, -1, 0.25)])
    car.send('front', 0)
    points, _ = car.answer(1)
    np.testing.assert_allclose(points, [[10, 1, -1, 0.5], [-7, -1, -1, 0.25]], atol=1e-6)
