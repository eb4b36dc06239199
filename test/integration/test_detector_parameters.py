# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the detector node that change while it runs."""

from __future__ import annotations

from functools import partial
import json
import re
from threading import Event

import numpy as np
import pytest
from ros_graph import (
    TIMEOUT_S,
    FakeDetector,
    build_cloud,
    listen,
    publisher,
    service,
    spin_until,
    stamps,
)

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from geometry_msgs.msg import TransformStamped
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_ros import transforms
from pointdistiller_ros.detector_node import DetectorNode
from pointdistiller_ros.parameters import DetectorParameters, to_detection_config
from pointdistiller_ros.spinning import Session

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
OWN = DetectionConfig(score_threshold=0.2, nms_iou_threshold=0.05, max_detections=50)


class Shelf:
    """Bundles by name; one that is not there is refused, `slow` takes until it is told."""

    def __init__(self):
        self.detectors = {
            'first': FakeDetector(),
            'second': FakeDetector(),
            'slow': FakeDetector(),
            'traffic': FakeDetector(),
        }
        people = PointPillarsConfig(class_names=('Pedestrian', 'Cyclist'))
        self.detectors['second'].info = BundleInfo(model=people)
        self.detectors['second'].class_names = people.class_names
        anchors = PointPillarsConfig().head.anchors['Car']
        head = {'anchors': dict.fromkeys(('Bus', 'Truck', 'Van'), anchors)}
        traffic = PointPillarsConfig(class_names=('Bus', 'Truck', 'Van'), head=head)
        self.detectors['traffic'].info = BundleInfo(model=traffic)
        self.detectors['traffic'].class_names = traffic.class_names
        self.asked, self.proceed = Event(), Event()

    def __call__(self, parameters):
        if parameters.bundle not in self.detectors:
            raise CheckpointError(f'{parameters.bundle}: no such folder')
        if parameters.bundle == 'slow':
            self.asked.set()
            assert self.proceed.wait(TIMEOUT_S)
        return self.detectors[parameters.bundle]


@pytest.fixture
def shelf():
    return Shelf()


def add_node(session, shelf=None, **parameters):
    build = partial(DetectorNode, shelf or Shelf())
    return session.add(build, **{'bundle': 'first'} | parameters)


def change(node, **values):
    parameters = [Parameter(name, value=value) for name, value in values.items()]
    return node.set_parameters_atomically(parameters)


def value(node, name):
    return node.get_parameter(name).value


def is_deletion(message):
    return [marker.action for marker in message.markers] == [Marker.DELETEALL]


@pytest.mark.parametrize(
    ('parameters', 'class_thresholds', 'expected'),
    [
        ({}, (-1, -1), OWN),
        ({'score_threshold': 0.4}, (-1, -1), {'score_threshold': 0.4}),
        ({'score_threshold': 0.0}, (-1, -1), {'score_threshold': 0.0}),
        ({}, (0.3, 0.3), {'score_threshold': 0.3}),
        ({}, (0.3, -1), {'score_threshold': 0.2, 'score_thresholds': (0.3, 0.2)}),
        (
            {'score_threshold': 0.6},
            (-1, 0.0),
            {'score_threshold': 0.0, 'score_thresholds': (0.6, 0.0)},
        ),
        ({'nms_iou_threshold': 0.0}, (-1, -1), {'nms_iou_threshold': 0.0}),
        ({'max_detections': 7}, (-1, -1), {'max_detections': 7}),
    ],
)
def test_thresholds_that_are_asked_for(parameters, class_thresholds, expected):
    found = to_detection_config(OWN, DetectorParameters(**parameters), class_thresholds)
    assert found == (OWN.model_copy(update=expected) if isinstance(expected, dict) else expected)


def test_a_bundle_keeps_its_own_thresholds_of_classes():
    own = OWN.model_copy(update={'score_thresholds': (0.5, 0.1)})
    found = to_detection_config(own, DetectorParameters(), (-1, 0.3))
    assert found.score_thresholds == (0.5, 0.3)
    found = to_detection_config(own, DetectorParameters(score_threshold=0.2), (-1, -1))
    assert (found.score_threshold, found.score_thresholds) == (0.2, ())


def test_thresholds_of_classes_are_known_with_the_bundle(session):
    node = add_node(session, autostart=False, **{'score_thresholds.Car': 0.3})
    assert not node.has_parameter('score_thresholds.Car')
    node.trigger_configure()
    assert value(node, 'score_thresholds.Car') == 0.3
    assert value(node, 'score_thresholds.Cyclist') == -1.0
    assert 'of this class' in node.describe_parameter('score_thresholds.Car').description


def test_threshold_of_a_class_out_of_range(session):
    with pytest.raises(ConfigError, match=r'parameter score_thresholds\.Car .*1\.5'):
        add_node(session, **{'score_thresholds.Car': 1.5})


@pytest.mark.parametrize('name', ['score_threshold', 'nms_iou_threshold', 'score_thresholds.Car'])
def test_of_negative_thresholds_only_minus_one_means_something(session, name):
    named = f'parameter {name} is -0.5; give one from 0 to 1, or -1 for the usual'
    with pytest.raises(ConfigError, match=named):
        add_node(session, **{name: -0.5})
    node = add_node(session)
    answer = change(node, **{name: -0.5})
    assert not answer.successful
    assert named in answer.reason
    assert value(node, name) == -1.0
    assert change(node, **{name: 0.5}).successful
    assert change(node, **{name: -1.0}).successful


def test_changes_are_made_together_or_not_at_all(session, shelf):
    node = add_node(session, shelf)
    both = {'bundle': 'absent', 'score_threshold': 0.9}
    answer = change(node, **both)
    assert not answer.successful
    assert answer.reason == 'absent: no such folder'
    assert (value(node, 'bundle'), value(node, 'score_threshold')) == ('first', -1.0)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(0, score=0.5))
    spin_until(session, lambda: boxes)
    assert boxes[0].width == 1  # with the old bundle and the old threshold
    assert change(node, **both | {'bundle': 'second'}).successful
    clouds.publish(build_cloud(1, score=0.5))
    spin_until(session, lambda: len(boxes) == 2)
    assert boxes[1].width == 0
    assert [len(shelf.detectors[name].asked_importance) for name in ('first', 'second')] == [1, 1]


def test_changes_through_the_services(session):
    add_node(session)
    values = [Parameter('max_detections', value=value) for value in (-1, 3)]
    call = service(session, SetParameters, '/detector/set_parameters')
    messages = [parameter.to_parameter_msg() for parameter in values]
    answers = call(SetParameters.Request(parameters=messages)).results
    assert [answer.successful for answer in answers] == [False, True]
    call = service(session, SetParametersAtomically, '/detector/set_parameters_atomically')
    answer = call(SetParametersAtomically.Request(parameters=messages)).result
    assert not answer.successful
    assert 'max_detections' in answer.reason


def test_no_cloud_is_lost_while_another_bundle_is_loaded(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path))
    with Session(num_threads=3) as session:
        node = add_node(session, shelf)
        boxes = listen(session, PointCloud2, '/detector/boxes')
        clouds = publisher(session, PointCloud2, '/points')
        request = SetParameters.Request(
            parameters=[Parameter('bundle', value='slow').to_parameter_msg()]
        )
        client = node.create_client(SetParameters, '/detector/set_parameters')
        spin_until(session, client.service_is_ready)
        future = client.call_async(request)
        spin_until(session, shelf.asked.is_set)
        for index in range(5):
            clouds.publish(build_cloud(index))
            spin_until(session, lambda index=index: len(boxes) == index + 1)
        assert not future.done()
        shelf.proceed.set()
        spin_until(session, future.done)
        assert future.result().results[0].successful
        clouds.publish(build_cloud(5))
        spin_until(session, lambda: len(boxes) == 6)
    assert stamps(boxes) == [1, 2, 3, 4, 5, 6]
    detectors = shelf.detectors
    assert [len(detectors[name].asked_importance) for name in ('first', 'slow')] == [5, 1]


def test_another_bundle_brings_its_classes(session, shelf):
    node = add_node(session, shelf, **{'score_thresholds.Car': 0.5})
    about = listen(session, String, '/detector/model_info', LATCHED)
    spin_until(session, lambda: about)
    assert change(node, bundle='second').successful
    spin_until(session, lambda: len(about) == 2)
    known = [json.loads(message.data)['class_names'] for message in about]
    assert known == [['Car', 'Pedestrian', 'Cyclist'], ['Pedestrian', 'Cyclist']]
    assert not node.has_parameter('score_thresholds.Car')
    assert node.has_parameter('score_thresholds.Cyclist')
    assert change(node, bundle='first').successful
    assert value(node, 'score_thresholds.Car') == 0.5  # as it was given at the start


def all_parameters(node):
    """Name, value and descriptor of every parameter."""
    names = node.get_parameters_by_prefix('')
    return {name: (value(node, name), node.describe_parameter(name)) for name in names}


def test_bundle_whose_thresholds_are_wrong_changes_nothing(session, shelf):
    node = add_node(session, shelf, **{'score_thresholds.Truck': 7.0})
    before = all_parameters(node)
    answer = change(node, bundle='traffic')
    assert not answer.successful
    assert 'score_thresholds.Truck' in answer.reason
    assert all_parameters(node) == before  # not even those of Bus, which comes before Truck
    assert change(node, **{'score_thresholds.Car': 0.25}).successful
    assert value(node, 'score_thresholds.Car') == 0.25


def test_request_that_tf_is_missing_for_changes_nothing(session, shelf, monkeypatch):
    monkeypatch.setattr(transforms, 'Buffer', None)  # as where tf2_ros is not installed
    node = add_node(session, shelf)
    before = all_parameters(node)
    answer = change(node, **{'bundle': 'second', 'mounting.frame': 'base_footprint'})
    assert not answer.successful
    assert 'tf2_ros' in answer.reason
    assert all_parameters(node) == before


def test_threshold_of_a_class_that_the_new_bundle_does_not_have(session, shelf):
    node = add_node(session, shelf)
    before = all_parameters(node)
    answer = change(node, **{'bundle': 'second', 'score_thresholds.Car': 0.5})
    assert not answer.successful
    assert re.search(r"score_thresholds\.Car.*has \['Pedestrian', 'Cyclist'\]", answer.reason)
    assert all_parameters(node) == before
    both = {'bundle': 'second', 'score_thresholds.Cyclist': 0.5}
    assert change(node, **both).successful
    with pytest.raises(ParameterNotDeclaredException):
        change(node, **{'bundle': 'first', 'score_thresholds.Car': 0.5})  # rclpy's own answer
    assert change(node, bundle='first').successful
    assert value(node, 'score_thresholds.Cyclist') == 0.5
    assert not change(node, **{'score_thresholds.Car': 7.0}).successful
    assert {name for name in all_parameters(node) if name.startswith('score_thresholds.')} == {
        f'score_thresholds.{name}' for name in ('Car', 'Pedestrian', 'Cyclist')
    }


def test_bundle_with_other_classes_altogether(session, shelf):
    node = add_node(session, shelf, **{'score_thresholds.Truck': 0.75})
    assert change(node, bundle='traffic').successful
    names = {name for name in ('Bus', 'Truck', 'Van', 'Car', 'Cyclist')}
    known = {name for name in names if node.has_parameter(f'score_thresholds.{name}')}
    assert known == {'Bus', 'Truck', 'Van'}
    assert value(node, 'score_thresholds.Truck') == 0.75


def test_only_what_a_detector_is_made_of_loads_it_again(session):
    loads = []
    build = partial(DetectorNode, lambda parameters: loads.append(parameters) or FakeDetector())
    node = session.add(build, bundle='first')
    assert change(node, score_threshold=0.5).successful
    assert len(loads) == 1
    assert change(node, backend='onnx', num_threads=2).successful
    assert (loads[1].backend, loads[1].num_threads) == ('onnx', 2)


def test_outputs_that_are_turned_off_are_not_built(session):
    shelf = Shelf()
    node = add_node(session, shelf, **{'outputs.importance': False})
    boxes = listen(session, PointCloud2, '/detector/boxes')
    markers = listen(session, MarkerArray, '/detector/markers')
    importance = listen(session, PointCloud2, '/detector/importance')
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(0))
    spin_until(session, lambda: boxes and markers)
    assert change(node, **{'outputs.importance': True, 'outputs.markers': False}).successful
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: len(boxes) == 2 and importance)
    assert shelf.detectors['first'].asked_importance == [False, 'own']
    spin_until(session, lambda: len(markers) == 2)
    assert is_deletion(markers[1])  # what was displayed is not of this cloud
    assert stamps(importance) == [2]


def test_markers_that_are_turned_off_are_deleted_once(session, shelf):
    node = add_node(session, shelf)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    kinds = ('markers', 'importance_markers')
    shown = {kind: listen(session, MarkerArray, f'/detector/{kind}') for kind in kinds}
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(0))
    spin_until(session, lambda: boxes and all(shown.values()))
    for index, kind in enumerate(kinds):
        assert change(node, **{f'outputs.{kind}': False}).successful
        spin_until(session, lambda kind=kind: len(shown[kind]) == 2)  # without a further cloud
        assert is_deletion(shown[kind][1])
        assert [len(shown[other]) for other in kinds] == [2, 1 + index]
    assert change(node, **{'outputs.markers': False, 'score_threshold': 0.5}).successful
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: len(boxes) == 2)
    assert change(node, **{'outputs.markers': True}).successful
    clouds.publish(build_cloud(2))
    spin_until(session, lambda: len(shown['markers']) == 3)
    assert [marker.action for marker in shown['markers'][2].markers] == [
        Marker.DELETEALL,
        Marker.ADD,
        Marker.ADD,
    ]
    assert len(shown['importance_markers']) == 2


def test_markers_of_the_cloud_in_work_do_not_outlive_their_deletion(session, shelf):
    detector = shelf.detectors['first'] = FakeDetector(delay_s=0.4)
    node = add_node(session, shelf)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    markers = listen(session, MarkerArray, '/detector/markers')
    publisher(session, PointCloud2, '/points').publish(build_cloud())
    spin_until(session, lambda: detector.asked_importance)
    assert change(node, **{'outputs.markers': False}).successful
    spin_until(session, lambda: boxes and markers)  # boxes are sent after all others
    assert [is_deletion(message) for message in markers] == [True]


def test_mounting(session, shelf):
    shelf.detectors['first'].info = BundleInfo(model=PointPillarsConfig(), sensor_height=1.5)
    node = add_node(session, shelf)
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    for index, values in enumerate(({}, {'mounting.height': 2.0}, {'mounting.height': 0.0})):
        assert change(node, **{'mounting.roll': 0.0} | values).successful
        clouds.publish(build_cloud(index))
        spin_until(session, lambda index=index: len(boxes) == index + 1)
    before, higher, after = shelf.detectors['first'].mountings
    assert before is None
    assert after is None
    expected = np.eye(4)
    expected[2, 3] = 0.5
    np.testing.assert_allclose(higher.training_from_sensor, expected)


def test_frame_of_tf_without_tf(session):
    if transforms.Buffer is not None:
        pytest.skip('tf2_ros is installed')
    with pytest.raises(ConfigError, match=r'parameter mounting\.frame needs tf2_ros'):
        add_node(session, **{'mounting.frame': 'base_footprint'})
    node = add_node(session)
    answer = change(node, **{'mounting.frame': 'base_footprint'})
    assert not answer.successful
    assert 'tf2_ros' in answer.reason


def test_mounting_by_tf(session, shelf):
    tf2_ros = pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    shelf.detectors['first'].info = BundleInfo(model=PointPillarsConfig(), sensor_height=1.5)
    node = add_node(session, shelf, **{'mounting.frame': 'base_footprint'})
    boxes = listen(session, PointCloud2, '/detector/boxes')
    clouds = publisher(session, PointCloud2, '/points')
    clouds.publish(build_cloud(1))
    spin_until(session, lambda: node.counts.failed == 1)  # nobody knows where the sensor is
    sent = TransformStamped(child_frame_id=build_cloud(2).header.frame_id)
    sent.header.frame_id = 'base_footprint'
    sent.transform.translation.z = 2.0
    broadcaster = tf2_ros.StaticTransformBroadcaster(session.add(partial(Node, 'sender')))
    broadcaster.sendTransform(sent)

    def answered():
        clouds.publish(build_cloud(2))
        return boxes

    spin_until(session, answered)
    expected = np.eye(4)
    expected[2, 3] = 0.5
    np.testing.assert_allclose(
        shelf.detectors['first'].mountings[0].training_from_sensor, expected
    )


def test_tf_is_listened_to_while_a_frame_is_given(session, shelf):
    pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    node = add_node(session, shelf)
    for frame, listeners in (('base', 1), ('map', 1), ('', 0), ('base', 1)):
        assert change(node, **{'mounting.frame': frame}).successful
        topics = [subscription.topic_name for subscription in node.subscriptions]
        assert [topics.count(topic) for topic in ('/tf', '/tf_static')] == [listeners] * 2
