# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames with the sweeps before them, as a detector of several sweeps expects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import copy
from dataclasses import replace
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import AGE, DetectorConfig
from pointdistiller_core.datasets.notes import warn_once
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.geometry.poses import NANOSECONDS
from pointdistiller_core.geometry.transforms import invert_rigid
from pointdistiller_core.pointcloud.sensors import usable_points
from pointdistiller_core.pointcloud.sweeps import PastSweep, merge_sweeps, to_past
from pointdistiller_core.records import Frame, GroundTruth

if TYPE_CHECKING:
    from pointdistiller_core.datasets import FrameDataset

    FloatArray = NDArray[np.float32]

logger = logging.getLogger(__name__)


class SweepPlace(NamedTuple):
    """Where a sweep is kept, and where and when it was taken.

    Attributes:
        key: number of the sweep in its dataset, in the order of time.
        stamp_ns: when [ns].
        world_from_sensor: (4, 4).
    """

    key: int
    stamp_ns: int
    world_from_sensor: NDArray[np.float64]


@runtime_checkable
class PosedFrames(Protocol):
    """What a dataset has whose frames follow one another."""

    def sweeps_until(self, index: int, count: int, max_age_ns: int, /) -> list[SweepPlace]:
        """A frame's own sweep and those before it, newest first; none without a pose."""
        ...

    def sweep_points(self, key: int, /) -> FloatArray:
        """(N, 4) points of a sweep."""
        ...

    def sweep_state(self, key: int, /) -> object:
        """What changes when the sweep's file does."""
        ...


class SweptDataset:
    """The frames of a dataset, each merged with the sweeps before it.

    Args:
        frames: one sweep each.
        model: says how many sweeps, how old, and with which columns.
        root: of the dataset, for messages.
        alone: frames of a dataset without poses stay one sweep, instead of an error.

    Raises:
        DatasetError: the frames have no poses.
    """

    def __init__(
        self, frames: FrameDataset, model: DetectorConfig, root: Path, *, alone: bool = False
    ) -> None:
        self.frames, self._root = frames, root
        self.point_features = model.point_features
        self._count, self._with_age = model.sweeps, AGE in model.point_features
        self._max_age_ns = round(model.max_sweep_age_s * NANOSECONDS)
        self._posed = frames if isinstance(frames, PosedFrames) else None
        self._recent: dict[int, FloatArray] = {}  # the last sweeps that were read
        if self._count > 1 and not alone:
            self._check_poses()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        """Points of all sweeps, newest first, with the labels of the newest.

        Raises:
            DatasetError: a file of a sweep is missing or malformed.
        """
        places, past = self._places(index), []
        own = places[0] if places else None
        for place in reversed(places[1:]):  # in the order of time, in which a bag is read
            assert own is not None
            now_from_then = invert_rigid(own.world_from_sensor) @ place.world_from_sensor
            age_s = (own.stamp_ns - place.stamp_ns) / NANOSECONDS
            past.append(PastSweep(self._read(place.key), age_s, now_from_then))
        frame = self.frames[index]
        points, _ = usable_points(frame.points)
        if own is not None:
            self._keep(own.key, points)
        merged = merge_sweeps(points, past[::-1], with_age=self._with_age)
        return replace(frame, points=merged, point_features=self.point_features)

    def with_frames(self, frames: FrameDataset) -> SweptDataset:
        """The same of other frames, such as a part of them."""
        other = copy.copy(self)
        other.frames, other._recent = frames, {}
        other._posed = frames if isinstance(frames, PosedFrames) else None
        return other

    def fingerprint(self, index: int) -> str:
        """A text that changes whenever the frame, or a sweep before it, does."""
        facts: list[object] = [self.frames.fingerprint(index), self._with_age, self._count]
        for place in self._places(index):
            assert self._posed is not None
            pose = place.world_from_sensor.tobytes()
            facts.append((place.stamp_ns, pose, self._posed.sweep_state(place.key)))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `FrameDataset`, also of the following."""
        return self.frames.class_names

    @property
    def frame_ids(self) -> Sequence[str]:
        """Names of the frames."""
        return self.frames.frame_ids

    @property
    def intensity_scale(self) -> float:
        """The factor applied to the intensities."""
        return self.frames.intensity_scale

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of difficulty."""
        return self.frames.levels

    @property
    def metric(self) -> str:
        """Name of the usual metric."""
        return self.frames.metric

    @property
    def cache(self) -> Path:
        """Folder for what is derived from the frames."""
        return self.frames.cache

    def labels(self, index: int) -> GroundTruth:
        """All labels of a frame."""
        return self.frames.labels(index)

    @property
    def class_map(self) -> Mapping[str, str]:
        """New names of classes."""
        return self.frames.class_map

    def label_names(self, index: int) -> list[str]:
        """Class of each label of a frame that counts."""
        return self.frames.label_names(index)

    def annotations(self, index: int) -> Any:
        """Data of the dataset's own metric."""
        return self.frames.annotations(index)

    def _places(self, index: int) -> list[SweepPlace]:
        if self._posed is None or self._count == 1:
            return []
        return self._posed.sweeps_until(index, self._count, self._max_age_ns)

    def _read(self, key: int) -> FloatArray:
        if key not in self._recent:
            assert self._posed is not None
            self._keep(key, usable_points(self._posed.sweep_points(key))[0])
        return self._recent[key]

    def _keep(self, key: int, points: FloatArray) -> None:
        self._recent.setdefault(key, to_past(points))
        while len(self._recent) > self._count:
            del self._recent[next(iter(self._recent))]

    def _check_poses(self) -> None:
        alone = [index for index in (0, len(self) // 2, len(self) - 1) if not self._places(index)]
        if len(alone) == 3:
            raise DatasetError(
                f'{self._root}: its frames have no poses and times, but the model merges '
                f'{self._count} sweeps; convert a recording (pointdistiller bag convert), which '
                'finds them, or train a model of one sweep (model.sweeps=1)'
            )
        if alone:
            warn_once(
                *(logger, self._root),
                '%s: some frames have no pose, e.g. %s; they stay one sweep',
                *(self._root, self.frame_ids[alone[0]]),
            )
