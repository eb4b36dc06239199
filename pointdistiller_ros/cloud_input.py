# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The clouds of a node: received, counted, and worked on one at a time."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from pointdistiller_ros.diagnostics import Monitor
from pointdistiller_ros.topics import create_subscription, quality_of, read_message
from pointdistiller_ros.worker import NewestWorker

QUEUE_DEPTH = 5


class CloudInput:
    """The clouds on `points`, or the newest of them if they come too fast.

    Args:
        node: the node that subscribes.
        work: called in a thread of its own with each cloud, the time of its arrival, and the time
            when it is its turn (`perf_counter`).
        on_error: called with what `work` raised, or with the error of a message that is no cloud.
        monitor: counts them.
        reliability: of the subscription, as the node's parameter says it.
        options: further arguments of `Node.create_subscription`.

    Raises:
        ConfigError: a parameter asks for a quality of service that does not exist.
    """

    def __init__(
        self,
        node: Node,
        work: Callable[[PointCloud2, float, float], None],
        *,
        on_error: Callable[[Exception], None],
        monitor: Monitor,
        reliability: str,
        **options: Any,
    ) -> None:
        def read_and_work(item: tuple[bytes, float]) -> None:
            (serialized, arrival), begin = item, perf_counter()
            work(read_message(PointCloud2, serialized), arrival, begin)

        self._node, self._monitor = node, monitor
        self._worker = NewestWorker(read_and_work, on_error=on_error, name=node.get_name())
        options |= {'raw': True, 'on_lost': monitor.lose}
        quality = quality_of(reliability, QUEUE_DEPTH)
        self._subscription = create_subscription(
            node, PointCloud2, 'points', self._receive, quality, **options
        )

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return self._subscription.topic_name

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until all received clouds are worked on; False if that takes longer."""
        return self._worker.wait_until_idle(timeout_s)

    def close(self) -> None:
        """Finish the current cloud, then receive no more."""
        self._node.destroy_subscription(self._subscription)
        self._monitor.drop(self._worker.close())

    def _receive(self, cloud: bytes) -> None:
        self._monitor.receive(self._node.get_clock().now().nanoseconds)
        self._monitor.drop(self._worker.submit((cloud, perf_counter())))
