# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Topics whose quality of service parameters `qos_overrides.<topic>.*` may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from pointdistiller_core.errors import ConfigError

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
    **options: Any,
) -> Subscription:
    """A subscription; the arguments as of `create_publisher`, and of `Node.create_subscription`.

    Raises:
        ConfigError: a parameter asks for what does not exist.
    """
    options['qos_overriding_options'] = QoSOverridingOptions(POLICIES)
    with _naming_overrides(node, topic):
        return node.create_subscription(kind, topic, callback, default, **options)


@contextmanager
def _naming_overrides(node: Node, topic: str) -> Iterator[None]:
    """Say which parameters the middleware does not like."""
    try:
        yield
    except (RuntimeError, InvalidParameterTypeException) as error:
        name = node.resolve_topic_name(topic)
        raise ConfigError(f'parameters qos_overrides.{name}: {error}') from error
