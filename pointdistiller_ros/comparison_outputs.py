# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a comparison sends for each cloud; outputs without subscribers are not built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pointdistiller_core.errors import describe
from pointdistiller_core.evaluation.comparison.pairs import CloudAgreement
from pointdistiller_core.evaluation.comparison.session import (
    CloudResult,
    ComparisonRules,
    numbers_of,
)
from pointdistiller_ros.comparison_conversions import to_agreement, to_agreement_markers
from pointdistiller_ros.conversions import marker_keys, to_boxes_cloud
from pointdistiller_ros.logs import RepeatedLog
from pointdistiller_ros.topics import create_publisher

ANSWER = 'student/boxes'
OUTPUTS = {  # the last one says that all others of a cloud are out
    'teacher/boxes': PointCloud2,
    'markers': MarkerArray,
    'agreement': DiagnosticArray,
    ANSWER: PointCloud2,
}
QUEUE_DEPTH = 5


class ComparisonOutputs:
    """The publishers of a comparison's results, on private topics of its node.

    Attributes:
        num_unsent: messages that could not be sent.
        num_unanswered: of these, those on `~/student/boxes`.
        problem: with the last cloud; empty if all was sent.
    """

    def __init__(
        self,
        node: Node,
        rules: ComparisonRules,
        summarize: Callable[[], Mapping[str, Any]],
        log: RepeatedLog,
    ) -> None:
        self._node, self._rules, self._summarize, self._log = node, rules, summarize, log
        self._publishers = {
            name: create_publisher(node, kind, f'~/{name}', QoSProfile(depth=QUEUE_DEPTH))
            for name, kind in OUTPUTS.items()
        }
        self._shown_markers: frozenset[tuple[str, int]] | None = None
        self.num_unsent = self.num_unanswered = 0
        self.problem = ''

    @property
    def topics(self) -> list[str]:
        """Full names of the topics, `~/student/boxes` last."""
        return [publisher.topic_name for publisher in self._publishers.values()]

    def publish(self, header: Header, result: CloudResult, agreement: CloudAgreement) -> None:
        """Send what somebody listens to, then the answer; if one fails, the rest is sent."""
        self.problem = ''
        builders: Mapping[str, Callable[[], Any]] = {
            'teacher/boxes': lambda: to_boxes_cloud(result.teacher, header),
            'markers': lambda: self._build_markers(header, result, agreement),
            'agreement': lambda: self._build_agreement(header, agreement),
            ANSWER: lambda: to_boxes_cloud(result.student, header),
        }
        for name, publisher in self._publishers.items():
            if name == ANSWER or publisher.get_subscription_count():
                try:
                    publisher.publish(builders[name]())
                except Exception as error:  # the cloud is compared: it has not failed
                    self.num_unsent += 1
                    self.num_unanswered += name == ANSWER
                    self.problem = f'a message on ~/{name} is not sent: {describe(error)}'
                    self._log.error(name, self.problem)

    def _build_markers(
        self, header: Header, result: CloudResult, agreement: CloudAgreement
    ) -> MarkerArray:
        matches = agreement.matches
        groups = {
            'agreed': result.student[matches.true_positives],
            'missed': result.teacher[matches.missed],
            'extra': result.student[matches.false_positives],
        }
        names = self._rules.class_names
        markers = to_agreement_markers(groups, header, names, self._shown_markers)
        self._shown_markers = marker_keys(markers)
        return markers

    def _build_agreement(self, header: Header, agreement: CloudAgreement) -> DiagnosticArray:
        name, cloud = self._node.get_fully_qualified_name(), numbers_of(agreement, self._rules)
        return to_agreement(name, header, cloud, self._summarize())
