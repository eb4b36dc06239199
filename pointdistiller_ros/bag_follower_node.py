# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`bag_follower_node`: one more topic of a bag, in step with whoever plays the clouds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys
from typing import Any

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.datasets.bags import BagCloud, read_clouds
from pointdistiller_core.errors import PointDistillerError
from pointdistiller_ros.comparison_parameters import BagFollowerParameters
from pointdistiller_ros.conversions import NANOSECONDS, stamp_ns
from pointdistiller_ros.parameters import declare_parameters
from pointdistiller_ros.spinning import spin_node

QUEUE_DEPTH = 100


class BagFollowerNode(Node):
    """Sends the messages of a topic byte by byte when `/clock` says that their time has come.

    Nothing is sent to nobody: what is due waits for a subscriber. In lock-step the clock waits for
    the slowest node, and so does this. When the clock goes back,
    as where a bag begins again, the topic does, too.

    Args:
        node_options: further arguments of `rclpy.node.Node`.

    Raises:
        ConfigError: a parameter is wrong.
        DatasetError: the bag cannot be read or has no such topic.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__('bag_follower', **node_options)
        self._settings = declare_parameters(self, BagFollowerParameters)
        self._messages = self._read()
        self._next = next(self._messages, None)
        self._now_ns = 0
        self._num_sent = 0
        self._error: PointDistillerError | None = None
        topic = self._settings.topic
        self._publisher = self.create_publisher(PointCloud2, topic, QUEUE_DEPTH)
        self.create_subscription(Clock, '/clock', self._on_clock, QUEUE_DEPTH)

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return self._publisher.topic_name

    @property
    def num_sent(self) -> int:
        """Messages sent so far."""
        return self._num_sent

    @property
    def num_subscribers(self) -> int:
        """Subscriptions to the topic."""
        return self._publisher.get_subscription_count()

    def finished(self) -> bool:
        """Never by itself.

        Raises:
            DatasetError: the bag broke.
        """
        if self._error is not None:
            raise self._error
        return False

    def _read(self) -> Iterator[BagCloud]:
        return read_clouds(Path(self._settings.bag), self._settings.topic)

    def _on_clock(self, message: Clock) -> None:
        now_ns = stamp_ns(message.clock)
        try:
            if now_ns < self._now_ns:
                self._messages = self._read()
                self._next = next(self._messages, None)
            self._now_ns = now_ns
            if self.num_subscribers:
                self._send_until(now_ns + round(self._settings.ahead * NANOSECONDS))
        except PointDistillerError as error:
            self._error = error

    def _send_until(self, end_ns: int) -> None:
        while self._next is not None and self._next.time_ns <= end_ns:
            self._publisher.publish(self._next.cdr)
            self._num_sent += 1
            self._next = next(self._messages, None)


def main(args: list[str] | None = None) -> int:
    """Follow the clock until interrupted."""
    return spin_node(BagFollowerNode, args, finished=BagFollowerNode.finished)


if __name__ == '__main__':
    sys.exit(main())
