# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from pointdistiller_core.pointcloud.live_sensors import LiveCloudSets

STEP_NS = 100_000_000


def gather(*names, tolerance_ns=STEP_NS // 2):
    return LiveCloudSets(names, tolerance_ns, max_wait_s=0.1)


def add(sets, name, step, now_s=None):
    """The sets that a cloud of this step, 0.1 s each, finishes."""
    now_s = step / 10 if now_s is None else now_s
    found = sets.add(name, round(step * STEP_NS), f'{name}{step}', now_s)
    return [each.clouds for each in found]


def test_a_set_comes_out_as_soon_as_it_is_complete():
    sets = gather('a', 'b', 'c')
    assert add(sets, 'b', 0.9) == []
    assert add(sets, 'a', 1) == []
    assert add(sets, 'c', 1.2) == [('a1', 'b0.9', 'c1.2')]
    assert sets.deadline is None
    assert (sets.unused, [counts.missing for counts in sets.counts.values()]) == (0, [0, 0, 0])


def test_a_late_sensor_is_waited_for_and_then_left_out():
    sets = gather('a', 'b')
    assert add(sets, 'a', 1) == []
    assert sets.deadline == pytest.approx(0.2)
    assert sets.overdue(0.19) == []
    (found,) = sets.overdue(0.2)
    assert (found.stamp_ns, found.clouds) == (STEP_NS, ('a1', None))
    assert sets.counts['b'].missing == 1
    assert add(sets, 'b', 1, now_s=0.25) == []  # too late for the set
    assert add(sets, 'a', 2) == []
    assert add(sets, 'b', 2) == [('a2', 'b2')]
    assert sets.unused == 1


def test_a_cloud_that_was_lost_is_not_waited_for():
    sets = gather('a', 'b')
    assert add(sets, 'a', 1) == []
    assert add(sets, 'b', 2, now_s=0.15) == [('a1', None)]


@pytest.mark.parametrize(
    ('silent', 'alone'), [('b', ('a30', None, 'c30')), ('a', (None, 'b30', 'c30'))]
)
def test_a_silent_sensor_is_not_waited_for_until_it_is_back(silent, alone):
    sets = gather('a', 'b', 'c')
    for step in range(31):
        found = [
            each for name in 'abc' if name != silent or step < 10 for each in add(sets, name, step)
        ]
        sets.overdue(step / 10 + 0.09)
    assert found == [alone]
    assert sets.deadline is None
    assert sets.silent(3.0) == [silent]
    back = [each for name in 'abc' for each in add(sets, name, 31)]
    assert back == [('a31', 'b31', 'c31')]
    assert sets.silent(3.1) == []


def test_a_sensor_that_never_spoke_is_silent_after_a_while():
    sets = gather('a', 'b')
    found = []
    for step in range(20):
        found += add(sets, 'b', step, now_s=step / 9)
    assert found == [(None, f'b{step}') for step in range(10, 20)]
    assert sets.unused == 10


def test_all_may_pause_together():
    """As in lock-step with a slow detector."""
    sets = gather('a', 'b')
    for step in range(10):
        assert add(sets, 'a', step, now_s=5 * step) == []
        assert add(sets, 'b', step, now_s=5 * step + 0.05) == [(f'a{step}', f'b{step}')]


def test_a_recording_that_begins_again():
    sets = gather('a', 'b')
    for step in (50, 51):
        add(sets, 'a', step)
        add(sets, 'b', step)
    assert add(sets, 'a', 52) == []
    assert add(sets, 'b', 10, now_s=5.3) == [('a52', None)]
    assert add(sets, 'a', 10, now_s=5.3) == [('a10', 'b10')]
    assert sets.restarts == 1
    assert add(sets, 'a', 9.5, now_s=5.4) == []  # only out of order
    assert (sets.restarts, sets.unused) == (1, 1)


def test_clocks_that_differ_are_shown():
    sets = gather('a', 'b')
    add(sets, 'a', 10)
    assert add(sets, 'b', 500, now_s=1.0) == [('a10', None)]
    assert sets.counts['b'].apart_ns == 490 * STEP_NS
    assert sets.counts['a'].received == 1
