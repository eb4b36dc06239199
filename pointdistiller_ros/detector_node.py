# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`detector_node`: PointCloud2 in; boxes, markers and importance out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
import sys
from time import perf_counter
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.parameter import Parameter

from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import describe
from pointdistiller_core.records import LiveImportance
from pointdistiller_ros.cloud_input import Arrival, CloudInput
from pointdistiller_ros.detector_outputs import IMPORTANCE_OUTPUTS, Outputs
from pointdistiller_ros.detector_setup import Setup, SetupBuilder, load_detector
from pointdistiller_ros.diagnostics import (
    ERROR,
    OK,
    CloudCounts,
    judge,
    values_of,
    without_filled_intensity,
)
from pointdistiller_ros.health import Health
from pointdistiller_ros.lifecycle import ManagedNode
from pointdistiller_ros.memory import Leavings
from pointdistiller_ros.parameters import (
    DetectorParameters,
    changed_parameters,
    declare_parameters,
)
from pointdistiller_ros.sensors import Sensors
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.sweeps import Odometry, Sweeps
from pointdistiller_ros.tracking import Tracking


class DetectorNode(ManagedNode):
    """Detects objects in each cloud on `points`, or in the newest if they come too fast.

    Every cloud that is worked on leads to exactly one message on each topic of `Outputs`, with the
    cloud's header. `~/boxes` is sent last, so it also says that all others are out. Outputs
    without subscribers are not built.

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
        load: Callable[[DetectorParameters], Detector] = load_detector,
        **node_options: Any,
    ) -> None:
        # First, so that the node can be destroyed if the rest fails.
        self._closing = ExitStack()
        self._setup: Setup | None = None  # while configured
        self._outputs: Outputs | None = None  # while configured
        self._clouds: CloudInput | None = None  # while active
        self._odometry: Odometry | None = None  # while active
        self._leavings = Leavings()  # detectors that were replaced
        super().__init__('detector', **node_options)
        # A group of their own, so that they go on while a bundle is loaded.
        self._always = MutuallyExclusiveCallbackGroup()
        self.health = Health(
            self,
            self.report,
            callback_group=self._always,
            on_jump_back=self._clear_markers,
        )
        self._closing.callback(self.health.close)
        self._sensors = Sensors(self.health.log)
        self._sweeps = Sweeps(self.health.log)
        self._tracking = Tracking(self.health.log)
        self._settings = declare_parameters(self, DetectorParameters)
        self._builder = SetupBuilder(self, load)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        if self._settings.autostart:
            self.start()

    @property
    def counts(self) -> CloudCounts:
        """What became of the clouds so far."""
        return self.health.monitor.counts

    @property
    def output_topics(self) -> list[str]:
        """Full names of the topics with results, `~/boxes` first; none before `configure`."""
        return self._outputs.topics if self._outputs else []

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until all received clouds are worked on; False if that takes longer."""
        return self._clouds is None or self._clouds.wait_until_idle(timeout_s)

    def destroy_node(self) -> None:
        """Finish the current cloud, then end."""
        self.deactivate()
        self.clean_up()
        self._closing.close()
        super().destroy_node()

    # Life

    def configure(self) -> None:
        """Load the bundle and create the publishers."""
        self._setup = self._builder.build(self._settings)
        self._outputs = Outputs(self, self._settings.outputs)
        self._introduce(self._setup)

    def activate(self) -> None:
        """Subscribe to the clouds."""
        assert self._setup is not None
        self.health.monitor.restart()
        if topic := self._settings.sweeps.odometry:
            group = {'callback_group': self._always}
            self._odometry = Odometry(self, topic, self.health.log, **group)
        self._clouds = CloudInput(
            self,
            self._process,
            on_error=lambda error: self.health.fail(error, 'no detections for a cloud'),
            monitor=self.health.monitor,
            settings=self._settings,
            callback_group=self._always,
        )
        classes = ', '.join(self._setup.detector.class_names)
        topics = ', '.join(self._clouds.topics)
        self.get_logger().info(f'detecting {classes} in clouds on {topics}')

    def deactivate(self) -> None:
        """Finish the current cloud, then listen to no more."""
        clouds, self._clouds = self._clouds, None
        odometry, self._odometry = self._odometry, None
        if odometry is not None:
            odometry.close()
        if clouds is not None:
            clouds.close()
            if self._outputs is not None and self.context.ok():
                self._outputs.clear_markers()

    def clean_up(self) -> None:
        """Free the detector's memory and end the publishers."""
        if self._outputs is not None:
            self._outputs.destroy()
        if self._setup is not None:
            self._setup.detector.close()
            self._leavings.expect(self._setup.detector)
            if self._setup.transforms is not None:
                self._setup.transforms.close()
        self._outputs = self._setup = None

    def _introduce(self, setup: Setup) -> None:
        """Announce a detector that was loaded."""
        assert self._outputs is not None
        bundle, detector = setup.settings.bundle, setup.detector
        self._outputs.describe(detector, bundle)
        engine = detector.host_engine
        before = '' if engine is None else f', what comes before the network into {engine}'
        self.get_logger().info(f'loaded {bundle} into {detector.backend}{before}')

    # Parameters

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Accept all changes or none; a change of the bundle once the new one is loaded."""
        settings, answer = changed_parameters(self._settings, changes)
        if not answer.successful:
            return answer
        before = self._setup
        if before is not None and (settings != self._settings or self._builder.concern(changes)):
            try:
                self._setup = self._builder.build(settings, before, changes)
            except Exception as error:  # the old bundle stays, whatever is wrong with the new one
                return SetParametersResult(successful=False, reason=describe(error))
            self._replace(before, self._setup)
        self._settings = settings
        return answer

    def _replace(self, before: Setup, setup: Setup) -> None:
        """Do what a change of the setup requires."""
        assert self._outputs is not None
        self._outputs.change(setup.settings.outputs)
        if before.transforms is not None and setup.transforms is None:
            before.transforms.close()
        if setup.detector is not before.detector:
            self._leavings.expect(before.detector)  # of a cloud in work, too
            self._introduce(setup)

    # Clouds

    def _process(self, arrival: Arrival) -> None:
        setup, outputs = self._setup, self._outputs
        assert setup is not None
        assert outputs is not None
        cloud = self._sensors.read(arrival.clouds, setup.readers, setup.settings, setup.transforms)
        cloud = self._sweeps.merge(cloud, setup, self._odometry)
        wanted = outputs.wanted()
        read = perf_counter()
        found = setup.detector(
            cloud.points,
            importance=_importance(wanted, setup.settings),
            detection=setup.detection,
            mounting=setup.find_mounting(cloud.header.frame_id, cloud.points),
        )
        detected = perf_counter()
        detections = cloud.count_dropped(found)
        tracks = self._tracking.follow(setup, detections, cloud.header)
        tracked = perf_counter()
        outputs.publish(
            wanted,
            cloud.header,
            cloud.points,
            detections if tracks is None else tracks.detections,
            tracks=tracks,
            class_names=setup.detector.class_names,
            max_importance_markers=setup.settings.max_importance_markers,
        )
        sent = perf_counter()
        several = {'gather': 1e3 * (arrival.complete - arrival.first)}
        stages = {  # around those of the detector, whose sum is `total`
            **(several if len(arrival.clouds) > 1 else {}),
            'wait': 1e3 * (arrival.begin - arrival.complete),
            'read': 1e3 * (read - arrival.begin),
            **detections.latency_ms,
            **({} if tracks is None else {'track': 1e3 * (tracked - detected)}),
            'publish': 1e3 * (sent - tracked),
            'end_to_end': 1e3 * (sent - arrival.first),
        }
        self.health.monitor.succeed(without_filled_intensity(detections, setup.settings), stages)

    def _clear_markers(self) -> None:
        """What is shown is out of date."""
        if self._clouds is not None and self._outputs is not None:
            self._outputs.clear_markers()

    def report(self) -> None:
        """Report in the diagnostics, and problems in the log."""
        self._leavings.clear()
        setup = self._setup
        problems = [self._sweeps.problem, self._tracking.problem]
        problems += [setup.readers.problem] if setup is not None else []
        problem = '; '.join(filter(None, (*problems, self._sensors.take_problem())))
        report = self.health.next_report(self._settings.reliability, problem)
        level, message = OK, self.state
        if self.problem:
            level, message = ERROR, self.problem
        elif self._clouds is not None:
            level, message = judge(report, self._settings.diagnostics, problem)
        values = values_of(report)
        if setup is not None:
            values |= setup.describe() | self._tracking.describe()
            values |= self._sweeps.describe() | self._sensors.describe(self._clouds)
        self.health.publish(level, message, values, device=self._settings.device)


def _importance(wanted: set[str], settings: DetectorParameters) -> LiveImportance | bool:
    """By what the detector is to tell importance; False if nobody asks."""
    kind: LiveImportance = 'confidence' if settings.importance == 'confidence' else 'own'
    return False if wanted.isdisjoint(IMPORTANCE_OUTPUTS) else kind


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    return spin_node(DetectorNode, args, num_threads=2)


if __name__ == '__main__':
    sys.exit(main())
