# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a folder in the layout of the KITTI object benchmark."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
import json
import logging
from pathlib import Path
import struct

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DatasetConfig
from pointdistiller_core.datasets.frame_cache import keep_frame
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.geometry.intensity import scale_intensity
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

SUFFIXES = {'velodyne': '.bin', 'label_2': '.txt', 'calib': '.txt', 'image_2': '.png'}
FRAME_VERSION = 1  # of what is made from the files, and of how it is kept
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

    def __init__(
        self,
        config: DatasetConfig,
        class_names: Sequence[str],
        *,
        labelled: bool = True,
        frame_ids: Sequence[str] | None = None,
    ) -> None:
        """Read the list of frames.

        Args:
            config: root folder, split, and whether to keep only what the camera sees.
            class_names: labels are indices into these; KITTI's other classes are ignored ones.
            labelled: whether to read labels. Without, `label_2` may be missing, and `calib`, too,
                unless it is needed to know what the camera sees.
            frame_ids: which frames; None is those of the split.

        Raises:
            DatasetError: no such split, or it lists no frames.
        """
        self.class_names = tuple(class_names)
        listed = _read_split(config.root / 'ImageSets', config.split) if frame_ids is None else ()
        self.frame_ids = listed or tuple(frame_ids or ())
        self.cache = config.cache or config.root / '.cache'
        self._root = config.root
        self._labelled = labelled
        self._camera_view = config.camera_view
        self._cache_frames = config.cache_frames
        self._intensity_scale = config.intensity_scale
        self._image_sizes = _read_image_sizes(config.root / 'image_sizes.json')

    def __len__(self) -> int:
        return len(self.frame_ids)

    def __getitem__(self, index: int) -> Frame:
        """Points and labels, if any; points that are not finite are dropped with a warning.

        Raises:
            DatasetError: a file of the frame is missing or malformed, or the frame is to be kept
                and cannot be.
        """
        if not self._cache_frames:
            return self._read_frame(index)
        file = self.cache / 'frames' / f'{self.fingerprint(index)}.safetensors'
        return keep_frame(file, self.frame_ids[index], lambda: self._read_frame(index))

    def objects(self, index: int) -> KittiObjects:
        """All labels of a frame, those of other classes and `DontCare` areas too.

        Raises:
            DatasetError: the label file is missing or malformed.
        """
        return read_objects(self.path('label_2', index))

    def calibration(self, index: int) -> Calibration:
        """Camera and LiDAR of a frame.

        Raises:
            DatasetError: the calibration file is missing or malformed.
        """
        return read_calibration(self.path('calib', index))

    def image_size(self, index: int) -> tuple[int, int]:
        """Width, height [pixels] of the camera's image of a frame.

        Raises:
            DatasetError: the image is not a PNG file.
        """
        if size := self._image_sizes.get(self.frame_ids[index]):
            return size
        image = self.path('image_2', index)
        return _png_size(image) if image.exists() else DEFAULT_IMAGE_SIZE

    def fingerprint(self, index: int) -> str:
        """Another one whenever a frame is made from something else.

        Of the files it sees name, size and time of the last change.

        Raises:
            DatasetError: a file of the frame is missing, or the image is malformed.
        """
        try:
            states = [self.path(folder, index).stat() for folder in self._needed]
        except OSError as error:
            raise DatasetError(f'{error.filename}: {error.strerror}') from error
        facts = (
            *(FRAME_VERSION, self.class_names, self._camera_view, self.frame_ids[index]),
            *(self.image_size(index), [(state.st_size, state.st_mtime_ns) for state in states]),
            *([self._intensity_scale] if self._intensity_scale != 1 else []),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]

    def path(self, folder: str, index: int) -> Path:
        """A file of a frame; `folder` is one of `SUFFIXES`."""
        return self._root / 'training' / folder / (self.frame_ids[index] + SUFFIXES[folder])

    def _read_frame(self, index: int) -> Frame:
        points = read_points(self.path('velodyne', index))
        points = scale_intensity(points, self._intensity_scale)
        if self._camera_view:
            seen = _in_image(points, self.calibration(index), self.image_size(index))
            points = points.take(seen, axis=0)
        truth = self._ground_truth(index) if self._labelled else None
        return Frame(points, self.frame_ids[index], truth)

    @property
    def _needed(self) -> tuple[str, ...]:
        """Folders of the files that a frame is made from."""
        labels = ('label_2',) if self._labelled else ()
        calibration = ('calib',) if self._labelled or self._camera_view else ()
        return ('velodyne', *labels, *calibration)

    def _ground_truth(self, index: int) -> GroundTruth:
        objects = self.objects(index)
        objects = objects[objects.names != DONT_CARE]
        if problems := label_problems(objects, self.class_names):
            raise DatasetError(f'{self.path("label_2", index)}: {"; ".join(problems)}')
        numbers = {name: number for number, name in enumerate(self.class_names)}
        labels = [numbers.get(str(name), IGNORE_LABEL) for name in objects.names]
        boxes = boxes_from_objects(objects, self.calibration(index))
        return GroundTruth(boxes, np.array(labels, np.int64))


def label_problems(objects: KittiObjects, class_names: Sequence[str]) -> list[str]:
    """What makes labels unusable.

    Args:
        objects: of one frame, without `DontCare` areas, which have no box.
        class_names: that are known beside KITTI's own.
    """
    problems = []
    known = KITTI_CLASSES | set(class_names)
    if unknown := sorted(set(objects.names.tolist()) - known):
        problems.append(f'unknown classes {unknown}; expected some of {sorted(known)}')
    flat = objects[objects.dimensions.min(axis=1) <= 0]
    for name, size in zip(flat.names, flat.dimensions, strict=True):
        sizes = size.tolist()
        problems.append(f'{name} of height, width, length {sizes}; all must be positive')
    return problems


def read_points(path: Path) -> NDArray[np.float32]:
    """Read a Velodyne sweep; points that are not finite are dropped with a warning.

    Returns:
        (N, 4) float32 x, y, z [m], intensity [0..1], LiDAR frame.

    Raises:
        DatasetError: no such file, or its end is missing.
    """
    points = read_sweep(path)
    if np.isfinite(points).all():
        return points
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(points), axis=1)
    logger.warning('%s: dropped %d of %d points, not finite', path, (~finite).sum(), len(points))
    return points[finite]


def read_sweep(path: Path) -> NDArray[np.float32]:
    """Read a Velodyne sweep as it is.

    Returns:
        (N, 4) float32 x, y, z [m], intensity [0..1], LiDAR frame; any number may be not finite.

    Raises:
        DatasetError: no such file, or its end is missing.
    """
    try:
        size = path.stat().st_size
        values = np.fromfile(path, np.dtype('<f4'))
    except FileNotFoundError as error:
        raise DatasetError(f'{path}: no such file') from error
    if size % BYTES_PER_POINT:
        raise DatasetError(
            f'{path}: truncated, {size} bytes are not a whole number of '
            f'{BYTES_PER_POINT}-byte points'
        )
    return values.reshape(-1, 4).astype(np.float32, copy=False)


def _read_split(folder: Path, split: str) -> tuple[str, ...]:
    return tuple(name for part in split.split('+') for name in _read_list(folder, part))


def _read_list(folder: Path, split: str) -> tuple[str, ...]:
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
) -> NDArray[np.int64]:
    """Indices of the points that `Calibration.project` puts into the image, in front of it."""
    image_from_lidar = calibration.image_from_camera @ calibration.camera_from_lidar
    # Half of a sweep is behind the camera: a quick look in single precision leaves that out.
    # Products of columns, not of matrices: for those, each loader process would start threads.
    a, b, c, d = image_from_lidar[2].astype(np.float32)
    x, y, z, _ = points.T
    ahead = np.flatnonzero(a * x + b * y + c * z > -0.01 - d)
    x, y, z, _ = points.take(ahead, axis=0).T.astype(np.float64)
    u, v, depth = (a * x + b * y + c * z + d for a, b, c, d in image_from_lidar)
    width, height = image_size
    inside = (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth) & (depth > 0)
    indices: NDArray[np.int64] = ahead[inside]
    return indices


def _png_size(path: Path) -> tuple[int, int]:
    with path.open('rb') as file:
        header = file.read(24)
    if len(header) < 24 or not header.startswith(b'\x89PNG'):
        raise DatasetError(f'{path}: not a PNG image')
    width, height = struct.unpack('>II', header[16:])
    return width, height
