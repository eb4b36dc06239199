# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of an endless stream in a few kilobytes: percentiles of times, sums over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOWEST_MS, HIGHEST_MS = 0.01, 1e6
STEP = 1.01  # from the lower edge of a bin to its upper one
_NUM_BINS = math.ceil(math.log(HIGHEST_MS / LOWEST_MS) / math.log(STEP))


class LatencyHistogram:
    """Times in bins 1 % wide, so every percentile is right within half a percent."""

    def __init__(self) -> None:
        self._counts = np.zeros(_NUM_BINS, np.int64)
        self._sum_ms = 0.0

    def add(self, time_ms: float) -> None:
        """Count one more time [ms]."""
        bin_number = math.floor(math.log(max(time_ms, LOWEST_MS) / LOWEST_MS) / math.log(STEP))
        self._counts[min(bin_number, _NUM_BINS - 1)] += 1
        self._sum_ms += time_ms

    @property
    def count(self) -> int:
        """Times so far."""
        return int(self._counts.sum())

    @property
    def mean_ms(self) -> float:
        """Exact mean of all times; NaN without any."""
        return self._sum_ms / self.count if self.count else math.nan

    def percentile_ms(self, percent: float) -> float:
        """The time that so many percent of all do not exceed; NaN without any."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(self.count * percent / 100))
        bin_number = int(np.searchsorted(self._counts.cumsum(), rank))
        middle: float = LOWEST_MS * STEP ** (bin_number + 0.5)
        return middle

    def bars(self, factor: float = 1.05) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Edges (n + 1,) [ms] and counts (n,) of coarser bins, from the first to the last filled.

        Args:
            factor: from edge to edge, rounded to a whole power of `STEP`.
        """
        width = max(1, round(math.log(factor) / math.log(STEP)))
        filled = np.flatnonzero(self._counts)
        if not len(filled):
            return np.array([LOWEST_MS, LOWEST_MS * STEP]), np.zeros(1, np.int64)
        edges = np.arange(filled[0], filled[-1] + width + 1, width)
        counts = [int(self._counts[low:high].sum()) for low, high in pairwise(edges.tolist())]
        return LOWEST_MS * STEP ** edges.astype(np.float64), np.array(counts, np.int64)

    def to_dict(self) -> dict[str, float]:
        """Mean, median and high percentiles [ms]."""
        percentiles = {'median_ms': 50, 'p95_ms': 95, 'p99_ms': 99}
        values = {name: self.percentile_ms(percent) for name, percent in percentiles.items()}
        return {'clouds': self.count, 'mean_ms': self.mean_ms, **values}


class Timeline:
    """Sums over equally many clouds each, from the first cloud to the last.

    If there would be too many sums, each two neighbors become one.

    Args:
        num_values: numbers of a cloud.
        max_sums: largest number of sums; even.
    """

    def __init__(self, num_values: int, max_sums: int = 400) -> None:
        self._sums = np.zeros((max_sums, num_values))
        self._num_clouds = 0
        self._clouds_each = 1

    def add(self, values: Sequence[float]) -> None:
        """Add the numbers of the next cloud."""
        if self._num_clouds == self._clouds_each * len(self._sums):
            pairs = self._sums.reshape(-1, 2, self._sums.shape[1]).sum(axis=1)
            self._sums = np.concatenate([pairs, np.zeros_like(pairs)])
            self._clouds_each *= 2
        self._sums[self._num_clouds // self._clouds_each] += values
        self._num_clouds += 1

    def sums(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Clouds in each sum (n,), and the sums (n, num_values)."""
        whole, rest = divmod(self._num_clouds, self._clouds_each)
        counts = np.array([self._clouds_each] * whole + [rest] * (rest > 0), np.int64)
        return counts, self._sums[: len(counts)].copy()
