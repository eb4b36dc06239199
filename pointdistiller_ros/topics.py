# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Publishers and subscriptions that no message and no parameter can break silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from pointdistiller_core.errors import CloudError, ConfigError, describe
from pointdistiller_ros.logs import RepeatedLog

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # its name in Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

MessageT = TypeVar('MessageT')
POLICIES = (  # that the parameters `qos_overrides.<topic>.*` may change
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)


def message_class(name: str) -> Any | None:
    """The class of e.g. `std_msgs/msg/String`; None if its package is not installed."""
    package, _, kind = name.split('/')
    try:
        return getattr(import_module(f'{package}.msg'), kind, None)
    except ImportError:
        return None


def read_message(kind: type[MessageT], cdr: bytes) -> MessageT:
    """A message from its serialized form.

    Raises:
        CloudError: these bytes are no such message.
    """
    try:
        return deserialize_message(cdr, kind)
    except Exception as error:  # each middleware has its own
        raise CloudError(
            f'{len(cdr)} bytes are no {kind.__module__.split(".")[0]}/{kind.__name__}: {error}'
        ) from error


def quality_of(reliability: str, depth: int) -> QoSProfile:
    """Quality of service of a subscription, as a node's parameter `reliability` says it."""
    return QoSProfile(depth=depth, reliability=QoSReliabilityPolicy[reliability.upper()])


def create_publisher(node: Node, kind: type, topic: str, default: QoSProfile) -> Publisher:
    """A publisher whose quality of service parameters may change.

    Raises:
        ConfigError: a parameter asks for what does not exist.
    """
    with _naming_overrides(node, topic):
        options = QoSOverridingOptions(POLICIES)
        return node.create_publisher(kind, topic, default, qos_overriding_options=options)


def create_subscription(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    default: QoSProfile,
    *,
    on_lost: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Subscription[Any]:
    """A subscription whose quality of service parameters may change.

    `on_lost` is called with the number of messages that did not arrive, if the middleware knows
    it; `options` are further arguments of `Node.create_subscription`.

    Raises:
        ConfigError: a parameter asks for what does not exist.
    """
    options['qos_overriding_options'] = QoSOverridingOptions(POLICIES)
    events = SubscriptionEventCallbacks(message_lost=lambda lost: on_lost(lost.total_count_change))
    create = partial(node.create_subscription, kind, topic, callback, default, **options)
    with _naming_overrides(node, topic):
        try:
            return create(event_callbacks=events)
        except UnsupportedEventTypeError:
            return create()


def subscribe(
    node: Node,
    kind: type[MessageT],
    topic: str,
    callback: Callable[[MessageT], None],
    qos: QoSProfile | int,
    *,
    on_error: Callable[[Exception], None] | None = None,
    create: Callable[..., Subscription[Any]] = Node.create_subscription,
) -> Subscription[Any]:
    """Subscribe so that no message ends the node.

    What rclpy cannot deserialize it drops silently (Fast DDS) or raises out of the executor, like
    exceptions of callbacks. Here each such message is an error, passed to `on_error` or, without
    it, logged; the next one is received. `create` makes the subscription.
    """
    log = RepeatedLog(node)

    def report(error: Exception) -> None:
        text = f'a message on {topic} was not worked on: {describe(error)}'
        log.error(type(error).__name__, text)

    def receive(cdr: bytes) -> None:
        try:
            callback(read_message(kind, cdr))
        except Exception as error:  # the next message is worked on, whatever this one breaks
            (on_error or report)(error)

    return create(node, kind, topic, receive, qos, raw=True)


@contextmanager
def _naming_overrides(node: Node, topic: str) -> Iterator[None]:
    """Name the parameters that the middleware refuses."""
    try:
        yield
    except (RuntimeError, InvalidParameterTypeException) as error:
        name = node.resolve_topic_name(topic)
        raise ConfigError(f'parameters qos_overrides.{name}: {error}') from error
