# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Read the clouds of a recording, join those of several sensors, and collect their transforms."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import ConversionConfig
from pointdistiller_core.errors import CloudError, DatasetError, describe
from pointdistiller_core.geometry.poses import (
    NANOSECONDS,
    PoseTrack,
    TransformError,
    TransformTree,
)
from pointdistiller_core.messages.bags import (
    BagMessage,
    BagSummary,
    parse_cloud,
    read_messages,
)
from pointdistiller_core.messages.point_cloud2 import points_from_cloud
from pointdistiller_core.messages.transforms import (
    ODOMETRY_TYPE,
    TF_TYPES,
    Odometry,
    add_transforms,
    is_static,
    parse_odometry,
)
from pointdistiller_core.pipelines.bag_conversion.findings import Findings
from pointdistiller_core.pointcloud.sensors import (
    CloudSet,
    CloudSets,
    EgoBox,
    move_points,
    usable_points,
)

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

KEPT_S = 20.0  # history of moving transforms
EARLIER_S = 1.0  # before the first cloud, where reading of transforms begins
LATEST_S = 1.0  # most delay of a transform after its cloud
MOST_WAITING = 64  # clouds that wait for a transform


@dataclass(frozen=True)
class SensorCloud:
    """A cloud of one sensor.

    Attributes:
        topic: topic of the sensor.
        stamp_ns: time of the cloud [ns].
        frame: frame of its points.
        message: the PointCloud2.
    """

    topic: str
    stamp_ns: int
    frame: str
    message: Any


class CloudStream:
    """Sets of clouds of a bag in order of time.

    Problems of clouds and transforms go to the findings. When a set comes out, the transforms
    around its time have been read, if the bag has them.

    Attributes:
        tree: transforms so far.
        track: poses of the vehicle from its odometry.
        odometry: first odometry message.

    Args:
        bag: folder or file.
        summary: summary of the bag.
        config: topics (named), times and tolerances.
        findings: collects problems.
        odometry_topic: topic of the odometry; empty reads none.
        on_time: takes the seconds of the bag read so far.
    """

    def __init__(
        self,
        bag: Path,
        summary: BagSummary,
        config: ConversionConfig,
        findings: Findings,
        *,
        odometry_topic: str = '',
        on_time: Callable[[float], None] | None = None,
    ) -> None:
        self._bag, self._config, self._findings = bag, config, findings
        self._start_ns = summary.start_ns
        self._first_ns = summary.start_ns + round(config.start_s * NANOSECONDS)
        self._on_time = on_time
        tf = {name for name, found in summary.topics.items() if found.message_type in TF_TYPES}
        self._static = {name for name in tf if is_static(name)}
        self._moving = tf - self._static
        self._odometry_topic = odometry_topic
        self.tree = TransformTree(keep_s=KEPT_S)
        self.track = PoseTrack(keep_s=KEPT_S)
        self.odometry: Odometry | None = None
        self.is_ready: Callable[[int], bool] = lambda _stamp_ns: True
        self._last: dict[str, SensorCloud] = {}
        self._read_static()

    def __iter__(self) -> Iterator[CloudSet[SensorCloud]]:
        config = self._config
        sets = CloudSets[SensorCloud](config.topics, round(config.tolerance_s * NANOSECONDS))
        waiting: deque[tuple[int, CloudSet[SensorCloud]]] = deque()
        for message in self._messages():
            cloud = self._take(message)
            if cloud is not None:
                finished = sets.add(cloud.topic, cloud.stamp_ns, cloud)
                waiting.extend((message.time_ns, found) for found in finished)
            while waiting and (
                self._is_settled(waiting[0][1])
                or message.time_ns - waiting[0][0] > LATEST_S * NANOSECONDS
                or len(waiting) > MOST_WAITING
            ):
                yield waiting.popleft()[1]
        for _, found in waiting:
            yield found
        yield from sets.rest()
        if sets.unused:
            self._findings.count('unpaired', sets.unused)

    def _is_settled(self, found: CloudSet[SensorCloud]) -> bool:
        if not self.is_ready(found.stamp_ns):
            return False
        frames = {cloud.frame: cloud.stamp_ns for cloud in found.clouds if cloud is not None}
        target = self._config.frame
        return all(
            frame == target
            or not self.tree.is_moving(target, frame)
            or self.tree.is_ready(target, frame, stamp_ns)
            for frame, stamp_ns in frames.items()
        )

    def _messages(self) -> Iterator[BagMessage]:
        config = self._config
        topics = {*config.topics, *self._moving, *self._static, self._odometry_topic} - {''}
        start_s, duration_s = max(config.start_s - EARLIER_S, 0.0), config.duration_s
        if duration_s is not None:
            duration_s += config.start_s - start_s
        try:
            for message in read_messages(
                self._bag,
                topics,
                start_s=start_s,
                duration_s=duration_s,
                on_note=self._findings.note,
            ):
                if self._on_time is not None:
                    self._on_time((message.time_ns - self._start_ns) / NANOSECONDS)
                yield message
        except DatasetError as error:  # it comes after all that can be read
            self._findings.problem('damaged', str(error))

    def _read_static(self) -> None:
        """Read static transforms first: they also hold for clouds before them."""
        if not self._static:
            return
        try:
            for message in read_messages(self._bag, self._static, on_note=lambda _note: None):
                self._take_transforms(message)
        except DatasetError:  # reported when the clouds are read
            pass

    def _take(self, message: BagMessage) -> SensorCloud | None:
        """Return a usable cloud; add other messages to what is known."""
        if message.topic in self._config.topics:
            return self._take_cloud(message) if message.time_ns >= self._first_ns else None
        if message.topic in self._moving:
            self._take_transforms(message)
        elif message.topic == self._odometry_topic:
            self._take_odometry(message)
        return None

    def _take_transforms(self, message: BagMessage) -> None:
        try:
            num_broken = add_transforms(self.tree, message)
        except Exception as error:  # of a parser whose input may be anything
            num_broken = 1
            self._broken_transform(message, error, num_broken)
        else:
            if num_broken:
                self._broken_transform(message, 'of its rotation or position', num_broken)

    def _take_odometry(self, message: BagMessage) -> None:
        try:
            found = parse_odometry(message)
        except Exception as error:  # of a parser whose input may be anything
            self._broken_transform(message, error, 1)
            return
        self.odometry = self.odometry or found
        self.track.add(found.stamp_ns, found.pose)

    def _broken_transform(self, message: BagMessage, reason: object, number: int) -> None:
        text = f'on {message.topic} at {self._seconds(message.time_ns)}: {reason}'
        self._findings.problem('broken_transforms', text, number)

    def _take_cloud(self, message: BagMessage) -> SensorCloud | None:
        self._findings.count('clouds')
        try:
            found = parse_cloud(message)
        except Exception as error:  # of a parser whose input may be anything
            reason = describe(error)
            where = f'{message.topic} at {self._seconds(message.time_ns)}'
            self._findings.problem('unreadable', f'{where}: {reason}')
            return None
        stamp_ns = found.stamp_ns if self._config.stamps == 'header' else found.time_ns
        where = f'{message.topic}, recorded at {self._seconds(message.time_ns)}'
        if stamp_ns <= 0:
            self._findings.problem('without_stamp', f'{where}, has stamp {stamp_ns / 1e9:g} s')
            stamp_ns = found.time_ns
        last = self._last.get(message.topic)
        cloud = SensorCloud(message.topic, stamp_ns, found.frame_id.lstrip('/'), found.message)
        if last is not None and stamp_ns < last.stamp_ns:
            back_s = (last.stamp_ns - stamp_ns) / NANOSECONDS
            self._findings.problem(
                'backwards',
                f'{where}, by {back_s:.3f} s (if the clock was set back, --stamps recorded helps)',
            )
            return None
        if last is not None and (stamp_ns == last.stamp_ns or _same_points(cloud, last)):
            self._findings.count('duplicates')
            return None
        self._last[message.topic] = cloud
        return cloud

    def _seconds(self, time_ns: int) -> str:
        return f'{(time_ns - self._start_ns) / NANOSECONDS:.3f} s'


class CloudReader:
    """Reads the points of sets of clouds in the frame of the dataset, as measured.

    Args:
        config: frame, ego box, and whether clouds may lack intensity.
        scales: intensity factor by topic; None takes the default.
        tree: transforms so far.
        findings: collects problems.
    """

    def __init__(
        self,
        config: ConversionConfig,
        scales: Mapping[str, float | None],
        tree: TransformTree,
        findings: Findings,
    ) -> None:
        self._config, self._scales = config, scales
        self._tree, self._findings = tree, findings
        box = config.ego_box
        self._ego = EgoBox(box[:3], box[3:]) if box else None

    def read(self, found: CloudSet[SensorCloud]) -> FloatArray | None:
        """(N, 4) float32 x, y, z [m], intensity; None if the cloud of a sensor is unusable."""
        parts = [self.read_one(cloud) for cloud in found.clouds if cloud is not None]
        usable = [part for part in parts if part is not None]
        if len(usable) < len(parts) and not (self._config.keep_incomplete and usable):
            return None
        points = usable[0] if len(usable) == 1 else np.concatenate(usable)
        if self._ego is not None:
            kept = self._ego.outside(points)
            self._findings.count('points_in_ego_box', len(points) - len(kept))
            points = kept
        return points

    def read_one(self, cloud: SensorCloud) -> FloatArray | None:
        """(N, 4) points of one sensor; None if they are unusable."""
        try:
            points = points_from_cloud(
                cloud.message,
                missing_intensity='zero' if self._config.without_intensity else 'error',
                intensity_scale=self._scales.get(cloud.topic),
            )
            moved = self._to_frame(cloud, self._valid(points))
        except CloudError as error:
            text = str(error).partition('; name one in')[0]
            self._findings.problem('unreadable', f'{cloud.topic}: {text}')
        except TransformError as error:
            stamp = f'{cloud.topic}, stamp {cloud.stamp_ns / NANOSECONDS:.3f} s'
            self._findings.problem('without_transform', f'{stamp}: {error}')
        else:
            return moved
        return None

    def _valid(self, points: FloatArray) -> FloatArray:
        """Points of a cloud that have a return and are finite."""
        self._findings.count('points', len(points))
        usable, dropped = usable_points(points)
        for name, number in dropped.items():
            self._findings.count(name, number)
        return usable

    def _to_frame(self, cloud: SensorCloud, points: FloatArray) -> FloatArray:
        target = self._config.frame
        if cloud.frame == target:
            return points
        return move_points(self._tree.lookup(target, cloud.frame, cloud.stamp_ns), points)


def odometry_topics(summary: BagSummary) -> Sequence[str]:
    """Readable topics of type `nav_msgs/Odometry`."""
    return sorted(
        name
        for name, found in summary.topics.items()
        if found.message_type == ODOMETRY_TYPE and found.readable
    )


def _same_points(cloud: SensorCloud, other: SensorCloud) -> bool:
    one, two = cloud.message, other.message
    return bool(
        one.width and len(one.data) == len(two.data) and np.array_equal(one.data, two.data)
    )
