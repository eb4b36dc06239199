# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`comparison_node`: teacher and student on the same clouds; boxes, numbers and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
import sys
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.logging import get_logger
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.detector import Detector, GroundFollower, Mounting
from pointdistiller_core.errors import describe
from pointdistiller_core.evaluation.comparison.pairs import relabel_truth
from pointdistiller_core.evaluation.comparison.report import ReportFolder, describe_machine
from pointdistiller_core.evaluation.comparison.session import CloudResult, OnlineComparison
from pointdistiller_core.evaluation.comparison.writing import ComparisonReport
from pointdistiller_core.messages.boxes_cloud import truth_from_boxes_cloud
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.pipelines.comparison.detectors import ComparedDetectors
from pointdistiller_ros.cloud_input import Arrival, CloudInput
from pointdistiller_ros.comparison_conversions import (
    truth_from_detection_array,
    values_of_comparison,
)
from pointdistiller_ros.comparison_outputs import ComparisonOutputs
from pointdistiller_ros.comparison_parameters import (
    ComparisonParameters,
    check_settings,
    config_of,
)
from pointdistiller_ros.conversions import Detection3DArray, stamp_ns
from pointdistiller_ros.detectors import load_bundle
from pointdistiller_ros.diagnostics import judge_comparison, without_filled_intensity
from pointdistiller_ros.health import Health
from pointdistiller_ros.parameters import declare_parameters
from pointdistiller_ros.sensors import CloudReaders, SensorCloud, Sensors
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.topics import create_subscription, quality_of, subscribe
from pointdistiller_ros.transforms import (
    FOLLOW_EVERY,
    Transforms,
    find_mounting,
    follow_ground,
    needs_transforms,
)

TRUTH_QUEUE_DEPTH = 100
SAVE_PERIOD_S = 10.0


class ComparisonNode(Node):
    """Runs teacher and student on each cloud on `points`, or on the newest if they come too fast.

    Both work on the same points, one after the other. So every result has its partner, and neither
    slows the other down. Every cloud that is worked on leads to exactly one message on
    `~/student/boxes`, with the cloud's header, after all other messages of the cloud.

    Args:
        load: makes a detector, as `load_bundle` does.
        node_options: further arguments of `rclpy.node.Node`.

    Raises:
        BackendError: a backend's package or files are missing.
        CheckpointError: a bundle cannot be loaded.
        ConfigError: a parameter is wrong, the folder for the report holds files already, or both
            models have no class in common.
    """

    def __init__(self, load: Callable[..., Detector] = load_bundle, **node_options: Any) -> None:
        # First, so that the node can be destroyed if the rest fails.
        self._closing = ExitStack()
        self._num_bad_truth = 0
        self._warned_of_frames = False
        self._failure = ''  # of the last cloud
        super().__init__('comparison', **node_options)
        self._settings = settings = declare_parameters(self, ComparisonParameters, fixed=True)
        check_settings(settings)
        needed_for = needs_transforms(settings)
        self._transforms = Transforms(self, needed_for) if needed_for else None
        self._ground = GroundFollower(every=FOLLOW_EVERY)
        if self._transforms is not None:
            self._closing.callback(self._transforms.close)
        folder = ReportFolder(Path(settings.output)) if settings.output else None
        self._detectors = ComparedDetectors(
            config_of(settings), load, lambda text: self.get_logger().warning(text)
        )
        self._readers = CloudReaders(settings, self._detectors.infos, self.get_logger())
        self._machine = describe_machine()  # once: it reads a file
        self._comparison = OnlineComparison(
            self._detectors.rules,
            log=folder,
            tolerance_ns=round(settings.stamp_tolerance * NANOSECONDS),
            capacity=settings.max_waiting,
            num_worst=settings.num_pictures if folder else 0,
        )
        self._report = ComparisonReport(
            *(self._comparison, folder, self._facts),
            log=get_logger('pointdistiller'),  # its own would use an ended middleware
        )
        self._closing.callback(self._report.finish)
        self.health = Health(self, self.report)
        self._closing.callback(self.health.close)
        self._sensors = Sensors(self.health.log)
        self._outputs = ComparisonOutputs(
            self, self._detectors.rules, self.summarize, self.health.log
        )
        # Before the clouds, because a player begins when somebody listens to these.
        self._subscribe_to_truth()
        self._clouds = CloudInput(
            self,
            self._process,
            on_error=self._on_error,
            monitor=self.health.monitor,
            settings=settings,
        )
        self._closing.callback(self._clouds.close)
        if folder is not None:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self.create_timer(SAVE_PERIOD_S, self._report.save, clock=steady)
        names = ' and '.join(about['name'] for about in self._detectors.about.values())
        topics = ', '.join(self._clouds.topics)
        self.get_logger().info(f'comparing {names} in clouds on {topics}')

    @property
    def counts(self) -> dict[str, int]:
        """What became of the clouds so far."""
        return self._count_clouds(ended=False)

    @property
    def num_unanswered(self) -> int:
        """Clouds without an answer on `~/student/boxes`: they failed, or it cannot be sent."""
        return self.health.monitor.counts.failed + self._outputs.num_unanswered

    @property
    def num_truth(self) -> int:
        """Ground truths so far, including unusable ones."""
        return self._comparison.num_truth + self._num_bad_truth

    @property
    def output_topics(self) -> list[str]:
        """Full names of the topics with results, `~/student/boxes` last."""
        return self._outputs.topics

    def summarize(self, *, ended: bool = False) -> dict[str, Any]:
        """All numbers so far, as the report has them.

        Args:
            ended: no more clouds will come, so those received and not worked on count as dropped.
                The numbers are then complete, unless an error has ended the run.
        """
        return self._report.summarize(ended=ended)

    def finished(self) -> bool:
        """Never by itself.

        Raises:
            WriteError: the report cannot be written any more.
        """
        if self._report.fatal is not None:
            raise self._report.fatal
        return False

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until all received clouds are worked on; False if that takes longer."""
        return self._clouds.wait_until_idle(timeout_s)

    def break_off(self, error: BaseException) -> None:
        """Let the report say that this error has ended the run early."""
        self._report.broke_off = error

    def destroy_node(self) -> None:
        """Finish the current cloud, write the report, then end.

        Raises:
            WriteError: the report cannot be written.
        """
        try:
            self._closing.close()
        finally:
            super().destroy_node()

    def report(self) -> None:
        """Report in the diagnostics, and problems in the log."""
        missing = self._sensors.take_problem()
        problem = '; '.join(filter(None, (self._readers.problem, missing)))
        report = self.health.next_report(self._settings.reliability, problem)
        level, message = judge_comparison(
            report,
            self._settings.diagnostics,
            problem=self._failure or self._outputs.problem,
            warning=problem,
        )
        values = values_of_comparison(self.summarize()) | self._sensors.describe(self._clouds)
        self.health.publish(level, message, values, device=self._settings.device)

    def _facts(self, ended: bool) -> Mapping[str, Any]:
        """What the report says beside the comparison's own numbers."""
        return {
            **self._detectors.about,
            'intensity': {'problem': self._readers.problem, 'scale': self._readers.scale},
            'repairs': {role: dict(counts) for role, counts in self._detectors.repairs.items()},
            'machine': self._machine,
            'settings': asdict(self._settings),
            'clouds': self._count_clouds(ended=ended),
            'unusable_ground_truths': self._num_bad_truth + self._comparison.num_truth_elsewhere,
            'unsent_messages': self._outputs.num_unsent,
        }

    def _count_clouds(self, *, ended: bool) -> dict[str, int]:
        counts, heard = self._comparison.counts, self.health.monitor.counts
        done = counts['compared'] + counts['repeated'] + heard.failed
        return {
            'received': heard.received,
            'compared': counts['compared'],
            'repeated': counts['repeated'],
            'failed': heard.failed,
            'dropped': heard.received - done if ended else heard.dropped,
            'lost': heard.lost,
        }

    def _process(self, arrival: Arrival) -> None:
        cloud = self._sensors.read(arrival.clouds, self._readers, self._settings, self._transforms)
        mountings = self._find_mountings(cloud)
        teacher, student = self._detectors.detect(cloud.points, mountings)
        result = CloudResult(
            stamp_ns(cloud.header.stamp),
            cloud.points,
            teacher,
            student,
            (mountings['teacher'], mountings['student']),
            cloud.header.frame_id,
        )
        with self._report.lock:
            agreement = self._comparison.add(result)
        seen = without_filled_intensity(cloud.count_dropped(student), self._settings)
        self.health.monitor.succeed(seen, {'end_to_end': student.latency_ms['total']})
        self._warn_of_frames()
        self._failure = ''
        self._outputs.publish(cloud.header, result, agreement)

    def _find_mountings(self, cloud: SensorCloud) -> dict[str, Mounting | None]:
        """The mounting of a cloud's sensor for each, because they may expect different ones."""
        given, frame_id = self._settings.mounting, cloud.header.frame_id
        ground = self._ground.follow(cloud.points) if follow_ground(given) else None
        return {
            role: find_mounting(given, self._transforms, frame_id, info.sensor_height, ground)
            for role, info in self._detectors.infos.items()
        }

    def _on_error(self, error: Exception) -> None:
        self._failure = f'the last cloud failed: {describe(error)}'
        self._report.note(error)
        self.health.fail(error, 'a cloud is not compared')

    def _subscribe_to_truth(self) -> None:
        kinds = {'boxes': PointCloud2, 'detections': Detection3DArray}
        if kind := kinds.get(self._settings.ground_truth_type):
            quality = quality_of(self._settings.reliability, TRUTH_QUEUE_DEPTH)
            options = {'on_error': self._on_bad_truth, 'create': create_subscription}
            subscribe(self, kind, 'ground_truth', self._on_truth, quality, **options)

    def _on_truth(self, message: PointCloud2 | Detection3DArray) -> None:
        common = self._detectors.rules.class_names
        if isinstance(message, PointCloud2):
            given = [name for name in self._settings.ground_truth_classes if name]
            names = given or self._detectors.class_names['teacher']
            truth = relabel_truth(truth_from_boxes_cloud(message), names, common)
        else:
            truth = truth_from_detection_array(message, common)
        with self._report.lock:
            header = message.header
            self._comparison.add_truth(stamp_ns(header.stamp), truth, header.frame_id)
        self._warn_of_frames()

    def _on_bad_truth(self, error: Exception) -> None:
        self._num_bad_truth += 1
        self._report.note(error)
        text = f'a ground truth is not used: {describe(error)}'
        self.health.log.error(f'truth {type(error)}', text)

    def _warn_of_frames(self) -> None:
        if self._comparison.frames_apart and not self._warned_of_frames:
            self._warned_of_frames = True
            of_cloud, of_truth = self._comparison.frames_apart
            self.get_logger().warning(
                f'ground truth in the frame {of_truth!r} of a cloud in {of_cloud!r} is not used: '
                "send boxes in the cloud's frame; it is counted and not mentioned again"
            )


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    return spin_node(ComparisonNode, args, finished=ComparisonNode.finished)


if __name__ == '__main__':
    sys.exit(main())
