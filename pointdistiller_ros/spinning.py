# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Start, run and end nodes: one as an executable, several in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
import signal
from time import monotonic
from types import FrameType
from typing import Any, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from pointdistiller_core.errors import PointDistillerError

NodeT = TypeVar('NodeT', bound=Node)
POLL_PERIOD_S = 0.02


def spin_node(
    build: Callable[[], NodeT],
    args: list[str] | None = None,
    *,
    finished: Callable[[NodeT], bool] = lambda _: False,
    num_threads: int = 1,
) -> int:
    """Run a node until it is interrupted or finished.

    Args:
        build: makes the node.
        args: command line with ROS arguments; None is this process's.
        finished: asked again and again; may raise what went wrong.
        num_threads: for callbacks that may run at the same time.

    Returns:
        Exit code: 0, or 2 after a `PointDistillerError`, which is logged.
    """
    try:
        with interrupted_by_signals() as interruption, _initialized(args):
            node = build()
            with interruption.awaited():
                _spin(node, lambda: interruption.asked or finished(node), num_threads)
    except PointDistillerError as error:
        get_logger('pointdistiller').fatal(str(error))
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # Ctrl-C is how a user ends a node
    return 0


class Session:
    """Nodes of one process with an executor, in a ROS context of their own.

    When the session ends, the nodes end, the last one first.

    Args:
        num_threads: for callbacks that may run at the same time.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self._num_threads = num_threads

    def __enter__(self) -> Session:
        self._stack = ExitStack()
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self._stack.callback(self._context.try_shutdown)
        self._executor = _build_executor(self._num_threads, context=self._context)
        self._stack.callback(self._executor.shutdown)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(
        self,
        build: Callable[..., NodeT],
        remappings: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> NodeT:
        """Add a node.

        Args:
            build: makes the node from the keyword arguments of `rclpy.node.Node`.
            remappings: names in the node, and what they become.
            parameters: values of the node's parameters.
        """
        rules = [rule for pair in (remappings or {}).items() for rule in ('-r', ':='.join(pair))]
        node = build(
            context=self._context,
            cli_args=['--ros-args', *rules] if rules else None,
            parameter_overrides=[
                Parameter(name, value=value) for name, value in parameters.items()
            ],
        )
        self._stack.callback(node.destroy_node)
        self._executor.add_node(node)
        return node

    def spin_until(self, condition: Callable[[], Any], timeout_s: float = float('inf')) -> bool:
        """Run callbacks until the condition holds; False if that takes too long."""
        end = monotonic() + timeout_s
        while not condition():
            if monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=POLL_PERIOD_S)
        return True


class Interruption:
    """What a signal does that ends a process: it raises KeyboardInterrupt, or is noted first.

    Attributes:
        asked: a signal came while it was awaited.
    """

    def __init__(self) -> None:
        self.asked = self._is_awaited = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Only note the first signal, for the caller to see; another one raises as ever.

        Raised inside of rclpy, it leaves objects half made, which complain when they are deleted.
        """
        self._is_awaited = True
        try:
            yield
        finally:
            self._is_awaited = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked or not self._is_awaited:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interrupted_by_signals() -> Iterator[Interruption]:
    """Let signals that end a process raise KeyboardInterrupt, even if a shell ignores them."""
    numbers, interruption = (signal.SIGINT, signal.SIGTERM), Interruption()
    before = {number: signal.signal(number, interruption.handle) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _initialized(args: list[str] | None) -> Iterator[None]:
    """The middleware without its signal handlers.

    These wake the executor from another thread, when it may be gone already: on a busy machine
    that is an occasional segmentation fault and no report.
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()


def _build_executor(num_threads: int, context: Context | None = None) -> Executor:
    if num_threads == 1:
        return SingleThreadedExecutor(context=context)
    return MultiThreadedExecutor(num_threads, context=context)


def _spin(node: Node, finished: Callable[[], bool], num_threads: int) -> None:
    executor = _build_executor(num_threads)
    executor.add_node(node)
    try:
        while rclpy.ok() and not finished():
            _spin_once(executor)
    finally:
        executor.shutdown()
        node.destroy_node()


def _spin_once(executor: Executor) -> None:
    try:
        executor.spin_once(timeout_sec=POLL_PERIOD_S)
    except RuntimeError:  # as the middleware's errors are
        if rclpy.ok():  # otherwise a signal has ended everything
            raise
