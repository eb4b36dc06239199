# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What this process does with memory that it has freed."""

from __future__ import annotations

import ctypes

# of glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_STEP = 64 << 20  # bytes that are asked for at once


def keep_freed_memory() -> bool:
    """Keep what is freed from now on, for what is allocated next, until the process ends.

    Otherwise glibc gets each large tensor from the system and gives it back: the system clears its
    pages each time, which takes a part of a training's time on a CPU
    (`benchmarks/kept_memory.py`).

    Returns:
        Whether the C library is one that can do so; others stay as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    choices = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _STEP))
    return all(mallopt(option, value) == 1 for option, value in choices)
