# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`detector_node`: PointCloud2 in; boxes, markers and importance out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import os
import sys
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pointdistiller_core.datasets.point_cloud2 import points_from_cloud
from pointdistiller_core.records import Detections
from pointdistiller_ros.conversions import (
    Detection3DArray,
    marker_keys,
    to_box_markers,
    to_boxes_cloud,
    to_detection_array,
    to_diagnostics,
    to_importance_cloud,
    to_importance_markers,
)
from pointdistiller_ros.parameters import (
    DetectorParameters,
    changed_parameters,
    declare_parameters,
)
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.worker import NewestWorker

OUTPUTS = {  # name and type of each result; None where the message package is not installed
    'boxes': PointCloud2,
    'detections': Detection3DArray,
    'markers': MarkerArray,
    'importance': PointCloud2,
    'importance_markers': MarkerArray,
}
QUEUE_DEPTH = 5
DIAGNOSTICS_PERIOD_S = 1.0


class PointDetector(Protocol):
    """What the node needs of a `pointdistiller_core.detector.Detector`."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names that the labels index."""
        ...

    def __call__(self, points: NDArray[np.float32], *, importance: bool = False) -> Detections:
        """Detect objects in (N, 4) points."""
        ...


@dataclass(frozen=True)
class CloudCounts:
    """What became of the clouds so far."""

    received: int
    results: int
    failed: int
    dropped: int


def load_detector(parameters: DetectorParameters) -> PointDetector:
    """The detector that the parameters name.

    Raises:
        BackendError: the backend's package or files are missing.
        CheckpointError: the bundle cannot be loaded.
    """
    # torch's idle threads would spin and starve the executor; it reads this when imported.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from pointdistiller_core.detector import Detector  # late, for it may bring torch

    return Detector.load(
        parameters.bundle,
        backend=parameters.backend,
        device=parameters.device,
        num_threads=parameters.num_threads or None,
    )


class DetectorNode(Node):
    """Detects objects in each cloud on `points`, or in the newest where they come too fast.

    Every cloud that is worked on leads to exactly one message on `~/boxes`, with the cloud's
    header; it is sent last, so it also tells that all other outputs of the cloud are out. Those
    that nobody subscribes to are not built.

    Args:
        load: makes the detector from the parameters.
        node_options: further arguments of `rclpy.node.Node`.

    Raises:
        ConfigError: a parameter is wrong.
        BackendError: the backend's package or files are missing.
        CheckpointError: the bundle cannot be loaded.
    """

    def __init__(
        self,
        load: Callable[[DetectorParameters], PointDetector] = load_detector,
        **node_options: Any,
    ) -> None:
        # First, so that the node can be destroyed wherever the rest fails.
        self._worker = NewestWorker(self._process, on_error=self._on_error, name='detector')
        super().__init__('detector', **node_options)
        self._settings = declare_parameters(self, DetectorParameters)
        self._detector = load(self._settings)
        self._outputs = {
            name: self.create_publisher(kind, f'~/{name}', QUEUE_DEPTH)
            for name, kind in OUTPUTS.items()
            if kind is not None
        }
        self._shown_markers: frozenset[tuple[str, int]] | None = None
        self._num_received = self._num_results = self._num_failed = 0
        self._last_result: Detections | Exception | None = None
        self._reported_drops = 0
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        reliability = QoSReliabilityPolicy[self._settings.reliability.upper()]
        qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
        points = self.create_subscription(PointCloud2, 'points', self._on_points, qos)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # reports also while simulated time rests
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        classes = ', '.join(self._detector.class_names)
        self.get_logger().info(f'detecting {classes} in clouds on {points.topic_name}')

    @property
    def counts(self) -> CloudCounts:
        """What became of the clouds so far."""
        return CloudCounts(
            received=self._num_received,
            results=self._num_results,
            failed=self._num_failed,
            dropped=self._worker.num_dropped,
        )

    @property
    def output_topics(self) -> list[str]:
        """Full names of the topics with results, `~/boxes` first."""
        return [publisher.topic_name for publisher in self._outputs.values()]

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until every cloud received is worked on; False where that takes longer."""
        return self._worker.wait_until_idle(timeout_s)

    def destroy_node(self) -> None:
        """Finish the cloud that is worked on, then end."""
        self._worker.close()
        super().destroy_node()

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        self._settings, answer = changed_parameters(self._settings, changes)
        return answer

    def _on_points(self, cloud: PointCloud2) -> None:
        self._num_received += 1
        self._worker.submit(cloud)

    def _process(self, cloud: PointCloud2) -> None:
        settings = self._settings
        points = points_from_cloud(
            cloud,
            missing_intensity=settings.missing_intensity,
            intensity_scale=settings.intensity_scale or None,
        )
        wanted = {name for name, out in self._outputs.items() if out.get_subscription_count()}
        detections = self._detector(
            points, importance=not wanted.isdisjoint({'importance', 'importance_markers'})
        )
        best = np.flatnonzero(detections.scores >= settings.score_threshold)
        detections = detections[best[: settings.max_detections]]
        self._publish(cloud.header, points, detections, wanted)
        self._num_results += 1
        self._last_result = detections

    def _publish(
        self, header: Header, points: NDArray[np.float32], detections: Detections, wanted: set[str]
    ) -> None:
        classes, importance = self._detector.class_names, detections.importance
        if 'detections' in wanted:
            message = to_detection_array(detections, header, classes)
            self._outputs['detections'].publish(message)
        if 'markers' in wanted:
            markers = to_box_markers(detections, header, classes, self._shown_markers)
            self._shown_markers = marker_keys(markers)
            self._outputs['markers'].publish(markers)
        if 'importance' in wanted and importance is not None:
            cloud = to_importance_cloud(points, importance, header)
            self._outputs['importance'].publish(cloud)
        if 'importance_markers' in wanted and importance is not None:
            limit = self._settings.max_importance_markers
            markers = to_importance_markers(importance, header, limit)
            self._outputs['importance_markers'].publish(markers)
        self._outputs['boxes'].publish(to_boxes_cloud(detections, header))

    def _on_error(self, error: Exception) -> None:
        self._num_failed += 1
        self._last_result = error
        self.get_logger().error(f'no detections for a cloud: {error or type(error).__name__}')

    def _publish_diagnostics(self) -> None:
        counts, last = self.counts, self._last_result
        dropped_now = counts.dropped - self._reported_drops
        self._reported_drops = counts.dropped
        self._diagnostics_publisher.publish(
            to_diagnostics(
                self.get_fully_qualified_name(),
                self.get_clock().now().to_msg(),
                last=last,
                totals=vars(counts),
                dropped_now=dropped_now,
            )
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    return spin_node(DetectorNode, args)


if __name__ == '__main__':
    sys.exit(main())
