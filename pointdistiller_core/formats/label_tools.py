# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Label files of annotation tools, one per frame, in the LiDAR frame; without a camera.

All of them but KITTI's give a box by its center, its size along and across its heading, and a turn
about each axis, so nothing has to be shifted. Values that a tool does not know (scores,
velocities) are written under a key of their own, which the tools keep, and are read back.

* `sustech`: SUSTechPOINTS, a list of `obj_type`, `obj_id` and `psr` (position, scale, rotation);
* `xtreme1`: Xtreme1 and BasicAI, `objects` of type `3D_BOX` with `center3D`, `size3D`,
  `rotation3D`;
* `labelcloud-rel`, `labelcloud-abs`: labelCloud's `centroid_rel` (radians) and `centroid_abs`
  (degrees). A file does not say which of the two it is;
* `kitti`: label files of KITTI, in the frame of a camera; without one, of a camera that looks
  along x at the LiDAR. With scores they are result files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
from functools import partial
import json
import math
from typing import Any, NamedTuple

import numpy as np

from pointdistiller_core.config import CameraConfig
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.folder import Label, shortest_floats
from pointdistiller_core.formats.kitti import (
    DONT_CARE,
    Calibration,
    boxes_from_objects,
    camera_calibration,
    format_objects,
    numbers_of,
    objects_from_boxes,
    parse_objects,
)
from pointdistiller_core.geometry.transforms import wrap_angle

KITTI = 'kitti'
AXES = ('x', 'y', 'z')
LENGTHS = ('length', 'width', 'height')
TILT = 0.02  # [rad] about x or y, beyond which a box is not upright


class ToolLabels(NamedTuple):
    """The content of a file.

    Attributes:
        labels: its boxes, upright.
        num_tilted: boxes that the file has tilted by more than `TILT`.
        num_others: objects that are not boxes, which are left out.
    """

    labels: list[Label]
    num_tilted: int
    num_others: int


class Camera(NamedTuple):
    """The camera of a frame, by which KITTI places boxes.

    Attributes:
        calibration: of camera and LiDAR.
        image_size: width, height [pixels].
    """

    calibration: Calibration
    image_size: tuple[int, int]


AHEAD = Camera(camera_calibration(CameraConfig()), CameraConfig().image_size)
"""A camera at the LiDAR that looks along x, for frames without one."""


class LabelTool(NamedTuple):
    """A tool's way to store labels.

    Attributes:
        folder: folder of its label files in a scene.
        points_folder: folder of its points.
        read: turns the text of a file into labels.
        write: turns labels of a frame of this name into such a text.
        suffix: of its label files.
        points_suffix: of its points.
    """

    folder: str
    points_folder: str
    read: Callable[[str, Camera], ToolLabels]
    write: Callable[[Sequence[Label], str, Camera], str]
    suffix: str = '.json'
    points_suffix: str = '.pcd'


def read_tool_labels(tool: str, text: str, where: str, camera: Camera = AHEAD) -> ToolLabels:
    """The labels of a file of a tool.

    Raises:
        DatasetError: it is not a file of this tool.
    """
    try:
        return LABEL_TOOLS[tool].read(text, camera)
    except (ValueError, KeyError, TypeError, AttributeError, DatasetError) as error:
        reason = f'there is no {error}' if isinstance(error, KeyError) else str(error)
        raise DatasetError(f'{where}: no label file of {tool}: {reason}') from error


def format_tool_labels(
    tool: str, labels: Sequence[Label], frame: str, camera: Camera = AHEAD
) -> str:
    """The text of a label file for a tool."""
    return LABEL_TOOLS[tool].write(labels, frame, camera)


def not_held(tool: str, labels: Sequence[Label]) -> Counter[str]:
    """What the files of a tool cannot hold of the labels of a frame, with numbers."""
    if tool != KITTI:
        return Counter()
    lost = {
        'scores, because some labels have none': 0 if _are_scored(labels) else _scored(labels),
        'tracks': sum(label.track is not None for label in labels),
        'velocities': sum(label.velocity is not None for label in labels),
        'spaces in names of classes, which are _': sum(' ' in label.name for label in labels),
    }
    return +Counter(lost)


# --- KITTI -----------------------------------------------------------------------------------


def _read_kitti(text: str, camera: Camera) -> ToolLabels:
    objects = parse_objects(text, 'line')
    areas = objects.names == DONT_CARE
    objects = objects[~areas]
    boxes, numbers = boxes_from_objects(objects, camera.calibration), numbers_of(objects)
    labels = [
        Label(
            str(objects.names[row]),
            shortest_floats(boxes[row]),
            score=None if objects.scores is None else float(objects.scores[row]),
            further={KITTI: numbers[row]},
        )
        for row in range(len(objects))
    ]
    return ToolLabels(labels, 0, int(areas.sum()))


def _write_kitti(labels: Sequence[Label], _frame: str, camera: Camera) -> str:
    scores = [label.score for label in labels] if _are_scored(labels) else None
    objects = objects_from_boxes(
        np.array([label.box for label in labels], np.float64).reshape(-1, 7),
        ['_'.join(label.name.split()) for label in labels],
        *camera,
        None if scores is None else np.array(scores, np.float64),
    )
    occluded = np.array(list(map(_occlusion, labels)), np.int64)
    return format_objects(dataclasses.replace(objects, occluded=occluded))


def _occlusion(label: Label) -> int:
    """How much of an object is hidden, as KITTI had it; 0, visible, if it did not come from it."""
    numbers = label.further.get(KITTI)
    return int(numbers[1]) if isinstance(numbers, list) and len(numbers) == 14 else 0


def _are_scored(labels: Sequence[Label]) -> bool:
    """Whether all labels have a score, which a result file of KITTI then holds."""
    return bool(labels) and _scored(labels) == len(labels)


def _scored(labels: Sequence[Label]) -> int:
    return sum(label.score is not None for label in labels)


# --- SUSTechPOINTS ---------------------------------------------------------------------------


def _read_sustech(value: Any) -> ToolLabels:
    objects = value['objs'] if isinstance(value, dict) else value
    return _collect(_from_sustech(item) for item in objects)


def _from_sustech(item: Mapping[str, Any]) -> tuple[Label, bool]:
    psr = item['psr']
    parts = (_values(psr[part], AXES) for part in ('position', 'scale', 'rotation'))
    return _label(item['obj_type'], *parts, track=item.get('obj_id'), further=item)


def _write_sustech(labels: Sequence[Label], _frame: str) -> Any:
    def psr(label: Label) -> dict[str, Any]:
        position, scale, yaw = _parts(label)
        return {
            'position': dict(zip(AXES, position, strict=True)),
            'scale': dict(zip(AXES, scale, strict=True)),
            'rotation': {'x': 0.0, 'y': 0.0, 'z': yaw},
        }

    return [
        {
            'obj_type': label.name,
            'obj_id': '' if label.track is None else str(label.track),
            'psr': psr(label),
            **_further(label),
        }
        for label in labels
    ]


# --- Xtreme1 ---------------------------------------------------------------------------------


def _read_xtreme1(value: Any) -> ToolLabels:
    sources = value if isinstance(value, list) else [value]
    objects = [item for source in sources for item in source['objects']]
    boxes = [item for item in objects if item.get('type') in {None, '3D_BOX'}]
    found = _collect(map(_from_xtreme1, boxes))
    return found._replace(num_others=len(objects) - len(boxes))


def _from_xtreme1(item: Mapping[str, Any]) -> tuple[Label, bool]:
    contour = item.get('contour', item)  # models answer without one
    parts = (_values(contour[part], AXES) for part in ('center3D', 'size3D', 'rotation3D'))
    name = item.get('className') or item.get('modelClass')
    track = item.get('trackName') or item.get('trackId')
    score = item.get('modelConfidence', item.get('confidence'))
    return _label(name, *parts, track=track, further={'score': score, **item})


def _write_xtreme1(labels: Sequence[Label], frame: str) -> Any:
    def contour(label: Label) -> dict[str, Any]:
        center, size, yaw = _parts(label)
        return {
            'center3D': dict(zip(AXES, center, strict=True)),
            'size3D': dict(zip(AXES, size, strict=True)),
            'rotation3D': {'x': 0.0, 'y': 0.0, 'z': yaw},
        }

    objects = [
        {
            'type': '3D_BOX',
            'className': label.name,
            'modelClass': label.name,
            'modelConfidence': label.score,
            'trackId': None if label.track is None else str(label.track),
            'trackName': None if label.track is None else str(label.track),
            'contour': contour(label),
            **_further(label),
        }
        for label in labels
    ]
    return {'sourceName': frame, 'objects': objects}


# --- labelCloud ------------------------------------------------------------------------------


def _read_labelcloud(value: Any, *, degrees: bool) -> ToolLabels:
    return _collect(_from_labelcloud(item, degrees=degrees) for item in value['objects'])


def _from_labelcloud(item: Mapping[str, Any], *, degrees: bool) -> tuple[Label, bool]:
    turns = _values(item['rotations'], AXES)
    if not degrees and any(abs(turn) > 2 * math.pi + 1e-6 for turn in turns):
        raise ValueError(f'rotations {turns} are no radians; it may be labelcloud-abs')
    turns = tuple(math.radians(turn) for turn in turns) if degrees else turns
    center, size = _values(item['centroid'], AXES), _values(item['dimensions'], LENGTHS)
    return _label(item['name'], center, size, turns, track=None, further=item)


def _write_labelcloud(labels: Sequence[Label], frame: str, *, degrees: bool) -> Any:
    def turns(yaw: float) -> dict[str, float]:
        return {'x': 0.0, 'y': 0.0, 'z': math.degrees(yaw) % 360 if degrees else yaw}

    objects = []
    for label in labels:
        center, size, yaw = _parts(label)
        objects.append(
            {
                'name': label.name,
                'centroid': dict(zip(AXES, center, strict=True)),
                'dimensions': dict(zip(LENGTHS, size, strict=True)),
                'rotations': turns(yaw),
                **({} if label.track is None else {'track': label.track}),
                **_further(label),
            }
        )
    file = f'{frame}.pcd'
    return {'folder': 'pointclouds', 'filename': file, 'path': f'pointclouds/{file}'} | {
        'objects': objects
    }


# --- what they share -------------------------------------------------------------------------


def _collect(found: Iterable[tuple[Label, bool]]) -> ToolLabels:
    pairs = list(found)
    return ToolLabels([label for label, _ in pairs], sum(tilted for _, tilted in pairs), 0)


def _label(
    name: Any,
    center: Sequence[float],
    size: Sequence[float],
    turns: Sequence[float],
    *,
    track: Any,
    further: Mapping[str, Any],
) -> tuple[Label, bool]:
    """A label, and whether the file has it tilted."""
    values = {
        'class': name,
        'box': [*center, *size, float(wrap_angle(turns[2]))],
        'track': further.get('track') if track in {None, ''} else track,
        'score': further.get('score'),
        'velocity': further.get('velocity'),
        'ignore': further.get('ignore', False),
    }
    tilted = max(abs(wrap_angle(turn)) for turn in turns[:2]) > TILT
    return Label.from_dict(values), tilted


def _parts(label: Label) -> tuple[list[float], list[float], float]:
    """Center, size and yaw as plain numbers."""
    box = [float(str(np.float32(value))) for value in label.box]
    return box[:3], box[3:6], box[6]


def _further(label: Label) -> dict[str, Any]:
    """Values that the tools do not know, if there are any."""
    known = {
        'score': label.score,
        'velocity': list(label.velocity) if label.velocity else None,
        'ignore': label.ignore or None,
    }
    return {key: value for key, value in known.items() if value is not None}


def _values(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(item[key]) for key in keys)


def _json_tool(
    folder: str,
    points_folder: str,
    read: Callable[[Any], ToolLabels],
    write: Callable[[Sequence[Label], str], Any],
) -> LabelTool:
    """A tool whose files are JSON."""

    def text_of(labels: Sequence[Label], frame: str, _camera: Camera) -> str:
        return json.dumps(write(labels, frame), ensure_ascii=False, indent=1) + '\n'

    return LabelTool(folder, points_folder, lambda text, _: read(json.loads(text)), text_of)


LABEL_TOOLS: Mapping[str, LabelTool] = {
    'sustech': _json_tool('label', 'lidar', _read_sustech, _write_sustech),
    'xtreme1': _json_tool('result', 'lidar_point_cloud_0', _read_xtreme1, _write_xtreme1),
    **{
        f'labelcloud-{name}': _json_tool(
            'labels',
            'pointclouds',
            partial(_read_labelcloud, degrees=degrees),
            partial(_write_labelcloud, degrees=degrees),
        )
        for name, degrees in (('rel', False), ('abs', True))
    },
    KITTI: LabelTool('label_2', 'velodyne', _read_kitti, _write_kitti, '.txt', '.bin'),
}
