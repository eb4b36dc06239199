# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Agreement of two detectors as ROS messages, and labels from messages; free functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import atan2
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.messages.boxes_cloud import checked_truth
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth
from pointdistiller_ros.conversions import (
    Detection3DArray,
    hardware_id,
    to_box_markers,
)

# Okabe and Ito's colors, which color-blind people tell apart; the pictures have them, too.
GROUP_COLORS = {
    'agreed': (0.00, 0.62, 0.45),
    'missed': (0.90, 0.62, 0.00),
    'extra': (0.34, 0.71, 0.91),
}


def to_agreement_markers(
    groups: Mapping[str, Detections],
    header: Header,
    class_names: Sequence[str],
    shown: frozenset[tuple[str, int]] | None = frozenset(),
) -> MarkerArray:
    """Boxes in the color of their group, with group, class and score.

    A marker's namespace is group and class, e.g. `missed Car`, so that a display can hide either.

    Args:
        groups: boxes by key of `GROUP_COLORS`.
        header: of the cloud.
        class_names: names that the labels index.
        shown: as in `to_box_markers`.
    """
    names = [f'{group} {name}' for group in groups for name in class_names]
    turns = [one.orientations for one in groups.values() if one.orientations is not None]
    found = list(groups.values())
    shifts = [len(class_names) * index for index in range(len(found))]
    joined = Detections(
        np.concatenate([one.boxes for one in found]),
        np.concatenate([one.scores for one in found]),
        np.concatenate([one.labels + shift for one, shift in zip(found, shifts, strict=True)]),
        orientations=np.concatenate(turns) if turns else None,  # all have them, or none
    )
    message = to_box_markers(joined, header, names, shown)
    for marker in message.markers:
        if marker.type == Marker.LINE_LIST:
            red, green, blue = GROUP_COLORS[marker.ns.split(' ')[0]]
            marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    return message


def to_agreement(
    name: str,
    header: Header,
    cloud: Mapping[str, float],
    summary: Mapping[str, Any],
) -> DiagnosticArray:
    """Numbers as a status for everything, and one for each class, band, and class in a band.

    Args:
        name: of the node.
        header: of the cloud.
        cloud: numbers of this cloud alone; they become `cloud.recall` and so on.
        summary: numbers of all clouds, as `summarize` makes them.
    """
    latency = {
        f'latency.{role}.{key}': value
        for role in ('teacher', 'student')
        for key, value in summary['latency'][role].items()
    }
    ratio = {'latency.median_ratio': summary['latency']['median_ratio']}
    of_cloud = {f'cloud.{key}': value for key, value in cloud.items()}
    statuses = _statuses(f'{name}: agreement', summary['agreement'], latency | ratio | of_cloud)
    if summary['ground_truth']:
        for role in ('teacher', 'student'):
            title = f'{name}: {role} beside ground truth'
            statuses += _statuses(title, summary['ground_truth'][role], {})
    return DiagnosticArray(header=header, status=statuses)


def values_of_comparison(summary: Mapping[str, Any]) -> dict[str, str]:
    """What the diagnostics say of all clouds, from the numbers of `summarize`."""
    latency, agreement = summary['latency'], summary['agreement']
    values = {f'clouds_{key}': value for key, value in summary['clouds'].items()}
    for role in ('teacher', 'student'):
        values |= {f'latency_ms.{role}.{key}': latency[role][key] for key in latency[role]}
    values['latency_ratio'] = latency['median_ratio']
    values |= {key: agreement[key] for key in ('recall', 'precision', 'f1')}
    return {key: _text(value) for key, value in values.items()}


def truth_from_detection_array(
    message: Detection3DArray, class_names: Sequence[str]
) -> GroundTruth:
    """Labelled boxes of a vision_msgs/Detection3DArray, turned only about z.

    The class of a box is its first hypothesis. Boxes of a class that is not in `class_names` are
    ignored.

    Raises:
        CloudError: a box is not finite.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    rows, labels = [], []
    for detection in message.detections:
        position, size = detection.bbox.center.position, detection.bbox.size
        q = detection.bbox.center.orientation
        yaw = atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z))
        rows.append((position.x, position.y, position.z, size.x, size.y, size.z, yaw))
        names = [result.hypothesis.class_id for result in detection.results]
        labels.append(numbers.get(names[0], IGNORE_LABEL) if names else IGNORE_LABEL)
    boxes = np.array(rows, np.float32).reshape(-1, 7)
    return checked_truth(GroundTruth(boxes, np.array(labels, np.int64)))


def _statuses(
    title: str, numbers: Mapping[str, Any], more: Mapping[str, Any]
) -> list[DiagnosticStatus]:
    parts = [(title, numbers, more)]
    parts += [(f'{title}, {name}', part, {}) for name, part in numbers['distances'].items()]
    for name, of_class in numbers['classes'].items():
        parts.append((f'{title}, {name}', of_class, {}))
        parts += [
            (f'{title}, {name}, {band}', part, {}) for band, part in of_class['distances'].items()
        ]
    return [_status(name, part | more) for name, part, more in parts]


def _status(name: str, numbers: Mapping[str, Any]) -> DiagnosticStatus:
    rates = [f'{key} {_text(numbers[key])}' for key in ('recall', 'precision', 'f1')]
    plain = {key: value for key, value in numbers.items() if not isinstance(value, Mapping)}
    return DiagnosticStatus(
        level=DiagnosticStatus.OK,
        name=name,
        message=', '.join(rates),
        hardware_id=hardware_id(),
        values=_values(plain),
    )


def _values(numbers: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_text(value)) for key, value in numbers.items()]


def _text(value: float | None) -> str:
    if value is None or value != value:
        return 'nan'
    return str(value) if isinstance(value, int) else f'{value:.4f}'
