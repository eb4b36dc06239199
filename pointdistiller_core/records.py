# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frozen records that travel between datasets, detectors, evaluation and ROS.

Everything outside the network is NumPy, so that datasets, metrics and the ROS nodes need no torch;
`Batch` is what a network trains on. Boxes are (x, y, z, dx, dy, dz, yaw): LiDAR frame, x forward,
y left, z up, metres, geometric center, yaw counter-clockwise from +x in [-pi, pi).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

IGNORE_LABEL = -1


class Cut(NamedTuple):
    """How many points, voxels or boxes a cap let through, and how many it dropped."""

    kept: int
    dropped: int


@dataclass(frozen=True)
class GroundTruth:
    """Labelled boxes of one frame.

    Attributes:
        boxes: (G, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad].
        labels: (G,) int64 index into the class names; `IGNORE_LABEL` counts neither way.
    """

    boxes: FloatArray
    labels: IntArray

    def __post_init__(self) -> None:
        _check_boxes(self.boxes, {'labels': self.labels})

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: NDArray[np.bool_] | NDArray[np.integer]) -> GroundTruth:
        return GroundTruth(self.boxes[keep], self.labels[keep])

    @classmethod
    def empty(cls) -> GroundTruth:
        """No boxes."""
        return cls(np.zeros((0, 7), np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Frame:
    """One LiDAR sweep.

    Attributes:
        points: (N, 4) float32 x, y, z [m], intensity [0..1], LiDAR frame.
        frame_id: name of the sweep within its dataset, e.g. `000008`.
        ground_truth: labels, or None where there are none.
        stamp_ns: time of the sweep, or None where it is not known.
    """

    points: FloatArray
    frame_id: str = ''
    ground_truth: GroundTruth | None = None
    stamp_ns: int | None = None

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 4:
            raise ValueError(f'points must be (N, 4), not {self.points.shape}')


@dataclass(frozen=True)
class Importance:
    """Importance of the pillars of one frame: the score that PointDistiller samples by.

    Attributes:
        centers: (P, 3) float32 mean of the pillar's points [m], LiDAR frame.
        scores: (P,) float32 in [0, 1], the largest of the frame is 1.
        point_scores: (N,) float32, the score of the pillar of each input point; 0 for points
            outside the range.
    """

    centers: FloatArray
    scores: FloatArray
    point_scores: FloatArray


@dataclass(frozen=True)
class Detections:
    """Detections of one frame, by descending score.

    Attributes:
        boxes: (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad].
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 index into the class names.
        importance: pillar importance, where it was asked for.
        counts: what was used and what was cut, e.g. `points`, `points_in_range`,
            `points_not_finite`, `points_without_return`, `points_over_cap`, `pillars`,
            `pillars_over_cap`; `intensity_outside`, the points whose intensity was clipped, and
            `boxes_refused`, the candidates that no object can be.
        latency_ms: time of each stage and their `total`.
        intensity_range: least and largest intensity of the points before they were clipped; None
            without any point.
        orientations: (N, 4) float32 quaternions x, y, z, w of boxes that are tilted in their
            frame, where `yaw` is that of the heading from above; None where yaw says it all.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    importance: Importance | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    intensity_range: tuple[float, float] | None = None
    orientations: FloatArray | None = None

    def __post_init__(self) -> None:
        _check_boxes(self.boxes, {'scores': self.scores, 'labels': self.labels})
        if self.orientations is not None and self.orientations.shape != (len(self), 4):
            raise ValueError(f'{len(self)} boxes but orientations {self.orientations.shape}')

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: NDArray[np.bool_] | NDArray[np.integer]) -> Detections:
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            orientations=None if self.orientations is None else self.orientations[keep],
        )

    @classmethod
    def empty(cls) -> Detections:
        """No detections."""
        return cls(np.zeros((0, 7), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Batch:
    """Frames as a network trains on them; the lists hold one tensor per frame.

    Attributes:
        points: B tensors (N, 4) float32 x, y, z [m], intensity.
        boxes: B tensors (G, 7) float32 ground-truth boxes.
        labels: B tensors (G,) int64 ground-truth labels.
        frame_ids: B names, for error messages.
    """

    points: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    frame_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.points)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; from pinned memory a GPU fetches it by itself."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory that is never swapped out; torch's loaders call this."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            tuple(map(change, self.points)),
            tuple(map(change, self.boxes)),
            tuple(map(change, self.labels)),
            self.frame_ids,
        )


def _check_boxes(boxes: FloatArray, columns: Mapping[str, NDArray[np.generic]]) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 7:
        raise ValueError(f'boxes must be (N, 7), not {boxes.shape}')
    for name, column in columns.items():
        if column.shape != (len(boxes),):
            raise ValueError(f'{len(boxes)} boxes but {name} of shape {column.shape}')
