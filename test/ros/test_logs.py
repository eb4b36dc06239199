# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of what goes wrong again and again."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from pointdistiller_ros.logs import Repeated


class Time:
    """A clock to be set."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def said():
    return []


@pytest.fixture
def repeated(time, said):
    return Repeated(said.append, period_s=10.0, now=time)


def test_first_of_each_kind_is_said_at_once(repeated, said):
    for kind in ('a', 'b'):
        for number in range(3):
            repeated(kind, f'{kind}{number}')
    assert said == ['a0', 'b0']


def test_what_was_not_said_is_counted(repeated, said, time):
    for number in range(4):
        repeated('a', f'a{number}')
    time.seconds = 10.0
    repeated('a', 'a4')
    assert said == ['a0', '4 of the kind in 10 s, the last one: a4']
    repeated('a', 'a5')
    assert len(said) == 2
    repeated.flush()
    assert len(said) == 2
    time.seconds = 21.0
    repeated.flush()
    assert said[2:] == ['1 of the kind in 11 s, the last one: a5']


def test_kind_that_ended_begins_anew(repeated, said, time):
    repeated('a', 'a0')
    time.seconds = 10.0
    repeated.flush()
    repeated('a', 'a1')
    assert said == ['a0', 'a1']


def test_nothing_is_left_unsaid_at_the_end(repeated, said):
    for text in ('a0', 'a1'):
        repeated('a', text)
    repeated('b', 'b0')
    repeated.flush(all=True)
    assert said == ['a0', 'b0', '1 of the kind in 0 s, the last one: a1']
    repeated.flush(all=True)
    assert len(said) == 3
