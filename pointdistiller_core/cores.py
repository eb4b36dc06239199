# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How many processor cores there are for this process."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """CPU cores that this process may use: all, less what `taskset` or a cpuset withholds."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
