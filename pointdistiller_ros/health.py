# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Health of a node that works on clouds: once a second, in its log and on /diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile

from pointdistiller_core.errors import describe
from pointdistiller_ros.conversions import to_diagnostics
from pointdistiller_ros.diagnostics import Monitor, Report, warnings_of
from pointdistiller_ros.logs import RepeatedLog
from pointdistiller_ros.topics import create_publisher
from pointdistiller_ros.transforms import BACKWARDS

PERIOD_S = 1.0
# More than a running clock advances at once: somebody sought in a bag, or simulated time begins.
FORWARDS = JumpThreshold(min_forward=Duration(seconds=10), min_backward=None)


class Health:
    """Counts, log and diagnostics of a node.

    When the node's time jumps, the skipped time is no silence.

    Args:
        node: the node that works on clouds.
        report: called once a second, also while simulated time rests.
        callback_group: of `report`.
        on_jump_back: called when a bag begins again, or simulated time begins.

    Attributes:
        monitor: counts the clouds.
        log: of what may go wrong with every cloud.
    """

    def __init__(
        self,
        node: Node,
        report: Callable[[], None],
        *,
        callback_group: CallbackGroup | None = None,
        on_jump_back: Callable[[], None] = lambda: None,
    ) -> None:
        self.monitor, self.log = Monitor(), RepeatedLog(node)
        self._node = node
        self._publisher = create_publisher(
            node, DiagnosticArray, '/diagnostics', QoSProfile(depth=1)
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, report, callback_group, clock=steady)
        self._jumps = [
            node.get_clock().create_jump_callback(threshold, post_callback=react)
            for threshold, react in (
                (BACKWARDS, lambda _jump: (self.monitor.restart(), on_jump_back())),
                (FORWARDS, lambda _jump: self.monitor.restart()),
            )
        ]

    @property
    def topic(self) -> str:
        """Full name of the topic of the diagnostics."""
        return self._publisher.topic_name

    def fail(self, error: Exception, consequence: str) -> None:
        """Count a cloud without a result, and log why."""
        self.monitor.fail(error)
        self.log.error(type(error).__name__, f'{consequence}: {describe(error)}')

    def next_report(self, reliability: str, said: str = '') -> Report:
        """What has happened since the last report; problems are logged.

        Args:
            reliability: of the subscription, as the node's parameter says it.
            said: of the intensity of all clouds, which is not said again.
        """
        report = self.monitor.report(self._node.get_clock().now().nanoseconds)
        for kind, text in warnings_of(report, reliability, said):
            self.log.warning(kind, text)
        self.log.flush()
        return report

    def publish(
        self, level: bytes, message: str, values: Mapping[str, str], *, device: str
    ) -> None:
        """Send the diagnostics; see `to_diagnostics`."""
        name, now = self._node.get_fully_qualified_name(), self._node.get_clock().now()
        self._publisher.publish(
            to_diagnostics(name, now.to_msg(), level, message, values, device=device)
        )

    def close(self) -> None:
        """Log what waits, and stop listening to the clock."""
        if self._node.context.ok():
            self.log.flush(all=True)
        for jump in self._jumps:
            jump.unregister()
