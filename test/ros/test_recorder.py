# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Topics recorded into bags."""

from __future__ import annotations

from functools import partial

import pytest
from ros_graph import TIMEOUT_S, publisher, spin_until
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Writer

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.errors import ConfigError, DatasetError, WriteError
from pointdistiller_ros.conversions import to_stamp
from pointdistiller_ros.recorder import BagRecorderNode, find_definition


def add_recorder(session, path, *topics, **parameters):
    return session.add(BagRecorderNode, output=str(path), topics=list(topics), **parameters)


def read(path):
    with AnyReader([path]) as reader:
        connections = {found.topic: found for found in reader.connections}
        return connections, [(found.topic, time, raw) for found, time, raw in reader.messages()]


def test_messages_are_recorded_byte_by_byte(session, tmp_path):
    recorder = add_recorder(session, tmp_path / 'bag', '/text', '/markers', '/nobody')
    text = publisher(session, String, '/text')
    markers = publisher(session, MarkerArray, '/markers')
    assert recorder.awaited_topics == {'/nobody'}
    array = MarkerArray(markers=[Marker(ns='a', id=3), Marker(ns='b', text='c')])
    # serialized once: what lies between the values is not the same every time
    sent = {'/text': serialize_message(String(data='hello')), '/markers': serialize_message(array)}
    text.publish(sent['/text'])
    markers.publish(sent['/markers'])
    spin_until(session, lambda: recorder.num_recorded == {'/text': 1, '/markers': 1})
    recorder.destroy_node()
    connections, messages = read(tmp_path / 'bag')
    assert connections['/markers'].msgtype == 'visualization_msgs/msg/MarkerArray'
    assert {topic: raw for topic, _, raw in messages} == sent


def test_quality_of_service_is_kept_and_matched(session, tmp_path):
    recorder = add_recorder(session, tmp_path / 'bag', '/fast', '/latched')
    fast = publisher(
        session,
        String,
        '/fast',
        QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT),
    )
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    early = session.add(partial(Node, 'early')).create_publisher(String, '/latched', latched)
    early.publish(String(data='before anybody listened'))
    fast.publish(String(data='now'))
    spin_until(session, lambda: recorder.num_recorded == {'/fast': 1, '/latched': 1})
    recorder.destroy_node()
    connections, _ = read(tmp_path / 'bag')
    (of_fast,) = connections['/fast'].ext.offered_qos_profiles
    (of_latched,) = connections['/latched'].ext.offered_qos_profiles
    assert of_fast.reliability == QosReliability.BEST_EFFORT
    assert of_fast.durability == QosDurability.VOLATILE
    assert of_latched.reliability == QosReliability.RELIABLE
    assert of_latched.durability == QosDurability.TRANSIENT_LOCAL


def test_simulated_time_stamps_the_recording(session, tmp_path):
    recorder = add_recorder(session, tmp_path / 'bag', '/text', use_sim_time=True)
    clock, text = publisher(session, Clock, '/clock'), publisher(session, String, '/text')
    clock.publish(Clock(clock=to_stamp(5_000_000_001)))
    spin_until(session, lambda: recorder.get_clock().now().nanoseconds)
    text.publish(String(data='now'))
    spin_until(session, lambda: recorder.num_recorded)
    recorder.destroy_node()
    _, messages = read(tmp_path / 'bag')
    assert [time for _, time, _ in messages] == [5_000_000_001]


def test_full_disk_ends_the_recording(session, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError('No space left on device')

    recorder = add_recorder(session, tmp_path / 'bag', '/text')
    text = publisher(session, String, '/text')
    monkeypatch.setattr(Writer, 'write', fail)
    text.publish(String(data='much'))
    with pytest.raises(WriteError, match='cannot be written: No space left'):
        session.spin_until(recorder.finished, TIMEOUT_S)


def test_existing_output(session, tmp_path):
    with pytest.raises(WriteError, match='exists already'):
        add_recorder(session, tmp_path, '/text')


def test_no_topics(session, tmp_path):
    with pytest.raises(ConfigError, match='topics is empty'):
        session.add(BagRecorderNode, output=str(tmp_path / 'bag'))
    assert not (tmp_path / 'bag').exists()


def test_definition_of_an_installed_message(tmp_path, monkeypatch):
    share = tmp_path / 'share'
    (share / 'ament_index' / 'resource_index' / 'packages').mkdir(parents=True)
    (share / 'ament_index' / 'resource_index' / 'packages' / 'my_msgs').touch()
    (share / 'my_msgs' / 'msg').mkdir(parents=True)
    (share / 'my_msgs' / 'msg' / 'Cell.msg').write_text('uint8 state', encoding='utf-8')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    assert find_definition('my_msgs/msg/Cell') == 'uint8 state'
    for absent in ('my_msgs/msg/Row', 'other_msgs/msg/Cell'):
        with pytest.raises(DatasetError, match=f'no definition of {absent}'):
            find_definition(absent)
    monkeypatch.delenv('AMENT_PREFIX_PATH')
    with pytest.raises(DatasetError, match='AMENT_PREFIX_PATH'):
        find_definition('my_msgs/msg/Cell')


def test_detections_are_recorded(session, tmp_path):
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    recorder = add_recorder(session, tmp_path / 'bag', '/detections')
    detection = vision.Detection3D(results=[vision.ObjectHypothesisWithPose()])
    detection.results[0].hypothesis.class_id = 'Car'
    message = vision.Detection3DArray(detections=[detection])
    publisher(session, vision.Detection3DArray, '/detections').publish(message)
    spin_until(session, lambda: recorder.num_recorded['/detections'] == 1)
    recorder.destroy_node()
    with AnyReader([tmp_path / 'bag']) as reader:
        ((connection, _, raw),) = reader.messages()
        (read,) = reader.deserialize(raw, connection.msgtype).detections
    assert read.results[0].hypothesis.class_id == 'Car'
    # not byte by byte: what pads the fields is left as memory had it
    assert deserialize_message(bytes(raw), vision.Detection3DArray) == message
