# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The processor's cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path
import platform

CPU_INFO = Path('/proc/cpuinfo')  # of Linux


def usable_cores() -> int:
    """CPU cores that this process may use: all, less what `taskset` or a cpuset withholds."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name; its architecture if the system does not say more."""
    try:
        lines = CPU_INFO.read_text(encoding='utf-8').splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(names, '') or platform.processor() or platform.machine()
