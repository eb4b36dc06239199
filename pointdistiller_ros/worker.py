# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""One thread that always works on the newest item."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Thread
from typing import Generic, TypeVar

ItemT = TypeVar('ItemT')


class NewestWorker(Generic[ItemT]):
    """A slot for one item, and the thread that empties it, which starts with the first item.

    An item that arrives while another waits replaces it. So slow work stays up to date, and
    skipped items are counted.

    Args:
        work: called with one item after another, never twice at the same time.
        on_error: called with every exception of `work`; the thread goes on.
        name: name of the thread.
    """

    def __init__(
        self,
        work: Callable[[ItemT], None],
        *,
        on_error: Callable[[Exception], None],
        name: str = 'worker',
    ) -> None:
        self._work = work
        self._on_error = on_error
        self._changed = Condition()
        self._waiting: list[ItemT] = []  # none or one
        self._busy = False
        self._closed = False
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def submit(self, item: ItemT) -> int:
        """Work on `item` next, instead of what waits; not after `close`.

        Returns:
            How many items are dropped by that.
        """
        with self._changed:
            if self._closed:
                return 1
            dropped = len(self._waiting)
            self._waiting = [item]
            self._changed.notify_all()
            if not self._thread.is_alive():
                self._thread.start()
            return dropped

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until nothing waits and nothing is worked on; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def close(self) -> int:
        """Finish the current item, drop the one that waits, end the thread.

        Returns:
            How many items are dropped by that.
        """
        with self._changed:
            self._closed = True
            dropped = len(self._waiting)
            self._waiting = []
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        return dropped

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                item = self._waiting.pop()
                self._busy = True
            try:
                self._work(item)
            except Exception as error:  # the next item is worked on, whatever this one breaks
                self._on_error(error)
