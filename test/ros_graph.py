# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS graph of its own for a test, and a detector without a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
import os
import socket
import threading
import time

import numpy as np
import pytest

from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.records import Detections, Importance

TIMEOUT_S = 60.0


def _take_domain() -> tuple[int, socket.socket]:
    """A domain that no other tests on this machine use, and what keeps it from them."""
    domains = [*range(215, 233), *range(1, 102)]  # the others meet ephemeral ports
    for domain in domains:
        taken = socket.socket(socket.AF_UNIX)
        try:
            taken.bind(f'\0pointdistiller_test_domain_{domain}')  # a name without a file
        except OSError:
            taken.close()
        else:
            return domain, taken
    raise RuntimeError(f'all {len(domains)} ROS domains are taken by other tests')


_DOMAIN, _TAKEN = _take_domain()
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_DOMAIN_ID'] = str(_DOMAIN)
# With other transports big clouds do not arrive.
for name in (
    'FASTDDS_BUILTIN_TRANSPORTS',
    'FASTDDS_DEFAULT_PROFILES_FILE',
    'FASTRTPS_DEFAULT_PROFILES_FILE',
):
    os.environ.pop(name, None)


@pytest.fixture
def session(tmp_path, monkeypatch) -> Iterator:
    """Nodes of this test; all they started has ended when it ends."""
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from pointdistiller_ros.spinning import Session

    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'ros_log'))
    before = set(threading.enumerate())
    with Session() as running:
        yield running
    assert set(threading.enumerate()) <= before


def listen(session, kind, topic, qos=10) -> list:
    """The messages of a topic, as they come."""
    from rclpy.node import Node

    messages: list = []
    node = session.add(partial(Node, 'listener'))
    node.create_subscription(kind, topic, messages.append, qos)
    return messages


def publisher(session, kind, topic, qos=10):
    """Sends to a topic once somebody listens."""
    from rclpy.node import Node

    sender = session.add(partial(Node, 'sender')).create_publisher(kind, topic, qos)
    assert session.spin_until(sender.get_subscription_count, TIMEOUT_S)
    return sender


def spin_until(session, condition) -> None:
    assert session.spin_until(condition, TIMEOUT_S)


def message_at(session, node, clock, states, seconds) -> str:
    """What a node's diagnostics say when the simulated clock stands at these seconds.

    Args:
        session: spins.
        node: uses simulated time.
        clock: publisher of /clock.
        states: the messages of /diagnostics, as they come.
        seconds: whole ones.
    """
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock

    clock.publish(Clock(clock=Time(sec=seconds)))
    spin_until(session, lambda: node.get_clock().now().nanoseconds == seconds * 10**9)
    states.clear()
    spin_until(session, lambda: states)
    return states[-1].status[0].message


def service(session, kind, name):
    """Calls a service: a request in, the answer out."""
    from rclpy.node import Node

    client = session.add(partial(Node, 'caller')).create_client(kind, name)
    spin_until(session, client.service_is_ready)

    def call(request):
        future = client.call_async(request)
        spin_until(session, future.done)
        return future.result()

    return call


def build_cloud(index=0, score=0.9, num_points=4):
    """A cloud whose points are all alike, of second `index` + 1."""
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    from pointdistiller_ros.conversions import to_cloud

    points = np.full((num_points, 4), score, np.float32)
    return to_cloud(points, Header(stamp=Time(sec=index + 1), frame_id='lidar'))


def stamps(messages) -> list[int]:
    """The seconds of their stamps."""
    return [message.header.stamp.sec for message in messages]


class FakeDetector:
    """Sees a car around the first point; its score is the first point's intensity."""

    class_names = ('Car', 'Pedestrian', 'Cyclist')

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.asked_importance: list[bool] = []
        self.mountings: list = []
        self.closed = False
        self.backend = 'fake'
        self.host_engine = None
        self.info = BundleInfo(model=PointPillarsConfig())

    def close(self):
        self.closed = True

    def __call__(self, points, *, importance=False, detection=None, mounting=None):
        self.asked_importance.append(importance)
        self.mountings.append(mounting)
        time.sleep(self.delay_s)
        found = Detections.empty()
        if len(points):
            box = [*points[0, :3], 4.0, 1.6, 1.5, 0.5]
            found = Detections(np.array([box], np.float32), points[:1, 3], np.zeros(1, np.int64))
            limits = detection or DetectionConfig(score_threshold=0.0)
            threshold = [*limits.score_thresholds, limits.score_threshold][0]
            found = found[np.flatnonzero(found.scores >= threshold)]
        if importance:
            scores = np.linspace(1, 0, len(points), dtype=np.float32)
            found = replace(found, importance=Importance(points[:, :3], scores, scores))
        return replace(
            found, counts={'points': len(points)}, latency_ms={'total': self.delay_s * 1e3}
        )
