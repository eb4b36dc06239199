# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Objects of a drive, tracked by the detector node."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ros_graph import FakeDetector, listen, publisher, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.errors import CloudError, ConfigError
from pointdistiller_core.messages.boxes_cloud import LAYOUT, detections_from_boxes_cloud
from pointdistiller_core.records import Detections
from pointdistiller_ros import detector_setup, transforms
from pointdistiller_ros.conversions import to_cloud, to_stamp
from pointdistiller_ros.detector_node import DetectorNode

START_NS, STEP_NS = 5_000_000_000, 100_000_000
SPEED = 8.0  # [m/s]


class Seeing(FakeDetector):
    """Sees a car at each point."""

    def __call__(self, points, **options):
        found = super().__call__(points, **options)
        boxes = np.column_stack([points[:, :3], np.tile([4, 2, 1.5, 0], (len(points), 1))])
        labels = np.zeros(len(points), np.int64)
        return replace(found, boxes=boxes.astype(np.float32), scores=points[:, 3], labels=labels)


class Drive:
    """A node that tracks, and what it sends."""

    def __init__(self, session, **parameters):
        parameters = {'outputs.tracks': True} | parameters
        build = partial(DetectorNode, lambda _: Seeing())
        self.node = session.add(build, bundle='fake', **parameters)
        self.session = session
        self.boxes = listen(session, PointCloud2, '/detector/boxes')
        self.markers = listen(session, MarkerArray, '/detector/track_markers')
        self.states = listen(session, DiagnosticArray, '/diagnostics')
        self.clouds = publisher(session, PointCloud2, '/points')
        for name in ('boxes', 'track_markers'):
            topic = f'/detector/{name}'
            spin_until(session, lambda topic=topic: self.node.count_subscribers(topic))

    def send(self, index, *places, frame='lidar') -> Detections:
        """What the node says of cars at these places; `index` is in tenths of a second."""
        points = np.array([[x, y, -1, 0.9] for x, y in places], np.float32).reshape(-1, 4)
        stamp, count = to_stamp(START_NS + round(index * STEP_NS)), len(self.boxes)
        self.clouds.publish(to_cloud(points, Header(stamp=stamp, frame_id=frame)))
        spin_until(self.session, lambda: len(self.boxes) > count)
        assert self.boxes[-1].header.stamp == stamp
        return detections_from_boxes_cloud(self.boxes[-1])

    def status(self) -> DiagnosticStatus:
        """What the diagnostics say from now on."""
        self.states.clear()
        spin_until(self.session, lambda: self.states)
        return self.states[-1].status[0]

    def values(self) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.status().values}


def keys(message, action):
    return {(marker.ns, marker.id) for marker in message.markers if marker.action == action}


def test_numbers_stay_and_velocities_are_those_of_the_drive(session):
    drive = Drive(session)
    found = [drive.send(i, (10 + SPEED * i / 10, 2), (15, -5)) for i in range(12)]
    assert [each.tracks.tolist() for each in found] == [[-1, -1]] * 2 + [[0, 1]] * 10
    assert np.isnan(found[1].velocities).all()
    np.testing.assert_allclose(found[-1].velocities, [[SPEED, 0], [0, 0]], atol=0.2)
    spin_until(session, lambda: len(drive.markers) == 12)
    assert keys(drive.markers[-1], Marker.ADD) == {
        *(('track', 0), ('track', 1), ('trail', 0), ('velocity', 0)),
    }
    values = drive.values()
    assert (values['tracks'], values['tracks.frame'], values['tracks.restarts']) == (
        *('2', 'lidar', '0'),
    )
    assert float(values['latency_ms.track']) > 0


def test_markers_of_tracks_that_ended_are_deleted(session):
    drive = Drive(session, **{'tracking.max_gap': 0.25, 'tracking.min_hits': 1})
    for index in range(4):
        drive.send(index, (10, 2), (15, -5))
    for index in range(4, 8):
        drive.send(index, (15, -5))
    spin_until(session, lambda: len(drive.markers) == 8)
    pale = {m.id for m in drive.markers[5].markers if m.ns == 'track' and m.color.a < 1}
    assert pale == {0}  # a prediction
    assert keys(drive.markers[6], Marker.DELETE) == {('track', 0)}
    assert keys(drive.markers[7], Marker.ADD) == {('track', 1), ('trail', 0)}
    assert keys(drive.markers[7], Marker.DELETE) == set()


def test_off_by_default_and_switched_while_it_runs(session):
    drive = Drive(session, **{'outputs.tracks': False, 'tracking.min_hits': 1})
    assert drive.send(0, (10, 2)).tracks is None
    assert [field.name for field in drive.boxes[-1].fields] == list(LAYOUT)
    assert drive.markers == []
    assert not any('track' in key for key in drive.values())

    def switch(on):
        (answer,) = drive.node.set_parameters([Parameter('outputs.tracks', value=on)])
        assert answer.successful, answer.reason

    switch(True)
    assert drive.send(1, (10, 2)).tracks.tolist() == [0]
    assert [field.name for field in drive.boxes[-1].fields] == [*LAYOUT, 'track', 'vx', 'vy']
    spin_until(session, lambda: drive.markers)
    switch(False)
    spin_until(session, lambda: len(drive.markers) == 2)
    assert [marker.action for marker in drive.markers[1].markers] == [Marker.DELETEALL]
    assert drive.send(2, (10, 2)).tracks is None


def test_a_bag_that_begins_again_begins_new_tracks(session, capfd):
    drive = Drive(session, **{'tracking.min_hits': 1})
    assert [drive.send(i, (10, 2)).tracks.tolist() for i in (0, 1, 2, 0, 1)] == [
        *([0], [0], [0], [1], [1]),
    ]
    assert drive.values()['tracks.restarts'] == '1'
    assert capfd.readouterr().err.count('all tracks ended') == 1
    spin_until(session, lambda: len(drive.markers) == 5)
    assert len(keys(drive.markers[3], Marker.DELETE)) == 2  # number and trail of the old one


class Known:
    """Stands for TF: knows where the sensor is until it is told not to."""

    here: float | None = None

    def __init__(self, *_):
        pass

    def poses(self, fixed, sensor, time_ns):
        if self.here is None:
            raise CloudError(f'no transform from {sensor!r} to {fixed!r}')
        return [(time_ns, (self.here, 0, 0, 0, 0, 0, 1))]

    def close(self):
        pass


def test_missing_transforms_are_told_and_end_what_was_in_another_frame(
    session, monkeypatch, capfd
):
    monkeypatch.setattr(detector_setup, 'Transforms', Known)
    drive = Drive(session, **{'tracking.min_hits': 1, 'tracking.fixed_frame': 'odom'})
    assert [drive.send(i, (10, 2)).tracks.tolist() for i in range(3)] == [[0]] * 3
    status = drive.status()
    assert status.level == DiagnosticStatus.WARN
    assert (
        status.message == "tracks in 'lidar', not in 'odom': no transform from 'lidar' to 'odom'"
    )
    for index in range(3, 12):
        monkeypatch.setattr(Known, 'here', SPEED * index / 10)
        found = drive.send(index, (30 - SPEED * index / 10, 2))
        assert found.tracks.tolist() == [1]
    assert np.abs(found.velocities).max() < 0.2  # over ground
    status = drive.status()
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'detecting')
    values = {pair.key: pair.value for pair in status.values}
    assert (values['tracks.frame'], values['tracks.restarts']) == ('odom', '1')
    told = capfd.readouterr().err
    assert told.count("tracks in 'lidar', not in 'odom'") == 1
    assert told.count('all tracks ended') == 1


@pytest.mark.skipif(transforms.Buffer is not None, reason='tf2_ros is installed')
def test_fixed_frame_without_tf2_is_refused(session):
    with pytest.raises(ConfigError, match=r'tracking\.fixed_frame needs tf2_ros.*leave it empty'):
        Drive(session, **{'tracking.fixed_frame': 'odom'})


def test_real_transforms_at_the_stamp_and_a_little_later(session):
    """The sensor drives towards a car that stands."""
    pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    drive = Drive(session, **{'tracking.min_hits': 1, 'tracking.fixed_frame': 'odom'})
    moving = publisher(session, TFMessage, '/tf')
    sent = []
    for index in range(11):
        pose = TransformStamped(child_frame_id='lidar')
        pose.header.frame_id, pose.header.stamp = 'odom', to_stamp(START_NS + index * STEP_NS)
        pose.transform.translation.x = SPEED * index / 10
        sent.append(pose)
    moving.publish(TFMessage(transforms=sent))
    known = drive.node._setup.transforms

    def arrived():
        try:
            return known.poses('odom', 'lidar', START_NS + 10 * STEP_NS)
        except CloudError:
            return None

    spin_until(session, arrived)
    for index in (*np.arange(0, 10, 0.75), 10.5, 11):
        found = drive.send(index, (30 - SPEED * index / 10, 2))
        assert found.tracks.tolist() == [0]
        assert np.abs(found.velocities).max() < 0.1
    values = drive.values()
    assert (values['tracks.frame'], values['tracks.poses_predicted']) == ('odom', '2')
    drive.send(14, (5, 2))  # too late for a prediction
    assert 'extrapolation into the future' in drive.status().message
    drive.send(-2, (5, 2))
    assert 'extrapolation into the past' in drive.status().message


def test_tracks_of_vision_msgs(session):
    pytest.importorskip('vision_msgs', reason='vision_msgs is not installed')
    from vision_msgs.msg import Detection3DArray

    drive = Drive(session)
    tracks = listen(session, Detection3DArray, '/detector/tracks')
    spin_until(session, lambda: drive.node.count_subscribers('/detector/tracks'))
    for index in range(4):
        drive.send(index, (10, 2), (15, -5))
    spin_until(session, lambda: len(tracks) == 4)
    ids = [[detection.id for detection in message.detections] for message in tracks]
    assert ids == [[], [], ['0', '1'], ['0', '1']]
    first = tracks[-1].detections[0]
    assert first.results[0].hypothesis.class_id == 'Car'
    assert first.bbox.center.position.x == pytest.approx(10)
