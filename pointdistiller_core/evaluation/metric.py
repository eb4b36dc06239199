# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics by name: from labelled frames and detections to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pointdistiller_core.errors import ConfigError
from pointdistiller_core.evaluation.kitti.scores import KittiMetric
from pointdistiller_core.evaluation.lidar import LidarMetric
from pointdistiller_core.evaluation.nuscenes.scores import NuScenesMetric
from pointdistiller_core.evaluation.scores import Alarms, Annotated, Scores
from pointdistiller_core.records import Detections

__all__ = [
    'METRICS',
    'AlarmMetric',
    'Annotated',
    'KittiMetric',
    'LidarMetric',
    'Metric',
    'NuScenesMetric',
    'Scores',
    'find_metric',
]


class Metric(Protocol):
    """Measures how well detections find the labels of some frames."""

    @property
    def quantity(self) -> str:
        """Name of the scores, with their unit."""
        ...

    @property
    def min_overlaps(self) -> Mapping[str, Any]:
        """Class -> least overlaps of a hit; empty if hits are not decided by overlap."""
        ...

    def evaluate(
        self, frames: Annotated, indices: Sequence[int], found: Sequence[Detections]
    ) -> Scores:
        """Evaluate the detections of some frames.

        Args:
            frames: points and labels.
            indices: of the frames.
            found: detections of these frames, in their order.

        Raises:
            DatasetError: the frames lack what this metric needs.
        """
        ...

    def check_results(self, folder: Path, frames: Annotated, indices: Sequence[int]) -> None:
        """Check that `write_results` can write to a folder.

        Raises:
            DatasetError: it is a file, or holds results of other frames.
        """
        ...

    def write_results(
        self,
        folder: Path,
        frames: Annotated,
        indices: Sequence[int],
        found: Sequence[Detections],
    ) -> None:
        """Write the detections in the benchmark's own form.

        Raises:
            DatasetError: as `check_results`, or the frames lack what the form needs.
            WriteError: the file system refuses.
        """
        ...


@runtime_checkable
class AlarmMetric(Metric, Protocol):
    """A metric that can compare detectors at equal recall."""

    def alarms(
        self,
        frames: Annotated,
        indices: Sequence[int],
        found: Sequence[Detections],
        *,
        recalls: Sequence[float],
        kind: str,
        level: str,
    ) -> dict[str, Alarms]:
        """False alarms of each class at some recalls.

        Args:
            frames: points and labels.
            indices: of the frames.
            found: detections of these frames, in their order.
            recalls: ascending, in (0, 1].
            kind: of the overlap that makes a hit, `bev` or `3d`.
            level: difficulty of the labels that count; empty is the usual one, or all.

        Raises:
            DatasetError: the frames lack what this metric needs.
            ConfigError: the metric has no such level.
        """
        ...


class MetricKind(Protocol):
    """Makes the metrics of one name."""

    @property
    def quantity(self) -> str:
        """See `Metric`."""
        ...

    def __call__(self, min_overlaps: Any = ..., /) -> Metric: ...


METRICS: dict[str, MetricKind] = {
    'kitti': KittiMetric,
    'lidar': LidarMetric,
    'nuscenes': NuScenesMetric,
}


def find_metric(name: str) -> MetricKind:
    """What makes the metric of a name; called with nothing, the usual one.

    Raises:
        ConfigError: there is none.
    """
    if name not in METRICS:
        raise ConfigError(f'metric {name!r}: unknown; choose from {sorted(METRICS)}')
    return METRICS[name]
