# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the open dataset folder, frame by frame, so that it can be stopped at any moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import (
    appended,
    check_writable,
    is_partial,
    only_writer,
    write_file,
    write_text,
)
from pointdistiller_core.formats.folder import (
    DATASET_FILE,
    FRAMES_FILE,
    ROW_FIELDS,
    SPLITS,
    DriveInfo,
    FolderInfo,
    FrameRange,
    FrameRow,
    FrameTable,
    Label,
    is_folder_dataset,
    labels_path,
    points_path,
    read_info,
    read_split,
    split_names,
    write_info,
    write_labels,
    write_split,
)

LOCK_FILE = '.lock'


class FolderWriter:
    """Adds frames to a dataset folder; as a context manager it keeps other writers out.

    A frame is complete when its row is in `frames.csv`, which is written after its files. So a
    process may be killed at any moment: an unfinished frame has no row, and is written again.

    Args:
        root: a new or an empty folder, or a dataset of the same columns and sensor.
        info: of a new dataset; for an existing one, only columns and sensor are compared.

    Attributes:
        info: content of `dataset.yaml`; `update` replaces it.
        earlier: rows that existed at the beginning.

    Raises:
        DatasetError: `root` holds something else, or frames of other columns or another sensor.
        WriteError: another process is writing it, or the file system refuses.
    """

    def __init__(self, root: Path, info: FolderInfo) -> None:
        self.root, self.info = root, info
        self._stack = ExitStack()
        self._append: Callable[[str], None] = lambda _line: None

    def __enter__(self) -> FolderWriter:
        check_writable(self.root, folder=True)
        if not is_folder_dataset(self.root) and self.root.exists():
            others = [path for path in self.root.iterdir() if not self._is_own(path)]
            if others:
                raise DatasetError(
                    f'{self.root} holds other files ({others[0].name}, ...); choose an empty or a '
                    'new folder'
                )
        with ExitStack() as stack:
            stack.enter_context(only_writer(self.root))
            frames = self.root / FRAMES_FILE
            if not frames.exists():
                write_text(frames, ','.join(ROW_FIELDS) + '\n')
            if is_folder_dataset(self.root):
                self._join(read_info(self.root))
            else:
                write_info(self.root, self.info)
            self._append = stack.enter_context(appended(frames))
            self.earlier = FrameTable(frames)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(
        self,
        row: FrameRow,
        points: NDArray[np.float32],
        labels: Iterable[Label] | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a frame.

        Args:
            row: its name must be new here; `num_points` is filled in.
            points: (N, C) float32, a column for each of `info.columns`.
            labels: None leaves it unlabelled.
            further: further values of another format for a labelled frame, by its name.

        Raises:
            WriteError: the file system refuses; frames that were added before are intact.
        """
        self.write(row.name, points, labels, further)
        self._append(replace(row, num_points=len(points)).to_line())

    def copy(self, row: FrameRow, source: Path, name: str) -> None:
        """Add a frame of another dataset of the same columns, byte for byte.

        Args:
            row: its name must be new here.
            source: root of that dataset.
            name: of the frame there.

        Raises:
            DatasetError: its points cannot be read.
            WriteError: the file system refuses; frames that were added before are intact.
        """
        for path_of in (points_path, labels_path):
            path = path_of(source, name)
            if path_of is points_path or path.exists():
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise DatasetError(f'{path}: {error.strerror}') from error
                write_file(path_of(self.root, row.name), content)
        self._append(row.to_line())

    def write(
        self,
        name: str,
        points: NDArray[np.float32],
        labels: Iterable[Label] | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the files of a frame again, whose row exists."""
        assert points.shape[1] == len(self.info.columns), points.shape
        data = np.ascontiguousarray(points, '<f4')
        write_file(points_path(self.root, name), data.tobytes())
        if labels is not None:
            write_labels(self.root, name, labels, further=further)

    def is_whole(self, row: FrameRow, *, labelled: bool = False) -> bool:
        """Whether the files of a frame exist; a loss of power may have destroyed them."""
        try:
            size = points_path(self.root, row.name).stat().st_size
        except OSError:
            return False
        whole = size == (row.num_points or 0) * 4 * len(self.info.columns)
        return whole and (not labelled or labels_path(self.root, row.name).exists())

    def update(self, **changes: Any) -> None:
        """Replace attributes of `info`, in `dataset.yaml` too."""
        info = self.info.model_copy(update=changes)
        write_info(self.root, info)
        self.info = info

    def update_drive(self, name: str, drive: DriveInfo) -> None:
        """Replace or add a drive in `dataset.yaml`."""
        self.update(drives={**self.info.drives, name: drive})

    def places(self, drive: str) -> NDArray[np.int64]:
        """(F,) places in `earlier` of the frames of a drive."""
        return _places_of(self.earlier, drive)

    def stamps(self, drive: str) -> tuple[list[str], NDArray[np.int64]]:
        """Names and times [ns] of all frames of a drive, (F,) each; 0 without a time."""
        table = FrameTable(self.root / FRAMES_FILE)
        rows = (table[int(place)] for place in _places_of(table, drive))
        facts = [(row.name, row.stamp_ns or 0) for row in rows]
        return [name for name, _ in facts], np.array([stamp for _, stamp in facts], np.int64)

    def set_ranges(
        self, names: Collection[str], splits: Mapping[str, Sequence[FrameRange]]
    ) -> None:
        """Replace the ranges of some frames in each split.

        Args:
            names: of these frames, whichever splits they were in.
            splits: ranges of them by the name of the split.
        """
        own = set(names)
        for split in {*split_names(self.root), *splits}:
            path = self.root / SPLITS / f'{split}.txt'
            before = read_split(self.root, split) if path.exists() and path.stat().st_size else []
            others = [found for found in before if found.first not in own]
            write_split(self.root, split, [*others, *splits.get(split, [])])

    def _join(self, found: FolderInfo) -> None:
        """Continue an existing dataset."""
        for key in ('columns', 'sensor'):
            before, now = getattr(found, key), getattr(self.info, key)
            if before != now:
                raise DatasetError(
                    f'{self.root / DATASET_FILE}: {key} is {before}, not {now}; choose another '
                    'folder for these frames'
                )
        self.info = found

    def _is_own(self, path: Path) -> bool:
        """Whether something in a folder was left by a writer that was killed at its start."""
        return path.name in (LOCK_FILE, FRAMES_FILE) or is_partial(path)


def _places_of(table: FrameTable, drive: str) -> NDArray[np.int64]:
    places = [place for place in range(len(table)) if table.drive(place) == drive]
    return np.array(places, np.int64)
