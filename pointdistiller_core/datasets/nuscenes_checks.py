# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A close look at a dataset in nuScenes' format: all that is wrong with it, and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import NuScenesConfig
from pointdistiller_core.datasets.checks import (
    DatasetReport,
    Finding,
    Intensities,
    LabelledObjects,
    box_problems,
    join_objects,
    sweep_problems,
)
from pointdistiller_core.datasets.nuscenes import FILE_COLUMNS, NuScenesDataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes.index import ALL_SAMPLES
from pointdistiller_core.formats.nuscenes.names import category_class
from pointdistiller_core.formats.nuscenes.versions import find_version, versions_at
from pointdistiller_core.geometry.boxes import points_in_boxes


def check_nuscenes(
    root: Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] = (),  # noqa: ARG001  # every category has a class
    on_frame: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read every key frame and note all that is wrong; nothing is raised.

    Args:
        root: of the dataset, or the folder of one version of its tables.
        split: only this one; by default all key frames of all versions.
        class_names: not needed.
        on_frame: told how many frames are done, and how many there are.
    """
    found = _Findings(on_frame)
    try:
        folders = [find_version(root, split)] if split else versions_at(root)
    except DatasetError as error:
        found.add(root.name, str(error), broken=True)
        folders = []
    for folder in folders:
        try:
            found.check(folder, split or ALL_SAMPLES)
        except DatasetError as error:
            found.add(folder.name, str(error), broken=True)
    return DatasetReport(
        splits=found.splits,
        points_per_sweep=np.array(found.sizes, np.int64),
        objects=join_objects(found.tables),
        findings=tuple(sorted(found.findings, key=lambda finding: not finding.broken)),
    )


class _Findings:
    """What is found out, one version of the tables after the other."""

    def __init__(self, on_frame: Callable[[int, int], None] | None) -> None:
        self._on_frame = on_frame
        self.splits: dict[str, int] = {}
        self.sizes: list[int] = []
        self.tables: list[LabelledObjects] = []
        self.findings: list[Finding] = []

    def add(self, where: str, what: str, *, broken: bool = False) -> None:
        """Note something."""
        self.findings.append(Finding(where, what, broken))

    def check(self, folder: Path, split: str) -> None:
        """Read the frames of a split.

        Raises:
            DatasetError: the tables are incomplete or malformed, or there is no such split.
        """
        config = NuScenesConfig(root=folder, split=split)
        labelled = NuScenesDataset.is_labelled(config)
        dataset = NuScenesDataset(config, (), labelled=labelled)
        self._count_splits(dataset, split)
        intensities = Intensities('samples')
        tables = []
        for number, token in enumerate(dataset.frame_ids):
            try:
                points = dataset[number].points
            except DatasetError as error:
                self.add(token, str(error), broken=True)
            else:
                self.sizes.append(len(points))
                for what, broken in sweep_problems(points):
                    self.add(token, what, broken=broken)
                intensities.add(token, points)
                if labelled:
                    tables.append(_measure(dataset, number, points))
                    for what in box_problems(_seen(tables[-1])):
                        self.add(token, what)
            if self._on_frame is not None:
                self._on_frame(number + 1, len(dataset))
        self._check_sweeps(dataset)
        self._tell_of_labels(folder.name, tables, labelled=labelled)
        self.findings += intensities.findings
        self.tables += tables

    def _count_splits(self, dataset: NuScenesDataset, split: str) -> None:
        if split != ALL_SAMPLES:
            self.splits[split] = len(dataset)
            return
        for name in dataset.index.splits():
            try:
                self.splits[name] = len(dataset.index.samples(name))
            except DatasetError as error:
                self.add(dataset.index.folder.name, str(error))
        if not self.splits:
            self.splits[ALL_SAMPLES] = len(dataset)

    def _check_sweeps(self, dataset: NuScenesDataset) -> None:
        """The files of sweeps that are no key frames."""
        missing, odd = [], []
        for path in _sweep_files(dataset):
            try:
                size = path.stat().st_size
            except OSError:
                missing.append(path.name)
            else:
                if size % (4 * FILE_COLUMNS):
                    odd.append(path.name)
        if missing:
            what = f'{len(missing)} clouds are missing, which only sweeps above 1 need'
            self.add('sweeps', f'{what}, e.g. {missing[0]}')
        if odd:
            what = f'{len(odd)} clouds are cut off: no multiple of {4 * FILE_COLUMNS} bytes'
            self.add('sweeps', f'{what}, e.g. {odd[0]}', broken=True)

    def _tell_of_labels(
        self, where: str, tables: Sequence[LabelledObjects], *, labelled: bool
    ) -> None:
        if not labelled:
            self.add(where, 'has no labels')
            return
        total = sum(len(table.names) for table in tables)
        empty = sum(int((table.num_points == 0).sum()) for table in tables)
        if empty:
            self.add(where, f'{empty} of {total} labels of the key frames have no point of theirs')


def _sweep_files(dataset: NuScenesDataset) -> Iterator[Path]:
    index = dataset.index
    keys = set(index.key_frames.tolist())
    for sweep in range(len(index.sweep_times)):
        if sweep not in keys:
            yield dataset.root / index.sweep_file(sweep)


def _measure(
    dataset: NuScenesDataset, number: int, points: NDArray[np.float32]
) -> LabelledObjects:
    """The labels of a frame that the detection task knows, those without a point, too."""
    names = [name for name in map(category_class, dataset.categories(number)) if name]
    boxes = dataset.labels(number).boxes
    inside = points_in_boxes(points, boxes).sum(axis=0)
    return LabelledObjects(np.array(names, np.str_), boxes, np.full(len(names), -1), inside)


def _seen(table: LabelledObjects) -> LabelledObjects:
    columns = vars(table).values()
    return LabelledObjects(*(column[table.num_points > 0] for column in columns))
