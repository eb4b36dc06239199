# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A close look at the frames of any dataset, as they are read: of a bag, for example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import hashlib
from pathlib import Path

import numpy as np

from pointdistiller_core.datasets import DATASETS, FrameDataset, build_dataset, find_dataset
from pointdistiller_core.datasets.checks import (
    DatasetReport,
    Finding,
    Intensities,
    LabelledObjects,
    box_problems,
    join_objects,
    sweep_problems,
)
from pointdistiller_core.errors import CloudError, DatasetError
from pointdistiller_core.formats.kitti import CLASS_NAMES
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.records import Frame


def check_frames(
    root: Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] = (),
    on_frame: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read every frame and note all that is wrong with it.

    Args:
        root: what `find_dataset` finds.
        split: of a dataset that has splits.
        class_names: labels are indices into these; KITTI's where there are none.
        on_frame: told how many frames are done, and how many there are.

    Raises:
        ConfigError: the dataset has no splits.
    """
    config = find_dataset(root, split=split)
    labelled = DATASETS[config.name].is_labelled(config)
    try:
        dataset = build_dataset(config, class_names or CLASS_NAMES, labelled=labelled)
    except DatasetError as error:
        return DatasetReport({}, np.zeros(0, np.int64), join_objects([]), (_broken(root, error),))
    findings = [] if labelled else [Finding(root.name, 'has no labels')]
    intensities, sweeps = Intensities(root.name), _Sweeps()
    tables: list[LabelledObjects] = []
    for index, frame_id in enumerate(dataset.frame_ids):
        try:
            frame = dataset[index]
        except (CloudError, DatasetError) as error:
            findings.append(_broken(Path(frame_id), error))
        else:
            problems = [*sweep_problems(frame.points), *sweeps.add(frame)]
            if labelled:
                tables.append(_measure(dataset, frame))
                problems += [(what, False) for what in box_problems(tables[-1])]
            findings += [Finding(frame_id, *problem) for problem in problems]
            intensities.add(frame_id, frame.points)
        if on_frame is not None:
            on_frame(index + 1, len(dataset))
    findings += intensities.findings
    return DatasetReport(
        {config.split: len(dataset)},
        np.array(sweeps.sizes, np.int64),
        join_objects(tables),
        tuple(sorted(findings, key=lambda finding: not finding.broken)),
    )


class _Sweeps:
    """Sweeps that were read, and their sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._first: dict[bytes, str] = {}

    def add(self, frame: Frame) -> list[tuple[str, bool]]:
        """Whether a sweep came before, as a problem."""
        self.sizes.append(len(frame.points))
        digest = hashlib.blake2b(frame.points.tobytes()).digest()
        first = self._first.setdefault(digest, frame.frame_id)
        same = len(frame.points) > 0 and first != frame.frame_id
        return [(f'has the same sweep as {first}', False)] if same else []


def _broken(where: Path, error: Exception) -> Finding:
    return Finding(where.name, str(error), broken=True)


def _measure(dataset: FrameDataset, frame: Frame) -> LabelledObjects:
    """The labelled objects of a frame; those of no class, or to be ignored, are `ignored`."""
    truth = frame.ground_truth
    assert truth is not None
    names = np.array([*dataset.class_names, 'ignored'])[truth.labels]
    levels = np.full(len(truth), -1) if truth.levels is None else truth.levels
    inside = points_in_boxes(frame.points, truth.boxes).sum(axis=0)
    return LabelledObjects(names, truth.boxes, levels, inside)
