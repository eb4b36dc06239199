# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of a dataset folder by trained detectors, drive by drive; see `labelling`.

Detections are cached beside the dataset, frame by frame, so that an interrupted run continues, and
a run with other thresholds need not detect again. Labels of people are never replaced; the new
ones are compared with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
import hashlib
from itertools import groupby, pairwise
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from pointdistiller_core.config import LabellingConfig, ViewsConfig
from pointdistiller_core.datasets.folder import FolderDataset, ground_truth_of
from pointdistiller_core.datasets.packed_arrays import pack_arrays, unpack_arrays
from pointdistiller_core.evaluation.matching import match_detections
from pointdistiller_core.files import write_file
from pointdistiller_core.formats.folder import (
    Label,
    read_label_source,
    read_labels,
    shortest_floats,
    write_info,
    write_labels,
)
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.labelling.drives import FrameLabels, label_drive
from pointdistiller_core.labelling.views import AnyTeacher, detect_by_views
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEASURED_IOU = 0.5  # least BEV IoU of a label with the one that a person made
SOME_IOU = 0.1  # from which an ignored box covers a label

logger = logging.getLogger(__name__)


@dataclass
class LabelCounts:
    """Counts of a dataset's frames, tracks and labels.

    Attributes:
        tracks: class -> tracks by outcome, see `DriveLabels`.
        labels: class -> boxes written, `labels` and `ignored`.
        frames: `labelled`, or `kept` because they have labels of people.
        notes: what was assumed.
        found: class -> labels on boxes of people.
        wrong: class -> labels without one of people.
        missed: class -> boxes of people without a label, ignored ones left out.
        unseen: class -> boxes of people where no teacher of the class looks; not among `missed`.
    """

    tracks: dict[str, Counter[str]]
    labels: dict[str, Counter[str]] = field(init=False)
    frames: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.labels = {name: Counter() for name in self.tracks}


@dataclass(frozen=True)
class Teachers:
    """The detectors that label.

    Attributes:
        teachers: one or more, trained or recorded.
        fingerprint: a text that changes with the teachers and what they are trusted with.
        source: the origin that the label files name.
    """

    teachers: Sequence[AnyTeacher]
    fingerprint: str
    source: str


def label_dataset(
    dataset: FolderDataset,
    teachers: Teachers,
    config: LabellingConfig,
    on_frame: Callable[[int, int], None] | None = None,
) -> LabelCounts:
    """Label every frame of a split that people have not labelled.

    Args:
        dataset: the frames, opened without labels; its classes are those that are labelled.
        teachers: detectors, in the frame and with the intensity of the dataset.
        config: views, tracking and trust.
        on_frame: told how many frames are done, and how many there are.

    Raises:
        DatasetError: a frame cannot be read.
        WriteError: labels or detections cannot be written.
    """
    counts = LabelCounts({name: Counter() for name in dataset.class_names})
    _tell_classes(dataset)
    done = 0
    for drive in drives_of(dataset, counts):
        found = []
        for index in drive.indices:
            found.append(_detections_of(dataset, index, teachers, config.views))
            done += 1
            if on_frame is not None:
                on_frame(done, len(dataset))
        for index, labels in _labels_of(dataset, drive, found, config, counts):
            _write_or_measure(dataset, index, labels, teachers, counts)
    return counts


def _tell_classes(dataset: FolderDataset) -> None:
    """Name the classes of the coming labels in `dataset.yaml`, before anything else."""
    known = dataset.info.class_names
    if new := [name for name in dataset.class_names if name not in known]:
        write_info(dataset.root, dataset.info.model_copy(update={'class_names': (*known, *new)}))


@dataclass(frozen=True)
class Drive:
    """Frames of a dataset that belong together.

    Attributes:
        indices: of the frames.
        stamps_ns: of each, ascending; None if the frames have no times, and so no order.
        poses: `world_from_lidar` (4, 4) of each; None if they are not known.
    """

    indices: Sequence[int]
    stamps_ns: Sequence[int] | None
    poses: Sequence[NDArray[np.float64]] | None


def drives_of(dataset: FolderDataset, counts: LabelCounts) -> Iterator[Drive]:
    """The drives of a split, one after another; notes about missing data go to the counts."""
    places = groupby(range(len(dataset)), key=lambda index: dataset.row(index).drive)
    for name, indices in ((name, list(found)) for name, found in places):
        rows = [dataset.row(index) for index in indices]
        stamps = [row.stamp_ns for row in rows if row.stamp_ns is not None]
        ascending = all(later > earlier for earlier, later in pairwise(stamps))
        timed = len(stamps) == len(rows) and ascending
        poses = [row.pose.matrix for row in rows if row.pose is not None]
        posed = len(poses) == len(rows)
        where = f'drive {name!r}' if name else 'the frames'
        if not timed:
            counts.notes.append(
                f'{where}: without a time for each frame, one later than the other, each frame is '
                'labelled on its own: no tracks'
            )
        elif not posed:
            counts.notes.append(
                f'{where}: without a pose for each frame, objects are tracked as the sensor sees '
                'them, and none is taken to stand still'
            )
        yield Drive(indices, stamps if timed else None, poses if posed else None)


def _detections_of(
    dataset: FolderDataset, index: int, teachers: Teachers, views: ViewsConfig
) -> Detections:
    """Detections of a frame, from the cache, or found and stored there."""
    facts = (dataset.fingerprint(index), teachers.fingerprint, views.model_dump_json())
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
    file = dataset.cache / 'detections' / f'{key}.safetensors'
    if file.exists():
        try:
            kept: dict[str, Any] = dict(unpack_arrays(file.read_bytes()))
            return Detections(**kept)
        except (TypeError, ValueError) as error:
            logger.warning('%s: damaged (%s); it is made again', file, error)
    found = detect_by_views(teachers.teachers, dataset[index], views, dataset.class_names)
    write_file(file, pack_arrays({'boxes': found.boxes, **found.columns()}))
    return found


def _labels_of(
    dataset: FolderDataset,
    drive: Drive,
    found: Sequence[Detections],
    config: LabellingConfig,
    counts: LabelCounts,
) -> Iterator[tuple[int, FrameLabels]]:
    """The labels of each frame of a drive."""
    names = dataset.class_names
    if drive.stamps_ns is None:
        parts = [([index], [each]) for index, each in zip(drive.indices, found, strict=True)]
        alone = {'min_detections': 1}
        config = config.model_copy(
            update={
                'trust': config.trust.model_copy(update=alone),
                'trust_by_class': {
                    name: trust.model_copy(update=alone)
                    for name, trust in config.trust_by_class.items()
                },
            }
        )
    else:
        parts = [(list(drive.indices), list(found))]
    if drive.poses is None:
        config = config.model_copy(update={'propagate': 0})
    for indices, own in parts:
        result = label_drive(
            own,
            lambda place, indices=indices: dataset[indices[place]].points,  # type: ignore[misc]
            drive.stamps_ns or [0],
            drive.poses or [np.eye(4)] * len(own),
            config=config,
            class_names=names,
        )
        for name, tracks in result.counts.items():
            counts.tracks[name].update(tracks)
        yield from zip(indices, result.frames, strict=True)


def _write_or_measure(
    dataset: FolderDataset,
    index: int,
    labels: FrameLabels,
    teachers: Teachers,
    counts: LabelCounts,
) -> None:
    """Write the labels of a frame or, if people have labelled it, compare them."""
    root, name = dataset.root, dataset.frame_ids[index]
    by_people = read_labels(root, name)
    if by_people is not None and read_label_source(root, name) is None:
        counts.frames['kept'] += 1
        truth = ground_truth_of(by_people, dataset.class_names, dataset.class_map)
        inside = points_in_boxes(dataset[index].points, truth.boxes).any(axis=0)
        truth = replace(truth, labels=np.where(inside, truth.labels, IGNORE_LABEL))
        _measure(labels, _looked_at(truth, teachers, dataset.class_names, counts), counts)
        return
    counts.frames['labelled'] += 1
    for number, class_name in enumerate(dataset.class_names):
        own = labels.labels == number
        counts.labels[class_name]['labels'] += int((own & ~labels.ignored).sum())
        counts.labels[class_name]['ignored'] += int((own & labels.ignored).sum())
    write_labels(root, name, list(_as_labels(labels, dataset.class_names)), teachers.source)


def _as_labels(labels: FrameLabels, names: Sequence[str]) -> Iterator[Label]:
    for row in range(len(labels)):
        velocity = shortest_floats(labels.velocities[row])
        yield Label(
            names[labels.labels[row]],
            shortest_floats(labels.boxes[row]),
            score=round(float(labels.scores[row]), 4),
            track=int(labels.tracks[row]),
            velocity=(velocity[0], velocity[1]),
            ignore=bool(labels.ignored[row]),
        )


def _looked_at(
    truth: GroundTruth, teachers: Teachers, names: Sequence[str], counts: LabelCounts
) -> GroundTruth:
    """The truth; boxes that no teacher of their class can see count neither way."""
    unseen = truth.labels != IGNORE_LABEL
    for teacher in teachers.teachers:
        classes = [names.index(name) for name in teacher.classes if name in names]
        unseen &= ~(np.isin(truth.labels, classes) & teacher.sees(truth.boxes[:, :3]))
    counts.unseen.update(names[label] for label in truth.labels[unseen])
    return replace(truth, labels=np.where(unseen, IGNORE_LABEL, truth.labels))


def _measure(labels: FrameLabels, truth: GroundTruth, counts: LabelCounts) -> None:
    """Count labels against those of people, where neither is ignored."""
    names = list(counts.tracks)
    sure = Detections(labels.boxes, labels.scores, labels.labels)[~labels.ignored]
    matches = match_detections(sure, truth, [MEASURED_IOU] * len(names))
    unsure = rotated_iou_bev(truth.boxes, labels.boxes[labels.ignored]) >= SOME_IOU
    missed = matches.missed & ~unsure.any(axis=1)
    for number, name in enumerate(names):
        own = sure.labels == number
        counts.found[name] += int((own & matches.true_positives).sum())
        counts.wrong[name] += int((own & matches.false_positives).sum())
        counts.missed[name] += int((missed & (truth.labels == number)).sum())
