# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The slot that keeps the newest item, and its thread."""

from __future__ import annotations

import threading
from threading import Event

import pytest

from pointdistiller_ros.worker import NewestWorker

TIMEOUT_S = 10.0


class Work:
    """Remembers its items; item `block` waits for `release`, item `fail` raises."""

    def __init__(self):
        self.items, self.errors = [], []
        self.started, self.release = Event(), Event()

    def __call__(self, item):
        self.items.append(item)
        self.started.set()
        if item == 'block':
            assert self.release.wait(TIMEOUT_S)
        if item == 'fail':
            raise ValueError(item)


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def worker(work):
    running = NewestWorker(work, on_error=work.errors.append)
    yield running
    work.release.set()
    running.close()


def test_newest_item_wins_and_drops_are_counted(work, worker):
    worker.submit('block')
    assert work.started.wait(TIMEOUT_S)
    assert [worker.submit(item) for item in (1, 2, 3)] == [0, 1, 1]
    work.release.set()
    assert worker.wait_until_idle(TIMEOUT_S)
    assert work.items == ['block', 3]


def test_items_without_haste_are_all_worked_on(work, worker):
    for item in range(20):
        assert worker.submit(item) == 0
        assert worker.wait_until_idle(TIMEOUT_S)
    assert work.items == list(range(20))


def test_an_exception_is_reported_and_the_next_item_worked_on(work, worker):
    worker.submit('fail')
    assert worker.wait_until_idle(TIMEOUT_S)
    worker.submit('next')
    assert worker.wait_until_idle(TIMEOUT_S)
    assert work.items == ['fail', 'next']
    assert [str(error) for error in work.errors] == ['fail']


def test_idle_is_waited_for_in_vain_while_busy(work, worker):
    worker.submit('block')
    assert work.started.wait(TIMEOUT_S)
    assert not worker.wait_until_idle(0.01)


def test_close_finishes_the_item_in_work_and_drops_what_comes_after(work):
    worker = NewestWorker(work, on_error=work.errors.append, name='closing')
    worker.submit('block')
    assert work.started.wait(TIMEOUT_S)
    worker.submit('dropped')
    threading.Timer(0.05, work.release.set).start()
    assert worker.close() == 1
    assert worker.submit('too late') == 1
    assert work.items == ['block']
    assert 'closing' not in {thread.name for thread in threading.enumerate()}


def test_none_is_an_item_like_any_other(work, worker):
    worker.submit(None)
    assert worker.wait_until_idle(TIMEOUT_S)
    assert work.items == [None]
