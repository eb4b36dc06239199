# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of what is gone."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from pointdistiller_ros import memory
from pointdistiller_ros.memory import Leavings


class Network:
    pass


@pytest.fixture
def trims(monkeypatch):
    calls = []
    monkeypatch.setattr(memory, '_trim', lambda: calls.append(None))
    return calls


def test_given_back_once_when_all_are_gone(trims):
    leavings, networks = Leavings(), [Network(), Network()]
    assert not leavings.clear()
    for network in networks:
        leavings.expect(network)
    del network
    networks.pop()
    assert not leavings.clear()  # a thread still works with the other one
    assert not trims
    networks.clear()
    assert leavings.clear()
    assert not leavings.clear()
    assert len(trims) == 1


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory.ctypes, 'CDLL', lambda _: object())
    leavings = Leavings()
    leavings.expect(Network())
    assert leavings.clear()


def test_malloc_itself():
    leavings = Leavings()
    leavings.expect(Network())
    assert leavings.clear()
