# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Transitions of the detector node, asked for through its lifecycle services."""

from __future__ import annotations

from functools import partial
import gc
import weakref

import pytest
from ros_graph import FakeDetector, build_cloud, listen, publisher, service, spin_until, stamps

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.errors import CheckpointError
from pointdistiller_ros.detector_node import DetectorNode

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
ROADS_TO_SHUTDOWN = {
    'unconfigured': [Transition.TRANSITION_UNCONFIGURED_SHUTDOWN],
    'inactive': [CONFIGURE, Transition.TRANSITION_INACTIVE_SHUTDOWN],
    'active': [CONFIGURE, ACTIVATE, Transition.TRANSITION_ACTIVE_SHUTDOWN],
}


class Garage:
    """Makes detectors, and remembers them."""

    def __init__(self, delay_s=0.0):
        self.delay_s = delay_s
        self.detectors = []

    def __call__(self, parameters):
        if parameters.bundle == 'broken':
            raise CheckpointError('broken: no such folder')
        self.detectors.append(FakeDetector(self.delay_s))
        return self.detectors[-1]


@pytest.fixture
def garage():
    return Garage()


class Manager:
    """Asks the node for transitions."""

    def __init__(self, session):
        self.change_state = service(session, ChangeState, '/detector/change_state')
        self.get_state = service(session, GetState, '/detector/get_state')

    def change(self, *transitions):
        """Whether all of them were made."""
        return all(
            self.change_state(ChangeState.Request(transition=Transition(id=transition))).success
            for transition in transitions
        )

    @property
    def state(self):
        return self.get_state(GetState.Request()).current_state.label


def add_node(session, garage, bundle='fake', autostart=False):
    node = session.add(partial(DetectorNode, garage), bundle=bundle, autostart=autostart)
    return node, Manager(session)


def test_a_manager_takes_the_node_through_its_life(session, garage):
    node, manager = add_node(session, garage)
    assert (manager.state, garage.detectors, node.output_topics) == ('unconfigured', [], [])
    assert manager.change(CONFIGURE)
    assert (manager.state, len(garage.detectors)) == ('inactive', 1)
    assert node.count_subscribers('/points') == 0
    assert manager.change(ACTIVATE)
    assert manager.state == 'active'
    boxes = listen(session, PointCloud2, '/detector/boxes')
    publisher(session, PointCloud2, '/points').publish(build_cloud())
    spin_until(session, lambda: boxes)
    assert manager.change(DEACTIVATE)
    assert manager.state == 'inactive'
    spin_until(session, lambda: node.count_subscribers('/points') == 0)
    assert not garage.detectors[0].closed
    assert manager.change(CLEANUP)
    assert manager.state == 'unconfigured'
    assert garage.detectors[0].closed
    spin_until(session, lambda: node.count_publishers('/detector/boxes') == 0)


def test_autostart_activates(session, garage):
    _, manager = add_node(session, garage, autostart=True)
    assert manager.state == 'active'
    assert manager.change(DEACTIVATE)  # and a manager may take over
    assert manager.state == 'inactive'


def test_every_life_has_its_own_detector_and_the_same_topics(session, garage):
    node, manager = add_node(session, garage)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    sender = session.add(partial(Node, 'sender'))
    clouds = sender.create_publisher(PointCloud2, '/points', 10)

    def answered(life):
        clouds.publish(build_cloud(life))
        return life + 1 in stamps(boxes)

    for life in range(3):
        assert manager.change(CONFIGURE, ACTIVATE)
        spin_until(session, partial(answered, life))
        assert manager.change(DEACTIVATE, CLEANUP)
    assert [detector.closed for detector in garage.detectors] == [True] * 3
    counts = node.counts
    assert counts.received == counts.results + counts.dropped


def test_cleanup_frees_the_detector(session):
    alive = []

    def load(_):
        detector = FakeDetector()
        alive.append(weakref.ref(detector))
        return detector

    _, manager = add_node(session, load)
    assert manager.change(CONFIGURE, ACTIVATE)
    assert alive[0]() is not None
    assert manager.change(DEACTIVATE, CLEANUP)
    gc.collect()
    assert alive[0]() is None


def test_pause_keeps_the_bundle(session, garage):
    _, manager = add_node(session, garage)
    assert manager.change(CONFIGURE, ACTIVATE, *[DEACTIVATE, ACTIVATE] * 3)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    publisher(session, PointCloud2, '/points').publish(build_cloud())
    spin_until(session, lambda: boxes)
    assert len(garage.detectors) == 1


def test_cloud_in_work_is_finished_before_the_node_is_inactive(session):
    garage = Garage(delay_s=0.4)
    node, manager = add_node(session, garage)
    assert manager.change(CONFIGURE, ACTIVATE)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(0))
    spin_until(session, lambda: garage.detectors[0].asked_importance)
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: node.counts.received == 2)
    assert manager.change(DEACTIVATE, CLEANUP)
    counts = node.counts
    assert (counts.results, counts.failed, counts.dropped) == (1, 0, 1)
    spin_until(session, lambda: boxes)
    assert stamps(boxes) == [1]


def test_markers_are_deleted_when_the_node_is_deactivated(session, garage):
    _, manager = add_node(session, garage, autostart=True)
    markers = listen(session, MarkerArray, '/detector/markers')
    publisher(session, PointCloud2, '/points').publish(build_cloud())
    spin_until(session, lambda: markers)
    assert manager.change(DEACTIVATE)
    spin_until(session, lambda: len(markers) == 2)
    assert [marker.action for marker in markers[1].markers] == [Marker.DELETEALL]


@pytest.mark.parametrize('before', ROADS_TO_SHUTDOWN)
def test_shutdown_from_any_state_frees_everything(session, garage, before):
    node, manager = add_node(session, garage)
    assert manager.change(*ROADS_TO_SHUTDOWN[before])
    assert manager.state == 'finalized'
    assert all(detector.closed for detector in garage.detectors)
    spin_until(session, lambda: node.count_subscribers('/points') == 0)


def test_bundle_that_cannot_be_loaded_leaves_the_node_unconfigured(session, garage):
    node, manager = add_node(session, garage, bundle='broken')
    assert not manager.change(CONFIGURE)
    assert manager.state == 'unconfigured'
    (answer,) = node.set_parameters([Parameter('bundle', value='fake')])
    assert answer.successful
    assert manager.change(CONFIGURE)
    assert manager.state == 'inactive'


def test_manager_is_told_why_also_after_autostart(session, garage, capfd):
    node, manager = add_node(session, garage, autostart=True)
    assert manager.change(DEACTIVATE, CLEANUP)
    node.set_parameters([Parameter('bundle', value='broken')])
    assert not manager.change(CONFIGURE)
    assert capfd.readouterr().err.count('transition failed: broken: no such folder') == 1


def test_diagnostics_name_the_state(session, garage):
    wrong = {'qos_overrides./points.subscription.reliability': 'maybe'}
    node = session.add(partial(DetectorNode, garage), bundle='broken', autostart=False, **wrong)
    manager = Manager(session)
    states = listen(session, DiagnosticArray, '/diagnostics')

    def state():
        states.clear()
        spin_until(session, lambda: states)
        (status,) = states[0].status
        return status.level, status.message

    assert state() == (DiagnosticStatus.OK, 'unconfigured')
    assert not manager.change(CONFIGURE)
    failed = (DiagnosticStatus.ERROR, 'transition failed: broken: no such folder')
    assert state() == failed
    node.set_parameters([Parameter('bundle', value='fake')])
    assert manager.change(CONFIGURE)
    assert state() == (DiagnosticStatus.OK, 'inactive')
    assert not manager.change(ACTIVATE)
    assert state()[0] == DiagnosticStatus.ERROR
    assert manager.change(CLEANUP)
    assert state() == (DiagnosticStatus.OK, 'unconfigured')
    node.set_parameters([Parameter('bundle', value='broken')])
    assert not manager.change(CONFIGURE)
    assert state() == failed
    assert manager.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state() == (DiagnosticStatus.OK, 'finalized')


def test_publishers_of_a_transition_that_fails_are_ended(session, garage):
    wrong = {'qos_overrides./detector/importance_markers.publisher.reliability': 'maybe'}
    node = session.add(partial(DetectorNode, garage), bundle='fake', autostart=False, **wrong)
    before = list(node.publishers)
    assert not Manager(session).change(CONFIGURE)
    assert list(node.publishers) == before


def test_transition_that_does_not_exist_changes_nothing(session, garage):
    _, manager = add_node(session, garage)
    assert not manager.change(DEACTIVATE)
    assert manager.state == 'unconfigured'
    assert manager.change(CONFIGURE)
    assert not manager.change(CONFIGURE)
    assert manager.state == 'inactive'
