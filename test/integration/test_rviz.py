# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What RViz shows: sent by the nodes, of that type, with a quality of service that matches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from ros_graph import FakeDetector, spin_until
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)
from sensor_msgs.msg import PointCloud2

from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.detector_node import DetectorNode

FOLDER = Path(__file__).resolve().parents[2] / 'config' / 'rviz'
TYPES = {
    'rviz_default_plugins/PointCloud2': 'sensor_msgs/msg/PointCloud2',
    'rviz_default_plugins/MarkerArray': 'visualization_msgs/msg/MarkerArray',
}


def add_detector(session, namespace) -> None:
    node = partial(DetectorNode, lambda _: FakeDetector(), namespace=namespace)
    session.add(node, bundle='fake')


def add_comparison(session, namespace) -> None:
    session.add(
        partial(ComparisonNode, lambda *_, **__: FakeDetector(), namespace=namespace),
        teacher='big',
        student='small',
    )


SENDERS = {
    'detector.rviz': add_detector,
    'comparison.rviz': add_comparison,
}  # the nodes that a configuration is for


def displays_of(name: str) -> list[dict]:
    text = (FOLDER / name).read_text(encoding='utf-8')
    displays = yaml.safe_load(text)['Visualization Manager']['Displays']
    return [display for display in displays if 'Topic' in display]


def requested(topic: dict) -> QoSProfile:
    """The quality of service of RViz's subscription."""
    return QoSProfile(
        depth=topic['Depth'],
        liveliness=QoSLivelinessPolicy.AUTOMATIC,
        reliability=QoSReliabilityPolicy[topic['Reliability Policy'].upper().replace(' ', '_')],
        durability=QoSDurabilityPolicy[topic['Durability Policy'].upper().replace(' ', '_')],
    )


def test_every_configuration_is_known():
    assert {path.name for path in FOLDER.glob('*.rviz')} == set(SENDERS)


@pytest.mark.parametrize('name', SENDERS)
@pytest.mark.parametrize('reliability', ['RELIABLE', 'BEST_EFFORT'])
@pytest.mark.parametrize('namespace', ['', 'front'])
def test_displays_receive_what_the_nodes_send(session, name, reliability, namespace):
    SENDERS[name](session, namespace)
    driver = session.add(partial(Node, 'driver', namespace=namespace))
    quality = QoSProfile(depth=5, reliability=QoSReliabilityPolicy[reliability])
    driver.create_publisher(PointCloud2, 'points', quality)
    for display in displays_of(name):
        topic = display['Topic']
        spin_until(
            session, lambda topic=topic: driver.get_publishers_info_by_topic(topic['Value'])
        )
        (sender,) = driver.get_publishers_info_by_topic(topic['Value'])
        assert sender.topic_type == TYPES[display['Class']], display['Name']
        found, reason = qos_check_compatible(sender.qos_profile, requested(topic))
        assert found == QoSCompatibility.OK, f'{display["Name"]}: {reason}'


def test_displays_are_named_once_and_shown_as_they_say():
    for name in SENDERS:
        displays = displays_of(name)
        assert len({display['Name'] for display in displays}) == len(displays)
        assert all(display['Enabled'] == display['Value'] for display in displays)
