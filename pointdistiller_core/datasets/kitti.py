# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a folder in the layout of the KITTI object benchmark."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import POINT_FEATURES, KittiConfig
from pointdistiller_core.datasets.frame_cache import keep_frame
from pointdistiller_core.datasets.image_sizes import (
    measure_image,
    read_image_sizes,
    size_from_principal_point,
)
from pointdistiller_core.datasets.notes import warn_once
from pointdistiller_core.datasets.point_files import drop_not_finite
from pointdistiller_core.datasets.raw_points import KITTI_LAYOUT, find_layout, read_raw
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import read_text
from pointdistiller_core.formats.kitti import (
    DIFFICULTIES,
    DONT_CARE,
    Calibration,
    KittiAnnotations,
    KittiObjects,
    boxes_from_objects,
    calibration_problem,
    difficulties_of,
    project_missing_boxes,
    reach_into_image,
    read_calibration,
    read_objects,
)
from pointdistiller_core.geometry.intensity import scale_intensity
from pointdistiller_core.records import IGNORE_LABEL, Frame, GroundTruth

logger = logging.getLogger(__name__)

SUFFIXES = {'velodyne': '.bin', 'label_2': '.txt', 'calib': '.txt'}
FRAME_VERSION = 4  # of the frames made from the files, and of their cache
REWRITE = "points.astype('float32').tofile(file) writes it of points (N, 4)"
KITTI_CLASSES = frozenset(
    {
        *('Car', 'Van', 'Truck', 'Pedestrian', 'Person_sitting', 'Cyclist', 'Tram', 'Misc'),
        DONT_CARE,
    }
)


class KittiDataset:
    """`training/{velodyne,label_2,calib}` and `ImageSets/<split>.txt` below a root folder.

    Image sizes come from `image_sizes.json` ({frame: [width, height]}) of the root or from
    `training/image_2`; where neither knows a frame, the principal point is the image's middle.
    """

    layout = "a folder in KITTI's layout (training/velodyne, ImageSets/)"
    metric = 'kitti'
    point_features = POINT_FEATURES
    levels = tuple(DIFFICULTIES)

    @staticmethod
    def lies_at(path: Path) -> bool:
        """Whether a folder has one of KITTI's own folders."""
        return any((path / name).is_dir() for name in ('training', 'ImageSets'))

    @staticmethod
    def is_labelled(config: KittiConfig) -> bool:
        """Whether there is a folder of labels."""
        return (config.root / 'training' / 'label_2').is_dir()

    def __init__(
        self,
        config: KittiConfig,
        class_names: Sequence[str],
        *,
        labelled: bool = True,
        frame_ids: Sequence[str] | None = None,
    ) -> None:
        """Read the list of frames.

        Args:
            config: root folder, split, and whether to keep only what the camera sees.
            class_names: labels are indices into these; KITTI's other classes are ignored ones.
            labelled: whether to read labels. Otherwise `label_2` may be missing, and so may
                `calib`, unless it is needed to know what the camera sees.
            frame_ids: which frames; None is those of the split.

        Raises:
            DatasetError: no such split, or it lists no frames.
        """
        self.class_names = tuple(class_names)
        listed = _read_split(config.root / 'ImageSets', config.split) if frame_ids is None else ()
        self.frame_ids = listed or tuple(frame_ids or ())
        self.cache = config.cache or config.root / '.cache'
        self._root = config.root
        self.labelled = labelled
        self.camera_view = config.camera_view
        self._cache_frames = config.cache_frames
        self.intensity_scale = config.intensity_scale
        self.class_map = dict(config.class_map)
        self._image_sizes = read_image_sizes(config.root / 'image_sizes.json')

    def __len__(self) -> int:
        return len(self.frame_ids)

    def __getitem__(self, index: int) -> Frame:
        """Points and labels, if any; points that are not finite are dropped with a warning.

        Raises:
            DatasetError: a file of the frame is missing or malformed, or the frame cannot be
                cached.
        """
        if not self._cache_frames:
            return self._read_frame(index)
        file = self.cache / 'frames' / f'{self.fingerprint(index)}.safetensors'
        return keep_frame(file, self.frame_ids[index], lambda: self._read_frame(index))

    def labels(self, index: int) -> GroundTruth:
        """Labels of a frame, seen by the camera or not, without `DontCare` areas.

        Raises:
            DatasetError: the label file or the calibration is missing or malformed.
        """
        return self._ground_truth(index, self.calibration(index), None)

    def annotations(self, index: int) -> KittiAnnotations:
        """The annotations that the KITTI metric needs of a frame.

        Raises:
            DatasetError: as `objects`, `calibration` and `image_size`.
        """
        return KittiAnnotations(
            self.objects(index), self.calibration(index), self.image_size(index)
        )

    def objects(self, index: int) -> KittiObjects:
        """All labels of a frame, also of other classes and `DontCare` areas, after `complete`.

        Raises:
            DatasetError: the label file is missing or malformed.
        """
        path = self.path('label_2', index)
        labels = read_objects(path)
        if self.class_map:
            names = [self.class_map.get(name, name) for name in labels.names.tolist()]
            labels = replace(labels, names=np.array(names, np.str_))
        completed = self.complete(index, labels)
        projected = labels.lacks_box_2d & ~completed.lacks_box_2d
        if projected.any():
            warn_once(
                *(logger, self._root),
                '%s: labels without a 2D box here, and maybe in other frames, get that of their '
                '3D box, which decides about their difficulty; see check-dataset',
                path,
            )
        return completed

    def label_names(self, index: int) -> list[str]:
        """Class of each label of a frame, as the file has it, without `DontCare` areas.

        Raises:
            DatasetError: the label file is missing or malformed.
        """
        names: list[str] = read_objects(self.path('label_2', index)).names.tolist()
        return [name for name in names if name != DONT_CARE]

    def complete(self, index: int, objects: KittiObjects) -> KittiObjects:
        """Objects of a frame, with missing 2D boxes replaced by the projection of the 3D box.

        Those of a frame without a calibration or without an image size are not changed.

        Raises:
            DatasetError: the calibration file or the image is malformed.
        """
        if not objects.lacks_box_2d.any() or not self.path('calib', index).exists():
            return objects
        calibration = self.calibration(index)
        size = self.find_image_size(index) or size_from_principal_point(calibration)
        return project_missing_boxes(objects, calibration, size) if size else objects

    def calibration(self, index: int) -> Calibration:
        """Camera and LiDAR of a frame.

        Raises:
            DatasetError: the calibration file is missing or malformed, or turns no box upright.
        """
        path = self.path('calib', index)
        calibration = read_calibration(path)
        if problem := calibration_problem(calibration):
            raise DatasetError(f'{path}: {problem}')
        return calibration

    def image_size(self, index: int) -> tuple[int, int]:
        """Width, height [pixels] of the camera's image of a frame.

        Raises:
            DatasetError: the image is not valid; nothing gives the size; or the calibration is
                missing or malformed and is needed for it.
        """
        return self.find_image_size(index) or self._assumed_size(index, self.calibration(index))

    def find_image_size(self, index: int) -> tuple[int, int] | None:
        """Width, height [pixels] from `image_sizes.json` or the image; None without both.

        Raises:
            DatasetError: the image is none.
        """
        return self.listed_image_size(index) or self.measure_image(index)

    def listed_image_size(self, index: int) -> tuple[int, int] | None:
        """Width, height [pixels] from `image_sizes.json`, if it has them."""
        return self._image_sizes.get(self.frame_ids[index])

    def measure_image(self, index: int) -> tuple[int, int] | None:
        """Width, height [pixels] of the image itself; None where there is none.

        Raises:
            DatasetError: it is no image.
        """
        return measure_image(self._root / 'training' / 'image_2', self.frame_ids[index])

    def seen(self, index: int, objects: KittiObjects) -> NDArray[np.bool_]:
        """(N,) which labels of a frame the camera sees, at least in part; all without camera_view.

        Raises:
            DatasetError: as `image_size`, or the calibration is missing or malformed.
        """
        if not self.camera_view:
            return np.ones(len(objects), np.bool_)
        return reach_into_image(objects, self.calibration(index), self.image_size(index))

    def fingerprint(self, index: int) -> str:
        """A text that changes whenever the frame does.

        It depends on name, size and time of the last change of the files.

        Raises:
            DatasetError: a file of the frame is missing, or the image is malformed.
        """
        try:
            states = [self.path(folder, index).stat() for folder in self._needed]
        except OSError as error:
            raise DatasetError(f'{error.filename}: {error.strerror}') from error
        facts = (
            *(FRAME_VERSION, self.class_names, self.camera_view, self.frame_ids[index]),
            *(
                self.find_image_size(index),
                [(state.st_size, state.st_mtime_ns) for state in states],
            ),
            *([self.intensity_scale] if self.intensity_scale != 1 else []),
            *([sorted(self.class_map.items())] if self.class_map else []),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]

    def path(self, folder: str, index: int) -> Path:
        """A file of a frame; `folder` is one of `SUFFIXES`."""
        return self._root / 'training' / folder / (self.frame_ids[index] + SUFFIXES[folder])

    def _read_frame(self, index: int) -> Frame:
        path = self.path('velodyne', index)
        points, truth = drop_not_finite(read_sweep(path), path), None
        points = scale_intensity(points, self.intensity_scale)
        if not (self.camera_view or self.labelled):
            return Frame(points, self.frame_ids[index])
        calibration, size = self.calibration(index), None
        if self.camera_view:
            size = self.find_image_size(index) or self._assumed_size(index, calibration)
            seen = points_in_image(points, calibration, size)
            if len(points) and not len(seen):
                raise DatasetError(
                    f'{path}: {nothing_in_view(len(points), size)}; dataset.camera_view=false '
                    'keeps them all'
                )
            points = points.take(seen, axis=0)
        if self.labelled:
            truth = self._ground_truth(index, calibration, size)
        return Frame(points, self.frame_ids[index], truth)

    def _assumed_size(self, index: int, calibration: Calibration) -> tuple[int, int]:
        size = size_from_principal_point(calibration)
        if size is None:
            raise DatasetError(
                f'{self.path("calib", index)}: {unknown_size(calibration)}; without '
                'dataset.camera_view it does not matter to a training'
            )
        warn_once(
            *(logger, self._root),
            '%s: frame %s, and maybe others, has no image and no entry in image_sizes.json; '
            'its size is taken as %d x %d, from the principal point; see check-dataset',
            *(self._root, self.frame_ids[index], *size),
        )
        return size

    @property
    def _needed(self) -> tuple[str, ...]:
        """Folders of the files that a frame is made from."""
        labels = ('label_2',) if self.labelled else ()
        calibration = ('calib',) if self.labelled or self.camera_view else ()
        return ('velodyne', *labels, *calibration)

    def _ground_truth(
        self, index: int, calibration: Calibration, image_size: tuple[int, int] | None
    ) -> GroundTruth:
        """Labels as boxes; those outside the image, if there is one, are ignored."""
        objects = self.objects(index)
        objects = objects[objects.names != DONT_CARE]
        known = {*self.class_names, *self.class_map.values()}
        if problems := label_problems(objects, known):
            raise DatasetError(f'{self.path("label_2", index)}: {"; ".join(problems)}')
        numbers = {name: number for number, name in enumerate(self.class_names)}
        labels = np.array(
            [numbers.get(str(name), IGNORE_LABEL) for name in objects.names], np.int64
        )
        if image_size is not None:  # objects outside it have lost their points
            labels[~reach_into_image(objects, calibration, image_size)] = IGNORE_LABEL
        boxes = boxes_from_objects(objects, calibration)
        return GroundTruth(boxes, labels, levels=difficulties_of(objects))


def nothing_in_view(num_points: int, size: tuple[int, int]) -> str:
    """Message about a sweep of which the camera sees nothing."""
    return (
        f'none of its {num_points} points is in the image of {size[0]} x {size[1]} pixels; the '
        'calibration or the size of the image is wrong'
    )


def unknown_size(calibration: Calibration) -> str:
    """Message about a calibration that cannot give the size of the image."""
    x, y = calibration.image_from_camera[:2, 2]
    return (
        f'there is no image, no entry in image_sizes.json, and a principal point of ({x:g}, {y:g})'
        ' tells no size; add one of the first two'
    )


def label_problems(objects: KittiObjects, class_names: Collection[str]) -> list[str]:
    """Problems that make labels unusable.

    Args:
        objects: of one frame, without `DontCare` areas, which have no box.
        class_names: classes known beside KITTI's own.
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


def read_sweep(path: Path) -> NDArray[np.float32]:
    """Read a Velodyne sweep without changes.

    Returns:
        (N, 4) float32 x, y, z [m], intensity [0..1], LiDAR frame; any number may be not finite.

    Raises:
        DatasetError: no such file, its end is missing, or it is certainly something else.
    """
    others = [file for suffix in ('.npy', '.pcd') if (file := path.with_suffix(suffix)).exists()]
    if others and not path.exists():
        raise DatasetError(f'{path}: no such file; {others[0].name} is not read here: {REWRITE}')
    data = read_raw(path)
    layout = find_layout(data, str(path))
    if layout != KITTI_LAYOUT:
        raise DatasetError(
            f'{path}: looks like {layout}, not {KITTI_LAYOUT} (x, y, z, reflectance); '
            f"a folder in KITTI's layout needs the latter: {REWRITE}"
        )
    return KITTI_LAYOUT.points(data).astype(np.float32, copy=False)


def _read_split(folder: Path, split: str) -> tuple[str, ...]:
    return tuple(name for part in split.split('+') for name in _read_list(folder, part))


def _read_list(folder: Path, split: str) -> tuple[str, ...]:
    path = folder / f'{split}.txt'
    if not path.is_file():
        splits = sorted(file.stem for file in folder.glob('*.txt'))
        raise DatasetError(f'{path}: no such split; {folder} has {splits}')
    frame_ids = tuple(read_text(path, DatasetError).split())
    if not frame_ids:
        raise DatasetError(f'{path}: lists no frames')
    return frame_ids


def points_in_image(
    points: NDArray[np.float32], calibration: Calibration, image_size: tuple[int, int]
) -> NDArray[np.int64]:
    """Indices of the points that `Calibration.project` puts into the image, in front of it."""
    image_from_lidar = calibration.image_from_camera @ calibration.camera_from_lidar
    # Half of a sweep is behind the camera; a quick test in single precision leaves that out.
    # Products of columns, not of matrices, for which each loader process would start threads.
    a, b, c, d = image_from_lidar[2].astype(np.float32)
    x, y, z, _ = points.T
    ahead = np.flatnonzero(a * x + b * y + c * z > -0.01 - d)
    x, y, z, _ = points.take(ahead, axis=0).T.astype(np.float64)
    u, v, depth = (a * x + b * y + c * z + d for a, b, c, d in image_from_lidar)
    width, height = image_size
    inside = (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth) & (depth > 0)
    indices: NDArray[np.int64] = ahead[inside]
    return indices
