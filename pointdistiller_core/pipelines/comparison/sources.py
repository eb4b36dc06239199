# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of a comparison, and their labels: out of a bag, or of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pointdistiller_core.config import DatasetConfig
from pointdistiller_core.datasets import DATASETS, FolderDataset, build_dataset
from pointdistiller_core.errors import CloudError, DamageError, DatasetError, describe
from pointdistiller_core.evaluation.comparison.pairs import relabel_truth
from pointdistiller_core.formats.folder import read_label_source
from pointdistiller_core.geometry.intensity import IntensityJudge
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.messages.bags import (
    CLOUD_TYPE,
    BagCloud,
    BagMessage,
    bag_topics,
    choose_cloud_topic,
    parse_cloud,
    read_class_names,
    read_messages,
    summarize_bag,
)
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC, truth_from_boxes_cloud
from pointdistiller_core.messages.cloud_reader import CloudReader, CloudReading
from pointdistiller_core.pipelines.comparison.detectors import ComparedDetectors
from pointdistiller_core.records import GroundTruth

if TYPE_CHECKING:
    from numpy.typing import NDArray

OWN = 'the dataset'  # labels of people, or of a simulation
REMEDY = '(--intensity-scale auto or {:.6g})'

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceCloud:
    """A cloud.

    Attributes:
        read: returns its points (N, 4); raises CloudError if they cannot be used.
        stamp_ns: its time; 0 if it has none.
        frame_id: frame of its points; empty if it is not known.
        name: in its dataset; empty in a bag.
        truth: its labels, by the classes of the rules; None if they come by themselves, or not.
    """

    read: Callable[[], NDArray[np.float32]]
    stamp_ns: int
    frame_id: str = ''
    name: str = ''
    truth: GroundTruth | None = None


@dataclass(frozen=True)
class SourceLabels:
    """Labels that belong to the cloud of their time.

    Attributes:
        read: returns them, by the classes of the rules; raises CloudError.
        stamp_ns: time of the cloud.
        frame_id: frame of the boxes.
    """

    read: Callable[[], GroundTruth]
    stamp_ns: int
    frame_id: str


class Source(Protocol):
    """Clouds, and maybe labels, in order."""

    @property
    def num_clouds(self) -> int | None:
        """Number of clouds, if it is known before they are read."""
        ...

    @property
    def tolerance_s(self) -> float:
        """Most that the stamps of a cloud and its labels may differ [s]."""
        ...

    @property
    def problem(self) -> str:
        """What is wrong with the intensity of the first clouds; empty if nothing is."""
        ...

    @property
    def scale(self) -> float | None:
        """The scale of the intensity that was found to be likely, if that was asked for."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the report says of the clouds and labels."""
        ...

    def mountings(self) -> Mapping[str, Mounting | None]:
        """The mounting of the sensor, by role; None is that of the training sensor."""
        ...

    def __iter__(self) -> Iterator[SourceCloud | SourceLabels]: ...


class Selection(Protocol):
    """Names clouds."""

    def open(self, detectors: ComparedDetectors) -> Source:
        """The clouds, for these detectors."""
        ...


@dataclass(frozen=True)
class BagSelection:
    """Clouds of a bag, and the labelled boxes in it.

    Attributes:
        bag: folder or file.
        topic: topic of the clouds; empty is the only one of a sensor.
        ground_truth: topic of labelled boxes like `~/boxes`; None is `/ground_truth/boxes` if the
            bag has it; empty is none.
        label_names: classes that the labels index; empty is what the bag says, or the teacher's.
        start_s: seconds of the bag to skip.
        duration_s: seconds from there to read; None is all.
        stride: every n-th cloud is compared.
        stamp_tolerance_s: most that the stamps of a cloud and its labels may differ [s].
        height: of the sensor above the ground [m]; None is that of the training sensors.
        reading: how intensities are read.
    """

    bag: Path
    topic: str = ''
    ground_truth: str | None = None
    label_names: tuple[str, ...] = ()
    start_s: float = 0.0
    duration_s: float | None = None
    stride: int = 1
    stamp_tolerance_s: float = 0.0
    height: float | None = None
    reading: CloudReading = field(default_factory=CloudReading)

    def open(self, detectors: ComparedDetectors) -> BagSource:
        """The clouds, for these detectors.

        Raises:
            DatasetError: the bag is missing or broken, or has no such topics.
        """
        return BagSource(self, detectors)


class BagSource:
    """See `BagSelection`."""

    def __init__(self, selection: BagSelection, detectors: ComparedDetectors) -> None:
        self._selection = selection
        self.tolerance_s = selection.stamp_tolerance_s
        self.topic, self.truth_topic = _find_topics(selection)
        self._reader = CloudReader(
            *(selection.reading, detectors.infos, logger),
            remedy=REMEDY,
        )
        told = read_class_names(selection.bag).get(self.truth_topic, ())
        self._names = selection.label_names or told or detectors.class_names['teacher']
        self._common = detectors.rules.class_names
        self._heights = {role: info.sensor_height for role, info in detectors.infos.items()}
        self._damage = ''

    @property
    def num_clouds(self) -> int | None:
        """Of the whole bag, if that is read, by its index."""
        one = self._selection
        if one.start_s or one.duration_s is not None:
            return None
        count = summarize_bag(one.bag).topics[self.topic].count
        return None if count is None else -(-count // one.stride)

    @property
    def problem(self) -> str:
        """See `CloudReader`."""
        return self._reader.problem

    @property
    def scale(self) -> float | None:
        """See `CloudReader`."""
        return self._reader.scale

    @property
    def facts(self) -> Mapping[str, Any]:
        """Topics, what the labels are taken as, and what of the bag could not be read."""
        return {
            'bag': str(self._selection.bag.resolve()),
            'topic': self.topic,
            'ground_truth': self.truth_topic,
            'label_names': list(self._names) if self.truth_topic else [],
            **({'damage': self._damage} if self._damage else {}),
        }

    def mountings(self) -> Mapping[str, Mounting | None]:
        """By the height that was given."""
        height = self._selection.height
        return {role: Mounting.at_height(own, height) for role, own in self._heights.items()}

    def __iter__(self) -> Iterator[SourceCloud | SourceLabels]:
        selection, number = self._selection, 0
        for message in self._messages():
            if message.topic == self.truth_topic:
                yield self._labels(message)
                continue
            if number % selection.stride == 0:
                yield self._cloud(message)
            number += 1

    def _messages(self) -> Iterator[BagMessage]:
        """Of both topics; behind what can be read, damage is a warning and no error."""
        selection, any_cloud = self._selection, False
        try:
            for message in read_messages(
                selection.bag,
                {self.topic, self.truth_topic} - {''},
                start_s=selection.start_s,
                duration_s=selection.duration_s,
                on_note=logger.warning,
            ):
                any_cloud |= message.topic == self.topic
                yield message
        except DamageError as error:
            if not any_cloud:
                raise
            self._damage = str(error)
            logger.warning('%s', error)

    def _cloud(self, message: BagMessage) -> SourceCloud:
        try:
            found = parse_cloud(message)
        except Exception as error:  # of a parser whose input may be anything
            return SourceCloud(_raiser(message, error), 0)
        read = self._reader.read
        return SourceCloud(lambda: read(found.message), found.stamp_ns, found.frame_id)

    def _labels(self, message: BagMessage) -> SourceLabels:
        try:
            found = parse_cloud(message)
        except Exception as error:  # of a parser whose input may be anything
            return SourceLabels(_raiser(message, error), 0, '')
        return SourceLabels(lambda: self._read_labels(found), found.stamp_ns, found.frame_id)

    def _read_labels(self, found: BagCloud) -> GroundTruth:
        return relabel_truth(truth_from_boxes_cloud(found.message), self._names, self._common)


def _find_topics(selection: BagSelection) -> tuple[str, str]:
    """Topics of clouds and labels, the last empty if there are none."""
    topics = bag_topics(selection.bag)
    truth = selection.ground_truth
    if truth is None:
        truth = TRUTH_TOPIC if topics.get(TRUTH_TOPIC) == CLOUD_TYPE else ''
    for name in filter(None, (selection.topic, truth)):
        if topics.get(name) != CLOUD_TYPE:
            found = f'has {topics[name]} there' if name in topics else 'has no such topic'
            others = sorted(other for other, kind in topics.items() if kind == CLOUD_TYPE)
            raise DatasetError(
                f'{selection.bag}: topic {name!r}: the bag {found}; its PointCloud2 topics are '
                f'{others}'
            )
    return selection.topic or choose_cloud_topic(selection.bag), truth


def _raiser(message: BagMessage, error: Exception) -> Callable[[], Any]:
    """Raises what is wrong with a message."""

    def fail() -> Any:
        raise CloudError(f'{message.topic}: no PointCloud2: {describe(error)}') from error

    return fail


@dataclass(frozen=True)
class DatasetSelection:
    """Frames of a dataset, with the labels that it has.

    Attributes:
        config: which dataset, and which split of it.
        stride: every n-th frame is compared.
    """

    config: DatasetConfig
    stride: int = 1

    def open(self, detectors: ComparedDetectors) -> DatasetSource:
        """The frames, for these detectors.

        Raises:
            DatasetError: the dataset is missing or malformed.
        """
        return DatasetSource(self, detectors)


class DatasetSource:
    """See `DatasetSelection`."""

    scale = None
    tolerance_s = 0.0  # labels come with their frames

    def __init__(self, selection: DatasetSelection, detectors: ComparedDetectors) -> None:
        config = selection.config
        # Of an open folder, some frames may have labels, and others not.
        labelled = DATASETS[config.name].is_labelled(config) and config.name != 'folder'
        self._config = config
        self._frames = build_dataset(config, detectors.rules.class_names, labelled=labelled)
        self._indices = range(0, len(self._frames), selection.stride)
        self._heights = {role: info.sensor_height for role, info in detectors.infos.items()}
        self._label_sources: Counter[str] = Counter()
        self._judges = [
            IntensityJudge(
                info.intensity_range,
                expected=f'the {role} was trained on {info.intensity_text}',
                remedy=REMEDY.format,
            )
            for role, info in detectors.infos.items()
        ]

    @property
    def num_clouds(self) -> int:
        """Frames that are compared."""
        return len(self._indices)

    @property
    def problem(self) -> str:
        """What is wrong with the intensity of the first frames; empty if nothing is."""
        return '; '.join(filter(None, (judge.finding for judge in self._judges)))

    @property
    def facts(self) -> Mapping[str, Any]:
        """Place, and who made the labels of how many frames."""
        return {
            'dataset': str(self._config.root.resolve()),
            'split': self._config.split,
            'labels_by': dict(self._label_sources),
        }

    def mountings(self) -> Mapping[str, Mounting | None]:
        """By the height of the sensor, if the dataset knows it."""
        frames = self._frames
        height = frames.info.sensor.height if isinstance(frames, FolderDataset) else None
        return {role: Mounting.at_height(own, height) for role, own in self._heights.items()}

    def __iter__(self) -> Iterator[SourceCloud]:
        frames = self._frames
        for index in self._indices:
            frame = frames[index]
            for judge in self._judges:
                judge.add(frame.points, scale=frames.intensity_scale)
            truth = frame.ground_truth
            if isinstance(frames, FolderDataset):
                truth = self._truth_of(frames, index)
            elif truth is not None:
                self._label_sources[OWN] += 1
            points = frame.points
            yield SourceCloud(
                lambda points=points: points,  # type: ignore[misc]
                stamp_ns=frame.stamp_ns or 0,
                name=frame.frame_id or f'{index:06d}',
                truth=truth,
            )

    def _truth_of(self, frames: FolderDataset, index: int) -> GroundTruth | None:
        """Labels of a frame, if it has any."""
        if frames.objects(index) is None:
            return None
        by = read_label_source(frames.root, frames.frame_ids[index])
        self._label_sources[by or OWN] += 1
        return frames.labels(index)
