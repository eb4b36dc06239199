# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags played into a ROS graph."""

from __future__ import annotations

from functools import partial
from time import monotonic

import numpy as np
import pytest
from ros_graph import TIMEOUT_S, listen, spin_until

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.datasets.bags import CloudBagWriter
from pointdistiller_core.datasets.point_cloud2 import points_from_cloud
from pointdistiller_core.errors import ConfigError, DatasetError, PointDistillerError
from pointdistiller_ros.bag_player_node import BagPlayerNode
from pointdistiller_ros.conversions import stamp_ns

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


@pytest.mark.parametrize('rate', [1.0, 0.5])
def test_rate(session, bag, rate):
    player, times = add_player(session, bag, rate=rate), []
    node = session.add(partial(Node, 'listener'))
    node.create_subscription(PointCloud2, '/lidar', lambda _: times.append(monotonic()), 10)
    player.start()
    spin_until(session, lambda: len(times) == 3)
    assert 0.1 / rate < times[-1] - times[0] < 0.2 / rate + 2.0  # a busy machine is late


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
    with pytest.raises(PointDistillerError, match=r'cloud 1 .*stamp 10000000000 .*/done .*0\.1 s'):
        session.spin_until(player.finished, TIMEOUT_S)


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
