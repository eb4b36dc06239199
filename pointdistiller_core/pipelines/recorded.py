# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes that some detector left in a bag, in the frames of a dataset folder.

A message belongs to the frame whose time is nearest to its stamp. Boxes in another frame of TF
are moved by the bag's transforms, then as the conversion has moved the points. What cannot be used
is counted and named.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.errors import ConfigError, DatasetError, describe
from pointdistiller_core.formats.folder import DriveInfo, Label, shortest_floats
from pointdistiller_core.formats.kitti import CLASS_NAMES
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.geometry.poses import NANOSECONDS, TransformError, TransformTree
from pointdistiller_core.messages.bags import (
    CLOUD_TYPE,
    BagSummary,
    read_contents,
    read_messages,
    summarize_bag,
)
from pointdistiller_core.messages.detections import (
    ASSUMED,
    LEFT_OUT,
    READERS,
    FoundBoxes,
    box_topics,
    find_boxes,
)
from pointdistiller_core.messages.transforms import TF_TYPES, add_transforms, is_static

if TYPE_CHECKING:
    Matrix: TypeAlias = NDArray[np.float64]

TOLERANCE_S = 0.05  # between a message and its frame
KEPT_S, LATEST_S = 20.0, 1.0  # history of moving transforms; most delay of one after the boxes
UPRIGHT = 0.7  # least part of a box's own z axis that points up or down; the rest lies on its side
TILTED = 0.02  # [rad]


@dataclass(frozen=True)
class RecordedBoxes:
    """Boxes of a bag, by frame of a dataset.

    Attributes:
        topic: where they were.
        by_frame: boxes by the frame's name, in the dataset's frame; a frame with a message but
            without boxes has none. Classes are named as in the bag.
        classes: boxes by class.
        notes: what was assumed, or left out and why.
    """

    topic: str
    by_frame: dict[str, list[Label]]
    classes: Counter[str]
    notes: list[str]


def read_recorded(
    dataset: FolderDataset,
    bag: Path,
    topic: str = '',
    *,
    tolerance_s: float = TOLERANCE_S,
    label_names: Sequence[str] = (),
) -> RecordedBoxes:
    """The boxes of a bag, in the frames of a dataset.

    A bag that a drive of the dataset was made of belongs to this drive; any other may belong to
    all of them.

    Args:
        dataset: the frames, which need times.
        bag: folder or file.
        topic: of the boxes; empty is the only one that there is.
        tolerance_s: most time between a message and its frame [s].
        label_names: classes that numbers index; empty takes what the bag says, or, of clouds of
            boxes, KITTI's.

    Raises:
        ConfigError: there is no such topic, several to choose from, or several drives to which
            a message may belong.
        DatasetError: the bag is missing or broken, or no message belongs to a frame.
    """
    summary = summarize_bag(bag)
    topic = _choose_topic(bag, summary, topic)
    frames = _Frames(dataset, bag, summary, tolerance_s)
    reading = _Reading(bag, topic, frames)
    reading.match()
    reading.move(summary)
    named, notes = _named(reading, label_names or summary.class_names.get(topic, ()))
    classes = Counter(label.name for labels in named.values() for label in labels)
    return RecordedBoxes(topic, named, classes, [*reading.notes(), *notes])


def _choose_topic(bag: Path, summary: BagSummary, topic: str) -> str:
    found = box_topics(bag, summary)
    if topic in found or (not topic and len(found) == 1):
        return topic or found[0]
    kinds = ', '.join(kind for kind in READERS if kind != CLOUD_TYPE)
    if not found:
        raise ConfigError(
            f'{bag}: no topic holds boxes: neither {kinds}, nor PointCloud2 with the fields of '
            '~/boxes'
        )
    what = f'it has no topic {topic!r}' if topic else 'several topics hold boxes'
    if topic in summary.topics:
        what = f'{topic} ({summary.topics[topic].message_type}) holds no boxes'
    raise ConfigError(f'{bag}: {what}; choose one of {found}, as in {bag}:{found[0]}')


def _named(
    reading: _Reading, label_names: Sequence[str]
) -> tuple[dict[str, list[Label]], list[str]]:
    """The boxes with names instead of numbers, and what was assumed for that."""
    if not (reading.has_numbers or label_names):
        return reading.by_frame, []
    names, notes = label_names, []
    if not names:
        names = CLASS_NAMES
        listed = ', '.join(f'{number} {name}' for number, name in enumerate(names))
        notes = [f'the numbers of its classes are taken as {listed}']
    by_number = {str(number): name for number, name in enumerate(names)}
    named = {
        frame: [replace(label, name=by_number.get(label.name, label.name)) for label in labels]
        for frame, labels in reading.by_frame.items()
    }
    return named, notes


class _Frames:
    """Times of the frames that a bag may belong to."""

    def __init__(
        self, dataset: FolderDataset, bag: Path, summary: BagSummary, tolerance_s: float
    ) -> None:
        rows = [dataset.row(index) for index in range(len(dataset))]
        self._infos, self._sensor_frame = dataset.info.drives, dataset.info.sensor.frame
        own = {name for name, info in self._infos.items() if _is_source(info, bag, summary)}
        known = [
            (row.stamp_ns, row.name, row.drive)
            for row in rows
            if row.stamp_ns is not None and (not own or row.drive in own)
        ]
        if not known:
            of = f' of {", ".join(sorted(own))}' if own else ''
            raise DatasetError(
                f'{dataset.root}: no frame{of} has a time, so that nothing in {bag} can belong '
                'to it'
            )
        known.sort()
        self.stamps: NDArray[np.int64] = np.array([stamp for stamp, _, _ in known], np.int64)
        self.names = [name for _, name, _ in known]
        self.drives = [drive for _, _, drive in known]
        self._bag, self._tolerance_ns = bag, round(tolerance_s * NANOSECONDS)
        self.tolerance_s = tolerance_s

    def __len__(self) -> int:
        return len(self.names)

    def find(self, stamp_ns: int) -> tuple[int, int] | None:
        """Place of the frame at a time, and how far it is from there [ns]; None without one."""
        first = int(np.searchsorted(self.stamps, stamp_ns - self._tolerance_ns))
        end = int(np.searchsorted(self.stamps, stamp_ns + self._tolerance_ns, side='right'))
        drives = sorted(set(self.drives[first:end]))
        if len(drives) > 1:
            raise ConfigError(
                f'{self._bag}: at {stamp_ns / NANOSECONDS:.3f} s it may belong to the drive '
                f'{" or ".join(drives)}, whose times overlap; label each drive in a folder of its '
                'own, or by the bag that it was made of'
            )
        distances = (
            (place, abs(int(self.stamps[place]) - stamp_ns)) for place in range(first, end)
        )
        return min(distances, key=lambda item: item[1], default=None)

    def target(self, place: int) -> tuple[str, Matrix]:
        """Frame of the recording that a frame was made of, and the way from there (4, 4)."""
        info = self._infos.get(self.drives[place], DriveInfo())
        moved = info.choices.get('height', {}).get('training_from_sensor', np.eye(4))
        frame = str(info.choices.get('frame') or self._sensor_frame)
        return frame, np.array(moved, np.float64)


def _is_source(info: DriveInfo, bag: Path, summary: BagSummary) -> bool:
    """Whether a drive was made of a bag, which may have been moved since."""
    source = Path(str(info.source.get('bag', '')))
    same_name = source.name == bag.name and info.source.get('start_ns') == summary.start_ns
    return source.absolute() == bag.absolute() or same_name


class _Match(NamedTuple):
    """A message that belongs to a frame."""

    distance_ns: int
    time_ns: int
    found: list[FoundBoxes]


class _Reading:
    """Reads the boxes of a topic.

    Attributes:
        by_frame: boxes by the frame's name.
        has_numbers: whether classes are numbers.
        counts: boxes and messages by what was amiss.
    """

    def __init__(self, bag: Path, topic: str, frames: _Frames) -> None:
        self._bag, self._topic, self._frames = bag, topic, frames
        self._matches: dict[int, _Match] = {}
        self._firsts: dict[str, str] = {}
        self._heard: dict[str, None] = {}
        self.by_frame: dict[str, list[Label]] = {}
        self.has_numbers = False
        self.counts: Counter[str] = Counter()

    # --- messages and frames -----------------------------------------------------------------

    def match(self) -> None:
        """Find the message of each frame."""
        first_ns = last_ns = 0
        for time_ns, found in self._messages():
            stamp_ns = found[0].stamp_ns
            if stamp_ns <= 0:
                self.counts['stamps'] += 1
                stamp_ns = time_ns
            first_ns, last_ns = first_ns or stamp_ns, stamp_ns
            place = self._frames.find(stamp_ns)
            if place is None:
                self.counts['elsewhere'] += 1
                continue
            before = self._matches.get(place[0])
            if before is not None:
                self.counts['further'] += 1
            if before is None or place[1] < before.distance_ns:
                self._matches[place[0]] = _Match(place[1], time_ns, found)
        if not self._matches:
            raise DatasetError(
                f'{self._bag}: none of {self.counts["elsewhere"]} messages on {self._topic} is '
                f'within {self._frames.tolerance_s:g} s of a frame: they are of '
                f'{_span(first_ns, last_ns)}, the {len(self._frames)} frames of '
                f'{_span(*map(int, self._frames.stamps[[0, -1]]))}'
                + ''.join(f'; {note}' for note in self._heard)
            )

    def _messages(self) -> Iterator[tuple[int, list[FoundBoxes]]]:
        """Times and boxes of the messages that can be read."""
        try:
            for message in read_contents(self._bag, self._topic, on_note=self._hear):
                self.has_numbers = message.message_type == CLOUD_TYPE
                try:
                    yield message.time_ns, find_boxes(message)
                except ConfigError:
                    raise
                except Exception as error:  # of a parser whose input may be anything
                    self._count('unreadable', describe(error))
        except DatasetError as error:  # it comes after all that can be read
            self._hear(str(error))

    def _hear(self, note: str) -> None:
        self._heard.setdefault(note)

    # --- frames of TF ------------------------------------------------------------------------

    def move(self, summary: BagSummary) -> None:
        """Move the boxes to the frame of the dataset."""
        waiting: deque[tuple[int, _Match]] = deque()
        for place, match in sorted(self._matches.items(), key=lambda item: item[1].time_ns):
            frame, _ = self._frames.target(place)
            if all(found.frame_id in ('', frame) for found in match.found):
                self._add(place, match, TransformTree())
            else:
                waiting.append((place, match))
        if waiting:
            self._move_by_tf(waiting, summary)
        if not self.by_frame:
            raise DatasetError(f'{self._bag}: {self._topic}: {"; ".join(self.notes())}')

    def _move_by_tf(self, waiting: deque[tuple[int, _Match]], summary: BagSummary) -> None:
        tree = TransformTree(keep_s=KEPT_S)
        topics = {name for name, kind in summary.topics.items() if kind.message_type in TF_TYPES}
        static = {name for name in topics if is_static(name)}
        for _ in self._transforms(static, tree):
            pass
        for time_ns in self._transforms(topics - static, tree):
            while waiting and (
                self._is_ready(*waiting[0], tree)
                or time_ns - waiting[0][1].time_ns > LATEST_S * NANOSECONDS
            ):
                self._add(*waiting.popleft(), tree)
        for place, match in waiting:
            self._add(place, match, tree)

    def _transforms(self, topics: Iterable[str], tree: TransformTree) -> Iterator[int]:
        """Add transforms to a tree; the times of their messages [ns]."""
        topics = set(topics)
        if not topics:
            return
        try:
            for message in read_messages(self._bag, topics, on_note=self._hear):
                try:
                    self.counts['broken_transforms'] += add_transforms(tree, message)
                except Exception as error:  # of a parser whose input may be anything
                    self._count('broken_transforms', describe(error))
                yield message.time_ns
        except DatasetError as error:  # it comes after all that can be read
            self._hear(str(error))

    def _is_ready(self, place: int, match: _Match, tree: TransformTree) -> bool:
        frame, _ = self._frames.target(place)
        return all(
            found.frame_id in ('', frame)
            or tree.is_ready(frame, found.frame_id, self._stamp(found, match))
            for found in match.found
        )

    def _add(self, place: int, match: _Match, tree: TransformTree) -> None:
        frame, training_from_frame = self._frames.target(place)
        labels: list[Label] = []
        for found in match.found:
            self.counts.update(found.counts)
            matrix = training_from_frame
            if found.frame_id not in ('', frame):
                try:
                    stamp_ns = self._stamp(found, match)
                    matrix = matrix @ tree.lookup(frame, found.frame_id, stamp_ns)
                except TransformError as error:
                    self._count('transforms', str(error))
                    return
            elif not found.frame_id:
                self.counts['frames'] += 1
            labels += self._moved(found, matrix)
        self.counts['distant'] += match.distance_ns > 0
        self.by_frame[self._frames.names[place]] = labels

    @staticmethod
    def _stamp(found: FoundBoxes, match: _Match) -> int:
        return found.stamp_ns if found.stamp_ns > 0 else match.time_ns

    def _moved(self, found: FoundBoxes, matrix: Matrix) -> Iterator[Label]:
        """Boxes of a message in the dataset's frame, upright."""
        if not found.boxes:
            return
        boxes = Mounting(matrix).boxes_to_training(np.array([item.box for item in found.boxes]))
        rotation = matrix[:3, :3]
        for item, box in zip(found.boxes, boxes, strict=True):
            if item.rotation is not None:
                axes = rotation @ item.rotation
                if abs(axes[2, 2]) < UPRIGHT:
                    self.counts['lying'] += 1
                    continue
                self.counts['tilted'] += bool(abs(axes[2, 2]) < np.cos(TILTED))
                box[6] = np.arctan2(axes[1, 0], axes[0, 0])
            velocity = rotation @ item.velocity
            known = bool(np.isfinite(velocity[:2]).all())
            x, y = shortest_floats(velocity[:2]) if known else (0.0, 0.0)
            yield Label(
                item.name,
                shortest_floats(box),
                score=shortest_floats([item.score])[0],
                track=item.track or None,
                velocity=(x, y) if known else None,
            )

    # --- what to tell ------------------------------------------------------------------------

    def _count(self, kind: str, first: str) -> None:
        self.counts[kind] += 1
        self._firsts.setdefault(kind, first)

    def notes(self) -> list[str]:
        """What was assumed, or left out and why."""
        lacking = len(self._frames) - len(self._matches)
        counts: Mapping[str, int] = {'lacking': lacking, **self.counts}
        tolerance = f'within {self._frames.tolerance_s:g} s'
        texts = {
            'lacking': f'of {len(self._frames)} frames have no message {tolerance}',
            'elsewhere': f'messages have no frame {tolerance}',
            'further': 'messages are left out, for another is nearer to their frame',
            'distant': 'messages have not quite the time of their frame; moving objects, and all '
            'while the sensor moves, are off by their way in between',
            'stamps': 'messages have no stamp; the time of recording is taken',
            'frames': 'messages name no frame; that of the recording is taken',
            'unreadable': 'messages cannot be read',
            'transforms': 'messages cannot be moved to the frame of the dataset',
            'broken_transforms': 'transforms are none: not finite, or without a rotation',
            **{kind: f'boxes are left out: they {text}' for kind, text in LEFT_OUT.items()},
            'lying': 'boxes are left out: they do not stand upright in the frame of the dataset',
            'tilted': f'boxes were tilted by more than {TILTED:g} rad; boxes are upright here',
            **{kind: f'boxes {text}' for kind, text in ASSUMED.items()},
        }
        told = [
            f'{counts[kind]} {text}'
            + (f'; the first: {self._firsts[kind]}' if kind in self._firsts else '')
            for kind, text in texts.items()
            if counts.get(kind)
        ]
        return [*self._heard, *told]


def _span(first_ns: int, last_ns: int) -> str:
    return f'{first_ns / NANOSECONDS:.3f} s to {last_ns / NANOSECONDS:.3f} s'
