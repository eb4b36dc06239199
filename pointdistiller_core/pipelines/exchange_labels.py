# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Exchange of labels between dataset folders, annotation tools, KITTI's files and bags.

Unsure boxes, which are ignored, go to a tool as a class of their own (`Car_unsure`), because tools
show classes and often drop what they do not know. What comes back under such a name is ignored as
before; under another name it is an object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path

from pointdistiller_core.datasets.class_tally import ClassTally
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.datasets.image_sizes import size_from_principal_point
from pointdistiller_core.datasets.pcd import format_pcd
from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.files import read_text, write_file, write_text
from pointdistiller_core.formats.folder import (
    FRAMES_FILE,
    FolderInfo,
    FrameRow,
    FrameTable,
    Label,
    labels_path,
    read_further,
    read_info,
    read_label_source,
    read_labels,
    write_info,
    write_labels,
)
from pointdistiller_core.formats.kitti import (
    calibration_problem,
    format_calibration,
    read_calibration,
)
from pointdistiller_core.formats.label_tools import (
    AHEAD,
    KITTI,
    LABEL_TOOLS,
    Camera,
    ToolLabels,
    format_tool_labels,
    not_held,
    read_tool_labels,
)
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC
from pointdistiller_core.pipelines.recorded import TOLERANCE_S, read_recorded

UNSURE = '_unsure'  # ends the class of an ignored box in the files of a tool


@dataclass
class ExchangeCounts:
    """Counts of an exchange.

    Attributes:
        frames: with labels.
        without_labels: frames that have none.
        boxes: by class.
        unsure: boxes among them that are ignored.
        left_out: unsure boxes that were not to be written.
        tilted: boxes that the tool has tilted; they are upright here.
        others: objects of the tool that are not boxes, left out.
        unknown: label files of frames that the dataset lacks, left out.
        lost: what the tool's files cannot hold.
        notes: what was assumed, or left out and why.
    """

    frames: int = 0
    without_labels: int = 0
    boxes: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    left_out: int = 0
    tilted: int = 0
    others: int = 0
    unknown: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def export_labels(
    dataset: FolderDataset,
    out: Path,
    tool: str,
    *,
    points: bool = True,
    unsure: bool = True,
    on_frame: Callable[[int, int], None] | None = None,
) -> ExchangeCounts:
    """Write frames as an annotation tool expects them.

    Args:
        dataset: the frames; opened without labels, because these are read from the files.
        out: folder to write; files of the same names are replaced.
        tool: one of `LABEL_TOOLS`.
        points: whether to write the points, too, in the tool's form.
        unsure: whether to write unsure boxes, too, as a class of their own.
        on_frame: told how many frames are done, and how many there are.

    Raises:
        DatasetError: a frame cannot be read.
        WriteError: a file cannot be written.
    """
    kind, counts = LABEL_TOOLS[tool], ExchangeCounts()
    for index, name in enumerate(dataset.frame_ids):
        row = dataset.row(index)
        labels, camera = dataset.objects(index), _camera_of(dataset.info, row)
        if labels is None:
            counts.without_labels += 1
        else:
            counts.frames += 1
            marked = [_marked(label) for label in labels if unsure or not label.ignore]
            counts.left_out += len(labels) - len(marked)
            counts.unsure += sum(label.ignore for label in labels) if unsure else 0
            counts.boxes.update(label.name for label in marked)
            counts.lost += not_held(tool, marked)
            text = format_tool_labels(tool, marked, name, camera or AHEAD)
            write_text(out / kind.folder / f'{name}{kind.suffix}', text)
        if tool == KITTI:
            counts.lost['frames without a camera; one that looks along x is assumed'] += not camera
            text = format_calibration((camera or AHEAD).calibration)
            write_text(out / 'calib' / f'{name}.txt', text)
        if points:
            content = _format_points(tool, dataset, index)
            write_file(out / kind.points_folder / f'{name}{kind.points_suffix}', content)
        if on_frame is not None:
            on_frame(index + 1, len(dataset))
    return counts


def import_labels(
    root: Path,
    source: Path,
    tool: str,
    *,
    replace: bool = False,
    tally: ClassTally | None = None,
) -> ExchangeCounts:
    """Import the labels that people made with a tool.

    Args:
        root: the dataset folder.
        source: the tool's folder, or that of its label files.
        tool: one of `LABEL_TOOLS`.
        replace: whether labels of people may be replaced; those of detectors are.
        tally: renames and counts classes; None keeps their names.

    Raises:
        DatasetError: a file is not of the tool, or there is none. Nothing was imported.
        WriteError: a frame has labels of people, and `replace` is not set; nothing was imported.
    """
    kind = LABEL_TOOLS[tool]
    folder = source / kind.folder
    files = sorted((folder if folder.is_dir() else source).glob(f'*{kind.suffix}'))
    if not files:
        raise DatasetError(
            f'{source}: no label files (*{kind.suffix}) of {tool}, nor in {kind.folder}/'
        )
    info, table = read_info(root), FrameTable(root / FRAMES_FILE)
    places = table.find({file.stem for file in files})
    counts = ExchangeCounts(unknown=[file.stem for file in files if file.stem not in places])
    read: dict[str, ToolLabels] = {}
    for file in files:
        if file.stem in places:
            camera = AHEAD
            if tool == KITTI:
                camera = _camera_for(file, info, table[places[file.stem]], counts)
            text = read_text(file, DatasetError)
            read[file.stem] = read_tool_labels(tool, text, str(file), camera)
    for found in read.values():
        counts.tilted += found.num_tilted
        counts.others += found.num_others
    labels = {name: found.labels for name, found in read.items()}
    _store(root, labels, counts, tally or ClassTally({}), replace=replace)
    return counts


def import_recorded(
    dataset: FolderDataset,
    bag: Path,
    topic: str = '',
    *,
    replace: bool = False,
    tally: ClassTally | None = None,
    label_names: Sequence[str] = (),
    tolerance_s: float = TOLERANCE_S,
) -> ExchangeCounts:
    """Import the boxes of a bag as they are, with scores, tracks and velocities.

    Those of the topic of labelled boxes count as made by people, others as a detector's.

    Args:
        dataset: the frames.
        bag: folder or file.
        topic: of the boxes; empty is the only one that there is.
        replace: whether labels of people may be replaced; those of detectors are.
        tally: renames and counts classes; None keeps their names.
        label_names: as in `read_recorded`.
        tolerance_s: most time between a message and its frame [s].

    Raises:
        ConfigError: as `read_recorded`.
        DatasetError: as `read_recorded`.
        WriteError: a frame has labels of people, and `replace` is not set; nothing was imported.
    """
    found = read_recorded(dataset, bag, topic, tolerance_s=tolerance_s, label_names=label_names)
    counts, labels = ExchangeCounts(notes=found.notes), found.by_frame
    source: str | None = f'{bag}:{found.topic}'
    if found.topic == TRUTH_TOPIC:
        source = None
        counts.notes.append('the boxes count as labels of people')
        labels = {name: list(map(_without_score, each)) for name, each in labels.items()}
    _store(
        *(dataset.root, labels, counts, tally or ClassTally({})),
        replace=replace,
        source=source,
    )
    return counts


def _store(
    root: Path,
    labels: Mapping[str, Sequence[Label]],
    counts: ExchangeCounts,
    tally: ClassTally,
    *,
    replace: bool,
    source: str | None = None,
) -> None:
    """Write labels of frames, with new names."""
    by_people = [name for name in labels if _has_labels_of_people(root, name)]
    if by_people and not replace:
        raise WriteError(
            f'{root}: {len(by_people)} of these frames have labels of people already, '
            f'{by_people[0]} first; --replace replaces them'
        )
    renamed = {
        name: [_unmarked(label, tally) for label in found] for name, found in labels.items()
    }
    for found in renamed.values():
        counts.boxes.update(label.name for label in found)
        counts.unsure += sum(label.ignore for label in found)
    _add_classes(root, read_info(root), counts.boxes)
    for name, found in renamed.items():
        write_labels(root, name, found, source, read_further(root, name))
        counts.frames += 1


def _marked(label: Label) -> Label:
    """A label as a tool gets it: an ignored box has a class of its own."""
    return changed(label, name=label.name + UNSURE, ignore=False) if label.ignore else label


def _unmarked(label: Label, tally: ClassTally) -> Label:
    """A label as it came from a tool, with its new name."""
    name = tally.renamed(label.name)
    if name == label.name and name.endswith(UNSURE):
        name = tally.renamed(name.removesuffix(UNSURE))
        return changed(label, name=name, ignore=True)
    return changed(label, name=name)


def _without_score(label: Label) -> Label:
    return changed(label, score=None)


def _camera_of(info: FolderInfo, row: FrameRow) -> Camera | None:
    """The camera of a frame, if the dataset has it."""
    found = info.cameras.get(row.camera)
    if found is None:
        return None
    size = found.image_size or size_from_principal_point(found.calibration)
    return Camera(found.calibration, size or AHEAD.image_size)


def _camera_for(file: Path, info: FolderInfo, row: FrameRow, counts: ExchangeCounts) -> Camera:
    """The camera that a label file of KITTI is meant for: that beside it, or of the dataset."""
    path = file.parent.parent / 'calib' / file.name
    if path.is_file():
        calibration = read_calibration(path)
        if problem := calibration_problem(calibration):
            raise DatasetError(f'{path}: {problem}')
        return Camera(calibration, AHEAD.image_size)
    camera = _camera_of(info, row)
    key = 'frames without a calibration; boxes are taken as of a camera that looks along x'
    counts.lost[key] += camera is None
    return camera or AHEAD


def _format_points(tool: str, dataset: FolderDataset, index: int) -> bytes:
    points = dataset[index].points
    if tool == KITTI:
        return points.astype('<f4').tobytes()
    return format_pcd(points, dataset.point_features)


def _has_labels_of_people(root: Path, name: str) -> bool:
    if not labels_path(root, name).exists():
        return False
    return bool(read_labels(root, name)) and read_label_source(root, name) is None


def _add_classes(root: Path, info: FolderInfo, classes: Iterable[str]) -> None:
    if new := [name for name in classes if name not in info.class_names]:
        known = (*info.class_names, *sorted(new))
        write_info(root, info.model_copy(update={'class_names': known}))
