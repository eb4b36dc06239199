# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Threads that share the parts of a task; NumPy lets several threads compute at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeVar

MOST_THREADS = 4  # more would wait for Python's own lock more than they compute

ItemT = TypeVar('ItemT')


class Team:
    """The calling thread and `num_threads` - 1 others; one caller at a time.

    Attributes:
        memory: what the caller likes to keep for its next task.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self.memory: Any = None
        self._num_others = num_threads - 1
        self._others = (
            ThreadPoolExecutor(self._num_others, 'pointdistiller') if self._num_others else None
        )

    def share(self, work: Callable[[int], None], num_parts: int) -> None:
        """Call `work` with each number below `num_parts`, in no order."""
        if self._others is None or num_parts < 2:
            for part in range(num_parts):
                work(part)
            return
        numbers = count()  # whose `next` is one step for threads

        def take_parts() -> None:
            while (part := next(numbers)) < num_parts:
                work(part)

        helpers = [
            self._others.submit(take_parts) for _ in range(min(self._num_others, num_parts - 1))
        ]
        take_parts()
        for helper in helpers:
            if not helper.cancel():  # one that has begun
                helper.result()

    def ahead(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The same items, which another thread makes before they are asked for."""
        if self._others is None:
            yield from items
            return
        made: SimpleQueue[tuple[ItemT] | BaseException | None] = SimpleQueue()

        def make() -> None:
            try:
                for item in items:
                    made.put((item,))
                made.put(None)
            except BaseException as error:  # raised where the items are asked for
                made.put(error)

        self._others.submit(make)
        while (found := made.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found[0]
