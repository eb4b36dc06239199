# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""KITTI's label, result and calibration files; the only place that knows the camera convention.

KITTI gives a box in the rectified camera frame (x right, y down, z forward): the center of its
bottom face, height, width and length, and `rotation_y` about the downward axis. Seen from the
LiDAR, `yaw = -(rotation_y + pi / 2)` and the geometric center is half a height above the bottom
(OpenPCDet, `box_utils.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
import math
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import CameraConfig
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import (
    check_results_folder,
    named_refusals,
    read_text,
    write_file,
)
from pointdistiller_core.geometry.transforms import transform_points, wrap_angle

Array: TypeAlias = 'NDArray[np.float64]'

DONT_CARE = 'DontCare'  # an area of the image, which is no object
CLASS_NAMES = ('Car', 'Pedestrian', 'Cyclist')  # that the benchmark is about
FIELDS = (
    *('truncated', 'occluded', 'alpha', 'x1', 'y1', 'x2', 'y2', 'height', 'width', 'length'),
    *('x', 'y', 'z', 'rotation_y', 'score'),
)  # after the type; labels have no score
NOWHERE = -1000.0  # a coordinate if there is no 3D box
ROTATION_TOLERANCE = 0.05  # of a rotation times its transpose
MIN_UPRIGHT = 0.5  # cosine between the LiDAR's up and the camera's; boxes stand on both
NEAR_PLANE = 0.1  # [m]; what is nearer to the camera, or behind it, has no place in the image

# Corners of a unit box as multiples of length, height, width, bottom at 0, and its twelve edges.
UNIT_CORNERS = np.array([(x, y, z) for x in (0.5, -0.5) for y in (0, -1) for z in (0.5, -0.5)])
EDGES = np.array([(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit])


@dataclass(frozen=True)
class KittiObjects:
    """Labelled or detected objects of one frame, as KITTI's files hold them.

    Attributes:
        names: (N,) str class names.
        truncated: (N,) part of the object outside the image, 0..1; -1 where not given.
        occluded: (N,) int64, 0 visible, 1 partly, 2 largely, 3 unknown; -1 where not given.
        alpha: (N,) observation angle [rad]; -10 where not given.
        boxes_2d: (N, 4) x1, y1, x2, y2 [pixels].
        dimensions: (N, 3) height, width, length [m].
        locations: (N, 3) center of the bottom face [m], rectified camera frame.
        rotation_y: (N,) heading about the camera's y axis [rad].
        scores: (N,), any real numbers; None for labels.
    """

    names: NDArray[np.str_]
    truncated: Array
    occluded: NDArray[np.int64]
    alpha: Array
    boxes_2d: Array
    dimensions: Array
    locations: Array
    rotation_y: Array
    scores: Array | None = None

    def __post_init__(self) -> None:
        rows = len(self.names)
        wide = {'boxes_2d': (rows, 4), 'dimensions': (rows, 3), 'locations': (rows, 3)}
        for field in fields(self):
            value, shape = getattr(self, field.name), wide.get(field.name, (rows,))
            if value is not None and value.shape != shape:
                raise ValueError(f'{field.name} must be of shape {shape}, not {value.shape}')

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lacks_box_2d(self) -> NDArray[np.bool_]:
        """(N,) whether the 2D box has no area, as `0 0 0 0` and `-1 -1 -1 -1` have none."""
        left, top, right, bottom = self.boxes_2d.T
        lacks: NDArray[np.bool_] = (right <= left) | (bottom <= top)
        return lacks

    def __getitem__(self, keep: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> KittiObjects:
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.scores is None:
            del columns['scores']
        return KittiObjects(**{name: column[keep] for name, column in columns.items()})


@dataclass(frozen=True)
class Difficulty:
    """What a label must be to count in KITTI's benchmark.

    Attributes:
        min_height: of the 2D box [pixels]; a label must exceed it, a detection reach it.
        max_occlusion: 0 visible, 1 partly, 2 largely occluded.
        max_truncation: part of the object outside the image.
    """

    min_height: int
    max_occlusion: int
    max_truncation: float

    def includes(self, objects: KittiObjects) -> NDArray[np.bool_]:
        """(N,) whether each label counts."""
        height = objects.boxes_2d[:, 3] - objects.boxes_2d[:, 1]
        visible = (objects.occluded <= self.max_occlusion) & (height > self.min_height)
        counts: NDArray[np.bool_] = visible & (objects.truncated <= self.max_truncation)
        return counts

    def exclusions(self, objects: KittiObjects) -> dict[str, int]:
        """How many labels do not count, by the first reason of each."""
        height = objects.boxes_2d[:, 3] - objects.boxes_2d[:, 1]
        reasons = {
            'without a 2D box': objects.lacks_box_2d,
            f'at most {self.min_height} pixels high': height <= self.min_height,
            f'occluded above {self.max_occlusion}': objects.occluded > self.max_occlusion,
            f'truncated above {self.max_truncation}': objects.truncated > self.max_truncation,
        }
        first = np.argmax([*reasons.values()], axis=0)[~self.includes(objects)]
        counts = zip(reasons, np.bincount(first, minlength=len(reasons)).tolist(), strict=True)
        return {reason: count for reason, count in counts if count}


DIFFICULTIES = {
    'easy': Difficulty(40, 0, 0.15),
    'moderate': Difficulty(25, 1, 0.3),
    'hard': Difficulty(25, 2, 0.5),
}


@dataclass(frozen=True)
class Calibration:
    """Poses of camera and LiDAR relative to each other.

    Attributes:
        camera_from_lidar: (4, 4), to the rectified camera frame (`R0_rect @ Tr_velo_to_cam`).
        image_from_camera: (3, 4), the projection of the left color camera (`P2`).
    """

    camera_from_lidar: Array
    image_from_camera: Array

    def project(self, points: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
        """Project points into the image.

        Args:
            points: (N, 3) x, y, z [m], LiDAR frame.

        Returns:
            (N, 2) pixels, x to the right and y down, and (N,) depth [m]. The pixels of points
            whose depth is not positive mean nothing.
        """
        return _project(self, transform_points(self.camera_from_lidar, points))


class KittiAnnotations(NamedTuple):
    """What the KITTI metric needs of a frame.

    Attributes:
        objects: all labels, those of other classes and `DontCare` areas too.
        calibration: of camera and LiDAR.
        image_size: width, height [pixels].
    """

    objects: KittiObjects
    calibration: Calibration
    image_size: tuple[int, int]


def read_objects(path: Path) -> KittiObjects:
    """Read a label file (15 fields a line) or a result file (16, the last one is the score).

    Raises:
        DatasetError: no such file, or a line that is not of this form.
    """
    return parse_objects(read_text(path, DatasetError), str(path))


def parse_objects(text: str, where: str) -> KittiObjects:
    """The objects of the text of a label or result file.

    Raises:
        DatasetError: a line is not of this form.
    """
    lines = enumerate(text.splitlines(), start=1)
    rows = [(number, parts) for number, line in lines if (parts := line.split())]
    width = len(rows[0][1]) if rows else len(FIELDS)
    numbers = [_parse_line(parts, width, f'{where}:{number}') for number, parts in rows]
    values = np.array(numbers).reshape(len(rows), width - 1)
    return KittiObjects(
        names=np.array([parts[0] for _, parts in rows], dtype=np.str_),
        truncated=values[:, 0],
        occluded=values[:, 1].astype(np.int64),
        alpha=values[:, 2],
        boxes_2d=values[:, 3:7],
        dimensions=values[:, 7:10],
        locations=values[:, 10:13],
        rotation_y=values[:, 13],
        scores=values[:, 14] if width > len(FIELDS) else None,
    )


def format_objects(objects: KittiObjects) -> str:
    """The text of a label file, or of a result file if there are scores."""
    columns = [
        objects.truncated,
        *objects.boxes_2d.T,
        *objects.dimensions.T,
        *objects.locations.T,
        objects.rotation_y,
    ]
    lines = []
    for index, name in enumerate(objects.names):
        truncated, *rest = (f'{column[index]:.4f}' for column in columns)
        score = [] if objects.scores is None else [f'{objects.scores[index]:.9g}']
        occluded, alpha = str(objects.occluded[index]), f'{objects.alpha[index]:.4f}'
        lines.append(' '.join([str(name), truncated, occluded, alpha, *rest, *score]) + '\n')
    return ''.join(lines)


def numbers_of(objects: KittiObjects) -> list[list[float]]:
    """Each object's numbers, in the order of a label file."""
    columns = [
        *(objects.truncated[:, None], objects.occluded[:, None], objects.alpha[:, None]),
        *(objects.boxes_2d, objects.dimensions, objects.locations, objects.rotation_y[:, None]),
    ]
    numbers: list[list[float]] = np.concatenate(columns, axis=1).tolist()
    return numbers


def write_results(folder: Path, detections: Mapping[str, KittiObjects]) -> None:
    """Write `<frame>.txt` for every frame; a frame without detections gets an empty file.

    Every file appears whole or not at all, and replaces the one of an earlier run.

    Args:
        folder: made if it is missing.
        detections: with scores, by the frame's name.

    Raises:
        DatasetError: result files of other frames are there.
        WriteError: the file system refuses.
        ValueError: detections have no scores.
    """
    for frame_id, objects in detections.items():
        if len(objects) and objects.scores is None:
            raise ValueError(f'the detections of frame {frame_id} have no scores')
    check_results_folder(folder, detections)
    with named_refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for frame_id, objects in detections.items():
        write_file(folder / f'{frame_id}.txt', format_objects(objects).encode())


def difficulties_of(objects: KittiObjects) -> NDArray[np.int64]:
    """(N,) place in `DIFFICULTIES` of the easiest one that includes each label, -1 for none."""
    levels = np.full(len(objects), -1)
    for level, difficulty in reversed(list(enumerate(DIFFICULTIES.values()))):
        levels[difficulty.includes(objects)] = level
    return levels


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file of the object benchmark.

    Raises:
        DatasetError: no such file, or one of `P2`, `R0_rect`, `Tr_velo_to_cam` is missing or
            malformed.
    """
    entries = dict(
        (key.strip(), (number, text))
        for number, line in enumerate(read_text(path, DatasetError).splitlines(), start=1)
        for key, separator, text in [line.partition(':')]
        if separator
    )
    rectification, camera_from_lidar = np.eye(4), np.eye(4)
    rectification[:3, :3] = _matrix(path, entries, 'R0_rect', (3, 3))
    camera_from_lidar[:3] = _matrix(path, entries, 'Tr_velo_to_cam', (3, 4))
    return Calibration(rectification @ camera_from_lidar, _matrix(path, entries, 'P2', (3, 4)))


def calibration_problem(calibration: Calibration) -> str:
    """Why boxes cannot be converted from the camera to the LiDAR; empty if they can."""
    rotation = calibration.camera_from_lidar[:3, :3]
    with np.errstate(over='ignore', invalid='ignore'):
        turned_back = rotation @ rotation.T
    if not np.allclose(turned_back, np.eye(3), rtol=0, atol=ROTATION_TOLERANCE):
        return 'R0_rect times Tr_velo_to_cam is not a rotation'
    if rotation[1, 2] > -MIN_UPRIGHT:  # of an identity it is 0
        return (
            'R0_rect times Tr_velo_to_cam, an identity or of other axes, does not turn the '
            "LiDAR's x forward, y left, z up into the camera's x right, y down, z forward, so "
            'boxes would not stand upright'
        )
    return ''


def format_calibration(calibration: Calibration) -> str:
    """The text of a calibration file; all four cameras get the same values."""
    camera, identity = calibration.image_from_camera, np.eye(3, 4)
    matrices = {f'P{index}': camera for index in range(4)} | {
        'R0_rect': np.eye(3),
        'Tr_velo_to_cam': calibration.camera_from_lidar[:3],
        'Tr_imu_to_velo': identity,
    }
    return ''.join(
        f'{key}: ' + ' '.join(f'{value:.12e}' for value in matrix.flat) + '\n'
        for key, matrix in matrices.items()
    )


def camera_calibration(camera: CameraConfig) -> Calibration:
    """A camera at the LiDAR that looks along +x, with KITTI's focal length."""
    width, height = camera.image_size
    focal = camera.focal_length
    image_from_camera = np.array(
        [[focal, 0, width / 2, 0], [0, focal, height / 2, 0], [0, 0, 1, 0]], np.float64
    )
    camera_from_lidar = np.array(
        [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64
    )
    return Calibration(camera_from_lidar, image_from_camera)


def boxes_from_objects(objects: KittiObjects, calibration: Calibration) -> NDArray[np.float32]:
    """Boxes in the LiDAR frame; leave `DontCare` objects out first, which have none.

    Returns:
        (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad].
    """
    lidar_from_camera = np.linalg.inv(calibration.camera_from_lidar)
    centers = transform_points(lidar_from_camera, objects.locations)
    height, width, length = objects.dimensions.T
    yaw = wrap_angle(-(objects.rotation_y + math.pi / 2))
    boxes = [centers[:, 0], centers[:, 1], centers[:, 2] + height / 2, length, width, height, yaw]
    return np.stack(boxes, axis=1).astype(np.float32)


def objects_from_boxes(
    boxes: NDArray[np.floating[Any]],
    names: Sequence[str] | NDArray[np.str_],
    calibration: Calibration,
    image_size: tuple[int, int],
    scores: NDArray[np.floating[Any]] | None = None,
) -> KittiObjects:
    """Objects as KITTI's files hold them; occlusion is not known, so it is 0.

    Args:
        boxes: (N, 7) x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        names: N class names.
        calibration: of the frame.
        image_size: width, height [pixels]; 2D boxes are clipped to it. A box that the camera
            does not see has a 2D box without area and is wholly truncated.
        scores: (N,), None for labels.
    """
    x, y, z, length, width, height, yaw = boxes.astype(np.float64).T
    bottoms = np.stack([x, y, z - height / 2], axis=1)
    locations = transform_points(calibration.camera_from_lidar, bottoms).astype(np.float64)
    dimensions = np.stack([height, width, length], axis=1)
    rotation_y: Array = wrap_angle(-yaw - math.pi / 2)
    corners = _corners(locations, dimensions, rotation_y)
    boxes_2d, truncated = _boxes_in_image(calibration, corners, image_size)
    bearing: Array = np.arctan2(locations[:, 0], locations[:, 2])
    return KittiObjects(
        names=np.array(names, dtype=np.str_),
        truncated=truncated,
        occluded=np.zeros(len(boxes), np.int64),
        alpha=wrap_angle(rotation_y - bearing),
        boxes_2d=boxes_2d,
        dimensions=dimensions,
        locations=locations,
        rotation_y=rotation_y,
        scores=None if scores is None else scores.astype(np.float64),
    )


def project_missing_boxes(
    objects: KittiObjects, calibration: Calibration, image_size: tuple[int, int]
) -> KittiObjects:
    """Give objects without a 2D box the projection of their 3D box.

    Objects without either, and those that are not in the image, stay as they are.

    Args:
        objects: of one frame, labels or detections.
        calibration: of the frame.
        image_size: width, height [pixels]; 2D boxes are clipped to it.
    """
    located = (objects.locations != NOWHERE).all(axis=1) & (objects.dimensions > 0).all(axis=1)
    found = objects[missing := np.flatnonzero(objects.lacks_box_2d & located)]
    projected = _projected_boxes(found, calibration, image_size)
    seen = (projected[:, 2:] > projected[:, :2]).all(axis=1)
    boxes_2d = objects.boxes_2d.copy()
    boxes_2d[missing[seen]] = projected[seen]
    return replace(objects, boxes_2d=boxes_2d)


def reach_into_image(
    objects: KittiObjects, calibration: Calibration, image_size: tuple[int, int]
) -> NDArray[np.bool_]:
    """(N,) whether a part of the 3D box is in the image and in front of the camera.

    Args:
        objects: of one frame; what their 2D boxes say does not matter.
        calibration: of the frame.
        image_size: width, height [pixels].
    """
    left, top, right, bottom = _projected_boxes(objects, calibration, image_size).T
    reach: NDArray[np.bool_] = (right > left) & (bottom > top)
    return reach


def _projected_boxes(
    objects: KittiObjects, calibration: Calibration, image_size: tuple[int, int]
) -> Array:
    """(N, 4) 2D boxes of the 3D boxes, clipped to the image; without area if nothing is in it."""
    corners = _corners(objects.locations, objects.dimensions, objects.rotation_y)
    return _boxes_in_image(calibration, corners, image_size)[0]


def _project(calibration: Calibration, points: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
    """`Calibration.project` of points (N, 3) in the camera frame."""
    camera = calibration.image_from_camera
    projected = points @ camera[:, :3].T + camera[:, 3]
    depth = projected[:, 2]
    return projected[:, :2] / np.where(depth == 0, 1, depth)[:, None], depth


def _corners(locations: Array, dimensions: Array, rotation_y: Array) -> Array:
    """(N, 8, 3) in the camera frame, ordered as `UNIT_CORNERS`."""
    forward, down, left = np.moveaxis(UNIT_CORNERS * dimensions[:, None, [2, 0, 1]], -1, 0)
    cos, sin = np.cos(rotation_y)[:, None], np.sin(rotation_y)[:, None]
    offsets = [forward * cos + left * sin, down, left * cos - forward * sin]
    corners: Array = locations[:, None] + np.stack(offsets, axis=-1)
    return corners


def _boxes_in_image(
    calibration: Calibration, corners: Array, image_size: tuple[int, int]
) -> tuple[Array, Array]:
    """2D boxes (N, 4) clipped to the image, and the part (N,) of each that lies outside it."""
    ends, in_front = _visible_edge_ends(corners)
    pixels = _project(calibration, ends.reshape(-1, 3))[0].reshape(len(corners), ends.shape[1], 2)
    low = np.where(in_front[..., None], pixels, np.inf).min(axis=1)
    high = np.where(in_front[..., None], pixels, -np.inf).max(axis=1)
    seen = in_front.max(axis=1, keepdims=True)
    low, high = np.where(seen, low, 0), np.where(seen, high, 0)
    last_pixel = np.array(image_size) - 1
    clipped_low, clipped_high = low.clip(0, last_pixel), high.clip(0, last_pixel)
    whole, inside = (high - low).prod(axis=1), (clipped_high - clipped_low).prod(axis=1)
    truncated = 1 - np.divide(inside, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.concatenate([clipped_low, clipped_high], axis=1), truncated


def _visible_edge_ends(corners: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Ends (N, 24, 3) of the boxes' edges, cut at the near plane, and which of them are visible.

    Projecting the corners alone would be wrong for a box that reaches behind the camera.
    """
    start, stop = corners[:, EDGES[:, 0]], corners[:, EDGES[:, 1]]
    depth_start, depth_stop = start[..., 2], stop[..., 2]
    run = np.where(depth_start == depth_stop, 1, depth_stop - depth_start)
    crossing: Array = np.clip((NEAR_PLANE - depth_start) / run, 0, 1)
    cut = start + crossing[..., None] * (stop - start)
    cut_start = np.where(depth_start[..., None] < NEAR_PLANE, cut, start)
    cut_stop = np.where(depth_stop[..., None] < NEAR_PLANE, cut, stop)
    visible = np.maximum(depth_start, depth_stop) >= NEAR_PLANE
    return np.concatenate([cut_start, cut_stop], axis=1), np.concatenate([visible] * 2, axis=1)


def _parse_line(parts: list[str], width: int, where: str) -> list[float]:
    if len(parts) != width or width not in {len(FIELDS), len(FIELDS) + 1}:
        raise DatasetError(
            f'{where}: {len(parts)} fields; a label has {len(FIELDS)}, '
            f'a result {len(FIELDS) + 1}, and all lines of a file must agree'
        )
    return _numbers(parts[1:], FIELDS[: width - 1], where)


def _numbers(texts: Sequence[str], names: Sequence[str], where: str) -> list[float]:
    values = []
    for text, name in zip(texts, names, strict=True):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DatasetError(f'{where}: {name}: {text!r} is not a finite number')
        values.append(value)
    return values


def _matrix(
    path: Path, entries: dict[str, tuple[int, str]], key: str, shape: tuple[int, int]
) -> Array:
    if key not in entries:
        raise DatasetError(f'{path}: lacks {key}; it has {sorted(entries)}')
    number, text = entries[key]
    parts = text.split()
    if len(parts) != shape[0] * shape[1]:
        raise DatasetError(
            f'{path}:{number}: {key} has {len(parts)} numbers instead of {shape[0] * shape[1]}'
        )
    values = _numbers(parts, [key] * len(parts), f'{path}:{number}')
    return np.array(values).reshape(shape)
