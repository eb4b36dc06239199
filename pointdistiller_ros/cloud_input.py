# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The clouds of a node: received, counted, and worked on one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.errors import CloudError
from pointdistiller_core.messages.point_cloud2 import stamp_of_cdr
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.pointcloud.live_sensors import LiveCloudSets
from pointdistiller_core.pointcloud.sensors import CloudSet
from pointdistiller_ros.diagnostics import Monitor
from pointdistiller_ros.parameters import InputParameters
from pointdistiller_ros.topics import create_subscription, quality_of, read_message
from pointdistiller_ros.worker import NewestWorker

QUEUE_DEPTH = 5
LEAST_WAIT_S = 0.001
Serialized: TypeAlias = tuple[bytes, float]  # a message, and when it arrived


class Arrival(NamedTuple):
    """Clouds that are worked on together; all times are those of `perf_counter`.

    Attributes:
        clouds: one for each topic, in their order; None where there is none.
        first: when the cloud arrived that gives the stamp.
        complete: when there was nothing to wait for any more.
        begin: when it is their turn.
    """

    clouds: tuple[PointCloud2 | None, ...]
    first: float
    complete: float
    begin: float


class CloudInput:
    """The clouds on the topics of `points`, or the newest of them if they come too fast.

    Those of several topics are put together by their stamps, as `LiveCloudSets` does it.

    Args:
        node: the node that subscribes.
        work: called in a thread of its own with one set of clouds after another.
        on_error: called with what `work` raised, or with the error of a message that is no cloud.
        monitor: counts the sets.
        settings: topics, tolerance and quality of service.
        options: further arguments of `Node.create_subscription`.

    Attributes:
        names: of the topics, as the parameters have them.
        topics: full names of the topics.
        sets: of the clouds of several topics; None if there is one.

    Raises:
        ConfigError: a parameter asks for a quality of service that does not exist.
    """

    def __init__(
        self,
        node: Node,
        work: Callable[[Arrival], None],
        *,
        on_error: Callable[[Exception], None],
        monitor: Monitor,
        settings: InputParameters,
        **options: Any,
    ) -> None:
        def read_and_work(item: tuple[tuple[bytes | None, ...], float, float]) -> None:
            (serialized, first, complete), begin = item, perf_counter()
            clouds = tuple(
                None if each is None else read_message(PointCloud2, each) for each in serialized
            )
            work(Arrival(clouds, first, complete, begin))

        self._node, self._monitor, self._on_error = node, monitor, on_error
        self._worker = NewestWorker(read_and_work, on_error=on_error, name=node.get_name())
        self.names = settings.points
        self.topics = [node.resolve_topic_name(topic) for topic in settings.points]
        receive: list[Callable[[bytes], None]] = [self._receive]
        self.sets: LiveCloudSets[Serialized] | None = None
        if len(self.topics) > 1:
            self._begin_to_gather(settings, options.get('callback_group'))
            receive = [partial(self._gather, topic) for topic in self.topics]
        options |= {'raw': True, 'on_lost': monitor.lose}
        quality = quality_of(settings.reliability, QUEUE_DEPTH)
        self._subscriptions = [
            create_subscription(node, PointCloud2, topic, callback, quality, **options)
            for topic, callback in zip(settings.points, receive, strict=True)
        ]

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until all received clouds are worked on; False if that takes longer."""
        return self._worker.wait_until_idle(timeout_s)

    def close(self) -> None:
        """Finish the current cloud, then receive no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self.sets is not None:
            self._node.destroy_timer(self._timer)
        self._monitor.drop(self._worker.close())

    def _receive(self, cloud: bytes) -> None:
        """Work on the cloud of the only topic."""
        self._monitor.receive(self._node.get_clock().now().nanoseconds)
        now = perf_counter()
        self._monitor.drop(self._worker.submit(((cloud,), now, now)))

    def _begin_to_gather(
        self, settings: InputParameters, callback_group: CallbackGroup | None
    ) -> None:
        """Prepare for several topics; all of it runs in one thread at a time."""
        sensors = settings.sensors
        self.sets = LiveCloudSets(
            self.topics,
            round(sensors.tolerance * NANOSECONDS),
            max_wait_s=sensors.max_wait,
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = max(sensors.max_wait, LEAST_WAIT_S)
        self._timer = self._node.create_timer(period, self._give_up, callback_group, steady)
        self._timer.cancel()

    def _gather(self, topic: str, cloud: bytes) -> None:
        """Work on the clouds that this one completes."""
        assert self.sets is not None
        now = perf_counter()
        try:
            stamp = stamp_of_cdr(cloud)
        except CloudError as error:  # the next one is used, whatever this one is
            self._on_error(error)
            return
        self._submit(self.sets.add(topic, stamp, (cloud, now), now), now)

    def _give_up(self) -> None:
        """Work on the clouds that have waited long enough."""
        assert self.sets is not None
        now = perf_counter()
        self._submit(self.sets.overdue(now), now)

    def _submit(self, found: Iterable[CloudSet[Serialized]], now: float) -> None:
        assert self.sets is not None
        for each in found:
            self._monitor.receive(self._node.get_clock().now().nanoseconds)
            serialized = tuple(None if cloud is None else cloud[0] for cloud in each.clouds)
            first = next(cloud[1] for cloud in each.clouds if cloud is not None)
            self._monitor.drop(self._worker.submit((serialized, first, now)))
        if self.sets.deadline is None:
            self._timer.cancel()
        else:
            left_s = max(self.sets.deadline - now, LEAST_WAIT_S)
            self._timer.timer_period_ns = round(left_s * NANOSECONDS)
            self._timer.reset()
