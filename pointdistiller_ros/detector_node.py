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
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.datasets.point_cloud2 import points_from_cloud
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.records import Detections
from pointdistiller_ros.conversions import to_diagnostics
from pointdistiller_ros.outputs import IMPORTANCE_OUTPUTS, QUEUE_DEPTH, Outputs
from pointdistiller_ros.parameters import (
    DetectorParameters,
    changed_parameters,
    declare_parameters,
)
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.worker import NewestWorker

DIAGNOSTICS_PERIOD_S = 1.0
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PointDetector(Protocol):
    """What the node needs of a `pointdistiller_core.detector.Detector`."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names that the labels index."""
        ...

    def __call__(self, points: NDArray[np.float32], *, importance: bool = False) -> Detections:
        """Detect objects in (N, 4) points."""
        ...

    def close(self) -> None:
        """Free its memory."""
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


class DetectorNode(LifecycleNode):
    """Detects objects in each cloud on `points`, or in the newest where they come too fast.

    Every cloud that is worked on leads to exactly one message on each topic of `Outputs`, with the
    cloud's header. `~/boxes` is sent last, so it also tells that all others are out. What nobody
    subscribes to is not built.

    Configuring loads the bundle, activating subscribes to the clouds; deactivating and cleaning up
    undo that. With the parameter `autostart` the node does both itself.

    Args:
        load: makes the detector from the parameters.
        node_options: further arguments of `rclpy.node.Node`.

    Raises:
        ConfigError: a parameter is wrong.
        BackendError: at autostart, the backend's package or files are missing.
        CheckpointError: at autostart, the bundle cannot be loaded.
    """

    def __init__(
        self,
        load: Callable[[DetectorParameters], PointDetector] = load_detector,
        **node_options: Any,
    ) -> None:
        # First, so that the node can be destroyed wherever the rest fails.
        self._load = load
        self._detector: PointDetector | None = None  # while configured
        self._outputs: Outputs | None = None  # while configured
        self._worker: NewestWorker[PointCloud2] | None = None  # while active
        self._points: Subscription | None = None  # while active
        self._problem: Exception | None = None
        self._num_received = self._num_results = self._num_failed = self._num_dropped = 0
        self._last_result: Detections | Exception | None = None
        self._reported_drops = 0
        super().__init__('detector', **node_options)
        self._settings = declare_parameters(self, DetectorParameters)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # reports also while simulated time rests
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        if self._settings.autostart:
            self._start()

    @property
    def counts(self) -> CloudCounts:
        """What became of the clouds so far."""
        worker = self._worker
        return CloudCounts(
            received=self._num_received,
            results=self._num_results,
            failed=self._num_failed,
            dropped=self._num_dropped + (worker.num_dropped if worker else 0),
        )

    @property
    def output_topics(self) -> list[str]:
        """Full names of the topics with results, `~/boxes` first; none before `configure`."""
        return self._outputs.topics if self._outputs else []

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until every cloud received is worked on; False where that takes longer."""
        return self._worker is None or self._worker.wait_until_idle(timeout_s)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Load the bundle and create the publishers."""
        try:
            if not self._settings.bundle:
                raise ConfigError(
                    'parameter bundle is empty; give it: bundle, or run folder that holds one'
                )
            self._detector = self._load(self._settings)
        except Exception as error:  # rclpy would pass over it in silence
            self._problem = error
            if not self._settings.autostart:  # or it is raised
                self.get_logger().error(f'not configured: {error or type(error).__name__}')
            return FAILURE
        self._outputs = Outputs(self)
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Subscribe to the clouds."""
        assert self._detector is not None
        self._worker = NewestWorker(self._process, on_error=self._on_error, name='detector')
        reliability = QoSReliabilityPolicy[self._settings.reliability.upper()]
        qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
        self._points = self.create_subscription(PointCloud2, 'points', self._on_points, qos)
        classes = ', '.join(self._detector.class_names)
        self.get_logger().info(f'detecting {classes} in clouds on {self._points.topic_name}')
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Finish the cloud that is worked on, then listen to no more."""
        self._stop()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Free the detector's memory and end the publishers."""
        self._release()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Stop and free everything, whatever the state."""
        self._stop()
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """Finish the cloud that is worked on, then end."""
        self._stop()
        self._release()
        super().destroy_node()

    def _start(self) -> None:
        """Configure and activate, as a manager would."""
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != SUCCESS:
                assert self._problem is not None
                raise self._problem

    def _stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        assert self._outputs is not None
        self.destroy_subscription(self._points)
        worker.close()
        self._num_dropped += worker.num_dropped
        if self.context.ok():
            self._outputs.clear_markers()

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        if self._detector is not None:
            self._detector.close()
        self._outputs = self._detector = None

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        settings, answer = changed_parameters(self._settings, changes)
        if self._detector is not None and settings.bundle != self._settings.bundle:
            reason = 'parameter bundle: clean the node up before it takes another one'
            return SetParametersResult(successful=False, reason=reason)
        self._settings = settings
        return answer

    def _on_points(self, cloud: PointCloud2) -> None:
        worker = self._worker
        if worker is not None:  # else this is the last one before the node was deactivated
            self._num_received += 1
            worker.submit(cloud)

    def _process(self, cloud: PointCloud2) -> None:
        settings, detector, outputs = self._settings, self._detector, self._outputs
        assert detector is not None
        assert outputs is not None
        points = points_from_cloud(
            cloud,
            missing_intensity=settings.missing_intensity,
            intensity_scale=settings.intensity_scale or None,
        )
        wanted = outputs.wanted()
        detections = detector(points, importance=not wanted.isdisjoint(IMPORTANCE_OUTPUTS))
        best = np.flatnonzero(detections.scores >= settings.score_threshold)
        detections = detections[best[: settings.max_detections]]
        outputs.publish(
            wanted,
            cloud.header,
            points,
            detections,
            class_names=detector.class_names,
            max_importance_markers=settings.max_importance_markers,
        )
        self._num_results += 1
        self._last_result = detections

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
