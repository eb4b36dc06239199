# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of what is gone, given back to the system."""

from __future__ import annotations

import ctypes
from weakref import ref


class Leavings:
    """The memory of objects that others may still work with for a moment.

    The threads that load networks and run them have heaps of their own, in which glibc keeps what
    was freed for as long as it likes: with one network after another the process would grow to
    several times the size of what it uses. See `benchmarks/swaps.py`.
    """

    def __init__(self) -> None:
        self._leaving: list[ref[object]] = []

    def expect(self, leaving: object) -> None:
        """This object will soon be used by nobody any more."""
        self._leaving.append(ref(leaving))

    def clear(self) -> bool:
        """Give the memory back once all that was expected is gone; whether that was so now.

        It takes a few milliseconds, in which threads that need memory may have to wait.
        """
        if not self._leaving or any(leaving() is not None for leaving in self._leaving):
            return False
        self._leaving.clear()
        _trim()
        return True


def _trim() -> None:
    """Let malloc return what is free; without glibc there is nothing to do."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
