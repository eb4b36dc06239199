# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""ROS messages to arrays and records, and back; free functions without state."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
import json
import platform
from typing import TYPE_CHECKING, Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header, String
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.detector import facts_of
from pointdistiller_core.messages.boxes_cloud import to_box_columns
from pointdistiller_core.messages.point_cloud2 import cloud_layout
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.records import Detections, Importance

if TYPE_CHECKING:
    from pointdistiller_core.detector import BundleInfo
    from pointdistiller_core.tracking.live import LiveTracks

try:
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose
except ImportError:  # not in every installation; ~/boxes carries the same numbers
    Detection3D = Detection3DArray = ObjectHypothesisWithPose = None

UPRIGHT = (0.0, 0.0, 0.0, 1.0)  # quaternion
LINE_WIDTH, TEXT_HEIGHT, PLACE_SIZE = 0.08, 0.8, 0.3  # [m]
LEAST_SPEED = 0.5  # [m/s] that is shown

# Okabe and Ito's colors, which color-blind people tell apart: one per class, then again.
CLASS_COLORS = (
    (0.00, 0.62, 0.45),
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.80, 0.47, 0.65),
    (0.94, 0.89, 0.26),
    (0.84, 0.37, 0.00),
    (0.00, 0.45, 0.70),
)
# Dark blue over red to yellow: unimportant to important.
HEAT_COLORS = np.array(
    [(0.05, 0.03, 0.53), (0.61, 0.09, 0.62), (0.93, 0.47, 0.33), (0.94, 0.98, 0.13)]
)

# Edges of a unit box as pairs of corners; the last line points forward from the center.
_CORNERS = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count('1') == 1]
_OUTLINE = np.concatenate([_CORNERS[np.ravel(_EDGES)], [(0.0, 0.0, 0.0), (0.75, 0.0, 0.0)]])


def to_stamp(nanoseconds: int) -> Time:
    """A message's time stamp."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def stamp_ns(stamp: Time) -> int:
    """Nanoseconds of a message's time stamp."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def to_cloud(
    points: NDArray[np.float32],
    header: Header,
    extra_fields: Mapping[str, NDArray[Any]] | None = None,
) -> PointCloud2:
    """A PointCloud2 of (N, 3) or (N, 4) points and further columns (N,)."""
    layout = cloud_layout(points, extra_fields)
    layout['fields'] = [PointField(**field) for field in layout['fields']]
    data = array('B')  # rclpy of ROS 2 Humble would check each byte of any other type
    data.frombytes(layout.pop('data'))
    return PointCloud2(header=header, data=data, **layout)


def to_boxes_cloud(detections: Detections, header: Header) -> PointCloud2:
    """A point for each detection, as `messages.boxes_cloud` lays it out."""
    points, columns = to_box_columns(detections)
    return to_cloud(points, header, columns)


def to_detection_array(
    detections: Detections, header: Header, class_names: Sequence[str]
) -> Detection3DArray:
    """vision_msgs/Detection3DArray; `id` is the number of a track, or empty."""
    array_message = Detection3DArray(header=header)
    numbers = [-1] * len(detections) if detections.tracks is None else detections.tracks.tolist()
    for (box, turn, score, label), number in zip(_rows(detections), numbers, strict=True):
        detection = Detection3D(header=header, id=str(number) if number >= 0 else '')
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = class_names[label]
        hypothesis.hypothesis.score = score
        hypothesis.pose.pose = _pose(box, turn)
        detection.results.append(hypothesis)
        detection.bbox.center = _pose(box, turn)
        detection.bbox.size = Vector3(x=box[3], y=box[4], z=box[5])
        array_message.detections.append(detection)
    return array_message


def to_box_markers(
    detections: Detections,
    header: Header,
    class_names: Sequence[str],
    shown: frozenset[tuple[str, int]] | None = frozenset(),
) -> MarkerArray:
    """Boxes with a line to the front, and text with class and score.

    A marker's namespace is its class, so that a display can hide classes, and its id counts
    within the class. Markers that no box needs any more are deleted one by one, so that nothing
    flickers. Where the detector gives velocities and nothing is tracked, arrows end where objects
    will be in a second; all are one marker.

    Args:
        detections: boxes in the frame of `header`.
        header: of the cloud.
        class_names: names that the labels index.
        shown: `marker_keys` of the message before; None deletes everything displayed.
    """
    markers: list[Marker] = []
    counts: dict[int, int] = {}
    for box, turn, score, label in _rows(detections):
        index = counts[label] = counts.get(label, -1) + 1
        markers.append(_outline((class_names[label], index), header, box, turn, label))
        text = f'{class_names[label]} {score:.2f}'
        markers.append(_text((f'{class_names[label]} text', index), header, box, text))
    if detections.velocities is not None and detections.tracks is None:  # tracks have their own
        with np.errstate(invalid='ignore'):
            fast = np.hypot(*detections.velocities.T) >= LEAST_SPEED
        arrows = _arrows(detections.boxes[fast, :3], detections.velocities[fast])
        colors = [_color(label) for label in detections.labels[fast].tolist()]
        markers += _lines('velocity', header, arrows, colors)
    return _with_deletions(markers, header, shown)


def to_track_markers(
    tracks: LiveTracks,
    header: Header,
    class_names: Sequence[str],
    shown: frozenset[tuple[str, int]] | None = frozenset(),
) -> MarkerArray:
    """Number, velocity and trail of each object, in a color of its own.

    The arrow ends where the object will be in a second. Objects that the cloud has no detection
    of are pale. The id of a text is the number of its track; all arrows are one marker, and all
    trails, because each marker takes time. Arguments are as in `to_box_markers`.
    """
    objects = tracks.objects
    assert objects.tracks is not None
    assert objects.velocities is not None
    colors = [
        _color(number, alpha=1.0 if seen else 0.4)
        for number, seen in zip(objects.tracks.tolist(), tracks.seen.tolist(), strict=True)
    ]
    speeds = np.hypot(*objects.velocities.T)
    fast = speeds >= LEAST_SPEED
    rows = zip(_rows(objects), objects.tracks.tolist(), speeds.tolist(), colors, strict=True)
    markers = []
    for (box, _, _, label), number, speed, color in rows:
        text = f'{class_names[label]} {number}' + (
            f'  {speed:.1f} m/s' if speed >= LEAST_SPEED else ''
        )
        markers.append(_text(('track', number), header, box, text, color))
    arrows = _arrows(objects.boxes[fast, :3], objects.velocities[fast])
    swift = [color for color, moves in zip(colors, fast.tolist(), strict=True) if moves]
    markers += _lines('velocity', header, arrows, swift)
    markers += _lines('trail', header, tracks.trails(), colors)
    return _with_deletions(markers, header, shown)


def _with_deletions(
    markers: list[Marker], header: Header, shown: frozenset[tuple[str, int]] | None
) -> MarkerArray:
    """The markers, after deletions of those `shown` before; None deletes everything displayed."""
    vanished = sorted((shown or frozenset()) - marker_keys(MarkerArray(markers=markers)))
    deletions = [
        Marker(header=header, ns=namespace, id=index, action=Marker.DELETE)
        for namespace, index in vanished
    ]
    if shown is None:
        deletions = [Marker(header=header, action=Marker.DELETEALL)]
    return MarkerArray(markers=deletions + markers)


def marker_keys(message: MarkerArray) -> frozenset[tuple[str, int]]:
    """Namespace and id of every marker that a message shows."""
    return frozenset(
        (marker.ns, marker.id) for marker in message.markers if marker.action == Marker.ADD
    )


def to_importance_cloud(
    points: NDArray[np.float32], importance: Importance, header: Header
) -> PointCloud2:
    """The input points (N, 4) with a further field `importance` in [0, 1].

    Of merged sweeps, (N, 5), the age [s] is a field, too.
    """
    ages = {'age': points[:, 4]} if points.shape[1] > 4 else {}
    scores = importance.point_scores.astype(np.float32)
    return to_cloud(points, header, {**ages, 'importance': scores})


def to_importance_markers(importance: Importance, header: Header, max_places: int) -> MarkerArray:
    """The most important places as one list of cubes, colored by score."""
    top = np.argsort(-importance.scores, kind='stable')[:max_places]
    marker = Marker(header=header, ns='importance', type=Marker.CUBE_LIST)
    marker.pose.orientation.w = 1.0
    marker.scale = Vector3(x=PLACE_SIZE, y=PLACE_SIZE, z=PLACE_SIZE)
    marker.points = _to_points(importance.centers[top])
    marker.colors = [
        ColorRGBA(r=red, g=green, b=blue, a=0.8)
        for red, green, blue in _heat_colors(importance.scores[top]).tolist()
    ]
    marker.action = Marker.ADD if len(top) else Marker.DELETE  # an empty list is an error in RViz
    return MarkerArray(markers=[marker])


def to_model_info(info: BundleInfo, bundle: str, backend: str, host_engine: str | None) -> String:
    """What a detector is, as JSON: the position of a class in `class_names` is its label.

    `bundle` is where it was loaded from, `backend` what the network runs in, `host_engine` what
    runs before it, see `Detector.host_engine`.
    """
    model = info.model
    about = {
        'bundle': bundle,
        'backend': backend,
        'host_engine': host_engine,
        'model': model.name,
        'class_names': model.class_names,
        'own_importance': model.own_importance,
        **facts_of(info),
        **info.model_dump(
            mode='json',
            include={
                *('intensity_range', 'intensity_assumed', 'sensor_height', 'training'),
                *('sha256', 'package_version'),
            },
        ),
    }
    return String(data=json.dumps(about))


def to_diagnostics(
    name: str,
    stamp: Time,
    level: bytes,
    message: str,
    values: Mapping[str, str],
    *,
    device: str = '',
) -> DiagnosticArray:
    """The state of a node: a level of `DiagnosticStatus`, a message for people, and all values.

    `device` is what its network runs on; empty if there is none.
    """
    status = DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=hardware_id(device),
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])


def hardware_id(device: str = '') -> str:
    """The machine that a node runs on, and the device of its network."""
    return f'{platform.node()} {device}'.strip() or 'unknown'


def _rows(
    detections: Detections,
) -> Iterator[tuple[list[float], list[float], float, int]]:
    """Box, quaternion, score and label of each detection, in the number types of messages."""
    turns = detections.orientations
    if turns is None:
        half = detections.boxes[:, 6] / 2
        zeros = np.zeros_like(half)
        turns = np.stack([zeros, zeros, np.sin(half), np.cos(half)], axis=1)
    columns = (detections.boxes, turns, detections.scores, detections.labels)
    return zip(*(column.tolist() for column in columns), strict=True)


def _pose(box: Sequence[float], turn: Sequence[float]) -> Pose:
    x, y, z, *_ = box
    return Pose(
        position=Point(x=x, y=y, z=z),
        orientation=Quaternion(**dict(zip('xyzw', turn, strict=True))),
    )


def _color(number: int, alpha: float = 1.0) -> ColorRGBA:
    red, green, blue = CLASS_COLORS[number % len(CLASS_COLORS)]
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)


def _outline(
    key: tuple[str, int],
    header: Header,
    box: Sequence[float],
    turn: Sequence[float],
    label: int,
) -> Marker:
    marker = Marker(header=header, ns=key[0], id=key[1], type=Marker.LINE_LIST)
    marker.pose = _pose(box, turn)
    marker.scale.x = LINE_WIDTH
    marker.color = _color(label)
    marker.points = _to_points(_OUTLINE * box[3:6])
    return marker


def _arrows(starts: NDArray[np.float32], velocities: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 5, 3) lines from (N, 3) places along (N, 2) velocities [m/s], with a head."""
    ahead = np.pad(velocities, ((0, 0), (0, 1)))
    aside = ahead[:, [1, 0, 2]] * np.array([-1, 1, 0], np.float32)
    ends = starts + ahead
    barbs = [ends - 0.2 * ahead + side * aside for side in (0.1, -0.1)]
    return np.stack([starts, ends, barbs[0], ends, barbs[1]], axis=1)


def _lines(
    namespace: str,
    header: Header,
    lines: Iterable[NDArray[np.floating[Any]]],
    colors: Sequence[ColorRGBA],
) -> list[Marker]:
    """One marker of all lines through (n, 3) points; none if no line has two."""
    marker = Marker(header=header, ns=namespace, type=Marker.LINE_LIST)
    marker.pose.orientation.w = 1.0
    marker.scale.x = LINE_WIDTH
    points, shades = [], []
    for line, color in zip(lines, colors, strict=True):
        corners = _to_points(line)
        pairs = [corner for pair in pairwise(corners) for corner in pair]
        points += pairs
        shades += [color] * len(pairs)
    marker.points, marker.colors = points, shades
    return [marker] if points else []


def _text(
    key: tuple[str, int],
    header: Header,
    box: Sequence[float],
    text: str,
    color: ColorRGBA | None = None,
) -> Marker:
    marker = Marker(header=header, ns=key[0], id=key[1], type=Marker.TEXT_VIEW_FACING, text=text)
    marker.pose = _pose(box, UPRIGHT)
    marker.pose.position.z += box[5] / 2 + TEXT_HEIGHT
    marker.scale.z = TEXT_HEIGHT
    marker.color = color or ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker


def _to_points(points: NDArray[np.floating[Any]]) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]


def _heat_colors(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 3) red, green, blue of scores in [0, 1]."""
    stops = np.linspace(0.0, 1.0, len(HEAT_COLORS))
    return np.stack([np.interp(scores, stops, channel) for channel in HEAT_COLORS.T], axis=1)
