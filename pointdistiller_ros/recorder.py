# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`bag_recorder_node`: topics into an MCAP bag, byte by byte, without rosbag2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
import sys
from threading import Condition
from typing import Any

from ament_index_python import get_package_share_directory
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from pointdistiller_core.errors import ConfigError, DatasetError, PointDistillerError
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_ros.parameters import BagRecorderParameters, declare_parameters
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.topics import message_class

SEARCH_PERIOD_S = 0.1
QUEUE_DEPTH = 100


class BagRecorderNode(Node):
    """Records topics as soon as somebody publishes them, with the quality of service found.

    Messages are stamped with this node's clock: in a simulation set `use_sim_time`.

    Args:
        node_options: further arguments of `rclpy.node.Node`.

    Raises:
        ConfigError: a parameter is wrong.
        WriteError: the bag exists or cannot be written.
    """

    def __init__(self, **node_options: Any) -> None:
        self._closing = ExitStack()
        super().__init__('bag_recorder', **node_options)
        settings = declare_parameters(self, BagRecorderParameters)
        self._awaited = {self.resolve_topic_name(topic) for topic in settings.topics if topic}
        if not self._awaited:
            raise ConfigError('parameter topics is empty; name the topics to record')
        self._error: PointDistillerError | None = None
        self._num_recorded: Counter[str] = Counter()
        self._changed = Condition()
        self._bag = CloudBagWriter(Path(settings.output), find_definition)
        self._closing.callback(self._bag.close)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(SEARCH_PERIOD_S, self._subscribe_to_awaited, clock=steady)

    @property
    def awaited_topics(self) -> frozenset[str]:
        """Topics that nobody publishes yet."""
        return frozenset(self._awaited)

    @property
    def num_recorded(self) -> Counter[str]:
        """Messages recorded so far, by topic."""
        return Counter(self._num_recorded)

    def wait_until_recorded(self, topic: str, number: int, timeout_s: float) -> bool:
        """Wait in another thread for so many messages of a topic; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._num_recorded[topic] >= number, timeout_s)

    def finished(self) -> bool:
        """Never by itself.

        Raises:
            PointDistillerError: the bag cannot be written any more.
        """
        if self._error is not None:
            raise self._error
        return False

    def destroy_node(self) -> None:
        """Finish the bag, then end."""
        super().destroy_node()
        self._closing.close()

    def _subscribe_to_awaited(self) -> None:
        types = dict(self.get_topic_names_and_types())
        for topic in sorted(self._awaited):
            if topic in types and self.count_publishers(topic):
                self._awaited.discard(topic)
                self._subscribe(topic, types[topic][0])

    def _subscribe(self, topic: str, message_type: str) -> None:
        kind = message_class(message_type)
        if kind is None:
            self.get_logger().error(f'{topic} is not recorded: {message_type} is not installed')
            return
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        callback = partial(
            self._record, topic, message_type, [_to_rosbags(qos) for qos in offered]
        )
        self.create_subscription(kind, topic, callback, _matching(offered), raw=True)

    def _record(self, topic: str, message_type: str, offered: Sequence[Qos], cdr: bytes) -> None:
        time_ns = self.get_clock().now().nanoseconds
        try:
            self._bag.write_serialized(topic, message_type, time_ns, cdr, offered)
        except PointDistillerError as error:
            self._error = error
        else:
            with self._changed:
                self._num_recorded[topic] += 1
                self._changed.notify_all()


def find_definition(message_type: str) -> str:
    """The text of an installed .msg file.

    Args:
        message_type: e.g. `vision_msgs/msg/Detection3DArray`.

    Raises:
        DatasetError: it is not installed.
    """
    package, _, name = message_type.split('/')
    try:
        share = get_package_share_directory(package)
        return (Path(share) / 'msg' / f'{name}.msg').read_text(encoding='utf-8')
    except (LookupError, OSError) as error:
        raise DatasetError(
            f'no definition of {message_type} to record it with: {error}'
        ) from error


def _matching(offered: Sequence[QoSProfile]) -> QoSProfile:
    """The strictest quality of service that all publishers of a topic offer."""
    qos = QoSProfile(depth=QUEUE_DEPTH)
    if any(one.reliability != QoSReliabilityPolicy.RELIABLE for one in offered):
        qos.reliability = QoSReliabilityPolicy.BEST_EFFORT
    if all(one.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for one in offered):
        qos.durability = QoSDurabilityPolicy.TRANSIENT_LOCAL
    return qos


def _to_rosbags(qos: QoSProfile) -> Qos:
    """The same quality of service in the terms of rosbags; both number it as rmw does."""
    deadline, lifespan, lease = (
        QosTime(*divmod(duration.nanoseconds, 10**9))
        for duration in (qos.deadline, qos.lifespan, qos.liveliness_lease_duration)
    )
    return Qos(
        history=QosHistory(int(qos.history)),
        depth=qos.depth,
        reliability=QosReliability(int(qos.reliability)),
        durability=QosDurability(int(qos.durability)),
        deadline=deadline,
        lifespan=lifespan,
        liveliness=QosLiveliness(int(qos.liveliness)),
        liveliness_lease_duration=lease,
        avoid_ros_namespace_conventions=qos.avoid_ros_namespace_conventions,
    )


def main(args: list[str] | None = None) -> int:
    """Record until interrupted."""
    return spin_node(BagRecorderNode, args, finished=BagRecorderNode.finished)


if __name__ == '__main__':
    sys.exit(main())
