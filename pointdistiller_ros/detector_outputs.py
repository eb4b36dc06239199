# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a detector sends for each cloud; outputs without subscribers are not built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.records import Detections
from pointdistiller_ros.conversions import (
    Detection3DArray,
    marker_keys,
    to_box_markers,
    to_boxes_cloud,
    to_detection_array,
    to_importance_cloud,
    to_importance_markers,
    to_model_info,
)
from pointdistiller_ros.parameters import OutputParameters
from pointdistiller_ros.topics import create_publisher

if TYPE_CHECKING:
    from pointdistiller_core.detector import BundleInfo

OUTPUTS = {  # name and type of each result; None if the message package is not installed
    'boxes': PointCloud2,
    'detections': Detection3DArray,
    'markers': MarkerArray,
    'importance': PointCloud2,
    'importance_markers': MarkerArray,
}
IMPORTANCE_OUTPUTS = {'importance', 'importance_markers'}
MARKER_OUTPUTS = {'markers', 'importance_markers'}  # stay on display until they are deleted
QUEUE_DEPTH = 5


class Outputs:
    """The publishers of a node's results; `publish` may be called from another thread.

    Args:
        node: its private topics are the results'.
        parameters: which of them to build.

    Raises:
        ConfigError: a parameter asks for a quality of service that does not exist; no publisher is
            left.
    """

    def __init__(self, node: Node, parameters: OutputParameters) -> None:
        self._node = node
        self._parameters = parameters
        self._sending = Lock()  # so that markers of the current cloud do not follow their deletion
        self._publishers: dict[str, Publisher] = {}
        with ExitStack() as undo:
            for name, kind in OUTPUTS.items():
                if kind is not None:
                    qos = QoSProfile(depth=QUEUE_DEPTH)
                    self._publishers[name] = create_publisher(node, kind, f'~/{name}', qos)
                    undo.callback(node.destroy_publisher, self._publishers[name])
            latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
            self._model_info = create_publisher(node, String, '~/model_info', latched)
            undo.pop_all()
        self._shown_markers: frozenset[tuple[str, int]] | None = None

    @property
    def topics(self) -> list[str]:
        """Full names of the topics, `~/boxes` first."""
        return [publisher.topic_name for publisher in self._publishers.values()]

    def change(self, parameters: OutputParameters) -> None:
        """Build these from now on, and delete what those that are turned off display."""
        with self._sending:
            before, self._parameters = self._parameters, parameters
            self._delete_markers(
                name
                for name in MARKER_OUTPUTS
                if getattr(before, name) and not getattr(parameters, name)
            )

    def wanted(self) -> set[str]:
        """The results that somebody subscribes to and that are not turned off."""
        return {
            name
            for name, out in self._publishers.items()
            if getattr(self._parameters, name, True) and out.get_subscription_count()
        }

    def describe(self, info: BundleInfo, bundle: str, backend: str) -> None:
        """Say what the detector is, also to later subscribers."""
        self._model_info.publish(to_model_info(info, bundle, backend))

    def publish(
        self,
        wanted: Set[str],
        header: Header,
        points: NDArray[np.float32],
        detections: Detections,
        *,
        class_names: Sequence[str],
        max_importance_markers: int,
    ) -> None:
        """Build and send the wanted results of one cloud, `~/boxes` last.

        Args:
            wanted: names of results; those turned off since are left out.
            header: of the cloud.
            points: (N, 4) of the cloud.
            detections: in the frame of the cloud; with importance if that is wanted.
            class_names: names that the labels index.
            max_importance_markers: most places in `~/importance_markers`.
        """
        importance, names = detections.importance, class_names
        builders = {
            'detections': lambda: to_detection_array(detections, header, names),
            'markers': lambda: self._build_markers(detections, header, names),
            'importance': lambda: to_importance_cloud(points, importance, header),
            'importance_markers': lambda: to_importance_markers(
                importance, header, max_importance_markers
            ),
            'boxes': lambda: to_boxes_cloud(detections, header),
        }
        unknown = IMPORTANCE_OUTPUTS if importance is None else set()
        with self._sending:
            wanted = (wanted & self.wanted()) - unknown
            for name in filter(wanted.__contains__, builders):
                self._publishers[name].publish(builders[name]())

    def clear_markers(self) -> None:
        """Delete everything displayed."""
        with self._sending:
            self._delete_markers(MARKER_OUTPUTS)

    def destroy(self) -> None:
        """End the publishers."""
        for publisher in (*self._publishers.values(), self._model_info):
            self._node.destroy_publisher(publisher)

    def _delete_markers(self, names: Iterable[str]) -> None:
        for name in names:
            if name == 'markers':
                self._shown_markers = None
            deletion = MarkerArray(markers=[Marker(action=Marker.DELETEALL)])
            self._publishers[name].publish(deletion)

    def _build_markers(
        self, detections: Detections, header: Header, class_names: Sequence[str]
    ) -> MarkerArray:
        markers = to_box_markers(detections, header, class_names, self._shown_markers)
        self._shown_markers = marker_keys(markers)
        return markers
