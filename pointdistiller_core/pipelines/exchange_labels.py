# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Exchange of labels between dataset folders and annotation tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.datasets.pcd import format_pcd
from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.files import read_text, write_file, write_text
from pointdistiller_core.formats.folder import (
    FRAMES_FILE,
    FolderInfo,
    FrameTable,
    labels_path,
    read_info,
    read_label_source,
    read_labels,
    write_info,
    write_labels,
)
from pointdistiller_core.formats.label_tools import (
    LABEL_TOOLS,
    format_tool_labels,
    read_tool_labels,
)


@dataclass
class ExchangeCounts:
    """Counts of an exchange.

    Attributes:
        frames: with labels.
        without_labels: frames that have none.
        boxes: by class.
        tilted: boxes that the tool has tilted; they are upright here.
        others: objects of the tool that are not boxes, left out.
        unknown: label files of frames that the dataset lacks, left out.
    """

    frames: int = 0
    without_labels: int = 0
    boxes: Counter[str] = field(default_factory=Counter)
    tilted: int = 0
    others: int = 0
    unknown: list[str] = field(default_factory=list)


def export_labels(
    dataset: FolderDataset,
    out: Path,
    tool: str,
    *,
    points: bool = True,
    on_frame: Callable[[int, int], None] | None = None,
) -> ExchangeCounts:
    """Write frames as an annotation tool expects them.

    Args:
        dataset: the frames; opened without labels, because these are read from the files.
        out: folder to write; files of the same names are replaced.
        tool: one of `LABEL_TOOLS`.
        points: whether to write the points, too, as `.pcd`.
        on_frame: told how many frames are done, and how many there are.

    Raises:
        DatasetError: a frame cannot be read.
        WriteError: a file cannot be written.
    """
    kind, counts = LABEL_TOOLS[tool], ExchangeCounts()
    for index, name in enumerate(dataset.frame_ids):
        labels = dataset.objects(index)
        if labels is None:
            counts.without_labels += 1
        else:
            counts.frames += 1
            counts.boxes.update(label.name for label in labels)
            text = format_tool_labels(tool, labels, name)
            write_text(out / kind.folder / f'{name}.json', text)
        if points:
            content = format_pcd(dataset[index].points, dataset.point_features)
            write_file(out / kind.points_folder / f'{name}.pcd', content)
        if on_frame is not None:
            on_frame(index + 1, len(dataset))
    return counts


def import_labels(root: Path, source: Path, tool: str, *, replace: bool = False) -> ExchangeCounts:
    """Import the labels that people made with a tool.

    Args:
        root: the dataset folder.
        source: the tool's folder, or that of its label files.
        tool: one of `LABEL_TOOLS`.
        replace: whether labels of people may be replaced; those of detectors are.

    Raises:
        DatasetError: a file is not of the tool, or there is none. Nothing was imported.
        WriteError: a frame has labels of people, and `replace` is not set; nothing was imported.
    """
    folder = source / LABEL_TOOLS[tool].folder
    files = sorted((folder if folder.is_dir() else source).glob('*.json'))
    if not files:
        raise DatasetError(f'{source}: no label files (*.json) of {tool}, nor in {folder.name}/')
    info = read_info(root)
    dataset_names = _frame_names(root, {file.stem for file in files})
    counts = ExchangeCounts(unknown=[f.stem for f in files if f.stem not in dataset_names])
    read = {
        file.stem: read_tool_labels(tool, read_text(file, DatasetError), str(file))
        for file in files
        if file.stem in dataset_names
    }
    by_people = [name for name in read if _has_labels_of_people(root, name)]
    if by_people and not replace:
        raise WriteError(
            f'{root}: {len(by_people)} of these frames have labels of people already, '
            f'{by_people[0]} first; --replace replaces them'
        )
    for found in read.values():
        counts.boxes.update(label.name for label in found.labels)
        counts.tilted += found.num_tilted
        counts.others += found.num_others
    _add_classes(root, info, counts.boxes)
    for name, found in read.items():
        write_labels(root, name, found.labels)
        counts.frames += 1
    return counts


def _frame_names(root: Path, wanted: set[str]) -> set[str]:
    """The names that are frames of the dataset."""
    return set(FrameTable(root / FRAMES_FILE).find(wanted))


def _has_labels_of_people(root: Path, name: str) -> bool:
    if not labels_path(root, name).exists():
        return False
    return bool(read_labels(root, name)) and read_label_source(root, name) is None


def _add_classes(root: Path, info: FolderInfo, classes: Counter[str]) -> None:
    if new := [name for name in classes if name not in info.class_names]:
        known = (*info.class_names, *sorted(new))
        write_info(root, info.model_copy(update={'class_names': known}))
