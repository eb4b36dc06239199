# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes of any detector in messages of ROS.

* `vision_msgs/Detection3DArray`: the class of each detection is its surest hypothesis.
* Autoware's `DetectedObjects`, also of `autoware_auto_perception_msgs`: the score is the
  probability that the object exists times that of its class. Velocities are given along its own
  axes. A polygon becomes the box around it.
* our boxes clouds, see `boxes_cloud`: labels are numbers, which are the names of the classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.transforms import rotation_from_quaternion
from pointdistiller_core.messages.bags import (
    CLOUD_TYPE,
    BagSummary,
    MessageContent,
    first_fields,
)
from pointdistiller_core.messages.boxes_cloud import LAYOUT, detections_from_boxes_cloud
from pointdistiller_core.messages.message_types import AUTOWARE, AUTOWARE_AUTO
from pointdistiller_core.messages.storage import NANOSECONDS

AUTOWARE_CLASSES = (  # by their numbers in ObjectClassification
    *('UNKNOWN', 'CAR', 'TRUCK', 'BUS', 'TRAILER', 'MOTORCYCLE', 'BICYCLE', 'PEDESTRIAN'),
    *('ANIMAL', 'HAZARD', 'OVER_DRIVABLE', 'UNDER_DRIVABLE'),
)
CYLINDER, POLYGON = 1, 2  # of Autoware's shapes; others are boxes
UNKNOWN_VELOCITY = (np.nan, np.nan, np.nan)
LEAST_NORM = 1e-6  # of a quaternion; a shorter one is none

# Why a box of a message is not taken, or what was assumed of it.
NO_CLASS, NO_EXTENT, NOT_FINITE = 'without a class', 'without an extent', 'not finite'
LEFT_OUT: Mapping[str, str] = {
    NO_CLASS: 'have no class',
    NO_EXTENT: 'have no extent',
    NOT_FINITE: 'are not finite',
}
UNRATED, OUTSIDE = 'unrated', 'outside'
ASSUMED: Mapping[str, str] = {
    UNRATED: 'say 0 for the probability that they exist; that of the class is taken as the score',
    OUTSIDE: 'have a score beyond 0 to 1; it is clipped',
}


class FoundBox(NamedTuple):
    """A box of a message.

    Attributes:
        name: its class.
        score: in [0, 1].
        box: x, y, z, dx, dy, dz [m], yaw [rad] from above, frame of the message.
        rotation: (3, 3) of its axes; None for an upright box, whose yaw is that of its heading.
        velocity: x, y, z [m/s], NaN if not known, frame of the message.
        track: names the object from message to message; empty if nothing does.
        rated: whether a probability that it exists was given, where messages have one.
    """

    name: str
    score: float
    box: tuple[float, ...]
    rotation: NDArray[np.float64] | None = None
    velocity: tuple[float, ...] = UNKNOWN_VELOCITY
    track: str = ''
    rated: bool = True


@dataclass(frozen=True)
class FoundBoxes:
    """Boxes of a message that are in one frame.

    Attributes:
        stamp_ns: time in its header [ns]; 0 if it says none.
        frame_id: frame of the boxes.
        boxes: finite and with an extent.
        counts: boxes by what was amiss, see `LEFT_OUT` and `ASSUMED`.
    """

    stamp_ns: int
    frame_id: str
    boxes: list[FoundBox]
    counts: Counter[str] = field(default_factory=Counter)


def box_topics(bag: Path, summary: BagSummary) -> list[str]:
    """Topics of a bag with messages of boxes.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    found = {
        name: topic.message_type
        for name, topic in sorted(summary.topics.items())
        if topic.readable and topic.message_type in READERS
    }
    return [
        name
        for name, kind in found.items()
        if kind != CLOUD_TYPE or first_fields(bag, name).issuperset(LAYOUT)
    ]


def find_boxes(message: MessageContent) -> list[FoundBoxes]:
    """The boxes of a message, by their frame; one empty item if there is none.

    Raises:
        Exception: it is not of this type; any error of the parser.
    """
    header = message.content.header
    frame_id, stamp = header.frame_id.lstrip('/'), header.stamp
    stamp_ns = int(stamp.sec * NANOSECONDS + stamp.nanosec)
    by_frame = {frame_id: FoundBoxes(stamp_ns, frame_id, [])}
    for own_frame, raw in READERS[message.message_type](message.content):
        place = own_frame.lstrip('/') or frame_id
        found = by_frame.setdefault(place, FoundBoxes(stamp_ns, place, []))
        _take(raw, found)
    several = len(by_frame) > 1
    return [found for found in by_frame.values() if found.boxes or found.counts or not several]


def _take(box: FoundBox, found: FoundBoxes) -> None:
    """Add a box, or count why not."""
    numbers = (*box.box, box.score)
    if not box.name:
        found.counts[NO_CLASS] += 1
    elif not np.isfinite(numbers).all():
        found.counts[NOT_FINITE] += 1
    elif min(box.box[3:6]) <= 0:
        found.counts[NO_EXTENT] += 1
    else:
        score = min(max(box.score, 0.0), 1.0)
        found.counts.update([OUTSIDE] * (score != box.score) + [UNRATED] * (not box.rated))
        found.boxes.append(box._replace(score=score))


Raw = Iterator[tuple[str, FoundBox]]  # each with the frame that it names, maybe empty


def _read_vision(content: Any) -> Raw:
    for item in content.detections:
        best = max(map(_hypothesis, item.results), key=lambda each: each[1], default=('', 0.0))
        name, score = best
        position, rotation = _pose(item.bbox.center)
        box = (*position, *_values(item.bbox.size), _yaw(rotation))
        track = str(getattr(item, 'id', '') or getattr(item, 'tracking_id', ''))
        yield item.header.frame_id, FoundBox(name, score, box, rotation, track=track)


def _hypothesis(result: Any) -> tuple[str, float]:
    found = getattr(result, 'hypothesis', result)  # before vision_msgs 4 it was the result itself
    name = found.class_id if hasattr(found, 'class_id') else found.id
    return str(name), float(found.score)


def _read_autoware(content: Any) -> Raw:
    for item in content.objects:
        kinds = [(int(kind.label), float(kind.probability)) for kind in item.classification]
        label, probability = max(kinds, key=lambda kind: kind[1], default=(-1, 0.0))
        exists = float(item.existence_probability)
        position, rotation = _pose(item.kinematics.pose_with_covariance.pose)
        offset, size = _shape(item.shape)
        box = (*(position + rotation @ offset), *size, _yaw(rotation))
        velocity: tuple[float, ...] = UNKNOWN_VELOCITY
        if item.kinematics.has_twist:
            along = _values(item.kinematics.twist_with_covariance.twist.linear)
            velocity = tuple(map(float, rotation @ along))
        # 0 is what a detector leaves that knows no such probability.
        score = exists * probability if exists else probability
        name = _autoware_class(label)
        numbers = tuple(map(float, box))
        yield '', FoundBox(name, score, numbers, rotation, velocity, rated=exists != 0)


def _autoware_class(label: int) -> str:
    if label < 0:
        return ''
    return AUTOWARE_CLASSES[label] if label < len(AUTOWARE_CLASSES) else str(label)


def _shape(shape: Any) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Center of a shape from the object's position, and its size, along the object's axes."""
    length, width, height = _values(shape.dimensions)
    if shape.type == POLYGON and len(shape.footprint.points):
        corners = np.array([(point.x, point.y) for point in shape.footprint.points], np.float64)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return np.array([*((low + high) / 2), 0.0]), (*(high - low).tolist(), height)
    if shape.type == CYLINDER:
        length = width = max(length, width)  # its diameter
    return np.zeros(3), (length, width, height)


def _read_cloud(content: Any) -> Raw:
    found = detections_from_boxes_cloud(content)
    for row in range(len(found)):
        velocity, track = UNKNOWN_VELOCITY, ''
        if found.velocities is not None:
            velocity = (*found.velocities[row].tolist(), 0.0)
        if found.tracks is not None and found.tracks[row] >= 0:
            track = str(found.tracks[row])
        name = str(found.labels[row]) if found.labels[row] >= 0 else ''
        box = tuple(found.boxes[row].astype(np.float64).tolist())
        yield '', FoundBox(name, float(found.scores[row]), box, None, velocity, track)


READERS: Mapping[str, Callable[[Any], Raw]] = {
    'vision_msgs/msg/Detection3DArray': _read_vision,
    f'{AUTOWARE}/msg/DetectedObjects': _read_autoware,
    f'{AUTOWARE_AUTO}/msg/DetectedObjects': _read_autoware,
    CLOUD_TYPE: _read_cloud,
}
"""Types of messages with boxes."""


def _pose(pose: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position (3,) and rotation (3, 3); an orientation of zeros, which is none, turns nothing."""
    turn = pose.orientation
    quaternion = np.array([turn.x, turn.y, turn.z, turn.w])
    position = np.array(_values(pose.position))
    if np.linalg.norm(quaternion) < LEAST_NORM:
        return position, np.eye(3)
    return position, rotation_from_quaternion(quaternion)


def _yaw(rotation: NDArray[np.float64]) -> float:
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _values(vector: Any) -> tuple[float, float, float]:
    return float(vector.x), float(vector.y), float(vector.z)
