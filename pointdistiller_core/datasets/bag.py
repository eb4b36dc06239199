# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of a ROS bag, and its labelled boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
import hashlib
import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pointdistiller_core.config import POINT_FEATURES, BagConfig
from pointdistiller_core.datasets.notes import warn_once
from pointdistiller_core.datasets.sweeps import SweepPlace
from pointdistiller_core.errors import CloudError, DatasetError
from pointdistiller_core.geometry.poses import PoseTrack, TransformError, TransformTree
from pointdistiller_core.messages.bags import (
    BagCloud,
    bag_topics,
    read_class_names,
    read_clouds,
    read_messages,
)
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC, truth_from_boxes_cloud
from pointdistiller_core.messages.point_cloud2 import (
    drop_no_returns,
    own_intensity_scale,
    points_from_cloud,
)
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.messages.storage.bag import is_bag
from pointdistiller_core.messages.transforms import (
    ODOMETRY_TYPE,
    TF_TYPES,
    add_transforms,
    parse_odometry,
)
from pointdistiller_core.records import Frame, GroundTruth, renumber

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

NO_STAMP = 0  # of a driver without a clock


class BagDataset:
    """The clouds of one PointCloud2 topic of a bag by their number, without rays without return.

    They are read on demand. In ascending order the bag is read once; a number that is not above
    the last one starts over. With labels, the frames are the clouds whose stamp a message on the
    topic of the boxes has; the number of other clouds is logged.
    """

    layout = 'a ROS bag'
    metric = 'lidar'
    levels = ()
    point_features = POINT_FEATURES

    @staticmethod
    def lies_at(path: Path) -> bool:
        """Whether a path is a bag."""
        return is_bag(path)

    @staticmethod
    def is_labelled(config: BagConfig) -> bool:
        """Whether there is a topic of boxes."""
        return (config.ground_truth or TRUTH_TOPIC) in bag_topics(config.root)

    def __init__(
        self, config: BagConfig, class_names: Sequence[str], *, labelled: bool = True
    ) -> None:
        """Read the bag once.

        Args:
            config: the bag, and topics in it.
            class_names: labels are indices into these.
            labelled: whether to read boxes.

        Raises:
            DatasetError: as `read_clouds`; or there are no boxes, or they belong to no cloud, are
                in another frame, or have other columns than `~/boxes`.
        """
        self.class_names = tuple(class_names)
        self.cache = config.cache or config.root.absolute().with_name(f'.{config.root.name}.cache')
        self._bag, self._given_scale = config.root, config.intensity_scale
        self._topic, self.intensity_scale = config.topic, config.intensity_scale or 1.0
        self.class_map, self._label_names = dict(config.class_map), dict[int, list[str]]()
        found = read_clouds(
            *(self._bag, config.topic or None),
            on_note=lambda note: warn_once(logger, self._bag, note),
        )
        self._clouds = clouds = [self._note(cloud) for cloud in found]
        self._truth: dict[int, GroundTruth] = {}
        self._numbers: Sequence[int] = range(len(clouds))  # of the frames among the clouds
        if labelled:
            self._truth = self._read_labels(config, clouds)
            self._numbers = [n for n, (stamp, _) in enumerate(clouds) if stamp in self._truth]
        self._stamps = [clouds[number][0] for number in self._numbers]
        self.frame_ids = tuple(f'{number:06d}' for number in self._numbers)
        self._next = len(clouds)
        self._rest: Iterator[BagCloud] = iter(())

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Frame:
        """Points and labels, if any.

        Raises:
            DatasetError: the bag changed or is broken.
            CloudError: the cloud lacks a field.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'cloud {index} of {len(self)} in {self._bag}')
        cloud = self._read(self._numbers[index])
        points = points_from_cloud(cloud.message, intensity_scale=self._given_scale)
        truth = self._truth.get(cloud.stamp_ns)
        return Frame(drop_no_returns(points), self.frame_ids[index], truth, cloud.stamp_ns)

    def sweeps_until(self, index: int, count: int, max_age_ns: int) -> list[SweepPlace]:
        """See `PosedFrames`; also of clouds without labels."""
        found: list[SweepPlace] = []
        newest = self._numbers[index]
        for number in range(newest, max(newest - count, -1), -1):
            stamp, frame_id = self._clouds[number]
            if found and not 0 < found[0].stamp_ns - stamp <= max_age_ns:
                break
            try:
                pose = self._poses.pose(frame_id.lstrip('/'), stamp)
            except TransformError:
                break
            found.append(SweepPlace(number, stamp, pose))
        return found

    def sweep_points(self, key: int) -> NDArray[np.float32]:
        """See `PosedFrames`."""
        cloud = self._read(key)
        return points_from_cloud(cloud.message, intensity_scale=self._given_scale)

    def sweep_state(self, key: int) -> object:
        """See `PosedFrames`; `fingerprint` knows of changes of the bag."""
        return key

    @cached_property
    def _poses(self) -> BagPoses:
        return BagPoses(self._bag)

    def _read(self, number: int) -> BagCloud:
        if number < self._next:
            self._rest, self._next = read_clouds(self._bag, self._topic, on_note=_ignore), 0
        cloud = next(itertools.islice(self._rest, number - self._next, None))
        self._next = number + 1
        return cloud

    def fingerprint(self, index: int) -> str:
        """A text that differs between clouds and changes with the bag."""
        files = [self._bag] if self._bag.is_file() else sorted(self._bag.iterdir())
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        facts = (
            *(self.class_names, self._topic, self._given_scale, self._stamps[index], states),
            *([sorted(self.class_map.items())] if self.class_map else []),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]

    def labels(self, index: int) -> GroundTruth:
        """The labelled boxes of a frame.

        Raises:
            DatasetError: it has none, not even an empty message.
        """
        if (stamp := self._stamps[index]) not in self._truth:
            raise DatasetError(f'{self._bag}: cloud {self.frame_ids[index]} has no labels')
        return self._truth[stamp]

    def label_names(self, index: int) -> list[str]:
        """Class of each labelled box of a frame; of those without a name its number.

        Raises:
            DatasetError: it has none, not even an empty message.
        """
        self.labels(index)
        return self._label_names[self._stamps[index]]

    def annotations(self, index: int) -> None:  # noqa: ARG002
        """None: there are only points and boxes."""
        return

    def _note(self, cloud: BagCloud) -> tuple[int, str]:
        """Stamp and frame of a cloud; of the first one, keep the topic and its own scale."""
        self._topic = cloud.topic
        if self._given_scale is None and self.intensity_scale == 1.0:
            self.intensity_scale = own_intensity_scale(cloud.message) or 1.0
        return cloud.stamp_ns, cloud.frame_id

    def _read_labels(
        self, config: BagConfig, clouds: Sequence[tuple[int, str]]
    ) -> dict[int, GroundTruth]:
        """Labels of the labelled clouds, by stamp."""
        topic, frames = config.ground_truth or TRUTH_TOPIC, dict(clouds)
        names = config.label_names or read_class_names(self._bag).get(topic, ())
        times = Counter(stamp for stamp, _ in clouds)
        truth: dict[int, GroundTruth] = {}
        for boxes in self._read_boxes(topic):
            frame_id = frames.get(boxes.stamp_ns, boxes.frame_id)
            if boxes.frame_id != frame_id:
                raise DatasetError(
                    f'{self._bag}: boxes on {topic} are in the frame {boxes.frame_id!r}, the '
                    f'clouds in {frame_id!r}; they must be in the same'
                )
            if times[boxes.stamp_ns] == 1 and boxes.stamp_ns != NO_STAMP:
                truth[boxes.stamp_ns] = self._to_truth(boxes, names)
        if not truth:
            raise DatasetError(f'{self._bag}: no boxes on {topic} have the stamp of a cloud')
        self._tell(names, topic, len(clouds), truth)
        return truth

    def _read_boxes(self, topic: str) -> Iterator[BagCloud]:
        topics = bag_topics(self._bag)
        if topic not in topics:
            others = sorted(name for name in topics if 'boxes' in name)
            named = f' or one of {others}' if others else ''
            raise DatasetError(
                f'{self._bag}: no labels: it has no boxes on {topic}; name their topic '
                f'(ground_truth, --ground-truth){named}'
            )
        return read_clouds(self._bag, topic, on_note=_ignore)

    def _to_truth(self, boxes: BagCloud, names: Sequence[str]) -> GroundTruth:
        """Boxes of the dataset's classes; those of other classes are ignored."""
        try:
            truth = truth_from_boxes_cloud(boxes.message)
        except CloudError as error:
            when = boxes.stamp_ns / NANOSECONDS
            raise DatasetError(f'{self._bag}: {boxes.topic} at {when:.3f} s: {error}') from error
        names = names or self.class_names
        self._label_names[boxes.stamp_ns] = [
            names[label] if label < len(names) else str(label)
            for label in truth.labels.tolist()
            if label >= 0
        ]
        mapped = [self.class_map.get(name, name) for name in names]
        return replace(truth, labels=renumber(truth.labels, mapped, self.class_names))

    def _tell(
        self, names: Sequence[str], topic: str, num_clouds: int, truth: dict[int, GroundTruth]
    ) -> None:
        """Log what was assumed and left out."""
        if not names:
            listed = ', '.join(f'{number} {name}' for number, name in enumerate(self.class_names))
            warn_once(
                *(logger, self._bag),
                "%s: labels on %s are taken as the detector's: %s; label_names (--class) "
                'names others',
                *(self._bag, topic, listed),
            )
        if lacking := num_clouds - len(truth):
            warn_once(
                *(logger, self._bag),
                '%s: %d of %d clouds have no boxes of their stamp on %s; they are left out',
                *(self._bag, lacking, num_clouds, topic),
            )


def _ignore(_: str) -> None:
    """Drop a note that was logged before."""


class BagPoses:
    """Where the sensor of a bag was: by TF or, without, by its first topic of odometry.

    Args:
        bag: folder or file; all of its transforms are kept.
    """

    def __init__(self, bag: Path) -> None:
        self._tree, self._track = TransformTree(), PoseTrack()
        num_broken = 0
        types = bag_topics(bag)
        odometry = [name for name, kind in sorted(types.items()) if kind == ODOMETRY_TYPE][:1]
        transforms = {name for name, kind in types.items() if kind in TF_TYPES}
        if not transforms and not odometry:
            return
        for message in read_messages(bag, {*transforms, *odometry}, on_note=_ignore):
            try:
                if message.topic in transforms:
                    num_broken += add_transforms(self._tree, message)
                else:
                    found = parse_odometry(message)
                    self._track.add(found.stamp_ns, found.pose)
            except Exception:  # of a parser whose input may be anything
                num_broken += 1
        if num_broken:
            text = '%s: %d transforms or poses cannot be used'
            warn_once(logger, bag, text, bag, num_broken)

    def pose(self, frame: str, stamp_ns: int) -> NDArray[np.float64]:
        """(4, 4) `fixed_from_sensor`; the pose of odometry counts as the sensor's.

        Raises:
            TransformError: it is not known at this time.
        """
        if fixed := self._tree.find_fixed_frame(frame):
            return self._tree.lookup(fixed, frame, stamp_ns)
        return self._track.at(stamp_ns)
