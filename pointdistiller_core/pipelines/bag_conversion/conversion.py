# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Convert bags into an open dataset folder, frame by frame; can be stopped and resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
import math
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import ConversionConfig, SplitConfig
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.folder import (
    FRAMES_FILE,
    DriveInfo,
    FolderInfo,
    FrameRow,
    Label,
    SensorInfo,
    is_folder_dataset,
    read_info,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.geometry.poses import NANOSECONDS, TransformError
from pointdistiller_core.geometry.transforms import invert_rigid
from pointdistiller_core.messages.bags import BagSummary, summarize_bag
from pointdistiller_core.messages.detections import box_topics
from pointdistiller_core.messages.storage.metadata import METADATA_FILE
from pointdistiller_core.pipelines.bag_conversion.choices import (
    Choices,
    choose_topics,
    plain,
    survey,
)
from pointdistiller_core.pipelines.bag_conversion.findings import Findings
from pointdistiller_core.pipelines.bag_conversion.pose_sources import (
    ICP_DRIFT,
    WARM_UP_CLOUDS,
    IcpPoses,
    world_pose,
)
from pointdistiller_core.pipelines.bag_conversion.splits import split_drive
from pointdistiller_core.pipelines.bag_conversion.stream import (
    CloudReader,
    CloudStream,
    SensorCloud,
)
from pointdistiller_core.pipelines.bag_conversion.truth import (
    EXACT_LABELS,
    Truth,
    moved_labels,
    read_truth,
)
from pointdistiller_core.pointcloud.sensors import CloudSet

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    Matrix: TypeAlias = NDArray[np.float64]

_UNSAFE = re.compile(r'[^A-Za-z0-9_+-]+')
Progress: TypeAlias = Callable[[float, float, str], None]  # seconds done, seconds in all, note


@dataclass(frozen=True)
class ConvertedDrive:
    """Result of converting a bag.

    Attributes:
        name: name of the drive.
        info: counts, choices and notes, as in `dataset.yaml`.
        num_frames: number of its frames in the dataset.
        num_new: number of frames that this run added.
    """

    name: str
    info: DriveInfo
    num_frames: int
    num_new: int


def drive_names(bags: Sequence[Path]) -> dict[str, Path]:
    """Name each bag after itself, with its folder's name in front if several share a name.

    Raises:
        ConfigError: a bag is listed twice.
    """
    folders = [bag.parent if bag.name == METADATA_FILE else bag for bag in bags]
    if twice := [str(path) for path, count in Counter(folders).items() if count > 1]:
        raise ConfigError(f'{", ".join(twice)}: is given twice')
    stems = [_safe(_stem(path)) for path in folders]
    names = [
        stem if stems.count(stem) == 1 else f'{_safe(path.absolute().parent.name)}_{stem}'
        for stem, path in zip(stems, folders, strict=True)
    ]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(
            f'several bags would be the drive {", ".join(twice)}: convert them one by one, with '
            '--drive'
        )
    return dict(zip(names, folders, strict=True))


def convert_bags(
    drives: Mapping[str, Path],
    root: Path,
    config: ConversionConfig,
    splits: SplitConfig,
    *,
    strict: bool = False,
    on_progress: Callable[[str], Progress] | None = None,
) -> list[ConvertedDrive]:
    """Convert recordings; leave drives that are complete in the dataset as they are.

    The files depend only on the bags and the settings. A conversion that was stopped at any
    moment, even by SIGKILL, resumes there and gives the same files.

    Args:
        drives: bags by drive name.
        root: dataset folder, new or existing.
        config: what to take, and how to bring it to the training convention.
        splits: which frames are for validation.
        strict: whether any problem in a bag is an error.
        on_progress: makes a function that takes the progress of a drive.

    Raises:
        ConfigError: a bag lacks something that the settings ask for.
        DatasetError: a bag cannot be read, or `root` holds something else or the same drives with
            other settings.
        WriteError: a file cannot be written; what was converted before stays intact.
    """
    for name in drives:
        FrameRow(name, name)  # raises for a bad name
    if unknown := sorted(set(splits.val_drives) - set(drives)):
        known = _known_drives(root)
        if unknown := [name for name in unknown if name not in known]:
            raise ConfigError(f'val_drives {unknown}: the drives are {sorted({*drives, *known})}')
    summaries = {name: summarize_bag(bag) for name, bag in drives.items()}
    named = {
        name: config.model_copy(update={'topics': choose_topics(bag, summaries[name], config)})
        for name, bag in drives.items()
    }
    info = FolderInfo(sensor=SensorInfo(height=config.sensor_height))
    converted = []
    with FolderWriter(root, info) as writer:
        for name, bag in drives.items():
            conversion = _Conversion(
                name, bag, summaries[name], named[name], writer, strict=strict
            )
            converted.append(conversion.run(splits, on_progress and on_progress(name)))
    return converted


class _Conversion:
    """Conversion of one bag into a drive."""

    def __init__(
        self,
        name: str,
        bag: Path,
        summary: BagSummary,
        config: ConversionConfig,
        writer: FolderWriter,
        *,
        strict: bool,
    ) -> None:
        self._name, self._bag, self._summary = name, bag, summary
        self._config, self._writer = config, writer
        self._findings = Findings(bag, strict=strict)
        self._truth: Truth | None = read_truth(bag)

    def run(self, splits: SplitConfig, on_progress: Progress | None) -> ConvertedDrive:
        """Convert the frames that are missing."""
        begun = self._begun()
        earlier = self._writer.places(self._name)
        if begun is not None and begun.complete:
            return ConvertedDrive(self._name, begun, len(earlier), 0)
        choices = Choices.model_validate(begun.choices) if begun else None
        if choices is None:
            self._tell_of_labels()
            choices = survey(self._bag, self._summary, self._config, self._truth, self._findings)
            self._begin(choices)
        elif begun is not None:
            for note in begun.notes:
                self._findings.note(note)
        frames = _Frames(self._name, self._writer, earlier)
        self._convert(choices, frames, on_progress)
        if not frames.count:
            raise DatasetError(f'{self._bag}: no frame is left: {"; ".join(self._findings.notes)}')
        if frames.count < len(earlier):
            raise DatasetError(
                f'{self._bag}: gives {frames.count} frames, but {len(earlier)} of it are in '
                f'{self._writer.root}: the recording has changed; choose another drive name'
            )
        drive = self._finish(choices, frames, splits)
        return ConvertedDrive(self._name, drive, frames.count, frames.num_new)

    def _tell_of_labels(self) -> None:
        """Say where labels come from, or name topics of boxes, which are not converted."""
        if self._truth is not None:
            self._findings.note(EXACT_LABELS)
            return
        for topic in box_topics(self._bag, self._summary):
            self._findings.note(
                f'{topic} holds boxes, which are not taken here: `labels import` takes them as '
                'they are, `label --detections` as those of a teacher'
            )

    # --- dataset.yaml --------------------------------------------------------------------

    def _begun(self) -> DriveInfo | None:
        """Read what the dataset holds of this drive.

        Raises:
            DatasetError: it comes from another recording, or has other settings.
        """
        drive = self._writer.info.drives.get(self._name)
        if drive is None:
            return None
        remedy = 'choose another name for the drive (--drive) or another folder'
        if drive.source.get('start_ns') != self._source['start_ns']:
            raise DatasetError(
                f'{self._writer.root}: its drive {self._name!r} is of another recording, '
                f'{drive.source.get("bag")}; {remedy}'
            )
        if changes := list(_changes(drive.settings, self._settings)):
            raise DatasetError(
                f'{self._writer.root}: its drive {self._name!r} was converted with other '
                f'settings: {"; ".join(changes)}; {remedy}'
            )
        return drive

    @property
    def _source(self) -> dict[str, Any]:
        return {'bag': str(self._bag), 'start_ns': self._summary.start_ns}

    @property
    def _settings(self) -> dict[str, Any]:
        return self._config.model_dump(mode='json')

    def _begin(self, choices: Choices) -> None:
        classes = self._writer.info.class_names
        if self._truth is not None:
            classes = tuple(dict.fromkeys([*classes, *self._truth.class_names]))
            self._writer.update(class_names=classes)
        drive = DriveInfo(
            source=self._source,
            settings=self._settings,
            choices=plain(choices),
            notes=self._findings.notes,
            complete=False,
        )
        self._writer.update_drive(self._name, drive)

    def _finish(self, choices: Choices, frames: _Frames, splits: SplitConfig) -> DriveInfo:
        if choices.poses.source == 'icp':
            way = frames.way
            self._findings.note(
                f'poses by KISS-ICP: about {ICP_DRIFT * way:.1f} m of drift after {way:.0f} m, if '
                f'it is {ICP_DRIFT:.1%} of the way, as published for KITTI'
            )
        names, stamps = self._writer.stamps(self._name)
        ranges = split_drive(self._name, names, stamps, splits)
        self._writer.set_ranges(names, ranges)
        drive = DriveInfo(
            source=self._source,
            settings=self._settings,
            choices=plain(choices),
            counts={**dict(self._findings.counts), 'frames': frames.count},
            notes=self._findings.notes,
        )
        self._writer.update_drive(self._name, drive)
        return drive

    # --- frames --------------------------------------------------------------------------

    def _convert(self, choices: Choices, frames: _Frames, on_progress: Progress | None) -> None:
        config = self._config.model_copy(update={'frame': choices.frame})
        total_s = (self._summary.stop_ns - self._summary.start_ns) / NANOSECONDS

        def tell(seconds: float) -> None:
            if on_progress is not None:
                on_progress(seconds, total_s, f'{frames.count} frames')

        stream = CloudStream(
            self._bag,
            self._summary,
            config,
            self._findings,
            odometry_topic=choices.poses.topic,
            on_time=tell,
        )
        height = choices.height.height
        poses = choices.poses.build(stream, choices.frame, self._truth, height)
        if isinstance(poses, IcpPoses):
            poses.warm_up(self._first_clouds(config, choices))
        stream.is_ready = poses.is_ready
        reader = CloudReader(config, choices.scales, stream.tree, self._findings)
        chooser = _FrameChooser(config, self._findings)
        mounting = choices.height.mounting
        moves = bool((mounting.training_from_sensor != np.eye(4)).any())
        for found in stream:
            if not self._is_usable(found):
                continue
            points = reader.read(found) if poses.needs_points else None
            if poses.needs_points and points is None:
                continue
            try:
                pose = poses.at(found.stamp_ns, points)
            except TransformError:
                pose = None
            if not chooser.takes(found.stamp_ns, pose):
                continue
            points = reader.read(found) if points is None else points
            if points is None:
                continue
            chooser.taken(found.stamp_ns, pose)
            if pose is None and choices.poses.source != 'none':
                self._findings.count('without_pose')
            frames.add(
                found.stamp_ns,
                mounting.points_to_training(points) if moves else points,
                None if pose is None else (pose, mounting.training_from_sensor),
                self._labels(found.stamp_ns, choices),
            )
        tell(total_s)

    def _first_clouds(self, config: ConversionConfig, choices: Choices) -> Iterator[FloatArray]:
        unheard = Findings(self._bag, strict=False)  # the conversion reads them again
        stream = CloudStream(self._bag, self._summary, config, unheard)
        reader = CloudReader(config, choices.scales, stream.tree, unheard)
        for found in islice(stream, WARM_UP_CLOUDS):
            if (points := reader.read(found)) is not None:
                yield points

    def _is_usable(self, found: CloudSet[SensorCloud]) -> bool:
        if found.complete:
            return True
        missing = [
            topic
            for topic, cloud in zip(self._config.topics, found.clouds, strict=True)
            if cloud is None
        ]
        stamp = f'{found.stamp_ns / NANOSECONDS:.3f} s'
        what = f'stamp {stamp}: none of {", ".join(missing)} within {self._config.tolerance_s:g} s'
        kept = self._config.keep_incomplete
        self._findings.problem('incomplete', what + ('; kept' if kept else '; left out'))
        return kept

    def _labels(self, stamp_ns: int, choices: Choices) -> list[Label] | None:
        if self._truth is None or stamp_ns not in self._truth.labels:
            return None
        return moved_labels(self._truth.labels[stamp_ns], choices.height.mounting)


class _FrameChooser:
    """Selects frames by number, time and motion."""

    def __init__(self, config: ConversionConfig, findings: Findings) -> None:
        self._config, self._findings = config, findings
        self._number = -1
        # Sensors are not perfectly regular: accept a hundredth of a period too early.
        period_s = (config.min_period_s or 0) * 0.99
        self._period_ns = round(period_s * NANOSECONDS)
        self._last_ns: int | None = None
        self._last_pose: Matrix | None = None

    def takes(self, stamp_ns: int, pose: Matrix | None) -> bool:
        """Whether a set of clouds becomes a frame; counts those that do not."""
        self._number += 1
        if self._number % self._config.stride:
            reason = 'by_stride'
        elif self._last_ns is not None and stamp_ns - self._last_ns < self._period_ns:
            reason = 'too_soon'
        elif self._config.min_distance is None:
            return True
        elif pose is None:
            reason = 'unposed'
        elif self._last_pose is None or self._has_moved(self._last_pose, pose):
            return True
        else:
            reason = 'too_near'
        self._findings.count(reason)
        return False

    def taken(self, stamp_ns: int, pose: Matrix | None) -> None:
        """Compare the next frames with this one."""
        self._last_ns, self._last_pose = stamp_ns, pose

    def _has_moved(self, before: Matrix, pose: Matrix) -> bool:
        assert self._config.min_distance is not None
        motion = invert_rigid(before) @ pose
        if np.linalg.norm(motion[:3, 3]) >= self._config.min_distance:
            return True
        turn = math.acos(min(max((np.trace(motion[:3, :3]) - 1) / 2, -1.0), 1.0))
        return self._config.min_turn is not None and turn >= self._config.min_turn


class _Frames:
    """Frames of a drive: compares those that exist and writes the others.

    Attributes:
        count: number of frames so far.
        num_new: number of frames added.
        way: distance that the sensor travelled [m].
    """

    def __init__(self, drive: str, writer: FolderWriter, earlier: NDArray[np.int64]) -> None:
        self._drive, self._writer, self._earlier = drive, writer, earlier
        self.count = self.num_new = 0
        self.way = 0.0
        self._last: Matrix | None = None

    def add(
        self,
        stamp_ns: int,
        points: FloatArray,
        pose: tuple[Matrix, Matrix] | None,
        labels: Sequence[Label] | None,
    ) -> None:
        """Add a frame.

        Args:
            stamp_ns: its time [ns].
            points: (N, 4) points.
            pose: (4, 4) matrices to the world from the recording's frame, and to that of the
                dataset from the recording's.
            labels: its labels; None leaves it unlabelled.
        """
        name = f'{self._drive}_{self.count:06d}'
        if pose is not None:
            if self._last is not None:
                self.way += float(np.linalg.norm(pose[0][:3, 3] - self._last[:3, 3]))
            self._last = pose[0]
        if self.count < len(self._earlier):
            self._again(name, stamp_ns, points, labels)
        else:
            found = None if pose is None else world_pose(*pose)
            self._writer.add(
                FrameRow(name, self._drive, stamp_ns, len(points), found), points, labels
            )
            self.num_new += 1
        self.count += 1

    def _again(
        self, name: str, stamp_ns: int, points: FloatArray, labels: Sequence[Label] | None
    ) -> None:
        """Check a frame that exists, and write again what a loss of power destroyed."""
        row = self._writer.earlier[int(self._earlier[self.count])]
        if (row.name, row.stamp_ns, row.num_points) != (name, stamp_ns, len(points)):
            raise DatasetError(
                f'{self._writer.root / FRAMES_FILE}: frame {row.name} of stamp {row.stamp_ns} has '
                f'{row.num_points} points, the bag now gives {name} of stamp {stamp_ns} with '
                f'{len(points)}: the recording has changed; choose another drive name'
            )
        if not self._writer.is_whole(row, labelled=labels is not None):
            self._writer.write(name, points, labels)


def _known_drives(root: Path) -> set[str]:
    return set(read_info(root).drives) if is_folder_dataset(root) else set()


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f'{key}: {before.get(key)} -> {now.get(key)}'
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _stem(path: Path) -> str:
    name = path.absolute().name
    for suffix in ('.zstd', '.active', '.mcap', '.db3', '.bag'):
        name = name.removesuffix(suffix)
    return name


def _safe(name: str) -> str:
    return _UNSAFE.sub('_', name).strip('_') or 'drive'
