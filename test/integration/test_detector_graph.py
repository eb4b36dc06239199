# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The detector node among other nodes: quality of service, slow and dead neighbors, time."""

from __future__ import annotations

from functools import partial
import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from ros_graph import FakeDetector, build_cloud, listen, message_at, publisher, spin_until, stamps

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.errors import ConfigError
from pointdistiller_core.messages.boxes_cloud import detections_from_boxes_cloud
from pointdistiller_ros.conversions import to_cloud
from pointdistiller_ros.detector_node import DetectorNode

RELIABLE = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def add_node(session, detector=None, **parameters):
    build = partial(DetectorNode, lambda _: detector or FakeDetector())
    return session.add(build, bundle='fake', **parameters)


@pytest.mark.parametrize('given', [RELIABLE, BEST_EFFORT])
@pytest.mark.parametrize('taken', [RELIABLE, BEST_EFFORT])
def test_any_driver_and_any_display_by_default(session, given, taken):
    add_node(session)
    boxes = listen(session, PointCloud2, '/detector/boxes', taken)
    publisher(session, PointCloud2, '/points', given).publish(build_cloud())
    spin_until(session, lambda: boxes)


def test_overridden_quality_of_service(session):
    parameters = {
        'qos_overrides./points.subscription.reliability': 'reliable',
        'qos_overrides./points.subscription.depth': 2,
        'qos_overrides./detector/boxes.publisher.reliability': 'best_effort',
        'qos_overrides./detector/boxes.publisher.durability': 'volatile',
    }
    node = add_node(session, **parameters)
    (points,) = node.get_subscriptions_info_by_topic('/points')
    (boxes,) = node.get_publishers_info_by_topic('/detector/boxes')
    assert points.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    assert boxes.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
    assert node.get_parameter('qos_overrides./points.subscription.depth').value == 2
    for _ in range(2):  # and again in the next life
        node.trigger_deactivate()
        node.trigger_cleanup()
        node.trigger_configure()
        node.trigger_activate()
    (points,) = node.get_subscriptions_info_by_topic('/points')
    assert points.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE


@pytest.mark.parametrize('output', ['boxes', 'markers', 'importance', 'model_info', 'diagnostics'])
def test_quality_of_service_of_every_output_may_change(session, output):
    topic = '/diagnostics' if output == 'diagnostics' else f'/detector/{output}'
    node = add_node(session, **{f'qos_overrides.{topic}.publisher.reliability': 'best_effort'})
    (found,) = node.get_publishers_info_by_topic(topic)
    assert found.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('/points.subscription.reliability', 'maybe'),
        ('/detector/boxes.publisher.depth', 'x'),
        ('/diagnostics.publisher.reliability', 'maybe'),
    ],
)
def test_quality_of_service_that_does_not_exist(session, name, value):
    topic = name.split('.')[0]
    with pytest.raises(ConfigError, match=rf'qos_overrides\.{topic}'):
        add_node(session, **{f'qos_overrides.{name}': value})


def test_slow_consumer_holds_nothing_up(session):
    node = add_node(session)
    asleep = Node('asleep', context=node.context)  # never spun
    received = []
    for output, kind in (('boxes', PointCloud2), ('markers', MarkerArray)):
        asleep.create_subscription(kind, f'/detector/{output}', received.append, RELIABLE)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    for index in range(50):
        clouds.publish(build_cloud(index, num_points=1))
        spin_until(session, lambda index=index: len(boxes) == index + 1)
    assert not received
    asleep.destroy_node()


def test_driver_that_dies_and_comes_back(session):
    limits = {'diagnostics.warn.stale_after_s': 0.2, 'diagnostics.error.stale_after_s': 0.4}
    node = add_node(session, **limits)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    states = listen(session, DiagnosticArray, '/diagnostics')
    driver = session.add(partial(Node, 'driver'))
    for life in range(2):
        clouds = driver.create_publisher(PointCloud2, '/points', RELIABLE)
        spin_until(session, clouds.get_subscription_count)
        clouds.publish(build_cloud(life))
        spin_until(session, lambda life=life: stamps(boxes)[-1:] == [life + 1])
        driver.destroy_publisher(clouds)
        spin_until(session, lambda: node.count_publishers('/points') == 0)
        states.clear()
        spin_until(session, lambda: states and 'no cloud for' in states[-1].status[0].message)


BIG_CLOUDS = """
import time, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2
rclpy.init()
node = rclpy.create_node('driver')
clouds = node.create_publisher(PointCloud2, '/points', qos_profile_sensor_data)
while True:
    clouds.publish(PointCloud2(data=bytes(2_000_000)))
    time.sleep(0.05)
"""


def test_clouds_that_the_middleware_loses_are_counted_and_told(session, capfd):
    """Without its profile, Fast DDS loses big clouds between processes; it tells how many."""
    if not get_rmw_implementation_identifier().startswith('rmw_fastrtps'):
        pytest.skip('another middleware loses other clouds')
    node = add_node(session)
    states = listen(session, DiagnosticArray, '/diagnostics')
    plain = {name: value for name, value in os.environ.items() if not name.startswith('FAST')}
    driver = subprocess.Popen([sys.executable, '-c', BIG_CLOUDS], env=plain)
    try:
        spin_until(session, lambda: node.counts.lost > 20)
        lost = node.counts.lost
        states.clear()
        spin_until(session, lambda: len(states) == 2)  # the second is of a whole second
    finally:
        driver.kill()
        driver.wait()
    (status,) = states[1].status
    assert 'clouds lost on their way' in status.message
    assert int({pair.key: pair.value for pair in status.values}['clouds_lost']) > lost
    told = [line for line in capfd.readouterr().err.splitlines() if 'clouds lost' in line]
    assert len(told) == 1  # and no more for a while
    assert 'fastdds.xml' in told[0]
    assert 'reliability: reliable' in told[0]


def test_what_fails_again_and_again_is_not_told_each_time(session, capfd):
    node = add_node(session)
    clouds = publisher(session, PointCloud2, '/points')
    bad = build_cloud()
    bad.width = 99
    for failed in range(1, 31):
        clouds.publish(bad)
        spin_until(session, lambda failed=failed: node.counts.failed == failed)
    node.destroy_node()
    told = [line for line in capfd.readouterr().err.splitlines() if 'no detections' in line]
    more = [int(line.split(' of the kind in ')[0].split()[-1]) for line in told[1:]]
    assert 'of the kind' not in told[0]
    assert sum(more) == 29  # all are counted, in few lines
    assert len(told) < 10


def test_two_publishers_at_once(session):
    node = add_node(session)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    drivers = [session.add(partial(Node, f'driver_{index}')) for index in range(2)]
    first, second = (one.create_publisher(PointCloud2, '/points', RELIABLE) for one in drivers)
    for clouds in (first, second):
        spin_until(session, clouds.get_subscription_count)

    def answered(clouds, index):
        clouds.publish(build_cloud(index))
        spin_until(session, lambda: stamps(boxes)[-1:] == [index + 1])

    answered(first, 0)
    answered(second, 1)
    for index in range(2, 5):  # what one of them breaks is no matter of the other's
        second.publish(b'\x00\x01\x00\x00 no cloud')
        spin_until(session, lambda index=index: node.counts.failed == index - 1)
        answered(first, index)
    drivers[1].destroy_publisher(second)  # it dies
    answered(first, 5)
    second = drivers[1].create_publisher(PointCloud2, '/points', RELIABLE)  # and comes back
    spin_until(session, second.get_subscription_count)
    answered(second, 6)
    answered(first, 7)
    for received in range(13, 33, 2):  # both at once
        for clouds in (first, second):
            clouds.publish(build_cloud())
        spin_until(session, lambda received=received: node.counts.received == received)
    assert node.wait_until_idle(10.0)
    answered(first, 28)
    counts = node.counts
    assert counts.received == counts.results + counts.failed + counts.dropped == 32
    assert counts.failed == 3


def test_malformed_clouds_between_good_ones(session):
    node = add_node(session)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    lies = [{'width': 99}, {'fields': []}, {'point_step': 2**32 - 1}, {'row_step': 1, 'height': 2}]
    for index, lie in enumerate(lies):
        bad = build_cloud(90 + index)
        for name, value in lie.items():
            setattr(bad, name, value)
        clouds.publish(bad)
        spin_until(session, lambda index=index: node.counts.failed == index + 1)
        clouds.publish(build_cloud(index))
        spin_until(session, lambda index=index: len(boxes) == index + 1)
    clouds.publish(b'\x00\x01\x00\x00 no cloud')
    spin_until(session, lambda: node.counts.failed == 5)
    clouds.publish(build_cloud(4))
    spin_until(session, lambda: len(boxes) == 5)
    assert stamps(boxes) == [1, 2, 3, 4, 5]
    counts = node.counts
    assert (counts.received, counts.results, counts.failed, counts.dropped) == (10, 5, 5, 0)


def test_what_the_detector_is_reaches_those_who_come_late(session):
    add_node(session)
    about = listen(session, String, '/detector/model_info', LATCHED)
    spin_until(session, lambda: about)
    assert json.loads(about[0].data)['class_names'] == ['Car', 'Pedestrian', 'Cyclist']


def test_a_bag_that_begins_again_clears_the_markers(session):
    node = add_node(session, use_sim_time=True)
    clock = publisher(session, Clock, '/clock')

    def turn_to(seconds):
        clock.publish(Clock(clock=Time(sec=seconds)))
        spin_until(session, lambda: node.get_clock().now().nanoseconds == seconds * 10**9)

    turn_to(10)
    markers = listen(session, MarkerArray, '/detector/markers')
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(10))
    spin_until(session, lambda: markers)
    turn_to(100)  # forward is no reason
    turn_to(10)
    spin_until(session, lambda: len(markers) == 2)
    assert [marker.action for marker in markers[1].markers] == [Marker.DELETEALL]
    clouds.publish(build_cloud(10))
    spin_until(session, lambda: len(markers) == 3)
    actions = [marker.action for marker in markers[2].markers]
    assert actions == [Marker.DELETEALL, Marker.ADD, Marker.ADD]


def test_silence_is_measured_in_simulated_time(session):
    node = add_node(session, use_sim_time=True)
    clock = publisher(session, Clock, '/clock')
    states = listen(session, DiagnosticArray, '/diagnostics')
    clouds = publisher(session, PointCloud2, '/points')

    message = partial(message_at, session, node, clock, states)
    spin_until(session, lambda: states)  # a report before the first /clock
    assert message(100) == 'waiting for the first cloud'
    clouds.publish(build_cloud())
    spin_until(session, lambda: node.counts.results == 1)
    assert message(100) == 'detecting'
    assert 'no cloud for 7.0 s' in message(107)
    assert message(50) == 'detecting'  # the bag began again
    assert 'no cloud for 2.0 s' in message(52)
    assert message(1000) == 'detecting'  # somebody sought in the bag
    assert 'no cloud for 3.0 s' in message(1003)


def test_a_clock_that_begins_early_is_no_silence(session):
    node = add_node(session, use_sim_time=True)
    states = listen(session, DiagnosticArray, '/diagnostics')
    spin_until(session, lambda: states)
    clock = publisher(session, Clock, '/clock')
    # 6 s are too little for a jump
    assert message_at(session, node, clock, states, 6) == 'waiting for the first cloud'


def test_intensity_range_is_reported(session):
    class Scaled(FakeDetector):
        def __call__(self, points, **options):
            from dataclasses import replace

            found = super().__call__(points, **options)
            counts = {'points': len(points), 'intensity_outside': len(points)}
            return replace(found, counts=counts, intensity_range=(0.0, 255.0))

    add_node(session, Scaled())
    states = listen(session, DiagnosticArray, '/diagnostics')
    cloud = to_cloud(np.full((3, 4), 255, np.float32), Header())
    publisher(session, PointCloud2, '/points').publish(cloud)
    spin_until(session, lambda: states and 'intensity of 3 points' in states[-1].status[0].message)
    values = {pair.key: pair.value for pair in states[-1].status[0].values}
    assert (values['intensity'], values['training_intensity']) == ('0 to 255', '0 to 1')
    assert values['bundle'] == 'fake'
    assert states[-1].status[0].hardware_id == f'{platform.node()} cpu'
    assert float(values['latency_ms.end_to_end']) > 0


def bright_cloud():
    """Intensities of 0 to 255, as most drivers send them."""
    points = np.random.default_rng(0).uniform(1, 255, (100, 4)).astype(np.float32)
    points[0, 3] = 255  # the score of the detector's box
    return to_cloud(points, Header())


def test_unlikely_intensity_is_a_warning_until_it_is_scaled(session):
    node = add_node(session)
    states = listen(session, DiagnosticArray, '/diagnostics')
    boxes = listen(session, PointCloud2, '/detector/boxes')
    points = publisher(session, PointCloud2, '/points')
    points.publish(bright_cloud())
    spin_until(session, lambda: len(boxes) == 1)
    spin_until(session, lambda: states and 'likely scale' in states[-1].status[0].message)
    assert states[-1].status[0].level == DiagnosticStatus.WARN
    assert 'intensity_scale' not in {pair.key for pair in states[-1].status[0].values}
    assert node.set_parameters([Parameter('intensity_auto', value=True)])[0].successful
    points.publish(bright_cloud())
    spin_until(session, lambda: len(boxes) == 2)
    states.clear()
    spin_until(session, lambda: states)
    status = states[-1].status[0]
    assert 'likely' not in status.message
    values = {pair.key: pair.value for pair in status.values}
    assert values['intensity_scale'] == '0.00392157'
    scores = [detections_from_boxes_cloud(cloud).scores[0] for cloud in boxes]
    assert scores[1] == pytest.approx(scores[0] / 255)


def test_a_judgement_is_kept_until_what_it_is_of_changes(session):
    node = add_node(session, intensity_auto=True)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    points = publisher(session, PointCloud2, '/points')
    points.publish(bright_cloud())
    spin_until(session, lambda: boxes)
    reader = node._setup.readers
    node.set_parameters([Parameter('score_threshold', value=0.1)])
    assert node._setup.readers is reader
    node.set_parameters([Parameter('intensity_scale', value=0.5)])
    assert node._setup.readers is not reader
