# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a detector sends for each cloud; outputs without subscribers are not built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from visualization_msgs.msg import Marker, MarkerArray

from pointdistiller_core.messages.autoware_objects import OBJECTS_TYPE, format_detected_objects
from pointdistiller_core.records import Detections
from pointdistiller_ros.conversions import (
    Detection3DArray,
    marker_keys,
    stamp_ns,
    to_box_markers,
    to_boxes_cloud,
    to_detection_array,
    to_importance_cloud,
    to_importance_markers,
    to_model_info,
    to_track_markers,
)
from pointdistiller_ros.parameters import OutputParameters
from pointdistiller_ros.topics import create_publisher, message_class

if TYPE_CHECKING:
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.tracking.live import LiveTracks

OUTPUTS = {  # name and type of each result; None if the message package is not installed
    'boxes': PointCloud2,
    'detections': Detection3DArray,
    'objects': message_class(OBJECTS_TYPE),
    'markers': MarkerArray,
    'importance': PointCloud2,
    'importance_markers': MarkerArray,
    'tracks': Detection3DArray,
    'track_markers': MarkerArray,
}
IMPORTANCE_OUTPUTS = {'importance', 'importance_markers'}
TRACK_OUTPUTS = {'tracks', 'track_markers'}
# Stay on display until they are deleted.
MARKER_OUTPUTS = {'markers', 'importance_markers', 'track_markers'}
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
        self._shown: dict[str, frozenset[tuple[str, int]]] = {}  # markers of an output, if known

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
                if _is_on(before, name) and not _is_on(parameters, name)
            )

    def wanted(self) -> set[str]:
        """The results that somebody subscribes to and that are not turned off."""
        return {
            name
            for name, out in self._publishers.items()
            if _is_on(self._parameters, name) and out.get_subscription_count()
        }

    def describe(self, detector: Detector, bundle: str) -> None:
        """Say what the detector of a bundle is, also to later subscribers."""
        engines = detector.backend, detector.host_engine
        self._model_info.publish(to_model_info(detector.info, bundle, *engines))

    def publish(
        self,
        wanted: Set[str],
        header: Header,
        points: NDArray[np.float32],
        detections: Detections,
        *,
        tracks: LiveTracks | None,
        class_names: Sequence[str],
        max_importance_markers: int,
    ) -> None:
        """Build and send the wanted results of one cloud, `~/boxes` last.

        Args:
            wanted: names of results; those turned off since are left out.
            header: of the cloud.
            points: (N, 4) of the cloud.
            detections: in the frame of the cloud; with importance if that is wanted.
            tracks: with the same detections; None if nothing is tracked.
            class_names: names that the labels index.
            max_importance_markers: most places in `~/importance_markers`.
        """
        importance, names = detections.importance, class_names
        builders = {
            'detections': lambda: to_detection_array(detections, header, names),
            'objects': lambda: format_detected_objects(
                detections, stamp_ns(header.stamp), header.frame_id, names
            ),
            'markers': lambda: self._replacing(
                'markers', to_box_markers, detections, header, names
            ),
            'importance': lambda: to_importance_cloud(points, importance, header),
            'importance_markers': lambda: to_importance_markers(
                importance, header, max_importance_markers
            ),
            'tracks': lambda: to_detection_array(tracks.objects, header, names),
            'track_markers': lambda: self._replacing(
                'track_markers', to_track_markers, tracks, header, names
            ),
            'boxes': lambda: to_boxes_cloud(detections, header),
        }
        unknown = IMPORTANCE_OUTPUTS if importance is None else set()
        unknown = unknown | (TRACK_OUTPUTS if tracks is None else set())
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
            self._shown.pop(name, None)
            deletion = MarkerArray(markers=[Marker(action=Marker.DELETEALL)])
            self._publishers[name].publish(deletion)

    def _replacing(
        self, name: str, build: Callable[..., MarkerArray], *arguments: Any
    ) -> MarkerArray:
        """Markers of an output that delete those of its message before."""
        markers = build(*arguments, self._shown.get(name))
        self._shown[name] = marker_keys(markers)
        return markers


def _is_on(parameters: OutputParameters, name: str) -> bool:
    """Whether the parameters want an output."""
    switch = 'tracks' if name in TRACK_OUTPUTS else name
    return bool(getattr(parameters, switch, True))
