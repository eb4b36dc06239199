# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A close look at an open dataset folder: all that is wrong with it, and what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.checks import (
    DatasetReport,
    Finding,
    Intensities,
    LabelledObjects,
    box_problems,
    join_objects,
    sweep_problems,
)
from pointdistiller_core.datasets.folder import label_problems
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.folder import (
    ALL_FRAMES,
    COLUMNS,
    DATASET_FILE,
    FRAMES_FILE,
    FolderInfo,
    FrameRow,
    FrameTable,
    Label,
    read_info,
    read_labels,
    read_points,
    read_split,
    resolve_split,
    split_names,
)
from pointdistiller_core.geometry.boxes import points_in_boxes

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]


def check_folder(
    root: Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] = (),
    on_frame: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read every frame and note all that is wrong; nothing is raised.

    Args:
        root: folder that holds `dataset.yaml`.
        split: only this one; by default all frames that are listed.
        class_names: that are known beside those of the dataset.
        on_frame: told how many frames are done, and how many there are.
    """
    try:
        info, table = read_info(root), FrameTable(root / FRAMES_FILE)
    except DatasetError as error:
        return _report({}, [], [], [Finding(DATASET_FILE, str(error), broken=True)])
    names = [split] if split else split_names(root)
    splits, findings = _open_splits(root, table, [name for name in names if name != ALL_FRAMES])
    findings += _drive_findings(info) + _row_findings(table) + _split_findings(table, splits)
    intensities = Intensities('points')
    chosen = splits[split] if split in splits else range(len(table))
    sizes: list[int] = []
    tables: list[LabelledObjects] = []
    num_unlabelled = 0
    for done, place in enumerate(chosen, 1):
        frame = _Frame(root, info, class_names)
        try:
            frame.check(table[int(place)], intensities)
        except DatasetError as error:
            findings.append(Finding(FRAMES_FILE, str(error), broken=True))
        num_unlabelled += frame.unlabelled
        findings += frame.findings
        sizes += frame.sizes
        tables += frame.tables
        if on_frame is not None:
            on_frame(done, len(chosen))
    if num_unlabelled:
        findings.append(Finding('labels', f'{num_unlabelled} of {len(chosen)} frames have none'))
    findings += intensities.findings
    counts = {name: len(places) for name, places in splits.items()} or {ALL_FRAMES: len(table)}
    return _report(counts, sizes, tables, findings)


class _Frame:
    """What is found out about one frame."""

    def __init__(self, root: Path, info: FolderInfo, class_names: Sequence[str]) -> None:
        self._root, self._info = root, info
        self._known = {*info.class_names, *class_names}
        self._where = ''
        self.findings: list[Finding] = []
        self.sizes: list[int] = []
        self.tables: list[LabelledObjects] = []
        self.unlabelled = False

    def check(self, row: FrameRow, intensities: Intensities) -> None:
        """Try every file, whatever is wrong with the others."""
        self._where = row.name
        points = labels = None
        try:
            points = read_points(self._root, row, self._info.columns)
        except DatasetError as error:
            self._add(str(error), broken=True)
        try:
            labels = read_labels(self._root, row.name)
            self.unlabelled = labels is None
        except DatasetError as error:
            self._add(str(error), broken=True)
        if points is not None:
            self.sizes.append(len(points))
            points = self._usual_columns(points)
            for what, broken in sweep_problems(points):
                self._add(what, broken=broken)
            intensities.add(row.name, points)
        if labels:
            for what in label_problems(labels, self._known):
                self._add(what, broken=True)
            self._measure(labels, points)

    def _measure(self, labels: Sequence[Label], points: FloatArray | None) -> None:
        counted = [label for label in labels if not label.ignore]
        boxes = np.array([label.box for label in counted], np.float32).reshape(-1, 7)
        names = np.array([label.name for label in counted], np.str_)
        if points is None or not counted:
            return
        inside = points_in_boxes(points[np.isfinite(points).all(axis=1)], boxes).sum(axis=0)
        levels = np.full(len(counted), -1)
        table = LabelledObjects(names, boxes, levels, inside)
        self.tables.append(table)
        for what in box_problems(table):
            self._add(what)

    def _usual_columns(self, points: FloatArray) -> FloatArray:
        """(N, 4) x, y, z [m], intensity; 0 if there is none."""
        usual: FloatArray = np.zeros((len(points), len(COLUMNS)), np.float32)
        for place, name in enumerate(COLUMNS):
            if name in self._info.columns:
                usual[:, place] = points[:, self._info.columns.index(name)]
        return usual

    def _add(self, what: str, *, broken: bool = False) -> None:
        self.findings.append(Finding(self._where, what, broken))


def _report(
    splits: dict[str, int],
    sizes: list[int],
    tables: list[LabelledObjects],
    findings: list[Finding],
) -> DatasetReport:
    return DatasetReport(
        splits=splits,
        points_per_sweep=np.array(sizes, np.int64),
        objects=join_objects(tables),
        findings=tuple(sorted(findings, key=lambda finding: not finding.broken)),
    )


def _open_splits(
    root: Path, table: FrameTable, names: Sequence[str]
) -> tuple[dict[str, NDArray[np.int64]], list[Finding]]:
    splits, findings = {}, []
    for name in names:
        try:
            splits[name] = resolve_split(table, read_split(root, name), f'split {name}')
        except DatasetError as error:
            findings.append(Finding(f'{name}.txt', str(error), broken=True))
    return splits, findings


def _drive_findings(info: FolderInfo) -> list[Finding]:
    return [
        Finding(name, 'its conversion was interrupted; the same command goes on', broken=True)
        for name, drive in info.drives.items()
        if not drive.complete
    ]


def _row_findings(table: FrameTable) -> list[Finding]:
    """Frames that are listed twice, and drives whose times do not rise."""
    counts = Counter(table.names())
    findings = [
        Finding(FRAMES_FILE, f'lists frame {name} {count} times', broken=True)
        for name, count in counts.items()
        if count > 1
    ]
    last: dict[str, int] = {}
    backwards: Counter[str] = Counter()
    for place in range(len(table)):
        try:
            row = table[place]
        except DatasetError:
            continue  # is told where the frame is checked
        if row.stamp_ns is not None:
            backwards[row.drive] += row.stamp_ns <= last.get(row.drive, row.stamp_ns - 1)
            last[row.drive] = row.stamp_ns
    return findings + [
        Finding(drive, f'{count} of its frames are not later than the one before')
        for drive, count in backwards.items()
        if count
    ]


def _split_findings(table: FrameTable, splits: dict[str, NDArray[np.int64]]) -> list[Finding]:
    """What is trained and validated on, or all but: neighboring sweeps of a drive."""
    findings = [
        Finding(f'{name}.txt', f'lists {len(places) - len(set(places.tolist()))} frames again')
        for name, places in splits.items()
        if len(set(places.tolist())) < len(places)
    ]
    none: NDArray[np.int64] = np.zeros(0, np.int64)
    train, val = (set(splits.get(name, none).tolist()) for name in ('train', 'val'))
    findings += [
        Finding(table.name(place), 'is in train and in val') for place in sorted(train & val)
    ]
    changes: Counter[str] = Counter()
    of_last: dict[str, bool] = {}
    for place in sorted(train ^ val):
        if not table.has_stamp(place):
            continue  # frames that nobody says were recorded one after another
        drive = table.drive(place)
        changes[drive] += bool(drive) and of_last.get(drive, place in train) != (place in train)
        of_last[drive] = place in train
    return findings + [
        Finding(
            drive,
            f'changes {count} times between train and val: neighboring sweeps are all but the '
            'same, so validation is too kind',
        )
        for drive, count in changes.items()
        if count > 4
    ]
