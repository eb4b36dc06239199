# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of an open dataset folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import copy
import hashlib
import logging
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import FolderConfig
from pointdistiller_core.datasets.point_files import drop_not_finite
from pointdistiller_core.datasets.sweeps import SweepPlace
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.folder import (
    ALL_FRAMES,
    COLUMNS,
    DATASET_FILE,
    FRAMES_FILE,
    LABELS,
    FrameRow,
    FrameTable,
    Label,
    is_folder_dataset,
    labels_path,
    points_path,
    read_info,
    read_labels,
    read_points,
    read_split,
    resolve_split,
)
from pointdistiller_core.geometry.intensity import scale_intensity
from pointdistiller_core.records import IGNORE_LABEL, Frame, GroundTruth

logger = logging.getLogger(__name__)

FRAME_VERSION = 2  # of the frames made from the files


class FolderDataset:
    """Frames of a split of a dataset folder, in the order of the split.

    Opening reads only the index of the frames; the files of a frame are read on demand.
    """

    layout = f'a folder with {DATASET_FILE}'
    levels: tuple[str, ...] = ()
    metric = 'lidar'

    def __init__(
        self,
        config: FolderConfig,
        class_names: Sequence[str],
        *,
        labelled: bool = True,
    ) -> None:
        """Read the folder's index.

        Args:
            config: root folder, split and classes.
            class_names: labels are indices into these; other classes of the dataset are ignored.
            labelled: whether frames come with their labels; without, they need none.

        Raises:
            DatasetError: no such split, it lists no frames, or the folder is malformed.
        """
        self.class_names = tuple(class_names)
        self.root, self.labelled = config.root, labelled
        self.info = read_info(config.root)
        self.cache = config.cache or config.root / '.cache'
        self.intensity_scale = config.intensity_scale
        self.class_map = dict(config.class_map)
        self._table = FrameTable(config.root / FRAMES_FILE)
        self._places = _places_of(config, self._table)
        self.frame_ids: Sequence[str] = _FrameIds(self._table, self._places)
        self.point_features = COLUMNS
        self._columns = self._find_columns()
        self._tell_of_unfinished()
        self._known = {*self.info.class_names, *self.class_names}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Frame:
        """Points and labels, if any; points that are not finite are dropped with a warning.

        Raises:
            DatasetError: a file of the frame is missing or malformed.
        """
        row = self.row(index)
        points = self._points(row)
        truth = self._ground_truth(row) if self.labelled else None
        return Frame(points, row.name, truth, row.stamp_ns)

    def sweeps_until(self, index: int, count: int, max_age_ns: int) -> list[SweepPlace]:
        """See `PosedFrames`; of the same drive, whatever the split."""
        own, newest = self.row(index), int(self._places[index])
        found: list[SweepPlace] = []
        for place in range(newest, max(newest - count, -1), -1):
            row = self._table[place]
            if row.drive != own.drive or row.pose is None or row.stamp_ns is None:
                break
            if found and not 0 < found[0].stamp_ns - row.stamp_ns <= max_age_ns:
                break
            found.append(SweepPlace(place, row.stamp_ns, row.pose.matrix))
        return found

    def sweep_points(self, key: int) -> NDArray[np.float32]:
        """See `PosedFrames`."""
        return self._points(self._table[key])

    def sweep_state(self, key: int) -> object:
        """See `PosedFrames`."""
        path = points_path(self.root, self._table.name(key))
        try:
            state = path.stat()
        except OSError as error:
            raise DatasetError(f'{error.filename}: {error.strerror}') from error
        return state.st_size, state.st_mtime_ns

    def _points(self, row: FrameRow) -> NDArray[np.float32]:
        points = read_points(self.root, row, self.info.columns)
        if self._columns is not None:
            points = points[:, self._columns]
        points = drop_not_finite(points, points_path(self.root, row.name))
        return scale_intensity(points, self.intensity_scale)

    def row(self, index: int) -> FrameRow:
        """Row of a frame in `frames.csv`: drive, time, pose."""
        if not 0 <= index < len(self):
            raise IndexError(f'frame {index} of {len(self)} in {self.root}')
        row: FrameRow = self._table[int(self._places[index])]
        return row

    def divide_by_labels(self) -> tuple[FolderDataset, FolderDataset]:
        """The frames that have labels, and those that have none; only files' names are read."""
        names = {path.stem for path in (self.root / LABELS).glob('*.json')}
        labelled = np.array([name in names for name in self.frame_ids], bool)
        return self._part(labelled), self._part(~labelled, labelled=False)

    def _part(self, chosen: NDArray[np.bool_], *, labelled: bool = True) -> FolderDataset:
        part = copy.copy(self)
        part.labelled = labelled
        part._places = self._places[chosen]
        part.frame_ids = _FrameIds(part._table, part._places)
        return part

    @staticmethod
    def lies_at(path: Path) -> bool:
        """Whether a dataset of this kind is there, whole or not."""
        return is_folder_dataset(path)

    @staticmethod
    def is_labelled(config: FolderConfig) -> bool:
        """Whether there are labels."""
        folder = config.root / LABELS
        return folder.is_dir() and any(folder.iterdir())

    def labels(self, index: int) -> GroundTruth:
        """All labels of a frame; its points are not read.

        Raises:
            DatasetError: the frame is not labelled, or its file is malformed.
        """
        return self._ground_truth(self.row(index))

    def objects(self, index: int) -> list[Label] | None:
        """All labels of a frame, as the file has them; None if it is not labelled.

        Raises:
            DatasetError: the file is malformed.
        """
        return read_labels(self.root, self.frame_ids[index])

    def label_names(self, index: int) -> list[str]:
        """Class of each label of a frame that is not ignored, as the file has it.

        Raises:
            DatasetError: the file is malformed.
        """
        return [label.name for label in self.objects(index) or () if not label.ignore]

    def annotations(self, index: int) -> None:
        """None: the metric needs only points and boxes."""

    def fingerprint(self, index: int) -> str:
        """A text that changes whenever the frame does.

        Raises:
            DatasetError: a file of the frame is missing.
        """
        row = self.row(index)
        paths = [points_path(self.root, row.name)]
        if self.labelled:
            paths.append(labels_path(self.root, row.name))
        try:
            states = [path.stat() for path in paths]
        except OSError as error:
            raise DatasetError(f'{error.filename}: {error.strerror}') from error
        facts = (
            *(FRAME_VERSION, self.class_names, sorted(self.class_map.items()), row.name),
            *(self.info.columns, self.intensity_scale, self.labelled),
            [(state.st_size, state.st_mtime_ns) for state in states],
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]

    def _find_columns(self) -> list[int] | None:
        """Where the columns of a frame are in the files; None if they are the same."""
        columns = self.info.columns
        if missing := [name for name in self.point_features if name not in columns]:
            raise DatasetError(
                f'{self.root / DATASET_FILE}: the points lack the columns {missing}; they have '
                f'{list(columns)}'
            )
        places = [columns.index(name) for name in self.point_features]
        return None if tuple(columns) == self.point_features else places

    def _tell_of_unfinished(self) -> None:
        drives = self.info.drives.items()
        if unfinished := [name for name, drive in drives if not drive.complete]:
            logger.warning(
                '%s: the conversion of %s was interrupted; the same command goes on with it',
                *(self.root, ', '.join(unfinished)),
            )

    def _ground_truth(self, row: FrameRow) -> GroundTruth:
        labels = read_labels(self.root, row.name)
        if labels is None:
            raise DatasetError(
                f'{labels_path(self.root, row.name)}: no such file: the frame is not labelled; '
                'label it, or take it out of the split'
            )
        path = labels_path(self.root, row.name)
        if problems := label_problems(labels, self._known | set(self.class_map)):
            raise DatasetError(f'{path}: {"; ".join(problems)}')
        return ground_truth_of(labels, self.class_names, self.class_map)


class _FrameIds(Sequence[str]):
    """Names of frames, read on demand."""

    def __init__(self, table: FrameTable, places: NDArray[np.int64]) -> None:
        self._table, self._places = table, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._table.name(int(place)) for place in self._places[index]]
        return self._table.name(int(self._places[index]))

    def __iter__(self) -> Iterator[str]:
        return (self._table.name(int(place)) for place in self._places)


def ground_truth_of(
    labels: Sequence[Label], class_names: Sequence[str], class_map: Mapping[str, str]
) -> GroundTruth:
    """Labels as boxes and numbers of classes.

    Args:
        labels: of a frame.
        class_names: names that the numbers index; other classes, and ignored labels, get
            `IGNORE_LABEL`.
        class_map: new names of classes, e.g. `{'Van': 'Car'}`.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    indices = [
        IGNORE_LABEL
        if label.ignore
        else numbers.get(class_map.get(label.name, label.name), IGNORE_LABEL)
        for label in labels
    ]
    boxes = np.array([label.box for label in labels], np.float32).reshape(-1, 7)
    velocities = None
    if any(label.velocity for label in labels):
        unknown = (np.nan, np.nan)
        velocities = np.array([label.velocity or unknown for label in labels], np.float32)
    return GroundTruth(boxes, np.array(indices, np.int64), velocities)


def label_problems(labels: Sequence[Label], known: set[str]) -> list[str]:
    """Problems that make labels unusable.

    Args:
        labels: of a frame.
        known: names of classes.
    """
    problems = []
    if unknown := sorted({label.name for label in labels} - known):
        problems.append(
            f'classes {unknown} are not in class_names of {DATASET_FILE}, which has '
            f'{sorted(known)}'
        )
    flat = [label for label in labels if min(label.box[3:6]) <= 0]
    problems += [
        f'{label.name} of length, width, height {list(label.box[3:6])}; all must be positive'
        for label in flat
    ]
    return problems


def _places_of(config: FolderConfig, table: FrameTable) -> NDArray[np.int64]:
    """(F,) rows of the frames of a split."""
    places: NDArray[np.int64]
    if config.split == ALL_FRAMES:
        places = np.arange(len(table))
    else:
        ranges = read_split(config.root, config.split)
        places = resolve_split(table, ranges, f'{config.root}, split {config.split}')
    if not len(places):
        raise DatasetError(f'{config.root / FRAMES_FILE}: lists no frames')
    return places
