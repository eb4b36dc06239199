# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Gives the memory of deleted objects back to the system."""

from __future__ import annotations

import ctypes
from weakref import ref


class Leavings:
    """The memory of objects that may still be in use for a moment.

    The threads that load and run networks have heaps of their own, in which glibc keeps freed
    memory as long as it likes. With one network after another the process would grow to several
    times what it uses. See `benchmarks/swaps.py`.
    """

    def __init__(self) -> None:
        self._leaving: list[ref[object]] = []

    def expect(self, leaving: object) -> None:
        """Nobody will use this object soon."""
        self._leaving.append(ref(leaving))

    def clear(self) -> bool:
        """Give the memory back once all expected objects are gone; returns whether they are.

        It takes a few milliseconds, in which threads that need memory may have to wait.
        """
        if not self._leaving or any(leaving() is not None for leaving in self._leaving):
            return False
        self._leaving.clear()
        _trim()
        return True


def _trim() -> None:
    """Let malloc return free memory; without glibc there is nothing to do."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
