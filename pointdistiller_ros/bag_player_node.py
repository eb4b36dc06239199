# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`bag_player_node`: PointCloud2 out of a bag, in its own time or in lock-step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
import sys
from threading import Condition, Thread
from time import monotonic
from typing import Any

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.datasets.bags import BagCloud, read_clouds
from pointdistiller_core.errors import DatasetError, PointDistillerError
from pointdistiller_ros.conversions import NANOSECONDS, stamp_ns, to_stamp
from pointdistiller_ros.parameters import BagPlayerParameters, declare_parameters
from pointdistiller_ros.spinning import spin_node

QUEUE_DEPTH = 10
POLL_PERIOD_S = 0.05
SETTLE_S = 0.3  # discovery is not symmetric: the other side may need a moment more


class BagPlayerNode(Node):
    """Plays the clouds of a bag, byte by byte as recorded, and `/clock` with them.

    Nothing is played to nobody: it begins when the first subscriber is there. With
    `acknowledgment` it waits after each cloud for a message of that topic with the cloud's stamp.

    Args:
        node_options: further arguments of `rclpy.node.Node`.

    Raises:
        ConfigError: a parameter is wrong.
        DatasetError: the bag cannot be read or has no such topic.
    """

    def __init__(self, **node_options: Any) -> None:
        # First, so that the node can be destroyed wherever the rest fails.
        self._changed = Condition()
        self._thread = Thread(target=self._run, name='bag_player', daemon=True)
        self._sent_ns: int | None = None  # stamps
        self._acknowledged_ns: int | None = None
        self._num_played = 0
        self._stopped = self._finished = False
        self._error: Exception | None = None
        super().__init__('bag_player', **node_options)
        self._settings = declare_parameters(self, BagPlayerParameters)
        first = next(self._read(), None)
        if first is None:
            raise DatasetError(f'{self._settings.bag} has no cloud after {self._settings.start} s')
        if self._settings.acknowledgment:
            self.create_subscription(
                PointCloud2, self._settings.acknowledgment, self._on_acknowledgment, QUEUE_DEPTH
            )
        self._clock_publisher = self.create_publisher(Clock, '/clock', QUEUE_DEPTH)
        self._cloud_publisher = self.create_publisher(PointCloud2, first.topic, QUEUE_DEPTH)

    @property
    def topic(self) -> str:
        """Full name of the topic of the clouds."""
        return self._cloud_publisher.topic_name

    @property
    def num_subscribers(self) -> int:
        """Subscriptions to the clouds."""
        return self._cloud_publisher.get_subscription_count()

    @property
    def num_played(self) -> int:
        """Clouds sent so far."""
        return self._num_played

    def start(self) -> None:
        """Begin to play, in a thread of its own."""
        self._thread.start()

    def go_on(self) -> None:
        """Do not wait for the acknowledgment of the last cloud any longer."""
        with self._changed:
            self._acknowledged_ns = self._sent_ns
            self._changed.notify_all()

    def finished(self) -> bool:
        """Whether everything was played.

        Raises:
            PointDistillerError: the bag broke, or an acknowledgment did not come.
        """
        if self._error is not None:
            raise self._error
        return self._finished

    def destroy_node(self) -> None:
        """Stop playing, then end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        super().destroy_node()

    def _read(self) -> Iterator[BagCloud]:
        settings = self._settings
        return read_clouds(Path(settings.bag), settings.topic or None, start_s=settings.start)

    def _on_acknowledgment(self, message: PointCloud2) -> None:
        with self._changed:
            self._acknowledged_ns = stamp_ns(message.header.stamp)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._wait_for_listeners()
            self._play()
            while self._settings.loop and not self._stopped:
                self._play()
        except Exception as error:  # handed over to whoever asks `finished`
            self._error = error
        self._finished = True
        self.get_logger().info(f'played {self._num_played} clouds on {self.topic}')

    def _wait_for_listeners(self) -> None:
        acknowledgment = self._settings.acknowledgment
        self.get_logger().info(f'waiting for a subscriber of {self.topic}')
        while not self._stopped and not (
            self.num_subscribers and (not acknowledgment or self.count_publishers(acknowledgment))
        ):
            self._wait(POLL_PERIOD_S)
        self._wait(SETTLE_S)

    def _play(self) -> None:
        began, first_ns = monotonic(), None
        for cloud in self._read():
            first_ns = cloud.time_ns if first_ns is None else first_ns
            if not self._settings.acknowledgment:
                offset_s = (cloud.time_ns - first_ns) / NANOSECONDS / self._settings.rate
                self._wait(began + offset_s - monotonic())
            if self._stopped:
                return
            self._send(cloud)
            if self._settings.acknowledgment:
                self._wait_for_acknowledgment()

    def _send(self, cloud: BagCloud) -> None:
        self._sent_ns, self._acknowledged_ns = cloud.stamp_ns, None
        self._clock_publisher.publish(Clock(clock=to_stamp(cloud.time_ns)))
        self._cloud_publisher.publish(cloud.cdr)
        self._num_played += 1

    def _wait_for_acknowledgment(self) -> None:
        settings = self._settings
        if not self._wait(settings.timeout, lambda: self._acknowledged_ns == self._sent_ns):
            raise PointDistillerError(
                f'cloud {self._num_played} of {settings.bag} (stamp {self._sent_ns} ns) was not '
                f'acknowledged on {settings.acknowledgment} within {settings.timeout:g} s; see '
                'whether the detector logged an error for it, or raise the parameter timeout'
            )

    def _wait(self, timeout_s: float, condition: Callable[[], bool] = lambda: False) -> bool:
        """Wait for a condition, or for the node's end; False where that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped or condition(), timeout_s)


def build_player() -> BagPlayerNode:
    """A player that has begun."""
    node = BagPlayerNode()
    node.start()
    return node


def main(args: list[str] | None = None) -> int:
    """Play a bag to its end."""
    return spin_node(build_player, args, finished=BagPlayerNode.finished)


if __name__ == '__main__':
    sys.exit(main())
