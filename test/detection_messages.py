# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Messages with boxes, as other programs write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from recording_bags import RecordingWriter, header
from rosbags.typesys import Stores, get_typestore

from pointdistiller_core.messages.message_types import add_types, find_layout

VISION = 'vision_msgs/msg/Detection3DArray'
AUTOWARE = 'autoware_perception_msgs/msg/DetectedObjects'
AUTOWARE_AUTO = 'autoware_auto_perception_msgs/msg/DetectedObjects'
TYPES = get_typestore(Stores.LATEST)
for name in (VISION, AUTOWARE, AUTOWARE_AUTO):
    add_types(TYPES, name, find_layout)
NO_COVARIANCE = np.zeros(36)


def make(name: str, *values: Any) -> Any:
    """A message of any type."""
    return TYPES.types[name](*values)


def pose(xyz: Sequence[float], yaw: float = 0.0, quaternion: Sequence[float] | None = None) -> Any:
    """A geometry_msgs/Pose."""
    turn = quaternion or (0, 0, np.sin(yaw / 2), np.cos(yaw / 2))
    return make(
        'geometry_msgs/msg/Pose',
        make('geometry_msgs/msg/Point', *map(float, xyz)),
        make('geometry_msgs/msg/Quaternion', *map(float, turn)),
    )


def vector(xyz: Sequence[float]) -> Any:
    """A geometry_msgs/Vector3."""
    return make('geometry_msgs/msg/Vector3', *map(float, xyz))


def detection3d(
    box: Sequence[float],
    scores: dict[str, float],
    *,
    frame: str = '',
    identity: str = '',
    quaternion: Sequence[float] | None = None,
) -> Any:
    """A vision_msgs/Detection3D of a box x, y, z, dx, dy, dz, yaw."""
    place = pose(box[:3], box[6], quaternion)
    results = [
        make(
            'vision_msgs/msg/ObjectHypothesisWithPose',
            make('vision_msgs/msg/ObjectHypothesis', name, score),
            make('geometry_msgs/msg/PoseWithCovariance', place, NO_COVARIANCE),
        )
        for name, score in scores.items()
    ]
    bounds = make('vision_msgs/msg/BoundingBox3D', place, vector(box[3:6]))
    return make('vision_msgs/msg/Detection3D', header(0, frame), results, bounds, identity)


def detection3d_array(stamp_ns: int, frame: str, detections: Sequence[Any]) -> Any:
    """A vision_msgs/Detection3DArray."""
    return make(VISION, header(stamp_ns, frame), list(detections))


def detected_object(
    box: Sequence[float],
    classes: dict[int, float],
    *,
    exists: float = 1.0,
    velocity: Sequence[float] | None = None,
    shape: int = 0,
    footprint: Sequence[Sequence[float]] = (),
    package: str = 'autoware_perception_msgs',
) -> Any:
    """An Autoware DetectedObject of a box x, y, z, dx, dy, dz, yaw; velocity along its axes."""
    twist = make('geometry_msgs/msg/Twist', vector(velocity or (0, 0, 0)), vector((0, 0, 0)))
    corners = [make('geometry_msgs/msg/Point32', x, y, 0.0) for x, y in footprint]
    return make(
        f'{package}/msg/DetectedObject',
        exists,
        [make(f'{package}/msg/ObjectClassification', *item) for item in classes.items()],
        make(
            f'{package}/msg/DetectedObjectKinematics',
            make('geometry_msgs/msg/PoseWithCovariance', pose(box[:3], box[6]), NO_COVARIANCE),
            False,
            2,
            make('geometry_msgs/msg/TwistWithCovariance', twist, NO_COVARIANCE),
            velocity is not None,
            False,
        ),
        make(
            f'{package}/msg/Shape',
            shape,
            make('geometry_msgs/msg/Polygon', corners),
            vector(box[3:6]),
        ),
    )


def detected_objects(stamp_ns: int, frame: str, objects: Sequence[Any], kind=AUTOWARE) -> Any:
    """Autoware's DetectedObjects."""
    return make(kind, header(stamp_ns, frame), list(objects))


class DetectionWriter(RecordingWriter):
    """Writes detections beside what a vehicle records."""

    def __init__(self, path: Any) -> None:
        super().__init__(path, find_layout)

    def detections(self, time_ns: int, message: Any, topic: str = '/objects') -> None:
        """Append a message with boxes."""
        kind = message.__msgtype__
        self.write_serialized(topic, kind, time_ns, TYPES.serialize_cdr(message, kind))
