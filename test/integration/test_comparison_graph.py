# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison node among other nodes: quality of service, slow and dead neighbors, time."""

from __future__ import annotations

from functools import partial

import pytest
from ros_graph import FakeDetector, build_cloud, listen, message_at, publisher, spin_until, stamps

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.errors import ConfigError
from pointdistiller_ros import comparison_outputs as outputs
from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.comparison_outputs import ANSWER, OUTPUTS

RELIABLE = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
BUILDERS = {  # what makes the message of each output
    'teacher/boxes': 'to_boxes_cloud',
    'markers': 'to_agreement_markers',
    'agreement': 'to_agreement',
    ANSWER: 'to_boxes_cloud',
}


def add_node(session, **parameters):
    build = partial(ComparisonNode, lambda *_, **__: FakeDetector())
    return session.add(build, teacher='big', student='small', **parameters)


@pytest.mark.parametrize('given', [RELIABLE, BEST_EFFORT])
@pytest.mark.parametrize('taken', [RELIABLE, BEST_EFFORT])
def test_any_driver_and_any_display_by_default(session, given, taken):
    add_node(session)
    received = {
        name: listen(session, kind, f'/comparison/{name}', taken) for name, kind in OUTPUTS.items()
    }
    clouds = publisher(session, PointCloud2, '/points', given)
    # The first may come before the node knows who listens.
    spin_until(session, lambda: clouds.publish(build_cloud()) or all(received.values()))


def test_reliable_subscription_takes_no_best_effort_clouds(session):
    node = add_node(session, reliability='reliable')
    boxes = listen(session, PointCloud2, f'/comparison/{ANSWER}')
    unheard = session.add(partial(Node, 'driver')).create_publisher(
        PointCloud2, '/points', BEST_EFFORT
    )
    clouds = publisher(session, PointCloud2, '/points', RELIABLE)
    assert unheard.get_subscription_count() == 0
    unheard.publish(build_cloud(0))
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: boxes)
    assert (stamps(boxes), node.counts['received']) == ([2], 1)


@pytest.mark.parametrize('output', [*OUTPUTS, 'diagnostics'])
def test_quality_of_service_of_every_output_may_change(session, output):
    topic = '/diagnostics' if output == 'diagnostics' else f'/comparison/{output}'
    node = add_node(session, **{f'qos_overrides.{topic}.publisher.reliability': 'best_effort'})
    (found,) = node.get_publishers_info_by_topic(topic)
    assert found.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize('topic', ['points', 'ground_truth'])
def test_quality_of_service_of_every_input_may_change(session, topic):
    parameters = {
        'ground_truth_type': 'boxes',
        f'qos_overrides./{topic}.subscription.reliability': 'reliable',
        f'qos_overrides./{topic}.subscription.depth': 2,
    }
    node = add_node(session, **parameters)
    (found,) = node.get_subscriptions_info_by_topic(f'/{topic}')
    assert found.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    assert node.get_parameter(f'qos_overrides./{topic}.subscription.depth').value == 2


@pytest.mark.parametrize('name', ['/points.subscription', '/ground_truth.subscription'])
def test_quality_of_service_that_does_not_exist(session, name):
    topic = name.split('.')[0]
    parameters = {'ground_truth_type': 'boxes', f'qos_overrides.{name}.reliability': 'maybe'}
    with pytest.raises(ConfigError, match=rf'qos_overrides\.{topic}'):
        add_node(session, **parameters)


def test_slow_consumer_holds_nothing_up(session):
    node = add_node(session)
    asleep = Node('asleep', context=node.context)  # never spun
    received = []
    for output, kind in OUTPUTS.items():
        asleep.create_subscription(kind, f'/comparison/{output}', received.append, RELIABLE)
    boxes = listen(session, PointCloud2, f'/comparison/{ANSWER}')
    spin_until(session, lambda: all(map(node.count_subscribers, node.output_topics)))
    clouds = publisher(session, PointCloud2, '/points')
    for index in range(50):
        clouds.publish(build_cloud(index, num_points=1))
        spin_until(session, lambda index=index: len(boxes) == index + 1)
    assert not received
    assert node.counts['compared'] == 50
    asleep.destroy_node()


@pytest.mark.parametrize('wanted', [None, *OUTPUTS])
def test_what_nobody_subscribes_to_is_not_built(session, monkeypatch, wanted):
    built = []

    def count(name, build):
        def counted(*arguments):
            built.append(name)
            return build(*arguments)

        return counted

    for name in set(BUILDERS.values()):
        monkeypatch.setattr(outputs, name, count(name, getattr(outputs, name)))
    node = add_node(session)
    received = listen(session, OUTPUTS[wanted], f'/comparison/{wanted}') if wanted else [None]
    clouds = publisher(session, PointCloud2, '/points')
    for index in range(100):  # until the node knows that somebody listens
        built.clear()
        clouds.publish(build_cloud(index))
        spin_until(
            session,
            lambda index=index: node.counts['compared'] == index + 1 and node.wait_until_idle(0.0),
        )
        if received:
            break
    expected = {wanted, ANSWER} - {None}  # the answer is always sent
    assert sorted(built) == sorted(BUILDERS[name] for name in expected)


def test_driver_that_dies_and_comes_back(session):
    limits = {'diagnostics.warn.stale_after_s': 0.2, 'diagnostics.error.stale_after_s': 0.4}
    node = add_node(session, **limits)
    boxes = listen(session, PointCloud2, f'/comparison/{ANSWER}')
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
        spin_until(
            session, lambda: states and states[-1].status[0].level == DiagnosticStatus.ERROR
        )
        assert states[-1].status[0].message.startswith('no cloud for ')
    assert node.counts['compared'] == 2


def test_silence_is_measured_in_simulated_time(session):
    node = add_node(session, use_sim_time=True)
    clock = publisher(session, Clock, '/clock')
    states = listen(session, DiagnosticArray, '/diagnostics')
    clouds = publisher(session, PointCloud2, '/points')

    message = partial(message_at, session, node, clock, states)
    assert message(100) == 'no cloud so far'
    clouds.publish(build_cloud())
    spin_until(session, lambda: node.counts['compared'] == 1)
    assert message(100) == 'comparing'
    assert message(107) == 'no cloud for 7.0 s'
    assert message(50) == 'comparing'  # the bag began again
    assert message(52) == 'no cloud for 2.0 s'
