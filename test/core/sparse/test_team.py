# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from threading import Barrier, get_ident

import pytest

from pointdistiller_core.sparse.team import Team


@pytest.mark.parametrize('num_threads', [1, 2, 3])
@pytest.mark.parametrize('num_parts', [0, 1, 2, 50])
def test_each_part_is_done_once(num_threads, num_parts):
    done: list[int] = []
    Team(num_threads).share(done.append, num_parts)
    assert sorted(done) == list(range(num_parts))


def test_two_threads_work_at_once():
    meeting, seen = Barrier(2), set()

    def work(_part):
        meeting.wait(timeout=60)  # alone, it would wait for ever
        seen.add(get_ident())

    Team(2).share(work, 2)
    assert len(seen) == 2
    assert get_ident() in seen


@pytest.mark.parametrize('num_threads', [1, 2])
def test_items_come_in_order_and_are_made_elsewhere(num_threads):
    makers = []

    def items():
        for number in range(5):
            makers.append(get_ident())
            yield number

    team = Team(num_threads)
    for item, number in zip(team.ahead(items()), range(5), strict=True):
        assert item == number
        team.share(abs, 3)  # while the other thread may be busy
    assert {maker == get_ident() for maker in makers} == {num_threads == 1}


@pytest.mark.parametrize('num_threads', [1, 2])
def test_an_error_reaches_the_caller_and_the_team_goes_on(num_threads):
    def items():
        yield 1
        raise MemoryError('of items')

    def fail(part):
        if part == 7:
            raise MemoryError('of a part')

    team = Team(num_threads)
    with pytest.raises(MemoryError, match='of items'):
        list(team.ahead(items()))
    with pytest.raises(MemoryError, match='of a part'):
        team.share(fail, 8)
    done: list[int] = []
    team.share(done.append, 4)
    assert sorted(done) == [0, 1, 2, 3]
