# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from recording_bags import SECOND, START, TYPES, RecordingWriter, odometry, transform
from rosbags.rosbag1 import Writer as Writer1
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pointdistiller_core.geometry.poses import TransformTree
from pointdistiller_core.messages.bags import BagMessage, read_messages
from pointdistiller_core.messages.transforms import add_transforms, is_static, parse_odometry


def tf_message(*transforms, topic='/tf'):
    kind = 'tf2_msgs/msg/TFMessage'
    cdr = TYPES.serialize_cdr(TYPES.types[kind](list(transforms)), kind)
    return BagMessage(topic, START, bytes(cdr))


def test_transforms_are_taken_in_with_their_times():
    tree = TransformTree()
    moved = [
        transform('odom', 'base', START, xyz=(1, 0, 0)),
        transform('odom', 'base', START + SECOND, xyz=(3, 0, 0)),
    ]
    assert add_transforms(tree, tf_message(*moved)) == 0
    add_transforms(
        tree, tf_message(transform('base', 'lidar', 5, xyz=(0, 0, 2)), topic='/tf_static')
    )
    np.testing.assert_allclose(tree.lookup('odom', 'lidar', START + SECOND // 2)[:3, 3], [2, 0, 2])


def test_transforms_that_are_none_are_counted():
    tree = TransformTree()
    good, bad, flat = (transform('a', name, START) for name in 'bcd')
    bad.transform.translation.x = math.nan
    flat.transform.rotation.w = 0.0
    assert add_transforms(tree, tf_message(good, bad, flat)) == 2
    assert tree.frames == {'a', 'b'}


def test_static_topics_are_known_by_their_names():
    assert is_static('/tf_static')
    assert is_static('/robot/tf_static')
    assert not is_static('/tf')


def test_odometry_is_parsed(tmp_path):
    with RecordingWriter(tmp_path / 'bag') as writer:
        writer.odometry(START, odometry('/odom', 'base', START + 5, xyz=(1, 2, 3)))
    (message,) = read_messages(tmp_path / 'bag', ['/odom'])
    found = parse_odometry(message)
    assert (found.stamp_ns, found.frame, found.child_frame) == (START + 5, 'odom', 'base')
    assert found.pose.values == (1, 2, 3, 0, 0, 0, 1)


@pytest.mark.parametrize('kind', ['tf/msg/tfMessage', 'tf2_msgs/msg/TFMessage'])
def test_transforms_of_ros_1_are_read_under_both_names(tmp_path, kind):
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    if kind not in store.fielddefs:
        text = 'geometry_msgs/TransformStamped[] transforms\n'
        store.register(get_types_from_msg(text, kind))
    stamp = types['builtin_interfaces/msg/Time'](*divmod(START, SECOND))
    header = types['std_msgs/msg/Header'](0, stamp, 'odom')
    motion = types['geometry_msgs/msg/Transform'](
        types['geometry_msgs/msg/Vector3'](1.0, 2.0, 3.0),
        types['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0),
    )
    moved = types['geometry_msgs/msg/TransformStamped'](header, 'base', motion)
    message = store.types[kind]([moved])
    with Writer1(tmp_path / 'old.bag') as writer:
        connection = writer.add_connection('/tf', kind, typestore=store)
        writer.write(connection, START, store.serialize_ros1(message, kind))
    (found,) = read_messages(tmp_path / 'old.bag', ['/tf'])
    tree = TransformTree()
    assert add_transforms(tree, found) == 0
    np.testing.assert_allclose(tree.lookup('odom', 'base', START)[:3, 3], [1, 2, 3])
