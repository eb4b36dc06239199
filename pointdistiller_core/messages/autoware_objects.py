# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detections as Autoware's trackers take them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from pointdistiller_core.messages.detections import AUTOWARE_CLASSES
from pointdistiller_core.messages.message_types import AUTOWARE, add_types, find_layout
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.records import Detections

OBJECTS_TYPE = f'{AUTOWARE}/msg/DetectedObjects'
OTHER_NAMES = {'CYCLIST': 'BICYCLE', 'VAN': 'CAR', 'PERSON': 'PEDESTRIAN'}
BOX, AVAILABLE = 0, 2  # type of a shape; its orientation is known, front from rear


def to_autoware_label(name: str) -> int:
    """Number of a class in `ObjectClassification`; 0, unknown, for a class that is not there."""
    upper = name.upper()
    known = OTHER_NAMES.get(upper, upper)
    return AUTOWARE_CLASSES.index(known) if known in AUTOWARE_CLASSES else 0


def format_detected_objects(
    found: Detections, stamp_ns: int, frame_id: str, class_names: Sequence[str]
) -> bytes:
    """A serialized `autoware_perception_msgs/DetectedObjects`.

    Args:
        found: in the frame of the message; velocities that are known become twists.
        stamp_ns: of the cloud [ns].
        frame_id: its frame.
        class_names: names that the labels index.
    """
    types = _types().types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, NANOSECONDS))
    header = types['std_msgs/msg/Header'](stamp, frame_id)
    labels = [to_autoware_label(name) for name in class_names]
    turns = found.orientations
    if turns is None:
        half = found.boxes[:, 6].astype(float) / 2
        zeros = np.zeros_like(half)
        turns = np.stack([zeros, zeros, np.sin(half), np.cos(half)], axis=1)
    unknown = np.full((len(found), 2), np.nan)
    velocities = unknown if found.velocities is None else found.velocities.astype(float)
    objects = [
        _object(
            types,
            box.tolist(),
            turn=turn.tolist(),
            score=float(score),
            label=labels[label],
            velocity=velocity,
        )
        for box, turn, score, label, velocity in zip(
            found.boxes, turns, found.scores, found.labels, velocities, strict=True
        )
    ]
    message = types[OBJECTS_TYPE](header, objects)
    return bytes(_types().serialize_cdr(message, OBJECTS_TYPE))


def _object(
    types: Any,
    box: Sequence[float],
    *,
    turn: Sequence[float],
    score: float,
    label: int,
    velocity: Any,
) -> Any:
    vector, unknown = types['geometry_msgs/msg/Vector3'], np.zeros(36)
    pose = types['geometry_msgs/msg/Pose'](
        types['geometry_msgs/msg/Point'](*box[:3]), types['geometry_msgs/msg/Quaternion'](*turn)
    )
    moves = bool(np.isfinite(velocity).all())
    cos, sin = np.cos(box[6]), np.sin(box[6])
    vx, vy = velocity if moves else (0.0, 0.0)
    along = vector(float(cos * vx + sin * vy), float(cos * vy - sin * vx), 0.0)
    twist = types['geometry_msgs/msg/Twist'](along, vector(0.0, 0.0, 0.0))
    kinematics = types[f'{AUTOWARE}/msg/DetectedObjectKinematics'](
        pose_with_covariance=types['geometry_msgs/msg/PoseWithCovariance'](pose, unknown),
        has_position_covariance=False,
        orientation_availability=AVAILABLE,
        twist_with_covariance=types['geometry_msgs/msg/TwistWithCovariance'](twist, unknown),
        has_twist=moves,
        has_twist_covariance=False,
    )
    shape = types[f'{AUTOWARE}/msg/Shape'](
        type=BOX,
        footprint=types['geometry_msgs/msg/Polygon']([]),
        dimensions=vector(*box[3:6]),
    )
    kind = types[f'{AUTOWARE}/msg/ObjectClassification'](label, 1.0)
    return types[f'{AUTOWARE}/msg/DetectedObject'](score, [kind], kinematics, shape)


@cache
def _types() -> Typestore:
    store = get_typestore(Stores.LATEST)
    add_types(store, OBJECTS_TYPE, find_layout)
    return store
