# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that work for another one."""

from __future__ import annotations

from collections.abc import Callable
import multiprocessing
import os
from pathlib import Path
import signal
import subprocess
import sys
from time import monotonic, sleep

import pytest
from worker_functions import blas_threads, end_process, note_and_sleep, refuse, square

from pointdistiller_core import workers
from pointdistiller_core.errors import PointDistillerError
from pointdistiller_core.workers import command_of_worker, map_in_workers

PATIENCE = 60.0  # [s] a busy machine is slow


def wait_until(condition: Callable[[], object]) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, condition
        sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        status = Path(f'/proc/{process}/stat').read_text(encoding='utf-8')
    except OSError:
        return False
    return status.rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.parametrize('num_workers', [1, 2])
def test_results_come_from_all(num_workers):
    assert sorted(map_in_workers(square, range(5), num_workers=num_workers)) == [0, 1, 4, 9, 16]


def test_each_keeps_matrix_products_in_its_thread():
    for found in map_in_workers(blas_threads, range(2), num_workers=2):
        assert found == {1}


def test_an_error_ends_all():
    with pytest.raises(PointDistillerError, match=r'no \d'):
        list(map_in_workers(refuse, range(3), num_workers=2))
    assert not multiprocessing.active_children()


def test_ctrl_c_ends_all(tmp_path):
    results = map_in_workers(note_and_sleep, [tmp_path] * 9, num_workers=2)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(results)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not multiprocessing.active_children()


def test_a_process_that_was_ended_from_outside():
    with pytest.raises(PointDistillerError, match=r'was ended from outside.*use fewer workers'):
        list(map_in_workers(end_process, range(3), num_workers=2))


def test_no_room_in_shared_memory(monkeypatch):
    def refuse_locks(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(workers, 'ProcessPoolExecutor', refuse_locks)
    with pytest.raises(PointDistillerError, match=r'No space left .*/dev/shm .*use one process'):
        list(map_in_workers(square, range(3), num_workers=2))


SPAWNS = """
from pathlib import Path
import sys
from pointdistiller_core.workers import map_in_workers
from worker_functions import note_and_sleep
if __name__ == '__main__':
    list(map_in_workers(note_and_sleep, [Path(sys.argv[1])] * 9, num_workers=2))
"""
STARTS = """
import subprocess, sys
from pointdistiller_core.workers import command_of_worker
subprocess.run([*command_of_worker('worker_functions'), sys.argv[1]])
"""


@pytest.mark.parametrize(('script', 'number'), [(SPAWNS, 2), (STARTS, 1)])
def test_killed_it_leaves_no_worker_behind(tmp_path, script, number):
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, '-c', script, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as parent:
        wait_until(lambda: len(list(tmp_path.iterdir())) == number)
        found = [int(path.name) for path in tmp_path.iterdir()]
        assert all(map(is_alive, found))
        parent.kill()
    wait_until(lambda: not any(map(is_alive, found)))


def test_a_worker_whose_parent_has_ended_before_it_began():
    words = command_of_worker('antigravity')
    words[3] = '1'  # not the parent
    assert subprocess.run(words, check=False).returncode == 1
