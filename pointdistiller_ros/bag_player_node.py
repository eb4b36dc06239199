# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`bag_player_node`: PointCloud2 out of a bag, in its own time or in lock-step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from heapq import merge
from pathlib import Path
import sys
from threading import Condition, Thread
from time import monotonic
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.errors import DamageError, DatasetError, PointDistillerError
from pointdistiller_core.messages.bags import (
    BagCloud,
    BagMessage,
    bag_topics,
    latched_topics,
    read_clouds,
    read_messages,
)
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_ros.conversions import stamp_ns, to_stamp
from pointdistiller_ros.parameters import TF_TOPICS, BagPlayerParameters, declare_parameters
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.topics import message_class, subscribe

QUEUE_DEPTH = 10
TF_STATIC_TOPIC = TF_TOPICS[1]
# A bag holds the latched messages of all publishers of a topic, which one publisher now sends.
LATCHED = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
POLL_PERIOD_S = 0.05
SINGLE_CLOUD_PERIOD_S = 0.1  # of a bag with one cloud in a loop
SETTLE_S = 0.3  # discovery is not symmetric: the other side may need a little longer
MOST_UNANSWERED = 3  # clouds in a row, after which the consumer counts as dead
ARRIVAL_TIMEOUT = Duration(seconds=2)  # for messages that are on their way


class BagPlayerNode(Node):
    """Plays the clouds of a bag, byte by byte as recorded, with `/clock` and further topics.

    It begins when the first subscriber is there. With `acknowledgment` it waits after each cloud
    for a message of that topic with the cloud's stamp. If none comes, that is an error, and it
    goes on. Of several sensors the clouds of the first are answered; what follows one of them, up
    to the next, is sent before the wait. The bag is read while it is played.

    Args:
        node_options: further arguments of `rclpy.node.Node`.

    Attributes:
        wait_for_recorder: called with the number of answers so far before the clock goes on.

    Raises:
        ConfigError: a parameter is wrong.
        DatasetError: the bag cannot be read or has no such topic.
    """

    def __init__(self, **node_options: Any) -> None:
        # First, so that the node can be destroyed if the rest fails.
        self._changed = Condition()
        self._thread = Thread(target=self._run, name='bag_player', daemon=True)
        self._sent_ns: int | None = None  # stamps
        self._acknowledged_ns: int | None = None
        self.wait_for_recorder: Callable[[int], object] = lambda _: None
        self._num_played = self._num_answers = self._num_unanswered = 0
        self._unanswered_in_a_row = 0
        self._num_extra: Counter[str] = Counter()
        self._told: set[str] = set()
        self._stopped = self._finished = False
        self._error: Exception | None = None
        super().__init__('bag_player', **node_options)
        self._settings = settings = declare_parameters(self, BagPlayerParameters)
        self._bag = Path(settings.bag)
        span = {'start_s': settings.start, 'duration_s': settings.duration or None}
        self._span: dict[str, Any] = {**span, 'on_note': self._tell}  # what is read of it
        self._several = len(settings.topic) > 1
        first = self._first_cloud()
        self._recorded_topic, self._begin_ns = first.topic, first.time_ns
        if topic := settings.acknowledgment:
            subscribe(self, PointCloud2, topic, self._on_acknowledgment, QUEUE_DEPTH)
        self._clock_publisher = self.create_publisher(Clock, '/clock', QUEUE_DEPTH)
        self._cloud_publisher = self.create_publisher(PointCloud2, first.topic, QUEUE_DEPTH)
        self._extra_publishers = self._create_extra_publishers()

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

    @property
    def num_extra_played(self) -> dict[str, int]:
        """Messages sent so far on each of the extra topics that can be played."""
        return {topic: self._num_extra[topic] for topic in self._extra_publishers}

    @property
    def num_extra_subscribers(self) -> dict[str, int]:
        """Subscriptions to each of the extra topics that can be played."""
        publishers = self._extra_publishers.items()
        return {topic: publisher.get_subscription_count() for topic, publisher in publishers}

    def start(self) -> None:
        """Begin to play, in a thread of its own."""
        self._thread.start()

    def go_on(self) -> None:
        """Stop waiting for the acknowledgment of the last cloud."""
        with self._changed:
            self._acknowledged_ns = self._sent_ns
            self._changed.notify_all()

    def finished(self) -> bool:
        """Whether everything was played.

        Raises:
            PointDistillerError: the bag broke, or acknowledgments did not come.
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

    def _first_cloud(self) -> BagCloud:
        settings = self._settings
        topic = next(iter(settings.topic), '')
        for cloud in read_clouds(self._bag, topic or None, **self._span):
            return cloud
        of_topic = f' on {topic}' if topic else ''
        after = f' after {settings.start} s' if settings.start else ''
        within = f' within {settings.duration} s' if settings.duration else ''
        raise DatasetError(f'{settings.bag} has no cloud{of_topic}{after}{within}')

    def _tell(self, note: str) -> None:
        """Warn once of mistakes in the bag's indexes, however often it is read."""
        if note not in self._told:
            self._told.add(note)
            self.get_logger().warning(note)

    def _read(self) -> Iterator[BagMessage]:
        """Clouds and messages of the extra topics, in the order of recording."""
        extra = iter(())
        if self._extra_publishers:
            extra = read_messages(self._bag, self._extra_publishers, **self._span)
        clouds = read_clouds(self._bag, self._recorded_topic, **self._span)
        parts = map(self._to_the_damage, (extra, clouds))
        return merge(*parts, key=lambda message: message.time_ns)

    def _to_the_damage(self, messages: Iterator[BagMessage]) -> Iterator[BagMessage]:
        """What can be read; damage of the bag is a warning, as the first cloud was read before."""
        try:
            yield from messages
        except DamageError as error:
            self._tell(str(error))

    def _create_extra_publishers(self) -> dict[str, Publisher]:
        """Publishers of the extra topics that the bag has and whose types are installed."""
        types, latched = bag_topics(self._bag), latched_topics(self._bag) | {TF_STATIC_TOPIC}
        publishers = {}
        sensors = dict.fromkeys(self._settings.topic[1:])
        for topic in filter(None, [*sensors, *self._settings.extra_topics]):
            problem = ''
            if topic not in types:
                if topic not in TF_TOPICS:  # which many bags do not have
                    problem = f'{self._bag} has only {sorted(types)}'
            elif (kind := message_class(types[topic])) is None:
                problem = f'{types[topic]} is not installed'
            else:
                qos = LATCHED if topic in latched else QUEUE_DEPTH
                publishers[topic] = self.create_publisher(kind, topic, qos)
            if problem and topic in sensors:
                raise DatasetError(f'no clouds on {topic}: {problem}')
            if problem:
                self.get_logger().warning(f'{topic} is not played: {problem}')
        return publishers

    def _on_acknowledgment(self, message: PointCloud2) -> None:
        with self._changed:
            self._acknowledged_ns = stamp_ns(message.header.stamp)
            self._num_answers += 1
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._wait_for_listeners()
            self._play()
            while self._settings.loop and not self._stopped:
                self._play()
            self._wait_for_arrival()
            self._check_answers()
        except Exception as error:  # raised by `finished`
            self._error = error
        self._finished = True
        self.get_logger().info(f'played {self._num_played} clouds on {self.topic}')

    def _wait_for_listeners(self) -> None:
        awaited = {self._settings.acknowledgment, self._settings.wait_for} - {''}
        of_whom = ''.join(f' and a publisher of {topic}' for topic in sorted(awaited))
        self.get_logger().info(f'waiting for a subscriber of {self.topic}{of_whom}')
        while not self._stopped and not (
            self.num_subscribers and all(map(self.count_publishers, awaited))
        ):
            self._wait(POLL_PERIOD_S)
        self._wait(SETTLE_S)

    def _play(self) -> None:
        """Play once; in a loop the first cloud follows the last one a period later."""
        began, num_before, end_s = monotonic(), self._num_played, 0.0
        lockstep, rate = bool(self._settings.acknowledgment), self._settings.rate
        for message in self._read():
            offset_s = (message.time_ns - self._begin_ns) / NANOSECONDS / rate
            if not lockstep:
                self._wait(began + offset_s - monotonic())
            if self._stopped:
                return
            if offset_s >= 0.0:  # messages from before the start do not turn the clock back
                self._clock_publisher.publish(Clock(clock=to_stamp(message.time_ns)))
            if isinstance(message, BagCloud):
                if self._several:
                    self._wait_for_answer()
                self._send(message)
                end_s = offset_s
            else:
                self._extra_publishers[message.topic].publish(message.cdr)
                self._num_extra[message.topic] += 1
        if self._several:
            self._wait_for_answer()
        if self._settings.loop and not lockstep:
            num_periods = self._num_played - num_before - 1
            self._wait(end_s / num_periods if num_periods > 0 else SINGLE_CLOUD_PERIOD_S)

    def _wait_for_arrival(self) -> None:
        """Let the last messages arrive, because those of a publisher that ends may be lost."""
        for publisher in (self._cloud_publisher, *self._extra_publishers.values()):
            if not self._stopped:
                with suppress(RuntimeError):  # not every middleware knows what arrived
                    publisher.wait_for_all_acked(ARRIVAL_TIMEOUT)

    def _send(self, cloud: BagCloud) -> None:
        self._sent_ns, self._acknowledged_ns = cloud.stamp_ns, None
        self._cloud_publisher.publish(cloud.cdr)
        self._num_played += 1
        if not self._several:
            self._wait_for_answer()

    def _wait_for_answer(self) -> None:
        """In lock-step, wait for the answer to the last cloud."""
        settings = self._settings
        if not settings.acknowledgment or self._sent_ns is None:
            return
        if self._wait(settings.timeout, lambda: self._acknowledged_ns == self._sent_ns):
            self._unanswered_in_a_row = 0
            self.wait_for_recorder(self._num_answers)
            return
        self._num_unanswered += 1
        self._unanswered_in_a_row += 1
        alive = self.count_publishers(settings.acknowledgment)
        remedy = 'see whether the detector logged an error for it, or raise the parameter timeout'
        if not alive:
            remedy = 'nobody publishes there any more; see why that node has ended'
        problem = (
            f'cloud {self._num_played} of {settings.bag} (stamp {self._sent_ns} ns) was not '
            f'acknowledged on {settings.acknowledgment} within {settings.timeout:g} s: {remedy}'
        )
        if not alive or self._unanswered_in_a_row == MOST_UNANSWERED:
            raise PointDistillerError(problem)
        self.get_logger().error(problem)

    def _check_answers(self) -> None:
        if self._num_unanswered:
            raise PointDistillerError(
                f'{self._num_unanswered} of {self._num_played} clouds of {self._settings.bag} '
                f'were not acknowledged on {self._settings.acknowledgment}; the log names them'
            )

    def _wait(self, timeout_s: float, condition: Callable[[], bool] = lambda: False) -> bool:
        """Wait for a condition or the node's end; False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped or condition(), timeout_s)


def build_player() -> BagPlayerNode:
    """Build a player and start it."""
    node = BagPlayerNode()
    node.start()
    return node


def main(args: list[str] | None = None) -> int:
    """Play a bag to its end."""
    return spin_node(build_player, args, finished=BagPlayerNode.finished)


if __name__ == '__main__':
    sys.exit(main())
