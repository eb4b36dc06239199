# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Past sweeps of a drive, merged by the detector node."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from ros_graph import FakeDetector, listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pointdistiller_core.config import (
    POINT_FEATURES,
    DetectorConfig,
    PointPillarsConfig,
    SensorConfig,
    SimulationConfig,
    find_config,
    load_config,
)
from pointdistiller_core.datasets.simulated import simulate_drive
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CloudError, ConfigError
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_core.messages.point_cloud2 import records_from_cloud
from pointdistiller_ros import detector_setup, sweeps, topics, transforms
from pointdistiller_ros.conversions import stamp_ns, to_cloud, to_stamp
from pointdistiller_ros.detector_node import DetectorNode

START_NS, STEP_NS = 5_000_000_000, 100_000_000
SPEED = 8.0  # [m/s]
AGED = {'point_features': (*POINT_FEATURES, 'age'), 'sweeps': 3}
PATIENT = {f'diagnostics.{level}.stale_after_s': 1e6 for level in ('warn', 'error')}
PATIENT |= {f'diagnostics.{level}.max_latency_ms': 1e6 for level in ('warn', 'error')}


class Seeing(FakeDetector):
    """Keeps what it is given."""

    def __init__(self, **model):
        super().__init__()
        self.info = BundleInfo(model=PointPillarsConfig(**model))
        self.seen = []

    def __call__(self, points, **options):
        self.seen.append(points.copy())
        return super().__call__(points, **options)


class Known:
    """Stands for TF: the sensor drives along x."""

    here = True

    def __init__(self, *_):
        pass

    def matrix(self, target, header):
        if not self.here:
            raise CloudError(f'no transform from {header.frame_id!r} to {target!r}')
        pose = np.eye(4)
        pose[0, 3] = SPEED * (stamp_ns(header.stamp) - START_NS) / 1e9
        return pose

    def close(self):
        pass


class Drive:
    """A node, and what its detector is given."""

    def __init__(self, session, model=AGED, detector=None, **parameters):
        self.detector = detector or Seeing(**model)
        build = partial(DetectorNode, lambda _: self.detector)
        self.node = session.add(build, bundle='fake', **PATIENT | parameters)
        self.session = session
        self.boxes = listen(session, PointCloud2, '/detector/boxes')
        self.states = listen(session, DiagnosticArray, '/diagnostics')
        self.clouds = publisher(session, PointCloud2, '/points')
        spin_until(session, lambda: self.node.count_subscribers('/detector/boxes'))

    def send(self, step, *others):
        """What the detector is given for a cloud of a wall 50 m from the start."""
        wall = (50 - SPEED * step / 10, 1, 0, step / 10)
        points = np.array([wall, *others], np.float32)
        header = Header(stamp=to_stamp(START_NS + round(step * STEP_NS)), frame_id='lidar')
        count = len(self.boxes)
        self.clouds.publish(to_cloud(points, header))
        spin_until(self.session, lambda: len(self.boxes) > count)
        return self.detector.seen[-1]

    def status(self) -> DiagnosticStatus:
        """What the diagnostics say from now on."""
        self.states.clear()
        spin_until(self.session, lambda: self.states)
        return self.states[-1].status[0]


def values(status) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.fixture
def with_tf(monkeypatch):
    monkeypatch.setattr(detector_setup, 'Transforms', Known)


@pytest.mark.usefixtures('with_tf')
def test_past_sweeps_are_where_the_sensor_is_now(session):
    box = [-3.0, -1.0, -2.0, 3.0, 1.0, 1.0]
    drive = Drive(session, **{'sweeps.fixed_frame': 'odom', 'ego_box': box})
    importance = listen(session, PointCloud2, '/detector/importance')
    spin_until(session, lambda: drive.node.count_subscribers('/detector/importance'))
    for step in range(4):
        found = drive.send(step, (2, 0, 0, 0), (0, 0, 0, 0))  # the vehicle; no return
    place = 50 - SPEED * 0.3
    expected = [(place, 1, 0, 0.3 - age, age) for age in (0, 0.1, 0.2)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    status = drive.status()
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'detecting')
    said = values(status)
    assert (said['sweeps'], said['sweeps.wanted'], said['sweeps.points']) == ('3', '3', '3')
    assert (said['points_in_ego_box'], said['points_without_return']) == ('1', '1')
    spin_until(session, lambda: len(importance) == 4)
    ages = records_from_cloud(importance[-1], ['age'])['age']
    np.testing.assert_allclose(ages, [0, 0.1, 0.2], atol=1e-6)
    changed = drive.node.set_parameters([Parameter('sweeps.count', value=2)])
    assert changed[0].successful
    assert [len(drive.send(step)) for step in (4, 5)] == [1, 2]


@pytest.mark.usefixtures('with_tf')
def test_without_poses_it_goes_on_with_one_sweep(session, monkeypatch, capfd):
    monkeypatch.setattr(Known, 'here', False)
    drive = Drive(session, **{'sweeps.fixed_frame': 'odom'})
    for step in range(3):
        found = drive.send(step)
        assert found.shape == (1, 5)
    status = drive.status()
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "only one sweep: no transform from 'lidar' to 'odom'"
    assert values(status)['sweeps.alone'] == '3'
    assert capfd.readouterr().err.count('only one sweep') == 1
    monkeypatch.setattr(Known, 'here', True)
    assert [len(drive.send(step)) for step in (3, 4, 5, 6)] == [1, 2, 3, 3]
    assert drive.status().level == DiagnosticStatus.OK


def test_a_bundle_of_sweeps_without_a_source_of_poses(session):
    drive = Drive(session)
    assert drive.send(0).shape == (1, 5)
    assert 'set sweeps.fixed_frame (TF) or sweeps.odometry' in drive.status().message


def test_a_bundle_of_one_sweep_is_left_alone(session):
    drive = Drive(session, model={})
    assert drive.send(0).shape == (1, 4)
    assert not any(key.startswith('sweeps') for key in values(drive.status()))


@pytest.mark.usefixtures('with_tf')
def test_sweeps_on_request_without_age(session):
    drive = Drive(session, model={}, **{'sweeps.fixed_frame': 'odom', 'sweeps.count': 2})
    assert [drive.send(step).shape for step in (0, 1, 2)] == [(1, 4), (2, 4), (2, 4)]


def test_odometry_says_where_the_sensor_was(session, monkeypatch):
    """Messages as a bag has them, on a topic of another type: nav_msgs is not everywhere."""
    from std_msgs.msg import String

    from pointdistiller_core.geometry.poses import Pose

    class Told(sweeps.Odometry):
        def receive(self, cdr):
            self._track.add(
                int(cdr[8:-1]), Pose((SPEED * (int(cdr[8:-1]) - START_NS) / 1e9, *POSE))
            )

    POSE = (0, 0, 0, 0, 0, 1)
    monkeypatch.setattr(sweeps, 'message_class', lambda _: String)
    monkeypatch.setattr('pointdistiller_ros.detector_node.Odometry', Told)
    drive = Drive(session, **{'sweeps.odometry': '/odom'})
    sender = publisher(session, String, '/odom')
    for step in (0, 1, 2, 3):
        sender.publish(String(data=str(START_NS + step * STEP_NS)))
    spin_until(session, lambda: len(drive.node._odometry._track) == 4)
    found = [drive.send(step) for step in (1, 2, 3.5)][-1]
    np.testing.assert_allclose(found[:, 0], [50 - SPEED * 0.35] * 3, atol=1e-5)
    assert len(drive.send(8)) == 1
    assert 'only one sweep: odometry on /odom: no pose at' in drive.status().message


def test_real_odometry(session):
    nav_msgs = pytest.importorskip('nav_msgs.msg', reason='nav_msgs is not installed')
    drive = Drive(session, **{'sweeps.odometry': '/odom'})
    sender = publisher(session, nav_msgs.Odometry, '/odom')
    for step in (0, 1, 2):
        sent = nav_msgs.Odometry()
        sent.header.stamp = to_stamp(START_NS + step * STEP_NS)
        sent.pose.pose.position.x = SPEED * step / 10
        sent.pose.pose.orientation.w = 1.0
        sender.publish(sent)
    spin_until(session, lambda: len(drive.node._odometry._track) == 3)
    found = [drive.send(step) for step in (0, 1, 2)][-1]
    np.testing.assert_allclose(found[:, 0], [50 - SPEED * 0.2] * 3, atol=1e-5)


@pytest.mark.skipif(topics.message_class('nav_msgs/msg/Odometry') is not None, reason='installed')
def test_odometry_needs_nav_msgs(session):
    with pytest.raises(ConfigError, match=r'sweeps\.odometry needs nav_msgs'):
        Drive(session, **{'sweeps.odometry': '/odom'})


@pytest.mark.skipif(transforms.Buffer is not None, reason='tf2_ros is installed')
def test_a_fixed_frame_needs_tf2(session):
    with pytest.raises(ConfigError, match=r'sweeps\.fixed_frame needs tf2_ros'):
        Drive(session, **{'sweeps.fixed_frame': 'odom'})


@pytest.mark.usefixtures('with_tf')
def test_a_detector_of_sweeps_and_velocities_on_a_drive(session):
    """A real network, as for nuScenes, on a simulated drive: boxes come with velocities."""
    torch = pytest.importorskip('torch')
    from pointdistiller_core.deploy.backends.torch_backend import TorchBackend
    from pointdistiller_core.models import build_detector

    torch.manual_seed(0)
    config = find_config('models', 'pointpillars_nuscenes_small_4x')
    model = load_config(DetectorConfig, config, ('width=0.125', 'detection.max_candidates=50'))
    network = build_detector(model).eval()
    torch.nn.init.constant_(network.head.conv.bias, 0.1)  # finds something everywhere
    torch.nn.init.constant_(network.head.conv.bias[-network.head.channels[3] :], 3.0)  # that moves
    detector = Detector(TorchBackend(network), BundleInfo(model=model))
    drive = Drive(session, detector=detector, **{'sweeps.fixed_frame': 'odom'})
    markers = listen(session, MarkerArray, '/detector/markers')
    spin_until(session, lambda: drive.node.count_subscribers('/detector/markers'))
    simulation = SimulationConfig(sensor=SensorConfig(num_columns=100))
    for frame in simulate_drive(simulation, num_frames=6, seed=0):
        count = len(drive.boxes)
        header = Header(stamp=to_stamp(frame.stamp_ns), frame_id='lidar')
        drive.clouds.publish(to_cloud(frame.points, header))
        spin_until(session, lambda count=count: len(drive.boxes) > count)
    said = values(drive.status())
    assert (said['sweeps'], said['sweeps.wanted']) == ('5', '5')
    assert int(said['sweeps.points']) > 5 * 1000
    found = detections_from_boxes_cloud(drive.boxes[-1])
    assert len(found) > 10
    assert np.isfinite(found.velocities).all()
    np.testing.assert_allclose(found.velocities, 3, atol=2)
    spin_until(session, lambda: len(markers) >= 6)
    assert 'velocity' in {marker.ns for message in markers for marker in message.markers}
