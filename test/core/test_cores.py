# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest

from pointdistiller_core.cores import usable_cores


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
