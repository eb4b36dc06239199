# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A backend turns a checked cloud into boxes."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pointdistiller_core.config import DetectionConfig
    from pointdistiller_core.records import Detections, LiveImportance, Places

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]


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
        importance: LiveImportance | None,
        detection: DetectionConfig,
    ) -> tuple[Detections, Places | None]:
        """Detect objects.

        Args:
            points: (N, F) float32 with the bundle's columns, LiDAR frame; all finite, contiguous.
            watch: is told when the stages `prepare`, `network` and `decode` end.
            importance: by which to return the places; None leaves them out.
            detection: thresholds and caps.

        Returns:
            Boxes with `cuts`, and with `boxes_refused` in `counts`; and where the detector looked,
            with (N,) owners.
        """
        ...


class Stopwatch:
    """Times of successive stages [ms]."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._stages = {'prepare': 0.0, 'network': 0.0, 'decode': 0.0}

    def lap(self, stage: str) -> None:
        """Say that a stage has ended."""
        now = perf_counter()
        self._stages[stage] = (now - self._last) * 1e3
        self._last = now

    def finish(self) -> dict[str, float]:
        """The time of each stage and their `total`, which includes the time between them."""
        return {**self._stages, 'total': (perf_counter() - self._start) * 1e3}
