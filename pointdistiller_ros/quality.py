# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Topics whose quality of service parameters `qos_overrides.<topic>.*` may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from pointdistiller_core.errors import ConfigError

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # its name in Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

POLICIES = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)


def create_publisher(node: Node, kind: type, topic: str, default: QoSProfile) -> Publisher:
    """A publisher.

    Args:
        node: that publishes.
        kind: of the messages.
        topic: relative to the node.
        default: quality of service without parameters.

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
) -> Subscription:
    """A subscription.

    Args:
        node: that subscribes.
        kind: of the messages.
        topic: relative to the node.
        callback: called with each message.
        default: quality of service without parameters.
        on_lost: told how many messages have not arrived, where the middleware can tell.
        options: further arguments of `Node.create_subscription`.

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


@contextmanager
def _naming_overrides(node: Node, topic: str) -> Iterator[None]:
    """Say which parameters the middleware does not like."""
    try:
        yield
    except (RuntimeError, InvalidParameterTypeException) as error:
        name = node.resolve_topic_name(topic)
        raise ConfigError(f'parameters qos_overrides.{name}: {error}') from error
