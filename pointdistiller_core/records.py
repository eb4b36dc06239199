# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames and detections as frozen records; they travel between all rooms and ROS.

Everything outside the network is NumPy, so datasets, metrics and the ROS nodes need no torch; a
network trains on a `Batch`. Boxes are (x, y, z, dx, dy, dz, yaw): LiDAR frame, x forward,
y left, z up, metres, geometric center, yaw counter-clockwise from +x in [-pi, pi).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import POINT_FEATURES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

IGNORE_LABEL = -1
"""Class of objects that are neither of a known class nor background."""

RowsT = TypeVar('RowsT', bound='_Rows')
Keep: TypeAlias = 'NDArray[np.bool_] | NDArray[np.integer[Any]] | slice'


class Cut(NamedTuple):
    """How many points, voxels or boxes a cap let through, and how many it dropped."""

    kept: int
    dropped: int


@dataclass(frozen=True)
class _Rows:
    """Boxes with their columns; a missing column is None."""

    boxes: FloatArray

    COLUMNS: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """Shape of a row of each column."""

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 7:
            raise ValueError(f'boxes must be (N, 7), not {self.boxes.shape}')
        for name, column in self.columns().items():
            if column.shape != (len(self.boxes), *self.COLUMNS[name]):
                raise ValueError(f'{len(self.boxes)} boxes but {name} of shape {column.shape}')

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self: RowsT, keep: Keep) -> RowsT:
        kept = {name: column[keep] for name, column in self.columns().items()}
        return replace(self, boxes=self.boxes[keep], **kept)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The existing columns by name, without the boxes."""
        found = {name: getattr(self, name) for name in self.COLUMNS}
        return {name: column for name, column in found.items() if column is not None}


@dataclass(frozen=True)
class GroundTruth(_Rows):
    """Labelled boxes of one frame.

    Attributes:
        boxes: (G, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad].
        labels: (G,) int64 index into the class names; boxes with `IGNORE_LABEL` are ignored.
        velocities: (G, 2) float32 along x and y of the LiDAR frame [m/s], NaN if not known; None
            if the dataset has none.
        levels: (G,) int64 index into the dataset's levels of difficulty, -1 for none; None if the
            dataset has no levels.
    """

    labels: IntArray
    velocities: FloatArray | None = None
    levels: IntArray | None = None

    COLUMNS: ClassVar = {'labels': (), 'velocities': (2,), 'levels': ()}

    @classmethod
    def joined(cls, parts: Sequence[GroundTruth]) -> GroundTruth:
        """The boxes of one or more frames; what some do not know is NaN, or level -1."""
        names = {name for part in parts for name in part.columns()}
        columns = {
            name: np.concatenate([part.columns().get(name, part._unknown(name)) for part in parts])
            for name in names
        }
        return cls(boxes=np.concatenate([part.boxes for part in parts]), **columns)

    def _unknown(self, name: str) -> NDArray[Any]:
        if name == 'levels':
            return np.full(len(self), -1)
        return np.full((len(self), *self.COLUMNS[name]), np.nan, np.float32)

    @classmethod
    def empty(cls) -> GroundTruth:
        """No boxes."""
        return cls(np.zeros((0, 7), np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Frame:
    """One LiDAR sweep.

    Attributes:
        points: (N, F) float32, a column for each of the point features, LiDAR frame.
        frame_id: name of the sweep within its dataset, e.g. `000008`.
        ground_truth: labels, or None if there are none.
        stamp_ns: time of the sweep, or None if it is not known.
        point_features: names of the F columns; x, y and z come first.
    """

    points: FloatArray
    frame_id: str = ''
    ground_truth: GroundTruth | None = None
    stamp_ns: int | None = None
    point_features: tuple[str, ...] = POINT_FEATURES

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != len(self.point_features):
            columns = ', '.join(self.point_features)
            raise ValueError(
                f'points must be (N, {len(self.point_features)}) {columns}, '
                f'not {self.points.shape}'
            )


# What a detector can show: its family's own measure (`DetectorConfig.own_importance`), or scores.
LiveImportance: TypeAlias = Literal['own', 'confidence']


@dataclass(frozen=True)
class Places:
    """Where a detector looked, and how much each place matters to it; of one frame.

    Attributes:
        centers: (R, 3) float32 [m]; of a voxel the mean of its points.
        values: (R,) of any scale, 0 or more; of a voxel its number of points.
        owners: (N,) int64 place of each input point, -1 for none.
        highest: value that counts as 1; None is the largest of the frame.
    """

    centers: FloatArray
    values: NDArray[Any]
    owners: IntArray
    highest: float | None = None


@dataclass(frozen=True)
class Importance:
    """Importance of the places of one frame: the score that PointDistiller samples by.

    Attributes:
        centers: (R, 3) float32 [m], LiDAR frame; see `Places`.
        scores: (R,) float32 in [0, 1]; of numbers of points, the largest of the frame is 1.
        point_scores: (N,) float32, the score of the place of each input point; 0 for points
            without one.
    """

    centers: FloatArray
    scores: FloatArray
    point_scores: FloatArray


@dataclass(frozen=True)
class Detections(_Rows):
    """Detections of one frame, by descending score.

    Attributes:
        boxes: (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 index into the class names.
        importance: where the detector looked, if that was asked for.
        counts: numbers of what was used and dropped, e.g. `points`, `points_in_range`,
            `points_not_finite`, `points_without_return`; `intensity_outside`, points whose
            intensity was clipped; `boxes_refused`, candidates that no object can be; `no_ground`,
            1 if the detector looked for the ground and found none.
        latency_ms: time of each stage and their `total`.
        intensity_range: least and largest intensity of the points before they were clipped; None
            without any point.
        orientations: (N, 4) float32 quaternions x, y, z, w of boxes that are tilted in their
            frame, where `yaw` is that of the heading from above; None if yaw suffices.
        velocities: (N, 2) float32 along x and y [m/s], NaN if not known; None if neither the
            detector nor a tracker gives any.
        tracks: (N,) int64 number of the object from sweep to sweep, -1 for none; None if nothing
            is tracked.
        cuts: what the caps of the detector kept and cut off, by kind, e.g. `points`, `voxels`.
    """

    scores: FloatArray
    labels: IntArray
    importance: Importance | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    intensity_range: tuple[float, float] | None = None
    orientations: FloatArray | None = None
    velocities: FloatArray | None = None
    tracks: IntArray | None = None
    cuts: Mapping[str, Cut] = field(default_factory=dict)

    COLUMNS: ClassVar = {
        **{'scores': (), 'labels': (), 'tracks': ()},
        **{'orientations': (4,), 'velocities': (2,)},
    }

    @classmethod
    def empty(cls) -> Detections:
        """No detections."""
        return cls(np.zeros((0, 7), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Batch:
    """Frames as a network trains on them; the lists hold one tensor per frame.

    Attributes:
        points: B tensors (N, F) float32, columns as in `Frame`.
        boxes: B tensors (G, 7) float32 ground-truth boxes.
        labels: B tensors (G,) int64 ground-truth labels.
        frame_ids: B names, for error messages.
        velocities: B tensors (G, 2) float32 [m/s], NaN if not known; None without any.
        unlabelled: places of the frames without labels: no detection loss is due for them.
    """

    points: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    frame_ids: tuple[str, ...]
    velocities: tuple[Tensor, ...] | None = None
    unlabelled: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.points)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; a GPU copies from pinned memory by itself."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory that is never swapped out; torch's loaders call this."""
        return self._map(lambda tensor: tensor.pin_memory())

    def tensors(self) -> dict[str, tuple[Tensor, ...]]:
        """The existing tensors by name."""
        found = {name: getattr(self, name) for name in ('points', 'boxes', 'labels', 'velocities')}
        return {name: tensors for name, tensors in found.items() if tensors is not None}

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {
            name: tuple(map(change, own)) for name, own in self.tensors().items()
        }
        return replace(self, **changed)


def spread_indices(num_frames: int, wanted: int) -> list[int]:
    """Evenly spread frames of a dataset: as many as wanted, at most all."""
    count = min(wanted, num_frames)
    return [index * num_frames // count for index in range(count)]


def renumber(labels: IntArray, names: Sequence[str], new_names: Sequence[str]) -> IntArray:
    """Labels (N,) that index other names; `IGNORE_LABEL` for what is not there.

    Args:
        labels: (N,) that index `names`, or are none of them.
        names: of the labels.
        new_names: to index instead.
    """
    numbers = {name: number for number, name in enumerate(new_names)}
    # The last one is for what indexes no name.
    table = np.array([*(numbers.get(name, IGNORE_LABEL) for name in names), IGNORE_LABEL])
    known = (labels >= 0) & (labels < len(names))
    renamed: IntArray = table[np.where(known, labels, len(names))].astype(np.int64)
    return renamed
