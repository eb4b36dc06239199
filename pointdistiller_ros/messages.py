# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Message types by name, and serialized messages that may be anything."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from pointdistiller_core.errors import CloudError, describe
from pointdistiller_ros.logs import RepeatedLog

MessageT = TypeVar('MessageT')


def message_class(name: str) -> Any | None:
    """The class of e.g. `std_msgs/msg/String`; None where its package is not installed."""
    package, _, kind = name.split('/')
    try:
        return getattr(import_module(f'{package}.msg'), kind, None)
    except ImportError:
        return None


def read_message(kind: type[MessageT], cdr: bytes) -> MessageT:
    """A message out of its serialized form.

    Raises:
        CloudError: these bytes are no such message.
    """
    try:
        return deserialize_message(cdr, kind)
    except Exception as error:  # each middleware has its own
        raise CloudError(
            f'{len(cdr)} bytes are no {kind.__module__.split(".")[0]}/{kind.__name__}: {error}'
        ) from error


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

    What rclpy cannot deserialize it drops without a word (Fast DDS) or raises out of the executor,
    as it does with what a callback raises. Here each such message is an error, and the next one
    is received.

    Args:
        node: who subscribes.
        kind: type of the messages.
        topic: topic of the messages.
        callback: called with each message.
        qos: quality of service, or depth of the queue.
        on_error: told what went wrong with a message; None logs it as an error.
        create: makes the subscription; takes the arguments of `Node.create_subscription`.
    """
    log = RepeatedLog(node)

    def report(error: Exception) -> None:
        text = f'a message on {topic} was not worked on: {describe(error)}'
        log.error(type(error).__name__, text)

    def receive(cdr: bytes) -> None:
        try:
            callback(read_message(kind, cdr))
        except Exception as error:  # whatever a message breaks, the next one is worked on
            (on_error or report)(error)

    return create(node, kind, topic, receive, qos, raw=True)
