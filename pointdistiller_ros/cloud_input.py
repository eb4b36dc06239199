# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The clouds of a node: received, counted, and worked on one at a time."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import PointCloud2

from pointdistiller_ros.diagnostics import Monitor
from pointdistiller_ros.quality import create_subscription
from pointdistiller_ros.worker import NewestWorker

QUEUE_DEPTH = 5


class CloudInput:
    """The clouds on `points`, or the newest of them where they come too fast.

    Args:
        node: that subscribes.
        work: called in a thread of its own with one cloud after another, serialized, so that a
            broken one is an error like any other, and with the time of its arrival
            (`perf_counter`).
        on_error: told what `work` raised.
        monitor: counts them.
        reliability: of the subscription, as the node's parameter says it.
        options: further arguments of `Node.create_subscription`.

    Raises:
        ConfigError: a parameter asks for a quality of service that does not exist.
    """

    def __init__(
        self,
        node: Node,
        work: Callable[[bytes, float], None],
        *,
        on_error: Callable[[Exception], None],
        monitor: Monitor,
        reliability: str,
        **options: Any,
    ) -> None:
        self._node, self._monitor = node, monitor
        self._worker: NewestWorker[tuple[bytes, float]] = NewestWorker(
            lambda item: work(*item), on_error=on_error, name=node.get_name()
        )
        self._subscription = create_subscription(
            node,
            PointCloud2,
            'points',
            self._receive,
            quality_of(reliability, QUEUE_DEPTH),
            on_lost=monitor.lose,
            raw=True,
            **options,
        )

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return self._subscription.topic_name

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until every cloud received is worked on; False where that takes longer."""
        return self._worker.wait_until_idle(timeout_s)

    def close(self) -> None:
        """Finish the cloud that is worked on, then receive no more."""
        self._node.destroy_subscription(self._subscription)
        self._monitor.drop(self._worker.close())

    def _receive(self, cloud: bytes) -> None:
        self._monitor.receive(self._node.get_clock().now().nanoseconds)
        self._monitor.drop(self._worker.submit((cloud, perf_counter())))


def quality_of(reliability: str, depth: int) -> QoSProfile:
    """Quality of service of a subscription, as the node's parameter `reliability` says it."""
    return QoSProfile(depth=depth, reliability=QoSReliabilityPolicy[reliability.upper()])
