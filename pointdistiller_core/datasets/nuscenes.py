# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Key frames of nuScenes, with the sweeps before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.config import AGE, POINT_FEATURES, NuScenesConfig
from pointdistiller_core.datasets.point_files import drop_not_finite
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes.annotations import NuScenesAnnotations, sample_truth
from pointdistiller_core.formats.nuscenes.index import NuScenesIndex, open_index
from pointdistiller_core.formats.nuscenes.names import category_class
from pointdistiller_core.formats.nuscenes.rotations import matrix_of, rotations_of, yaws_of
from pointdistiller_core.formats.nuscenes.tables import (
    TABLES,
    check_tables,
    read_table,
    table_file,
)
from pointdistiller_core.formats.nuscenes.versions import find_version, versions_at
from pointdistiller_core.geometry.intensity import scale_intensity
from pointdistiller_core.geometry.transforms import (
    invert_rigid,
    rotation_from_angles,
    transform_points,
)
from pointdistiller_core.records import IGNORE_LABEL, Frame, GroundTruth

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    Points = NDArray[np.float32]

FRAME_VERSION = 1  # of the frames made from the files
FILE_COLUMNS = 5  # of a cloud: x, y, z [m], intensity 0 to 255, ring


class NuScenesDataset:
    """Key frames of a split, by scene and time, in the frame of the key frame's LiDAR.

    Opening reads no cloud, and of large tables only their index.
    """

    layout = "a folder of nuScenes' tables"
    levels: tuple[str, ...] = ()
    metric = 'nuscenes'

    def __init__(
        self, config: NuScenesConfig, class_names: Sequence[str], *, labelled: bool = True
    ) -> None:
        """Read the tables, or their index.

        Args:
            config: root folder, split and sweeps.
            class_names: labels are indices into these; other classes of the detection task are
                ignored, and what that task leaves out is no label.
            labelled: whether frames come with their labels; without, they need none.

        Raises:
            DatasetError: no such split, or the tables are incomplete or malformed.
        """
        self.class_names = tuple(class_names)
        self.labelled, self._config = labelled, config
        self.class_map = dict(config.class_map)
        folder = find_version(config.root, config.split, config.version)
        self.root = folder.parent
        self.cache = config.cache or self.root / '.cache'
        self.intensity_scale = config.intensity_scale
        self._num_sweeps = config.sweeps or 1
        self.point_features = (*POINT_FEATURES, AGE) if self._num_sweeps > 1 else POINT_FEATURES
        self.index = open_index(folder, self.cache, channel=config.channel)
        if labelled and not len(self.index.boxes):
            raise DatasetError(f'{folder}: has no labels')
        self._samples = self.index.samples(config.split)
        self.frame_ids = tuple(self.index.token(sample) for sample in self._samples)
        self._renamed = _class_numbers(self.index, self.class_names, config.class_map)
        self._tables = [
            (state.st_size, state.st_mtime_ns)
            for state in (table_file(folder, name).stat() for name in TABLES)
        ]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Frame:
        """Points and labels, if any; points that are not finite are dropped with a warning.

        Raises:
            DatasetError: a cloud is missing or malformed.
        """
        sample = self._sample(index)
        points = self._gather(sample)
        truth = self._ground_truth(sample) if self.labelled else None
        stamp_ns = int(self.index.sweep_times[self.index.key_frames[sample]]) * 1000
        return Frame(points, self.frame_ids[index], truth, stamp_ns, self.point_features)

    @staticmethod
    def lies_at(path: Path) -> bool:
        """Whether a dataset of this kind is there, whole or not."""
        return path.is_dir() and bool(versions_at(path))

    @staticmethod
    def is_labelled(config: NuScenesConfig) -> bool:
        """Whether there is an annotation."""
        folder = find_version(config.root, config.split, config.version)
        check_tables(folder)
        return next(read_table(folder, 'sample_annotation'), None) is not None

    def labels(self, index: int) -> GroundTruth:
        """All labels of a frame; no cloud is read."""
        return self._ground_truth(self._sample(index))

    def categories(self, index: int) -> list[str]:
        """Category of each annotation of a frame, also of what the detection task leaves out."""
        rows = self._rows(self._sample(index))
        return [self.index.categories[number] for number in self.index.labels[rows, 0].tolist()]

    def label_names(self, index: int) -> list[str]:
        """Class of the detection task of each label of a frame with a point, before the map."""
        seen = self.index.num_points[self._rows(self._sample(index)), 0] > 0
        names = map(category_class, itertools.compress(self.categories(index), seen))
        return [name for name in names if name is not None]

    def annotations(self, index: int) -> NuScenesAnnotations:
        """What the nuScenes metric needs."""
        sample, renamed = self._sample(index), self._config.class_map
        truth = None
        if self.labelled:
            truth = sample_truth(self.index, [sample], self.class_names, renamed)
        return NuScenesAnnotations(self.frame_ids[index], truth, self._global_from_lidar(sample))

    def fingerprint(self, index: int) -> str:
        """A text that changes whenever the frame does.

        Raises:
            DatasetError: a cloud is missing.
        """
        config = self._config
        sweeps = self._sweeps(self._sample(index))
        try:
            states = [(self.root / self.index.sweep_file(sweep)).stat() for sweep in sweeps]
        except OSError as error:
            raise DatasetError(f'{error.filename}: {error.strerror}') from error
        facts = (
            *(FRAME_VERSION, self.class_names, sorted(config.class_map.items())),
            *(self.frame_ids[index], self._num_sweeps, config.channel, config.min_distance),
            *(config.axes, self.intensity_scale, self.labelled, self._tables),
            config.max_sweep_age_s,
            [(state.st_size, state.st_mtime_ns) for state in states],
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]

    def _sample(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f'sample {index} of {len(self)} in {self.root}')
        return int(self._samples[index])

    def _sweeps(self, sample: int) -> list[int]:
        """The sweeps of a sample that are merged, the newest first."""
        age_s = self._config.max_sweep_age_s
        max_age_us = None if age_s is None else round(age_s * 1e6)
        return self.index.sweeps(sample, self._num_sweeps, max_age_us)

    def _rows(self, sample: int) -> slice:
        """Annotations of a sample."""
        return slice(self.index.starts[sample], self.index.starts[sample + 1])

    # --- points ------------------------------------------------------------------------------

    @products_in_calling_thread()
    def _gather(self, sample: int) -> Points:
        """Points of the sweep of a sample and those before it, the newest first."""
        sweeps = self._sweeps(sample)
        key_frame = sweeps[0]
        lidar_from_global = invert_rigid(self._global_from_lidar(sample))
        clouds = []
        for sweep in sweeps:
            points = self._read(sweep)
            if sweep == key_frame:  # keeps every bit
                lidar_from_sweep = self._turn(key_frame)
            else:
                lidar_from_sweep = lidar_from_global @ self._global_from_sensor(sweep)
            points[:, :3] = transform_points(lidar_from_sweep, points[:, :3].astype(np.float64))
            # The ring, which nobody reads, makes room for the age.
            age_us = self.index.sweep_times[key_frame] - self.index.sweep_times[sweep]
            points[:, 4] = age_us * 1e-6
            clouds.append(points)
        return np.concatenate(clouds)[:, : len(self.point_features)]

    def _read(self, sweep: int) -> Points:
        """(N, 5) points of a sweep in its own frame, without those of the vehicle itself."""
        path = self.root / self.index.sweep_file(sweep)
        points = read_cloud(path)
        near = np.abs(points[:, :2]) < self._config.min_distance
        points = drop_not_finite(points[~near.all(axis=1)], path)
        return scale_intensity(points, self.intensity_scale)

    # --- frames ------------------------------------------------------------------------------

    def _global_from_lidar(self, sample: int) -> FloatArray:
        """(4, 4) from the frame of a sample's points and boxes."""
        key_frame = int(self.index.key_frames[sample])
        return self._global_from_sensor(key_frame) @ self._turn(key_frame).T

    def _global_from_sensor(self, sweep: int) -> FloatArray:
        pose = matrix_of(self.index.sweep_poses[sweep])
        return pose @ matrix_of(self.index.mounts[self.index.sweep_links[sweep, 1]])

    def _turn(self, sweep: int) -> FloatArray:
        """(4, 4) quarter turns from the frame of the sensor to one with x ahead, y left."""
        turn = np.eye(4)
        if self._config.axes == 'forward':
            mount = self.index.mounts[self.index.sweep_links[sweep, 1]]
            yaw = float(yaws_of(rotations_of(mount[None, 3:]))[0])
            quarters = round(yaw / (np.pi / 2))
            turn[:3, :3] = rotation_from_angles(0, 0, quarters * np.pi / 2).round()
        return turn

    def _ground_truth(self, sample: int) -> GroundTruth:
        index = self.index
        rows = self._rows(sample)
        labels = self._renamed[index.labels[rows, 0]]
        labels = np.where(
            (index.num_points[rows, 0] > 0) | (labels < IGNORE_LABEL), labels, IGNORE_LABEL
        )
        kept = labels >= IGNORE_LABEL
        boxes = index.boxes[rows][kept]
        lidar_from_global = invert_rigid(self._global_from_lidar(sample)).astype(np.float64)
        turn = lidar_from_global[:3, :3]
        yaws = yaws_of(turn @ rotations_of(boxes[:, 6:]))
        centers = transform_points(lidar_from_global, boxes[:, :3])
        ours = np.concatenate([centers, boxes[:, [4, 3, 5]], yaws[:, None]], axis=1)
        velocities = (index.velocities[rows][kept] @ turn.T)[:, :2]
        return GroundTruth(
            ours.astype(np.float32), labels[kept].astype(np.int64), velocities.astype(np.float32)
        )


def _class_numbers(
    index: NuScenesIndex, class_names: Sequence[str], class_map: Mapping[str, str]
) -> NDArray[np.int64]:
    """Label of each category; less than `IGNORE_LABEL` for what the detection task leaves out."""
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = []
    for category in index.categories:
        name = category_class(category)
        left_out = name is None
        name = class_map.get(name or '', name or '')
        labels.append(IGNORE_LABEL - 1 if left_out else numbers.get(name, IGNORE_LABEL))
    return np.array(labels, np.int64)


def read_cloud(path: Path) -> Points:
    """(N, 5) x, y, z [m] in the frame of the sensor, intensity 0 to 255, ring.

    Raises:
        DatasetError: there is no such file, or it is none of these.
    """
    try:
        values = np.fromfile(path, '<f4')
        size = path.stat().st_size
    except OSError as error:
        raise DatasetError(f'{path}: {error.strerror}') from error
    if size % (4 * FILE_COLUMNS):
        raise DatasetError(
            f'{path}: has {size} bytes, no multiple of {4 * FILE_COLUMNS}: a point is five '
            'float32, x, y, z, intensity, ring'
        )
    points: Points = values.reshape(-1, FILE_COLUMNS).astype(np.float32, copy=False)
    return points
