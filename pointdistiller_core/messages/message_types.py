# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Definitions of ROS messages beyond the standard packages, whose definitions rosbags has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import FieldDesc, Typesdict
from rosbags.typesys import TypesysError, get_types_from_msg
from rosbags.typesys.store import Typestore

from pointdistiller_core.errors import DatasetError

AUTOWARE, AUTOWARE_AUTO = 'autoware_perception_msgs', 'autoware_auto_perception_msgs'
LAYOUTS = {
    'vision_msgs/msg/Detection3DArray': 'std_msgs/Header header\nDetection3D[] detections',
    'vision_msgs/msg/Detection3D': (
        'std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox3D bbox\nstring id'
    ),
    'vision_msgs/msg/ObjectHypothesisWithPose': (
        'ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose'
    ),
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score',
    'vision_msgs/msg/BoundingBox3D': 'geometry_msgs/Pose center\ngeometry_msgs/Vector3 size',
    f'{AUTOWARE}/msg/DetectedObjects': 'std_msgs/Header header\nDetectedObject[] objects',
    f'{AUTOWARE}/msg/DetectedObject': (
        'float32 existence_probability\nObjectClassification[] classification\n'
        'DetectedObjectKinematics kinematics\nShape shape'
    ),
    f'{AUTOWARE}/msg/ObjectClassification': 'uint8 label\nfloat32 probability',
    f'{AUTOWARE}/msg/DetectedObjectKinematics': (
        'geometry_msgs/PoseWithCovariance pose_with_covariance\nbool has_position_covariance\n'
        'uint8 orientation_availability\ngeometry_msgs/TwistWithCovariance twist_with_covariance\n'
        'bool has_twist\nbool has_twist_covariance'
    ),
    f'{AUTOWARE}/msg/Shape': (
        'uint8 type\ngeometry_msgs/Polygon footprint\ngeometry_msgs/Vector3 dimensions'
    ),
}
"""Fields of detections, for bags that do not say them; constants left out."""


def find_layout(message_type: str) -> str:
    """The fields of a type of detections, as an .msg file has them.

    Raises:
        DatasetError: it is none of them.
    """
    name = message_type.replace(f'{AUTOWARE_AUTO}/', f'{AUTOWARE}/')  # its layout is the same
    if name not in LAYOUTS:
        raise DatasetError(f'the definition of {message_type} is unknown here and not in the bag')
    return LAYOUTS[name]


def add_types(store: Typestore, message_type: str, find: Callable[[str], str]) -> None:
    """Register a message type and the types of its fields, unless they are known.

    Args:
        store: known types; changed.
        message_type: e.g. `vision_msgs/msg/Detection3DArray`.
        find: the text of a type's .msg file.

    Raises:
        DatasetError: a definition is not found or is not valid.
    """
    if message_type in store.fielddefs:
        return
    text = find(message_type)
    try:
        found = get_types_from_msg(text, message_type)
        store.register(found)
    except TypesysError as error:
        raise DatasetError(f'the definition of {message_type} is not readable: {error}') from error
    for name in _names_in(found):
        add_types(store, name, find)


def _names_in(types: Typesdict) -> Iterator[str]:
    """Message types of the fields of some types."""
    for _, fields in types.values():
        for _, description in fields:
            yield from _names_of(description)


def _names_of(description: FieldDesc) -> Iterator[str]:
    if description[0] is Nodetype.NAME:
        yield description[1]
    elif description[0] is Nodetype.ARRAY or description[0] is Nodetype.SEQUENCE:
        yield from _names_of(description[1][0])
