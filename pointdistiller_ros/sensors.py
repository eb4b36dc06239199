# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The clouds of a node's sensors as one cloud, without the vehicle itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from pointdistiller_core.errors import CloudError, describe
from pointdistiller_core.messages.cloud_reader import CloudReader
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.pointcloud.sensors import join_points, usable_points
from pointdistiller_core.records import Detections
from pointdistiller_ros.logs import RepeatedLog
from pointdistiller_ros.parameters import InputParameters, to_ego_box
from pointdistiller_ros.transforms import Transforms

if TYPE_CHECKING:
    from pointdistiller_core.detector import BundleInfo
    from pointdistiller_ros.cloud_input import CloudInput


@dataclass(frozen=True)
class SensorCloud:
    """What a node works on.

    Attributes:
        points: (N, 4) x, y, z [m], intensity, in the frame of the header.
        header: of the results.
        dropped: points that are left out, by the names of a detector's counts.
    """

    points: NDArray[np.float32]
    header: Header
    dropped: Mapping[str, int] = field(default_factory=dict)

    def count_dropped(self, found: Detections) -> Detections:
        """The detections with counts of all points, also of those that the detector never saw."""
        if not self.dropped:
            return found
        counts = Counter(found.counts)
        counts.update(self.dropped)
        counts['points'] += sum(self.dropped.values())
        return replace(found, counts=dict(counts))


class CloudReaders:
    """A reader for the clouds of each topic, whose sensors may differ.

    The arguments are those of `CloudReader`.
    """

    def __init__(
        self, settings: InputParameters, infos: Mapping[str, BundleInfo], logger: Any
    ) -> None:
        self.topics = settings.points
        names = self.topics if len(self.topics) > 1 else ('',)
        self._readers = [CloudReader(settings, infos, logger, topic=name) for name in names]

    def __getitem__(self, index: int) -> CloudReader:
        return self._readers[index]

    @property
    def scale(self) -> float | dict[str, float | None] | None:
        """The scale that `intensity_auto` has chosen; of several topics, by topic."""
        if len(self._readers) == 1:
            return self._readers[0].scale
        return {
            topic: reader.scale for topic, reader in zip(self.topics, self._readers, strict=True)
        }

    @property
    def problem(self) -> str:
        """What is wrong with the intensities of the first clouds; empty if nothing is."""
        return '; '.join(filter(None, (reader.problem for reader in self._readers)))


class Sensors:
    """Makes one cloud of those of several sensors, and says what is missing.

    Args:
        log: of what may be missing in every cloud.
    """

    def __init__(self, log: RepeatedLog) -> None:
        self._log = log
        self._frame = ''  # of the first sensor, which may fall silent
        self._num_merged, self._num_recent = 0, 0
        self._missing = Counter[str]()
        self._recent: dict[str, tuple[int, str]] = {}  # since the last report: how often, why
        self._lock = Lock()  # the diagnostics are of another thread

    def read(
        self,
        clouds: Sequence[PointCloud2 | None],
        readers: CloudReaders,
        settings: InputParameters,
        transforms: Transforms | None,
    ) -> SensorCloud:
        """The points of all sensors in one frame.

        Args:
            clouds: of each topic, in their order; None where there is none. There is one.
            readers: of them.
            settings: of the node.
            transforms: of TF, if it is installed.

        Raises:
            CloudError: no cloud can be used; or not all, and the parameters want all of them.
        """
        box = to_ego_box(settings.ego_box)
        (first, *others), target = clouds, settings.sensors.frame
        if first is not None and not others and box is None and not target:
            return SensorCloud(readers[0].read(first), first.header)
        leader = next(cloud for cloud in clouds if cloud is not None)
        if first is not None:
            self._frame = first.header.frame_id
        header = Header(
            stamp=leader.header.stamp, frame_id=target or self._frame or leader.header.frame_id
        )
        parts, dropped, missing = [], Counter[str](), {}
        for index, (topic, cloud) in enumerate(zip(readers.topics, clouds, strict=True)):
            try:
                if cloud is None:
                    raise CloudError(_no_cloud(settings, header))
                matrix = _find_transform(header.frame_id, cloud.header, transforms)
                points, left_out = usable_points(readers[index].read(cloud))
            except CloudError as error:
                missing[topic] = describe(error)
            else:
                parts.append((matrix, points))
                dropped.update(left_out)
        self._note(missing, complete_only=not settings.sensors.keep_incomplete or not parts)
        points = join_points(parts)
        if box is not None:
            kept = box.outside(points)
            dropped['points_in_ego_box'] = len(points) - len(kept)
            points = kept
        return SensorCloud(points, header, dropped)

    def take_problem(self) -> str:
        """What was missing since this was called last; empty if nothing was."""
        with self._lock:
            recent, self._recent = self._recent, {}
            number, self._num_recent = self._num_recent, 0
        return '; '.join(
            f'{missing} of {number} clouds without {topic}: {reason}'
            for topic, (missing, reason) in recent.items()
        )

    def describe(self, clouds: CloudInput | None) -> dict[str, str]:
        """What the diagnostics say of several sensors."""
        if clouds is None or clouds.sets is None:
            return {}
        values = {
            'sensors.merged': str(self._num_merged),
            'sensors.unused': str(clouds.sets.unused),
        }
        for name, topic in zip(clouds.names, clouds.topics, strict=True):
            counts = clouds.sets.counts[topic]
            values[f'sensors.{name}.received'] = str(counts.received)
            values[f'sensors.{name}.missing'] = str(self._missing[name])
            values[f'sensors.{name}.stamps_apart_s'] = f'{counts.apart_ns / NANOSECONDS:.3f}'
        return values

    def _note(self, missing: Mapping[str, str], *, complete_only: bool) -> None:
        """Count and log what is missing in a cloud.

        Raises:
            CloudError: something is, and may not be.
        """
        with self._lock:
            self._num_merged += 1
            self._num_recent += 1
            for topic, reason in missing.items():
                self._missing[topic] += 1
                self._recent[topic] = (self._recent.get(topic, (0, ''))[0] + 1, reason)
        for topic, reason in missing.items():
            if not complete_only:
                self._log.warning(f'sensor {topic}', f'a cloud without {topic}: {reason}')
        if missing and complete_only:
            raise CloudError('; '.join(f'{topic}: {text}' for topic, text in missing.items()))


def _no_cloud(settings: InputParameters, header: Header) -> str:
    return (
        f'no cloud came within {settings.sensors.max_wait:g} s whose stamp is at most '
        f'{settings.sensors.tolerance:g} s from {header.stamp.sec}.{header.stamp.nanosec:09d}'
    )


def _find_transform(
    target: str, header: Header, transforms: Transforms | None
) -> NDArray[np.floating[Any]]:
    """(4, 4) from the frame of a cloud.

    Raises:
        CloudError: TF does not connect the frames, or is not installed.
    """
    if header.frame_id == target:
        return np.eye(4)
    if transforms is None:
        raise CloudError(
            f'it is in {header.frame_id!r}, not in {target!r}, and tf2_ros is not installed; '
            'install ros-$ROS_DISTRO-tf2-ros-py'
        )
    return transforms.matrix(target, header)
