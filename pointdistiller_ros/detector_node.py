# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`detector_node`: PointCloud2 in; boxes, markers and importance out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
import os
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpHandle, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.detector import Mounting
from pointdistiller_core.errors import ConfigError, describe
from pointdistiller_core.records import Detections
from pointdistiller_ros.cloud_reader import CloudReader
from pointdistiller_ros.conversions import to_diagnostics
from pointdistiller_ros.diagnostics import (
    ERROR,
    OK,
    CloudCounts,
    Monitor,
    judge,
    values_of,
    warnings_of,
    without_filled_intensity,
)
from pointdistiller_ros.lifecycle import ManagedNode
from pointdistiller_ros.logs import RepeatedLog
from pointdistiller_ros.memory import Leavings
from pointdistiller_ros.messages import read_message
from pointdistiller_ros.outputs import IMPORTANCE_OUTPUTS, QUEUE_DEPTH, Outputs
from pointdistiller_ros.parameters import (
    ClassThresholds,
    DetectorParameters,
    changed_parameters,
    declare_parameters,
    to_detection_config,
)
from pointdistiller_ros.quality import create_publisher, create_subscription
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.transforms import BACKWARDS, Transforms, find_mounting
from pointdistiller_ros.worker import NewestWorker

if TYPE_CHECKING:
    from pointdistiller_core.detector import BundleInfo

DIAGNOSTICS_PERIOD_S = 1.0
READ = (  # parameters that clouds are read by
    *('intensity_field', 'missing_intensity', 'constant_intensity'),
    *('intensity_scale', 'intensity_auto'),
)
LOADED = ('bundle', 'backend', 'device', 'num_threads')  # parameters that a detector is made from
# Further than a running clock goes at once: somebody sought in a bag, or simulated time begins.
FORWARDS = JumpThreshold(min_forward=Duration(seconds=10), min_backward=None)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PointDetector(Protocol):
    """What the node needs of a `pointdistiller_core.detector.Detector`."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names that the labels index."""
        ...

    @property
    def info(self) -> BundleInfo:
        """What the bundle says about itself."""
        ...

    @property
    def backend(self) -> str:
        """What the network runs in."""
        ...

    def __call__(
        self,
        points: NDArray[np.float32],
        *,
        importance: bool = False,
        detection: DetectionConfig | None = None,
        mounting: Mounting | None = None,
    ) -> Detections:
        """Detect objects in (N, 4) points."""
        ...

    def close(self) -> None:
        """Free its memory."""
        ...


@dataclass(frozen=True)
class Setup:
    """What a cloud is worked on with; a change replaces all of it between two clouds.

    Attributes:
        settings: the node's parameters.
        detector: made from them.
        reader: of its clouds.
        detection: thresholds and caps.
        transforms: where the mounting is TF's.
    """

    settings: DetectorParameters
    detector: PointDetector
    reader: CloudReader
    detection: DetectionConfig
    transforms: Transforms | None


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


class DetectorNode(ManagedNode):
    """Detects objects in each cloud on `points`, or in the newest where they come too fast.

    Every cloud that is worked on leads to exactly one message on each topic of `Outputs`, with the
    cloud's header. `~/boxes` is sent last, so it also tells that all others are out. What nobody
    subscribes to is not built.

    Configuring loads the bundle, activating subscribes to the clouds; deactivating and cleaning up
    undo that. With the parameter `autostart` the node does both itself. On an executor with two
    threads no cloud is missed while another bundle is loaded.

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
        self._setup: Setup | None = None  # while configured
        self._outputs: Outputs | None = None  # while configured
        self._worker: NewestWorker[tuple[bytes, float]] | None = None  # while active
        self._points: Subscription | None = None  # while active
        self._problem = ''  # of the last transition
        self._start_error: Exception | None = None
        self._starting = False
        self._finalized = False
        self._jumps: list[JumpHandle] = []
        self._monitor = Monitor()
        self._log = RepeatedLog(self)
        self._leavings = Leavings()  # detectors that were replaced
        super().__init__('detector', **node_options)
        self._settings = declare_parameters(self, DetectorParameters)
        self._class_thresholds = ClassThresholds(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        # Of their own, so that they go on while a bundle is loaded.
        self._always = MutuallyExclusiveCallbackGroup()
        self._diagnostics_publisher = create_publisher(
            self, DiagnosticArray, '/diagnostics', QoSProfile(depth=1)
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # reports also while simulated time rests
        self.create_timer(DIAGNOSTICS_PERIOD_S, self.report, self._always, clock=steady)
        self._jumps = [
            self.get_clock().create_jump_callback(threshold, post_callback=react)
            for threshold, react in (
                (BACKWARDS, self._on_jump_back),
                (FORWARDS, self._on_jump_forward),
            )
        ]
        if self._settings.autostart:
            self._start()

    @property
    def counts(self) -> CloudCounts:
        """What became of the clouds so far."""
        return self._monitor.counts

    @property
    def diagnostics_topic(self) -> str:
        """Full name of the topic of the diagnostics."""
        return self._diagnostics_publisher.topic_name

    @property
    def repairs(self) -> Mapping[str, int]:
        """Of all results: `intensity_outside` and `boxes_refused`, as `Detections` counts them."""
        return self._monitor.repairs

    @property
    def output_topics(self) -> list[str]:
        """Full names of the topics with results, `~/boxes` first; none before `configure`."""
        return self._outputs.topics if self._outputs else []

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until every cloud received is worked on; False where that takes longer."""
        return self._worker is None or self._worker.wait_until_idle(timeout_s)

    def destroy_node(self) -> None:
        """Finish the cloud that is worked on, then end."""
        self._deactivate()
        self._clean_up()
        if self.context.ok():
            self._log.flush(all=True)
        for jump in self._jumps:
            jump.unregister()
        super().destroy_node()

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Load the bundle and create the publishers."""
        return self._attempt(self._configure, undo=self._clean_up)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Subscribe to the clouds."""
        return self._attempt(self._activate, undo=self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Finish the cloud that is worked on, then listen to no more."""
        self._deactivate()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Free the detector's memory and end the publishers."""
        self._clean_up()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Stop and free everything, whatever the state."""
        self._deactivate()
        self._clean_up()
        self._finalized = True
        return SUCCESS

    def _start(self) -> None:
        """Configure and activate, as a manager would."""
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != SUCCESS:
                assert self._start_error is not None
                raise self._start_error
        self._starting = False

    def _attempt(
        self, change: Callable[[], None], *, undo: Callable[[], None]
    ) -> TransitionCallbackReturn:
        try:
            change()
        except Exception as error:  # rclpy would pass over it in silence
            undo()
            self._problem = f'transition failed: {describe(error)}'
            if self._starting:  # it is raised
                self._start_error = error
            else:
                self.get_logger().error(self._problem)
            return FAILURE
        self._problem = ''
        return SUCCESS

    def _configure(self) -> None:
        self._setup = self._set_up(self._settings, ())
        self._outputs = Outputs(self, self._settings.outputs)
        self._introduce(self._setup)

    def _activate(self) -> None:
        assert self._setup is not None
        self._worker = NewestWorker(self._process, on_error=self._on_error, name='detector')
        self._monitor.restart()
        reliability = QoSReliabilityPolicy[self._settings.reliability.upper()]
        qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
        self._points = create_subscription(
            self,
            PointCloud2,
            'points',
            self._on_points,
            qos,
            on_lost=self._monitor.lose,
            callback_group=self._always,
            raw=True,  # so that reading a broken message is an error like any other of a cloud
        )
        classes = ', '.join(self._setup.detector.class_names)
        self.get_logger().info(f'detecting {classes} in clouds on {self._points.topic_name}')

    def _deactivate(self) -> None:
        worker, self._worker = self._worker, None
        points, self._points = self._points, None
        if points is not None:
            self.destroy_subscription(points)
        if worker is not None:
            self._monitor.drop(worker.close())
        if points is not None and self._outputs is not None and self.context.ok():
            self._outputs.clear_markers()

    def _clean_up(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        if self._setup is not None:
            self._setup.detector.close()
            self._leavings.expect(self._setup.detector)
            if self._setup.transforms is not None:
                self._setup.transforms.close()
        self._outputs = self._setup = None
        self._problem = ''

    # Parameters

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Accept all of the changes or none; those of a bundle once the new one is loaded."""
        settings, answer = changed_parameters(self._settings, changes)
        if not answer.successful:
            return answer
        before = self._setup
        if before is not None and (
            settings != self._settings or self._class_thresholds.concern(changes)
        ):
            try:
                self._setup = self._set_up(settings, changes)
            except Exception as error:  # whatever is wrong with a bundle, the old one stays
                return SetParametersResult(successful=False, reason=describe(error))
            self._replace(before, self._setup)
        self._settings = settings
        return answer

    def _replace(self, before: Setup, setup: Setup) -> None:
        """End and tell what a change of the setup brings with it."""
        assert self._outputs is not None
        self._outputs.change(setup.settings.outputs)
        if before.transforms is not None and setup.transforms is None:
            before.transforms.close()
        if setup.detector is not before.detector:
            self._leavings.expect(before.detector)  # of a cloud in work, too
            self._introduce(setup)

    def _set_up(self, settings: DetectorParameters, changes: Sequence[Parameter]) -> Setup:
        """What to work with from now on; the detector is kept where its parameters are.

        Raises:
            PointDistillerError: the parameters ask for what cannot be had; nothing is changed.
        """
        detector = self._kept_detector(settings) or self._load_detector(settings)
        transforms = self._setup.transforms if self._setup is not None else None
        with ExitStack() as undo:
            if not settings.mounting.frame:
                transforms = None
            elif transforms is None:
                transforms = Transforms(self)
                undo.callback(transforms.close)
            thresholds = self._class_thresholds.declare(detector.class_names, changes)
            undo.pop_all()
        detection = to_detection_config(detector.info.model.detection, settings, thresholds)
        reader = self._kept_reader(settings, detector) or CloudReader(
            settings, {'bundle': detector.info}, self.get_logger()
        )
        return Setup(settings, detector, reader, detection, transforms)

    def _kept_detector(self, settings: DetectorParameters) -> PointDetector | None:
        if self._setup is None:
            return None
        kept = all(
            getattr(settings, name) == getattr(self._setup.settings, name) for name in LOADED
        )
        return self._setup.detector if kept else None

    def _kept_reader(
        self, settings: DetectorParameters, detector: PointDetector
    ) -> CloudReader | None:
        """The reader, which has judged clouds, where what it reads and for whom is the same."""
        before = self._setup
        if before is None or before.detector is not detector:
            return None
        kept = all(getattr(settings, name) == getattr(before.settings, name) for name in READ)
        return before.reader if kept else None

    def _load_detector(self, settings: DetectorParameters) -> PointDetector:
        if not settings.bundle:
            raise ConfigError(
                'parameter bundle is empty; give it: bundle, or run folder that holds one'
            )
        return self._load(settings)

    def _introduce(self, setup: Setup) -> None:
        """Tell of a detector that was loaded."""
        assert self._outputs is not None
        bundle, detector = setup.settings.bundle, setup.detector
        self._outputs.describe(detector.info, bundle, detector.backend)
        self.get_logger().info(f'loaded {bundle} into {detector.backend}')

    # Clouds

    def _on_points(self, cloud: bytes) -> None:
        worker = self._worker
        if worker is not None:  # else this is the last one before the node was deactivated
            self._monitor.receive(self.get_clock().now().nanoseconds)
            self._monitor.drop(worker.submit((cloud, perf_counter())))

    def _process(self, item: tuple[bytes, float]) -> None:
        serialized, arrival = item
        setup, outputs, begin = self._setup, self._outputs, perf_counter()
        assert setup is not None
        assert outputs is not None
        settings = setup.settings
        cloud = read_message(PointCloud2, serialized)
        points = setup.reader.read(cloud)
        wanted = outputs.wanted()
        read = perf_counter()
        detections = setup.detector(
            points,
            importance=not wanted.isdisjoint(IMPORTANCE_OUTPUTS),
            detection=setup.detection,
            mounting=self._mounting(setup, cloud.header.frame_id),
        )
        detected = perf_counter()
        outputs.publish(
            wanted,
            cloud.header,
            points,
            detections,
            class_names=setup.detector.class_names,
            max_importance_markers=settings.max_importance_markers,
        )
        times = (arrival, begin, read, detected, perf_counter())
        seen = without_filled_intensity(detections, settings)
        self._monitor.succeed(seen, to_latency_ms(times, detections))

    def _mounting(self, setup: Setup, frame_id: str) -> Mounting | None:
        height = setup.detector.info.sensor_height
        return find_mounting(setup.settings.mounting, setup.transforms, frame_id, height)

    def _on_error(self, error: Exception) -> None:
        self._monitor.fail(error)
        self._log.error(type(error).__name__, f'no detections for a cloud: {describe(error)}')

    # Time and state

    def _on_jump_back(self, jump: object) -> None:  # noqa: ARG002
        """A bag begins again, or simulated time begins: what is shown is not of this time."""
        self._monitor.restart()
        if self._worker is not None and self._outputs is not None:
            self._outputs.clear_markers()

    def _on_jump_forward(self, jump: object) -> None:  # noqa: ARG002
        """The time that was left out is no silence."""
        self._monitor.restart()

    def report(self) -> None:
        """Say how it does, in the diagnostics and, of what goes wrong, in the log."""
        self._leavings.clear()
        now = self.get_clock().now()
        report = self._monitor.report(now.nanoseconds)
        for kind, text in warnings_of(report, self._settings.reliability):
            self._log.warning(kind, text)
        self._log.flush()
        setup = self._setup
        level, message = OK, 'unconfigured' if setup is None else 'inactive'
        if self._finalized:
            message = 'finalized'
        if self._problem:
            level, message = ERROR, self._problem
        elif self._worker is not None:
            problem = setup.reader.problem if setup is not None else ''
            level, message = judge(report, self._settings.diagnostics, problem)
        values = values_of(report)
        if setup is not None:
            low, high = setup.detector.info.intensity_range
            values['training_intensity'] = f'{low:g} to {high:g}'
            values['training_intensity_assumed'] = str(setup.detector.info.intensity_assumed)
            if setup.reader.scale is not None:
                values['intensity_scale'] = f'{setup.reader.scale:.6g}'
            values['bundle'] = setup.settings.bundle
        name = self.get_fully_qualified_name()
        self._diagnostics_publisher.publish(
            to_diagnostics(
                name, now.to_msg(), level, message, values, device=self._settings.device
            )
        )


def to_latency_ms(times: Sequence[float], detections: Detections) -> dict[str, float]:
    """Stages of a cloud: those of the node around those of the detector, whose sum is `total`.

    Args:
        times: of arrival, begin of work, cloud read, detected, all sent [s].
        detections: of the cloud.
    """
    arrival, begin, read, detected, sent = times
    before = {'wait': begin - arrival, 'read': read - begin}
    after = {'publish': sent - detected, 'end_to_end': sent - arrival}
    return {
        **{stage: value * 1e3 for stage, value in before.items()},
        **detections.latency_ms,
        **{stage: value * 1e3 for stage, value in after.items()},
    }


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    return spin_node(DetectorNode, args, num_threads=2)


if __name__ == '__main__':
    sys.exit(main())
