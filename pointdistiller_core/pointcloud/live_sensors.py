# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several sensors put together while they come: nothing waits long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from pointdistiller_core.pointcloud.sensors import CloudSet, CloudSets

CloudT = TypeVar('CloudT')
MISSED = 4  # clouds of another sensor in the silence of one
BACK_NS = 1_000_000_000  # by which stamps go back if a recording begins again


@dataclass
class SensorCounts:
    """Clouds of a sensor.

    Attributes:
        received: all of them.
        missing: sets without a cloud of the sensor.
        apart_ns: stamp of its last cloud minus that of the last cloud of any other sensor [ns].
    """

    received: int = 0
    missing: int = 0
    apart_ns: int = 0


class _Waiting(NamedTuple, Generic[CloudT]):
    cloud: CloudT
    since_s: float


class LiveCloudSets(Generic[CloudT]):
    """`CloudSets` for clouds as they come; not thread-safe.

    A set comes out as soon as it is complete, and incomplete after `max_wait_s`. A sensor that has
    been silent for `silent_s`, while another sent several clouds, is not waited for until it is
    heard again; if it was the first one, the next gives the pace.

    Args:
        sensors: their names.
        tolerance_ns: between the stamps of a set [ns].
        max_wait_s: that a cloud waits for others [s].
        silent_s: without a cloud, after which a sensor is silent [s].

    Attributes:
        counts: by sensor.
        restarts: how often the stamps went back.
    """

    def __init__(
        self,
        sensors: Sequence[str],
        tolerance_ns: int,
        *,
        max_wait_s: float,
        silent_s: float = 1.0,
    ) -> None:
        self.counts = {sensor: SensorCounts() for sensor in sensors}
        self.restarts = 0
        self._tolerance_ns, self._max_wait_s = tolerance_ns, max_wait_s
        self._silent_s = silent_s
        self._unused = 0  # before the current sensors
        self._heard: dict[str, float] = {}
        self._since = {sensor: Counter[str]() for sensor in sensors}  # clouds of others
        self._stamps: dict[str, int] = {}
        self._active: tuple[str, ...] = ()
        self._sets = CloudSets[_Waiting[CloudT]]((), tolerance_ns)

    def silent(self, now_s: float) -> list[str]:
        """Sensors that have been silent for long.

        Args:
            now_s: time of the clock that `add` is given, too.
        """
        return [name for name in self.counts if not self._is_heard(name, now_s)]

    def add(
        self, sensor: str, stamp_ns: int, cloud: CloudT, now_s: float
    ) -> list[CloudSet[CloudT]]:
        """Add a cloud.

        Args:
            sensor: that it is of.
            stamp_ns: when it was taken [ns].
            cloud: anything.
            now_s: when it came, by a clock that never goes back [s].

        Returns:
            Finished sets, with a place for each sensor; the stamp is that of the first cloud.
        """
        self._hear(sensor, now_s)
        found = self._change_sensors(now_s)
        counts = self.counts[sensor]
        counts.received += 1
        behind_ns = self._stamps.get(sensor, stamp_ns) - stamp_ns
        if behind_ns > BACK_NS:
            found += self._restart()
        elif behind_ns > 0:
            self._unused += 1
            return found
        others = [stamp for name, stamp in self._stamps.items() if name != sensor]
        counts.apart_ns = stamp_ns - max(others, default=stamp_ns)
        self._stamps[sensor] = stamp_ns
        new = self._sets.add(sensor, stamp_ns, _Waiting(cloud, now_s))
        return found + [self._finish(each) for each in new]

    def overdue(self, now_s: float) -> list[CloudSet[CloudT]]:
        """The sets whose first cloud has waited long enough."""
        found = []
        while (end_s := self.deadline) is not None and end_s <= now_s:
            found.append(self._finish(self._sets.take()))
        return found

    @property
    def deadline(self) -> float | None:
        """When `overdue` has a set, by the same clock [s]; None if no cloud waits."""
        oldest = self._sets.waiting
        return None if oldest is None else oldest.since_s + self._max_wait_s

    @property
    def unused(self) -> int:
        """Clouds that are in no set: there was no partner, or they came out of order."""
        return self._unused + self._sets.unused

    def _hear(self, sensor: str, now_s: float) -> None:
        if not self._heard:
            self._heard = dict.fromkeys(self.counts, now_s)
        self._heard[sensor] = now_s
        for missed in self._since.values():
            missed[sensor] += 1
        self._since[sensor].clear()

    def _is_heard(self, sensor: str, now_s: float) -> bool:
        if now_s - self._heard.get(sensor, now_s) <= self._silent_s:
            return True
        # In lock-step with a slow detector all sensors pause for long.
        return max(self._since[sensor].values(), default=0) < MISSED

    def _change_sensors(self, now_s: float) -> list[CloudSet[CloudT]]:
        """Wait from now on for the sensors that are not silent, also with what waits already."""
        active = tuple(name for name in self.counts if self._is_heard(name, now_s))
        if active == self._active:
            return []
        before = self._sets.all_waiting()
        self._begin(active)
        kept = [
            (stamp_ns, name, waiting)
            for stamp_ns, name, waiting in before
            if name in active and now_s - waiting.since_s < self._max_wait_s
        ]
        self._unused += len(before) - len(kept)
        return [
            self._finish(each)
            for stamp_ns, name, waiting in kept
            for each in self._sets.add(name, stamp_ns, waiting)
        ]

    def _begin(self, active: tuple[str, ...]) -> None:
        """Forget what waits, and begin anew with these sensors."""
        self._unused += self._sets.unused
        self._active = active
        self._sets = CloudSets(active, self._tolerance_ns, first_match=True)

    def _restart(self) -> list[CloudSet[CloudT]]:
        self.restarts += 1
        self._stamps.clear()
        found = [self._finish(each) for each in self._sets.rest()]
        self._begin(self._active)
        return found

    def _finish(self, found: CloudSet[_Waiting[CloudT]]) -> CloudSet[CloudT]:
        clouds = {
            name: each.cloud
            for name, each in zip(self._active, found.clouds, strict=True)
            if each is not None
        }
        for name, counts in self.counts.items():
            counts.missing += name not in clouds
        return CloudSet(found.stamp_ns, tuple(clouds.get(name) for name in self.counts))
