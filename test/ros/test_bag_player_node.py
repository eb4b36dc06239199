# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags played into a ROS graph."""

from __future__ import annotations

from functools import partial
import os
from pathlib import Path
import subprocess
import sys
from time import sleep

from bag_files import CLOUD, TYPES, edit_metadata
import numpy as np
import pytest
from ros_graph import TIMEOUT_S, listen, spin_until
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from pointdistiller_core.errors import ConfigError, DatasetError, PointDistillerError
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.point_cloud2 import points_from_cloud
from pointdistiller_ros import bag_player_node
from pointdistiller_ros.bag_player_node import SETTLE_S, BagPlayerNode
from pointdistiller_ros.conversions import stamp_ns
from pointdistiller_ros.topics import message_class

ROOT = Path(__file__).resolve().parents[2]
FOREVER = QosTime(0, 0)
QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    FOREVER,
    FOREVER,
    QosLiveliness.AUTOMATIC,
    FOREVER,
    avoid_ros_namespace_conventions=False,
)
STAMPS = [10_000_000_000, 10_100_000_000, 10_200_000_000]


@pytest.fixture
def bag(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for index, stamp in enumerate(STAMPS):
            writer.write('/lidar', stamp, 'velodyne', np.full((5, 4), index, np.float32))
    return tmp_path / 'bag'


def add_player(session, bag, **parameters):
    return session.add(BagPlayerNode, bag=str(bag), **parameters)


def stamps(clouds):
    return [stamp_ns(cloud.header.stamp) for cloud in clouds]


def test_clouds_and_clock_in_order(session, bag):
    player = add_player(session, bag, rate=10.0)
    clouds, clock = listen(session, PointCloud2, '/lidar'), listen(session, Clock, '/clock')
    player.start()
    spin_until(session, lambda: player.finished() and len(clouds) == len(clock) == 3)
    assert stamps(clouds) == STAMPS
    assert [stamp_ns(tick.clock) for tick in clock] == STAMPS
    assert {cloud.header.frame_id for cloud in clouds} == {'velodyne'}
    for index, cloud in enumerate(clouds):
        assert (points_from_cloud(cloud) == index).all()
    assert (player.topic, player.num_played) == ('/lidar', 3)


@pytest.fixture
def pauses(monkeypatch):
    """`pauses(player)`: the list of its pauses while it plays [s], none of which takes long."""
    monkeypatch.setattr(bag_player_node, 'monotonic', lambda: 0.0)  # time that stands still

    def record(player):
        found, wait = [], player._wait

        def pause(timeout_s, *condition):
            found.append(timeout_s)
            if timeout_s == SETTLE_S:  # it begins to play
                found.clear()
            return wait(min(timeout_s, 0.01), *condition)

        monkeypatch.setattr(player, '_wait', pause)
        return found

    return record


@pytest.mark.parametrize('rate', [1.0, 0.5])
def test_rate(session, bag, pauses, rate):
    player = add_player(session, bag, rate=rate)
    found = pauses(player)
    listen(session, PointCloud2, '/lidar')
    player.start()
    spin_until(session, player.finished)
    assert found == pytest.approx([0.0, 0.1 / rate, 0.2 / rate])


def test_nothing_is_played_to_nobody(session, bag):
    player = add_player(session, bag, rate=1000.0)
    player.start()
    assert not session.spin_until(player.finished, 0.5)
    assert player.num_played == 0
    clouds = listen(session, PointCloud2, '/lidar')
    spin_until(session, lambda: len(clouds) == 3)


def test_start_and_loop(session, bag):
    player = add_player(session, bag, start=0.05, loop=True, rate=1000.0)
    clouds = listen(session, PointCloud2, '/lidar', 100)
    player.start()
    spin_until(session, lambda: len(clouds) >= 6)
    assert stamps(clouds)[:6] == STAMPS[1:] * 3
    assert not player.finished()


def test_duration(session, bag):
    player = add_player(session, bag, start=0.05, duration=0.1, rate=1000.0)
    clouds = listen(session, PointCloud2, '/lidar')
    player.start()
    spin_until(session, lambda: player.finished() and clouds)
    assert player.num_played == 1
    assert stamps(clouds) == STAMPS[1:2]


def test_clock_jumps_back_in_a_loop(session, bag):
    player = add_player(session, bag, loop=True, rate=10.0)
    listen(session, PointCloud2, '/lidar')
    clock = listen(session, Clock, '/clock', 100)
    player.start()
    spin_until(session, lambda: len(clock) >= 7)
    assert [stamp_ns(tick.clock) for tick in clock][:7] == [*STAMPS, *STAMPS, STAMPS[0]]


def test_first_cloud_follows_the_last_one_after_a_period(session, bag, pauses):
    player = add_player(session, bag, loop=True, rate=0.5)
    found = pauses(player)
    listen(session, PointCloud2, '/lidar')
    player.start()
    spin_until(session, lambda: len(found) >= 5)
    assert found[:5] == pytest.approx([0.0, 0.2, 0.4, 0.2, 0.0])


def test_loop_of_one_cloud_is_no_flood(session, bag, pauses):
    player = add_player(session, bag, start=0.15, loop=True)
    found = pauses(player)
    listen(session, PointCloud2, '/lidar')
    player.start()
    spin_until(session, lambda: len(found) >= 4)
    assert found[:4] == pytest.approx([0.0, 0.1, 0.0, 0.1])  # ten a second


NUM_LATE, LATE_SIZE = 5, 3_000_000  # texts from the last cloud on: not there at once
TEXTS = [9_950_000_000, 10_050_000_000, 10_150_000_000]


@pytest.fixture
def rich_bag(tmp_path):
    """Clouds, and texts in between; on /latched the last text of before holds."""
    latched = QOS._replace(durability=QosDurability.TRANSIENT_LOCAL)
    with CloudBagWriter(tmp_path / 'rich') as writer:
        for text, cloud in zip(TEXTS, STAMPS, strict=True):
            content = bytes(serialize_message(String(data=str(text))))
            writer.write_serialized('/text', 'std_msgs/msg/String', text, content, [QOS])
            writer.write_serialized('/latched', 'std_msgs/msg/String', text, content, [latched])
            writer.write('/lidar', cloud, 'velodyne', np.zeros((5, 4), np.float32))
        for index in range(NUM_LATE):
            content = bytes(serialize_message(String(data=str(index).ljust(LATE_SIZE))))
            writer.write_serialized('/late', 'std_msgs/msg/String', cloud + index, content, [QOS])
        writer.write_serialized('/tf', 'tf2_msgs/msg/TFMessage', text, bytes(8), [QOS])
    return tmp_path / 'rich'


def test_extra_topics_are_played_in_between(session, rich_bag):
    player = add_player(session, rich_bag, extra_topics=['/text'], acknowledgment='/done')
    order = []
    node = session.add(partial(Node, 'listener'))
    node.create_subscription(String, '/text', lambda text: order.append(int(text.data)), 10)
    done = node.create_publisher(PointCloud2, '/done', 10)

    def acknowledge(cloud):
        order.append(stamp_ns(cloud.header.stamp))
        done.publish(PointCloud2(header=cloud.header))

    node.create_subscription(PointCloud2, '/lidar', acknowledge, 10)
    player.start()
    spin_until(session, lambda: player.finished() and len(order) == 6)
    assert sorted(order) == sorted(TEXTS + STAMPS)
    assert [time for time in order if time in STAMPS] == STAMPS
    assert [time for time in order if time in TEXTS] == TEXTS
    assert player.num_played == 3  # clouds


def test_what_comes_after_the_last_cloud_arrives_before_a_player_ends(session, rich_bag, tmp_path):
    texts = listen(session, String, '/late', 50)
    done = session.add(partial(Node, 'worker')).create_publisher(PointCloud2, '/done', 10)
    session.add(partial(Node, 'listener')).create_subscription(
        PointCloud2, '/lidar', lambda cloud: done.publish(PointCloud2(header=cloud.header)), 10
    )
    parameters = {'bag': rich_bag, 'acknowledgment': '/done', 'extra_topics': "['/late']"}
    words = [word for pair in parameters.items() for word in ('-p', ':='.join(map(str, pair)))]
    process = subprocess.Popen(
        [sys.executable, '-m', 'pointdistiller_ros.bag_player_node', '--ros-args', *words],
        cwd=ROOT,
        env=os.environ | {'ROS_LOG_DIR': str(tmp_path)},
    )
    spin_until(session, lambda: process.poll() is not None)
    assert process.returncode == 0
    spin_until(session, lambda: len(texts) == NUM_LATE)
    assert [int(text.data) for text in texts] == list(range(NUM_LATE))


def test_extra_messages_and_their_subscribers_are_counted(session, rich_bag):
    player = add_player(session, rich_bag, extra_topics=['/text', '/late', '/none'], rate=1000.0)
    listen(session, PointCloud2, '/lidar')
    listen(session, String, '/text')
    spin_until(session, lambda: player.num_extra_subscribers == {'/text': 1, '/late': 0})
    assert player.num_extra_played == {'/text': 0, '/late': 0}
    player.start()
    spin_until(session, player.finished)
    assert player.num_extra_played == {'/text': 3, '/late': NUM_LATE}


def test_latched_messages_hold_from_the_start(session, rich_bag):
    player = add_player(session, rich_bag, extra_topics=['/latched'], start=0.12, rate=1000.0)
    clouds, clock = listen(session, PointCloud2, '/lidar'), listen(session, Clock, '/clock')
    player.start()
    spin_until(session, player.finished)
    qos = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    texts = listen(session, String, '/latched', qos)  # comes late
    spin_until(session, lambda: len(texts) == 3 and len(clouds) == 2)
    assert [int(text.data) for text in texts] == TEXTS
    assert [stamp_ns(tick.clock) for tick in clock][:1] == STAMPS[1:2]  # not turned back


def test_extra_topics_that_cannot_be_played_are_named(session, rich_bag, capfd):
    add_player(session, rich_bag, extra_topics=['/tf', '/tf_static', '/absent', ''])
    log = capfd.readouterr().err
    if message_class('tf2_msgs/msg/TFMessage') is None:
        assert '/tf is not played: tf2_msgs/msg/TFMessage is not installed' in log
    assert '/absent is not played' in log
    assert "['/latched', '/late', '/lidar', '/text', '/tf']" in log
    assert '/tf_static' not in log.replace("'/tf_static'", '')


def test_a_bag_without_transforms_says_nothing_of_them(session, bag, capfd):
    add_player(session, bag)
    assert 'not played' not in capfd.readouterr().err


def test_lockstep_loses_nothing_of_a_slow_consumer(session, tmp_path):
    expected = [10**9 + index for index in range(30)]  # as fast as can be
    with CloudBagWriter(tmp_path / 'many') as writer:
        for stamp in expected:
            writer.write('/lidar', stamp, 'velodyne', np.zeros((1, 4), np.float32))
    player = add_player(session, tmp_path / 'many', acknowledgment='/done')
    node, received = session.add(partial(Node, 'slow')), []
    done = node.create_publisher(PointCloud2, '/done', 1)

    def work(cloud):
        received.append(stamp_ns(cloud.header.stamp))
        sleep(0.01)
        done.publish(PointCloud2(header=cloud.header))

    node.create_subscription(PointCloud2, '/lidar', work, 1)  # no room for a second one
    player.start()
    spin_until(session, player.finished)
    assert received == expected


def test_lockstep_tells_that_its_consumer_died(session, bag):
    player = add_player(session, bag, acknowledgment='/done', timeout=0.5)
    clouds = listen(session, PointCloud2, '/lidar')
    consumer = session.add(partial(Node, 'consumer'))
    consumer.create_publisher(PointCloud2, '/done', 10)
    player.start()
    spin_until(session, lambda: clouds)
    consumer.destroy_node()
    with pytest.raises(PointDistillerError, match='nobody publishes there any more'):
        session.spin_until(player.finished, TIMEOUT_S)


def test_without_lockstep_a_consumer_may_die_and_return(session, bag):
    player = add_player(session, bag, loop=True, rate=10.0)
    first = session.add(partial(Node, 'first'))
    before: list = []
    first.create_subscription(PointCloud2, '/lidar', before.append, 10)
    player.start()
    spin_until(session, lambda: before)
    first.destroy_node()
    played = player.num_played
    spin_until(session, lambda: player.num_played > played + 3)
    after = listen(session, PointCloud2, '/lidar')
    spin_until(session, lambda: len(after) > 3)
    assert not player.finished()


def test_a_bag_that_was_cut_off_is_played_as_far_as_it_goes(session, bag, capfd):
    file = bag / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-9])
    player = add_player(session, bag, rate=1000.0)
    clouds = listen(session, PointCloud2, '/lidar')
    player.start()
    session.spin_until(player.finished, TIMEOUT_S)
    spin_until(session, lambda: stamps(clouds) == STAMPS)
    assert capfd.readouterr().err.count('was cut off while it was recorded') == 1


def test_metadata_that_is_wrong_bounds_nothing_and_is_told_once(session, bag, capfd):
    edit_metadata(bag, message_count=0, duration={'nanoseconds': 0})
    player = add_player(session, bag, loop=True, rate=1000.0)
    clouds = listen(session, PointCloud2, '/lidar', 100)
    player.start()
    spin_until(session, lambda: len(clouds) >= 6)
    assert stamps(clouds)[:6] == 2 * STAMPS
    log = capfd.readouterr().err
    assert log.count(f'{bag}: metadata.yaml has 0 messages in all; 3 were read') == 1


def test_topic_with_the_fields_of_a_sensor(session, tmp_path, capfd):
    boxes = {name: np.ones(1, np.float32) for name in ('dx', 'dy', 'dz', 'yaw')}
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for stamp in STAMPS:
            writer.write('/boxes', stamp - 1, 'velodyne', np.ones((1, 4), np.float32), boxes)
            writer.write('/lidar', stamp, 'velodyne', np.ones((1, 4), np.float32))
            writer.write('/map', stamp, 'velodyne', np.ones((1, 3), np.float32))
    player = add_player(session, tmp_path / 'bag', rate=1000.0)
    clouds, clock = listen(session, PointCloud2, '/lidar'), listen(session, Clock, '/clock')
    player.start()
    spin_until(session, lambda: player.finished() and len(clouds) == len(clock) == 3)
    assert stamps(clouds) == STAMPS
    assert (
        "reading /lidar, the only one of ['/boxes', '/lidar', '/map'] with"
        in capfd.readouterr().err
    )


def test_bag_without_a_message_on_its_topic(session, tmp_path):
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection('/lidar', CLOUD, typestore=TYPES)
    with pytest.raises(DatasetError, match=r'bag has no cloud$'):
        add_player(session, tmp_path / 'bag')


def test_remapped_topic(session, bag):
    player = session.add(BagPlayerNode, {'/lidar': '/front/points'}, bag=str(bag))
    assert player.topic == '/front/points'


def test_lockstep_waits_for_the_same_stamp(session, bag):
    player = add_player(session, bag, acknowledgment='/done', rate=0.001)
    clouds = listen(session, PointCloud2, '/lidar')
    done = session.add(partial(Node, 'worker')).create_publisher(PointCloud2, '/done', 10)
    player.start()
    for index in range(3):
        spin_until(session, lambda index=index: len(clouds) == index + 1)
        done.publish(PointCloud2())  # another stamp
        assert not session.spin_until(lambda index=index: len(clouds) > index + 1, 0.1)
        done.publish(PointCloud2(header=clouds[-1].header))
    spin_until(session, player.finished)
    assert stamps(clouds) == STAMPS


def test_lockstep_without_an_answer_ends_with_an_error(session, bag):
    player = add_player(session, bag, acknowledgment='/done', timeout=0.1)
    listen(session, PointCloud2, '/lidar')
    session.add(partial(Node, 'worker')).create_publisher(PointCloud2, '/done', 10)
    player.start()
    with pytest.raises(PointDistillerError, match=r'cloud 3 .*stamp 10200000000 .*/done .*0\.1 s'):
        session.spin_until(player.finished, TIMEOUT_S)


def test_lockstep_goes_on_after_a_cloud_without_an_answer(session, bag, capfd):
    player = add_player(session, bag, acknowledgment='/done', timeout=0.5)
    node, clouds = session.add(partial(Node, 'worker')), []
    done = node.create_publisher(PointCloud2, '/done', 10)

    def work(cloud):
        clouds.append(cloud)
        if len(clouds) != 2:  # which it cannot read
            done.publish(PointCloud2(header=cloud.header))

    node.create_subscription(PointCloud2, '/lidar', work, 10)
    player.start()
    with pytest.raises(PointDistillerError, match=r'1 of 3 clouds .* were not acknowledged'):
        session.spin_until(player.finished, TIMEOUT_S)
    assert stamps(clouds) == STAMPS
    assert 'cloud 2 of' in capfd.readouterr().err


def test_a_display_that_listens_first_is_not_played_to(session, bag):
    player = add_player(session, bag, rate=1000.0, wait_for='/done')
    shown = listen(session, PointCloud2, '/lidar')
    player.start()
    assert not session.spin_until(lambda: shown, 1.0)
    worker = session.add(partial(Node, 'worker'))  # its bundle is loaded only now
    clouds: list = []
    worker.create_subscription(PointCloud2, '/lidar', clouds.append, 10)
    worker.create_publisher(PointCloud2, '/done', 10)
    spin_until(session, lambda: player.finished() and len(clouds) == len(shown) == 3)
    assert stamps(clouds) == STAMPS


def test_bag_that_breaks_ends_with_an_error(session, bag, monkeypatch):
    player = add_player(session, bag)
    listen(session, PointCloud2, '/lidar')

    def fail(*_, **__):
        raise DatasetError('the disk is gone')

    monkeypatch.setattr('pointdistiller_ros.bag_player_node.read_clouds', fail)
    player.start()
    with pytest.raises(DatasetError, match='the disk is gone'):
        session.spin_until(player.finished, TIMEOUT_S)


@pytest.mark.parametrize(
    ('parameters', 'error', 'named'),
    [
        ({'topic': '/none'}, DatasetError, r"no PointCloud2 topic '/none'.*\['/lidar'\]"),
        ({'start': 5.0}, DatasetError, r'has no cloud after 5\.0 s'),
        ({'start': 0.01, 'duration': 0.05}, DatasetError, r'after 0\.01 s within 0\.05 s'),
        ({'duration': -1.0}, ConfigError, r'parameter duration .*-1\.0'),
        ({'rate': 0.0}, ConfigError, r'parameter rate .*0\.0'),
    ],
)
def test_bad_parameters(session, bag, parameters, error, named):
    with pytest.raises(error, match=named):
        add_player(session, bag, **parameters)


def test_missing_bag(session, tmp_path):
    with pytest.raises(DatasetError, match='absent: no such bag'):
        add_player(session, tmp_path / 'absent')


def test_a_player_may_end_while_it_waits(session, bag):
    player = add_player(session, bag, rate=0.001)
    clouds = listen(session, PointCloud2, '/lidar')
    player.start()
    spin_until(session, lambda: clouds)  # the session ends it in the pause before the next cloud
