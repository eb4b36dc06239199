# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import platform

import pytest

from pointdistiller_core import cores
from pointdistiller_core.cores import processor_name, usable_cores


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='cores cannot be withheld here')
def test_cores_that_are_withheld_do_not_count():
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_where_the_system_does_not_say(monkeypatch):
    monkeypatch.delattr(os, 'sched_getaffinity', raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 6)
    assert usable_cores() == 6
    monkeypatch.setattr(os, 'cpu_count', lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ('cpu_info', 'expected'),
    [
        ('processor\t: 0\nmodel name\t: A: 1 GHz\n\nmodel name\t: B\n', 'A: 1 GHz'),
        ('processor\t: 0\nBogoMIPS\t: 50.00\n', 'armv8'),  # as ARM has it
        ('model name\t:\n', 'armv8'),
        (None, 'armv8'),  # not Linux
    ],
)
def test_the_processor_has_a_name(cpu_info, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(cores, 'CPU_INFO', tmp_path / 'cpuinfo')
    monkeypatch.setattr(platform, 'processor', lambda: '')
    monkeypatch.setattr(platform, 'machine', lambda: 'armv8')
    if cpu_info is not None:
        (tmp_path / 'cpuinfo').write_text(cpu_info)
    assert processor_name() == expected
