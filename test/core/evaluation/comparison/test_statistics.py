# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from pointdistiller_core.evaluation.comparison.statistics import (
    HIGHEST_MS,
    LOWEST_MS,
    LatencyHistogram,
    Timeline,
)


def histogram_of(times):
    histogram = LatencyHistogram()
    for time_ms in times:
        histogram.add(time_ms)
    return histogram


def test_percentiles_of_a_hundred_times():
    histogram = histogram_of(range(1, 101))
    for percent in (1, 50, 95, 99, 100):
        assert histogram.percentile_ms(percent) == pytest.approx(percent, rel=0.006)
    assert histogram.mean_ms == 50.5
    assert histogram.to_dict()['clouds'] == histogram.count == 100


@given(st.lists(st.floats(LOWEST_MS, HIGHEST_MS), min_size=1), st.integers(0, 100))
def test_percentiles_are_those_of_all_times(times, percent):
    expected = sorted(times)[max(1, math.ceil(len(times) * percent / 100)) - 1]
    assert histogram_of(times).percentile_ms(percent) == pytest.approx(expected, rel=0.0051)


def test_without_times_and_beyond_the_limits():
    assert math.isnan(LatencyHistogram().percentile_ms(50))
    assert math.isnan(LatencyHistogram().mean_ms)
    assert LatencyHistogram().bars()[1].tolist() == [0]
    assert histogram_of([0.0, -1.0]).percentile_ms(50) == pytest.approx(LOWEST_MS, rel=0.01)
    assert histogram_of([1e9]).percentile_ms(50) == pytest.approx(HIGHEST_MS, rel=0.02)


@given(st.lists(st.floats(1, 1000), min_size=1), st.floats(1.01, 1.5))
def test_bars_hold_every_time(times, factor):
    edges, counts = histogram_of(times).bars(factor)
    assert counts.sum() == len(times)
    assert len(edges) == len(counts) + 1
    assert edges[0] <= min(times) * 1.0001
    assert edges[-1] >= max(times) * 0.9999


@given(st.integers(0, 40))
def test_timeline_keeps_all_sums_in_few_places(num_clouds):
    timeline = Timeline(2, max_sums=4)
    for number in range(1, num_clouds + 1):
        timeline.add((1, number))
    counts, sums = timeline.sums()
    assert len(counts) == len(sums) <= 4
    assert sums[:, 0].tolist() == counts.tolist()
    assert counts.sum() == num_clouds
    assert sums[:, 1].sum() == num_clouds * (num_clouds + 1) // 2


def test_sums_of_a_timeline_that_was_full():
    timeline = Timeline(1, max_sums=2)
    for number in range(1, 6):
        timeline.add((number,))
    counts, sums = timeline.sums()
    assert counts.tolist() == [4, 1]
    assert sums.tolist() == [[10], [5]]
