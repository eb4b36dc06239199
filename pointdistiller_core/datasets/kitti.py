# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a folder in the layout of the KITTI object benchmark."""

from __future__ import annotations

from collections.abc import Sequence
import json
import logging
from pathlib import Path
import struct

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DatasetConfig
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.kitti_format import (
    DEFAULT_IMAGE_SIZE,
    Calibration,
    KittiObjects,
    boxes_from_objects,
    read_calibration,
    read_objects,
)
from pointdistiller_core.records import IGNORE_LABEL, Frame, GroundTruth

logger = logging.getLogger(__name__)

BYTES_PER_POINT = 16  # x, y, z, reflectance as float32
DONT_CARE = 'DontCare'
KITTI_CLASSES = frozenset(
    {
        *('Car', 'Van', 'Truck', 'Pedestrian', 'Person_sitting', 'Cyclist', 'Tram', 'Misc'),
        DONT_CARE,
    }
)


class KittiDataset:
    """`training/{velodyne,label_2,calib}` and `ImageSets/<split>.txt` below a root folder.

    Image sizes come from `image_sizes.json` ({frame: [width, height]}) of the root or from
    `training/image_2`; where neither knows a frame, its image has KITTI's usual size.
    """

    def __init__(self, config: DatasetConfig, class_names: Sequence[str]) -> None:
        """Read the list of frames.

        Args:
            config: root folder, split, and whether to keep only what the camera sees.
            class_names: labels are indices into these; KITTI's other classes are ignored ones.

        Raises:
            DatasetError: no such split, or it lists no frames.
        """
        self.class_names = tuple(class_names)
        self.frame_ids = _read_split(config.root / 'ImageSets', config.split)
        self._root = config.root
        self._camera_view = config.camera_view
        self._image_sizes = _read_image_sizes(config.root / 'image_sizes.json')

    def __len__(self) -> int:
        return len(self.frame_ids)

    def __getitem__(self, index: int) -> Frame:
        """Points and labels; points that are not finite are dropped with a warning.

        Raises:
            DatasetError: a file of the frame is missing or malformed.
        """
        calibration = self.calibration(index)
        points = read_points(self._path('velodyne', index, '.bin'))
        if self._camera_view:
            points = points[_in_image(points, calibration, self.image_size(index))]
        return Frame(
            points=points,
            frame_id=self.frame_ids[index],
            ground_truth=self._ground_truth(index, calibration),
        )

    def objects(self, index: int) -> KittiObjects:
        """All labels of a frame, those of other classes and `DontCare` areas too.

        Raises:
            DatasetError: the label file is missing or malformed.
        """
        return read_objects(self._path('label_2', index, '.txt'))

    def calibration(self, index: int) -> Calibration:
        """Camera and LiDAR of a frame.

        Raises:
            DatasetError: the calibration file is missing or malformed.
        """
        return read_calibration(self._path('calib', index, '.txt'))

    def image_size(self, index: int) -> tuple[int, int]:
        """Width, height [pixels] of the camera's image of a frame.

        Raises:
            DatasetError: the image is not a PNG file.
        """
        if size := self._image_sizes.get(self.frame_ids[index]):
            return size
        image = self._path('image_2', index, '.png')
        return _png_size(image) if image.exists() else DEFAULT_IMAGE_SIZE

    def _path(self, folder: str, index: int, suffix: str) -> Path:
        return self._root / 'training' / folder / (self.frame_ids[index] + suffix)

    def _ground_truth(self, index: int, calibration: Calibration) -> GroundTruth:
        objects = self.objects(index)
        objects = objects[objects.names != DONT_CARE]
        if problem := self._problem(objects):
            raise DatasetError(f'{self._path("label_2", index, ".txt")}: {problem}')
        numbers = {name: number for number, name in enumerate(self.class_names)}
        labels = [numbers.get(str(name), IGNORE_LABEL) for name in objects.names]
        return GroundTruth(boxes_from_objects(objects, calibration), np.array(labels, np.int64))

    def _problem(self, objects: KittiObjects) -> str:
        """What makes the labels unusable; empty where nothing does."""
        known = KITTI_CLASSES | set(self.class_names)
        if unknown := sorted(set(objects.names.tolist()) - known):
            return f'unknown classes {unknown}; expected some of {sorted(known)}'
        if (flat := (objects.dimensions <= 0).any(axis=1)).any():
            name, size = objects.names[flat][0], objects.dimensions[flat][0].tolist()
            return f'{name} of height, width, length {size}; all must be positive'
        return ''


def read_points(path: Path) -> NDArray[np.float32]:
    """Read a Velodyne sweep; points that are not finite are dropped with a warning.

    Returns:
        (N, 4) float32 x, y, z [m], intensity [0..1], LiDAR frame.

    Raises:
        DatasetError: no such file, or its end is missing.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(f'{path}: no such file') from error
    if len(content) % BYTES_PER_POINT:
        raise DatasetError(
            f'{path}: truncated, {len(content)} bytes are not a whole number of '
            f'{BYTES_PER_POINT}-byte points'
        )
    points = np.frombuffer(content, np.dtype('<f4')).reshape(-1, 4).astype(np.float32)
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(points), axis=1)
    if finite.all():
        return points
    logger.warning('%s: dropped %d of %d points, not finite', path, (~finite).sum(), len(points))
    return points[finite]


def _read_split(folder: Path, split: str) -> tuple[str, ...]:
    path = folder / f'{split}.txt'
    if not path.is_file():
        splits = sorted(file.stem for file in folder.glob('*.txt'))
        raise DatasetError(f'{path}: no such split; {folder} has {splits}')
    frame_ids = tuple(path.read_text(encoding='utf-8').split())
    if not frame_ids:
        raise DatasetError(f'{path}: lists no frames')
    return frame_ids


def _read_image_sizes(path: Path) -> dict[str, tuple[int, int]]:
    if not path.exists():
        return {}
    try:
        sizes = json.loads(path.read_text(encoding='utf-8'))
        return {name: (int(width), int(height)) for name, (width, height) in sizes.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(f'{path}: expected {{frame: [width, height]}}: {error}') from error


def _in_image(
    points: NDArray[np.float32], calibration: Calibration, image_size: tuple[int, int]
) -> NDArray[np.bool_]:
    pixels, depth = calibration.project(points[:, :3])
    inside: NDArray[np.bool_] = ((pixels >= 0) & (pixels < image_size)).all(axis=1) & (depth > 0)
    return inside


def _png_size(path: Path) -> tuple[int, int]:
    with path.open('rb') as file:
        header = file.read(24)
    if len(header) < 24 or not header.startswith(b'\x89PNG'):
        raise DatasetError(f'{path}: not a PNG image')
    width, height = struct.unpack('>II', header[16:])
    return width, height
