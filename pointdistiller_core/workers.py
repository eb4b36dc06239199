# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Worker processes that end with this one.

`python -m pointdistiller_core.workers PID MODULE ARGUMENTS` runs a module like `python -m`, for as
long as the process PID, its parent, lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
from typing import TypeVar

from pointdistiller_core.blas import keep_products_in_calling_thread
from pointdistiller_core.errors import PointDistillerError

ItemT = TypeVar('ItemT')
ResultT = TypeVar('ResultT')
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_THIS = 'pointdistiller_core.workers'


def end_with(parent: int) -> None:
    """Let this process end when its parent does, and leave Ctrl-C to that one.

    A signal can end the parent before it can tell anyone, so Linux ends this process with it. On
    other systems it goes on until it asks for work.

    Args:
        parent: id of the process whose thread has started this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of a group
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has its parent's handler
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has already ended
        os._exit(1)


def command_of_worker(module: str) -> list[str]:
    """The command that starts a module in a process that ends with this one."""
    return [sys.executable, '-m', _THIS, str(os.getpid()), module]


def map_in_workers(
    function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, num_workers: int
) -> Iterator[ResultT]:
    """The results of a function, in the order in which they come.

    An exception ends the processes at once; so does Ctrl-C.

    Args:
        function: it and its results travel between processes.
        items: what it is called with.
        num_workers: processes; 1 is this one.

    Raises:
        PointDistillerError: the system refuses processes, or has ended one.
    """
    if min(num_workers, len(items)) <= 1:
        yield from map(function, items)
        return
    others = set(multiprocessing.active_children())
    with _ends_explained(), _start_pool(min(num_workers, len(items))) as pool:
        try:
            with _held_back_interrupts(), _refusals_explained():
                tasks = [pool.submit(function, item) for item in items]
            for task in as_completed(tasks):
                yield task.result()
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            pool.shutdown(cancel_futures=True)
            raise


def no_shared_memory(reason: object, remedy: str) -> PointDistillerError:
    """The error to raise when processes have too little shared memory.

    Args:
        reason: what the system says.
        remedy: how to use fewer processes.
    """
    return PointDistillerError(
        f'shared memory for worker processes: {reason}; give /dev/shm more room (docker run '
        f'--shm-size=2g, mount -o remount,size=2g /dev/shm) or {remedy}'
    )


def _start_pool(num_workers: int) -> ProcessPoolExecutor:
    # Not forked: a fork of a process with threads (torch's, a progress bar's) may lock up.
    context = multiprocessing.get_context('spawn')
    with _refusals_explained():
        return ProcessPoolExecutor(
            num_workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
        )


def _begin(parent: int) -> None:
    end_with(parent)
    keep_products_in_calling_thread()


@contextmanager
def _held_back_interrupts() -> Iterator[None]:
    """Delay Ctrl-C until after the block; processes that are started in it never get it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _refusals_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise no_shared_memory(error, 'use one process') from error


@contextmanager
def _ends_explained() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise PointDistillerError(
            'a worker process was ended from outside, perhaps for want of memory; what is done '
            'is kept; use fewer workers'
        ) from error


def _run_module(parent: str, module: str, *arguments: str) -> None:
    end_with(int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    _run_module(*sys.argv[1:])
