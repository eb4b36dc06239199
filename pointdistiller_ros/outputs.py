# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a detector sends for each cloud; what nobody subscribes to is not built."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
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
)

OUTPUTS = {  # name and type of each result; None where the message package is not installed
    'boxes': PointCloud2,
    'detections': Detection3DArray,
    'markers': MarkerArray,
    'importance': PointCloud2,
    'importance_markers': MarkerArray,
}
IMPORTANCE_OUTPUTS = {'importance', 'importance_markers'}
QUEUE_DEPTH = 5


class Outputs:
    """The publishers of a node's results; `publish` may be called from another thread.

    Args:
        node: its private topics are the results'.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers = {
            name: node.create_publisher(kind, f'~/{name}', QUEUE_DEPTH)
            for name, kind in OUTPUTS.items()
            if kind is not None
        }
        self._shown_markers: frozenset[tuple[str, int]] | None = None

    @property
    def topics(self) -> list[str]:
        """Full names of the topics, `~/boxes` first."""
        return [publisher.topic_name for publisher in self._publishers.values()]

    def wanted(self) -> set[str]:
        """The results that somebody subscribes to."""
        return {name for name, out in self._publishers.items() if out.get_subscription_count()}

    def publish(
        self,
        wanted: Collection[str],
        header: Header,
        points: NDArray[np.float32],
        detections: Detections,
        *,
        class_names: Sequence[str],
        max_importance_markers: int,
    ) -> None:
        """Build and send the wanted results of one cloud, `~/boxes` last.

        Args:
            wanted: names of results.
            header: of the cloud.
            points: (N, 4) of the cloud.
            detections: in the frame of the cloud; with importance where that is wanted.
            class_names: names that the labels index.
            max_importance_markers: most pillars in `~/importance_markers`.
        """
        importance = detections.importance
        if 'detections' in wanted:
            self._send('detections', to_detection_array(detections, header, class_names))
        if 'markers' in wanted:
            markers = to_box_markers(detections, header, class_names, self._shown_markers)
            self._shown_markers = marker_keys(markers)
            self._send('markers', markers)
        if 'importance' in wanted and importance is not None:
            self._send('importance', to_importance_cloud(points, importance, header))
        if 'importance_markers' in wanted and importance is not None:
            heat = to_importance_markers(importance, header, max_importance_markers)
            self._send('importance_markers', heat)
        if 'boxes' in wanted:
            self._send('boxes', to_boxes_cloud(detections, header))

    def clear_markers(self) -> None:
        """Delete whatever is displayed."""
        self._shown_markers = None
        for name in ('markers', 'importance_markers'):
            self._send(name, MarkerArray(markers=[Marker(action=Marker.DELETEALL)]))

    def destroy(self) -> None:
        """End the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def _send(self, name: str, message: object) -> None:
        self._publishers[name].publish(message)
