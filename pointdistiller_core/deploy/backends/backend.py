# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a backend is: that which turns a checked cloud into boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.records import Cut

if TYPE_CHECKING:
    from pointdistiller_core.config import DetectionConfig

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PillarImportance:
    """What the importance of pillars (PointDistiller, section 3.1) follows from.

    Attributes:
        centers: (P, 3) float32 mean of the pillar's points [m], LiDAR frame.
        num_points: (P,) int64 points that the network sees, at most the cap of a pillar.
        point_pillars: (N,) int64 pillar of each input point, -1 for none.
    """

    centers: FloatArray
    num_points: IntArray
    point_pillars: IntArray


@dataclass(frozen=True)
class Found:
    """What a backend makes of one cloud.

    Attributes:
        boxes: (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], by descending score.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 index into the class names.
        counts: `pillars`, what `count_cuts` makes of the cuts of `Voxels`, and `boxes_refused`.
        importance: where it was asked for.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    counts: Mapping[str, int]
    importance: PillarImportance | None


def count_cuts(cuts: Mapping[str, Cut]) -> dict[str, int]:
    """The cuts of `Voxels` as counts."""
    points, voxels = cuts['points'], cuts['voxels']
    return {
        'pillars': voxels.kept,
        'points_in_range': sum(points),
        'points_over_cap': points.dropped,
        'pillars_over_cap': voxels.dropped,
    }


class Backend(Protocol):
    """Runs a detector; several threads may call it at once."""

    @property
    def name(self) -> str:
        """Its key in `BACKENDS`."""
        ...

    def __call__(
        self,
        points: FloatArray,
        watch: Stopwatch,
        *,
        importance: bool,
        detection: DetectionConfig,
    ) -> Found:
        """Detect objects.

        Args:
            points: (N, 4) float32 x, y, z [m], intensity, LiDAR frame; all finite, contiguous.
            watch: hears when the stages `pillars`, `network` and `decode` end.
            importance: whether to return the importance of the pillars.
            detection: thresholds and caps.
        """
        ...


class Stopwatch:
    """Times of successive stages [ms]."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._stages = {'pillars': 0.0, 'network': 0.0, 'decode': 0.0}

    def lap(self, stage: str) -> None:
        """Say that a stage has ended."""
        now = perf_counter()
        self._stages[stage] = (now - self._last) * 1e3
        self._last = now

    def finish(self) -> dict[str, float]:
        """The time of each stage and their `total`, which includes what lies between."""
        return {**self._stages, 'total': (perf_counter() - self._start) * 1e3}
