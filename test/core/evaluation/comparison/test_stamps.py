# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointdistiller_core.evaluation.comparison.stamps import StampMatcher


def test_whichever_comes_first():
    matcher = StampMatcher[str, str](tolerance_ns=0, capacity=10)
    assert matcher.add_left(1, 'a') is None
    assert matcher.add_right(2, 'B') is None
    assert matcher.add_right(1, 'A') == ('a', 'A')
    assert matcher.add_left(2, 'b') == ('b', 'B')


def test_the_nearest_within_the_tolerance():
    matcher = StampMatcher[str, str](tolerance_ns=10, capacity=10)
    for stamp in (100, 108, 130):
        matcher.add_right(stamp, str(stamp))
    assert matcher.add_left(105, 'a') == ('a', '108')
    assert matcher.add_left(119, 'b') is None


def test_nothing_is_used_twice():
    matcher = StampMatcher[str, str](tolerance_ns=5, capacity=10)
    matcher.add_right(1, 'A')
    assert matcher.add_left(1, 'a') == ('a', 'A')
    assert matcher.add_left(1, 'again') is None
    assert matcher.add_left(1, 'and again') is None
    assert matcher.add_right(1, 'B') == ('and again', 'B')
    assert matcher.add_right(1, 'C') is None


def test_who_waits_too_long_is_given_up():
    matcher = StampMatcher[int, int](tolerance_ns=0, capacity=2)
    for stamp in (1, 2, 3):
        matcher.add_left(stamp, stamp)
    assert matcher.add_right(1, 10) is None
    assert matcher.add_right(2, 20) == (2, 20)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20))), st.integers(0, 4))
def test_every_item_is_in_one_pair_at_most(arrivals, tolerance):
    matcher = StampMatcher[tuple, tuple](tolerance_ns=tolerance, capacity=3)
    pairs = []
    for number, (left, stamp) in enumerate(arrivals):
        add = matcher.add_left if left else matcher.add_right
        pair = add(stamp, (number, stamp))
        if pair is not None:
            pairs.append(pair)
    used = [number for pair in pairs for number, _ in pair]
    assert len(used) == len(set(used))
    assert all(abs(a - b) <= tolerance for (_, a), (_, b) in pairs)
