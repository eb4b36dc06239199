# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How a node's process ends."""

from __future__ import annotations

import signal

import pytest
from ros_graph import TIMEOUT_S  # first: it isolates the middleware

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions, get_current_signal_handlers_options

from pointdistiller_core.errors import ConfigError
from pointdistiller_ros.spinning import spin_node

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Witness(Node):
    """Sends its process a signal once it spins, and notes that it is destroyed."""

    def __init__(self, number, seen):
        super().__init__('witness')
        self.seen = seen
        self.create_timer(0.01, lambda: signal.raise_signal(number))

    def destroy_node(self):
        self.seen.append(self.context.ok())
        super().destroy_node()


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize('number', SIGNALS)
@pytest.mark.parametrize('num_threads', [1, 2])
def test_interrupted_node_ends_while_the_middleware_still_works(number, num_threads):
    before, seen = [signal.getsignal(one) for one in SIGNALS], []
    assert spin_node(lambda: Witness(number, seen), [], num_threads=num_threads) == 0
    assert seen == [True]
    assert [signal.getsignal(one) for one in SIGNALS] == before


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize('number', SIGNALS)
@pytest.mark.parametrize(('times', 'expected'), [(1, [True]), (2, [])])
def test_a_callback_ends_before_its_node_unless_asked_twice(number, times, expected):
    """So does rclpy's own code around it: an exception there leaves objects half made."""
    ended = []

    class Busy(Node):
        def __init__(self):
            super().__init__('busy')
            self.create_timer(0.01, self.work)

        def work(self):
            for _ in range(times):
                signal.raise_signal(number)
            ended.append(True)

    assert spin_node(Busy, []) == 0
    assert ended == expected


@pytest.mark.parametrize('number', SIGNALS)
def test_interrupted_while_it_starts(number):
    assert spin_node(lambda: signal.raise_signal(number), []) == 0


def test_no_other_thread_handles_signals():
    found = []

    def build():
        found.append(get_current_signal_handlers_options())
        raise ConfigError('no node')

    assert spin_node(build, []) == 2
    assert found == [SignalHandlerOptions.NO]
