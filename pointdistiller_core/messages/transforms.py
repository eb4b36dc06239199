# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Poses in ROS messages: TF and odometry."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from pointdistiller_core.geometry.poses import NANOSECONDS, Pose, TransformTree
from pointdistiller_core.messages.bags import RENAMED_TYPES, BagMessage

TF_TYPE = 'tf2_msgs/msg/TFMessage'
TF_TYPES = frozenset({TF_TYPE, *(old for old, new in RENAMED_TYPES.items() if new == TF_TYPE)})
ODOMETRY_TYPE = 'nav_msgs/msg/Odometry'


class Odometry(NamedTuple):
    """Pose of a vehicle.

    Attributes:
        stamp_ns: when [ns].
        frame: the fixed frame.
        child_frame: the moving frame.
        pose: `frame_from_child_frame`.
    """

    stamp_ns: int
    frame: str
    child_frame: str
    pose: Pose


def is_static(topic: str) -> bool:
    """Whether transforms on a TF topic always hold."""
    return topic.rstrip('/').endswith('tf_static')


def add_transforms(tree: TransformTree, message: BagMessage) -> int:
    """Add the transforms of a TF message.

    Returns:
        Number of its invalid transforms: not finite, or without a rotation.

    Raises:
        Exception: it is not of this type; any error of the parser.
    """
    static, num_broken = is_static(message.topic), 0
    for item in _parse(message.cdr, TF_TYPE).transforms:
        try:
            turn, shift = item.transform.rotation, item.transform.translation
            pose = _pose(shift, turn)
        except ValueError:
            num_broken += 1
            continue
        time_ns = None if static else _nanoseconds(item.header.stamp)
        tree.add(item.header.frame_id, item.child_frame_id, pose, time_ns)
    return num_broken


def format_transform(parent: str, child: str, stamp_ns: int, pose: Pose) -> bytes:
    """A message of TF with `parent_from_child`, as ROS 2 sends it."""
    types = _types().types
    x, y, z, *turn = pose.values
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, NANOSECONDS))
    moved = types['geometry_msgs/msg/TransformStamped'](
        header=types['std_msgs/msg/Header'](stamp, parent),
        child_frame_id=child,
        transform=types['geometry_msgs/msg/Transform'](
            translation=types['geometry_msgs/msg/Vector3'](x, y, z),
            rotation=types['geometry_msgs/msg/Quaternion'](*turn),
        ),
    )
    return bytes(_types().serialize_cdr(types[TF_TYPE]([moved]), TF_TYPE))


def parse_odometry(message: BagMessage) -> Odometry:
    """A message of odometry; see `odometry_of_cdr`."""
    return odometry_of_cdr(message.cdr)


def odometry_of_cdr(cdr: bytes) -> Odometry:
    """A serialized message of odometry.

    Raises:
        ValueError: its pose is not valid.
        Exception: it is not of this type; any error of the parser.
    """
    found = _parse(cdr, ODOMETRY_TYPE)
    return Odometry(
        _nanoseconds(found.header.stamp),
        found.header.frame_id.lstrip('/'),
        found.child_frame_id.lstrip('/'),
        _pose(found.pose.pose.position, found.pose.pose.orientation),
    )


def _pose(position: Any, turn: Any) -> Pose:
    return Pose.from_values((position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w))


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec * NANOSECONDS + stamp.nanosec)


def _parse(cdr: bytes, message_type: str) -> Any:
    return _types().deserialize_cdr(cdr, message_type)


@cache
def _types() -> Typestore:
    return get_typestore(Stores.LATEST)
