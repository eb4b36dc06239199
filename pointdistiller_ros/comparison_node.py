# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`comparison_node`: teacher and student on the same clouds; boxes, numbers and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
import os
from pathlib import Path
import sys
from threading import Lock
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType, JumpHandle
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pointdistiller_core.detector import Mounting
from pointdistiller_core.errors import ConfigError, WriteError
from pointdistiller_core.evaluation.comparison.pairs import (
    CloudAgreement,
    relabel,
    relabel_truth,
)
from pointdistiller_core.evaluation.comparison.report import (
    JSON_FILE,
    PAGE_FILE,
    ReportFolder,
    describe_machine,
    summarize,
    to_json,
)
from pointdistiller_core.evaluation.comparison.session import (
    CloudResult,
    ComparisonRules,
    OnlineComparison,
    default_overlaps,
    numbers_of,
)
from pointdistiller_core.messages.boxes_cloud import truth_from_boxes_cloud
from pointdistiller_core.records import Detections, GroundTruth
from pointdistiller_ros.cloud_reader import CloudReader
from pointdistiller_ros.comparison_conversions import (
    to_agreement,
    to_agreement_markers,
    to_comparison_diagnostics,
    truth_from_detection_array,
)
from pointdistiller_ros.comparison_parameters import ComparisonParameters
from pointdistiller_ros.conversions import (
    NANOSECONDS,
    Detection3DArray,
    marker_keys,
    stamp_ns,
    to_boxes_cloud,
)
from pointdistiller_ros.detector_node import BACKWARDS, PointDetector
from pointdistiller_ros.diagnostics import (
    REPAIRS,
    Monitor,
    describe,
    warnings_of,
    without_filled_intensity,
)
from pointdistiller_ros.logs import RepeatedLog
from pointdistiller_ros.messages import read_message, subscribe
from pointdistiller_ros.parameters import declare_parameters
from pointdistiller_ros.quality import create_publisher, create_subscription
from pointdistiller_ros.spinning import spin_node
from pointdistiller_ros.transforms import Transforms, find_mounting
from pointdistiller_ros.worker import NewestWorker

ANSWER = 'student/boxes'
OUTPUTS = {  # the last one tells that all others of a cloud are out
    'teacher/boxes': PointCloud2,
    'markers': MarkerArray,
    'agreement': DiagnosticArray,
    ANSWER: PointCloud2,
}
ROLES = ('teacher', 'student')
QUEUE_DEPTH = 5
TRUTH_QUEUE_DEPTH = 100
DIAGNOSTICS_PERIOD_S = 1.0
SAVE_PERIOD_S = 10.0


@dataclass(frozen=True)
class Model:
    """A detector and what a report says about it.

    Attributes:
        detector: the detector.
        about: name, files with checksums, backend, grid, ...
        ranges: its range as x_min, y_min, z_min, x_max, y_max, z_max [m]; none if not known.
    """

    detector: PointDetector
    about: Mapping[str, Any]
    ranges: tuple[tuple[float, float, float, float, float, float], ...] = ()


def load_model(bundle: str, *, backend: str, device: str, num_threads: int) -> Model:
    """The detector of a bundle.

    Args:
        bundle: folder of the bundle, or of the run.
        backend: what the network runs in.
        device: where it runs.
        num_threads: CPU threads; 0 is the backend's own choice.

    Raises:
        BackendError: the backend's package or files are missing.
        CheckpointError: the bundle cannot be loaded.
        ConfigError: no such backend or device on this machine.
    """
    # torch's idle threads would spin and slow down the other network; it reads this when imported.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from pointdistiller_core.detector import Detector  # late, for it may bring torch

    detector = Detector.load(
        bundle, backend=backend, device=device, num_threads=num_threads or None
    )
    info, path = detector.info, Path(bundle).resolve()
    about = {
        'name': path.parent.name if path.name == 'bundle' else path.name,
        'bundle': str(path),
        'backend': detector.backend,
        'device': device,
        'width': info.model.width,
        'classes': list(info.model.class_names),
        'point_cloud_range': list(info.model.grid.point_cloud_range),
        'voxel_size': list(info.model.grid.voxel_size),
        'sha256': dict(info.sha256),
    }
    return Model(detector, about, (info.model.grid.point_cloud_range,))


class ComparisonNode(Node):
    """Runs teacher and student on each cloud on `points`, or on the newest if they come too fast.

    Both work on the same points, one after the other: no result is without its partner, and the
    time of either does not depend on the other. Every cloud that is worked on leads to exactly one
    message on `~/student/boxes`, with the cloud's header, after all others of the cloud.

    Args:
        load: makes a model from a bundle, a backend, a device and a number of threads.
        node_options: further arguments of `rclpy.node.Node`.

    Raises:
        BackendError: a backend's package or files are missing.
        CheckpointError: a bundle cannot be loaded.
        ConfigError: a parameter is wrong, the folder for the report holds files already, or both
            models have no class in common.
    """

    def __init__(self, load: Callable[..., Model] = load_model, **node_options: Any) -> None:
        # First, so that the node can be destroyed wherever the rest fails.
        self._worker = NewestWorker(self._process, on_error=self._on_error, name='comparison')
        self._comparison: OnlineComparison | None = None
        self._transforms: Transforms | None = None  # where TF is needed
        self._jumps: JumpHandle | None = None
        self._monitor = Monitor()
        self._log = RepeatedLog(self)
        super().__init__('comparison', **node_options)
        self._settings = declare_parameters(self, ComparisonParameters, fixed=True)
        check_settings(self._settings)
        if self._settings.mounting.frame:
            self._transforms = Transforms(self)
        self._report = ReportFolder(Path(self._settings.output)) if self._settings.output else None
        self._models = {role: self._load(load, role) for role in ROLES}
        infos = {role: model.detector.info for role, model in self._models.items()}
        self._reader = CloudReader(self._settings, infos, self.get_logger())
        self._repairs = {role: dict.fromkeys(REPAIRS, 0) for role in ROLES}
        self._machine = describe_machine()  # once: it reads a file
        self._started = datetime.now(timezone.utc).isoformat(timespec='seconds')
        self._shown_markers: frozenset[tuple[str, int]] | None = None
        self._num_bad_truth = self._num_unsent = self._num_unanswered = 0
        self._warm = self._warned_of_frames = False
        self._problem = ''  # with the last cloud
        self._fatal: WriteError | None = None
        self._broke_off: BaseException | None = None
        self._lock = Lock()  # of the comparison: labels come in another thread than clouds
        self._comparison = OnlineComparison(
            self._build_rules(),
            log=self._report,
            tolerance_ns=round(self._settings.stamp_tolerance * NANOSECONDS),
            capacity=self._settings.max_waiting,
            num_worst=self._settings.num_pictures if self._report else 0,
        )
        self._outputs = {
            name: create_publisher(self, kind, f'~/{name}', QoSProfile(depth=QUEUE_DEPTH))
            for name, kind in OUTPUTS.items()
        }
        self._diagnostics_publisher = create_publisher(
            self, DiagnosticArray, '/diagnostics', QoSProfile(depth=1)
        )
        self._subscribe()
        self._jumps = self.get_clock().create_jump_callback(
            BACKWARDS, post_callback=lambda _: self._monitor.restart()
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # reports also while simulated time rests
        self.create_timer(DIAGNOSTICS_PERIOD_S, self.report, clock=steady)
        if self._report is not None:
            self.create_timer(SAVE_PERIOD_S, self._save, clock=steady)

    @property
    def counts(self) -> dict[str, int]:
        """What became of the clouds so far."""
        return self._count_clouds(ended=False)

    @property
    def diagnostics_topic(self) -> str:
        """Full name of the topic of the diagnostics."""
        return self._diagnostics_publisher.topic_name

    @property
    def num_unanswered(self) -> int:
        """Clouds for which no `~/student/boxes` will come: they failed, or it cannot be sent."""
        return self._monitor.counts.failed + self._num_unanswered

    @property
    def num_truth(self) -> int:
        """Ground truths so far, with those that are unusable."""
        assert self._comparison is not None
        return self._comparison.num_truth + self._num_bad_truth

    @property
    def output_topics(self) -> list[str]:
        """Full names of the topics with results, `~/student/boxes` last."""
        return [publisher.topic_name for publisher in self._outputs.values()]

    def summarize(self, *, ended: bool = False) -> dict[str, Any]:
        """All numbers so far, as the report has them.

        Args:
            ended: no cloud is to come: those that were received and not worked on count as
                dropped. The numbers are complete then, if no error has ended it.
        """
        assert self._comparison is not None
        error = self._broke_off or self._fatal
        facts = {
            'complete': ended and error is None,
            'error': None if error is None else describe(error),
            'started': self._started,
            **{role: model.about for role, model in self._models.items()},
            'intensity': {'problem': self._reader.problem, 'scale': self._reader.scale},
            'repairs': {role: dict(counts) for role, counts in self._repairs.items()},
            'machine': self._machine,
            'settings': asdict(self._settings),
            'clouds': self._count_clouds(ended=ended),
            'unusable_ground_truths': self._num_bad_truth + self._comparison.num_truth_elsewhere,
            'unsent_messages': self._num_unsent,
        }
        with self._lock:
            return summarize(self._comparison, facts)

    def finished(self) -> bool:
        """Never by itself.

        Raises:
            WriteError: the report cannot be written any more.
        """
        if self._fatal is not None:
            raise self._fatal
        return False

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until every cloud received is worked on; False where that takes longer."""
        return self._worker.wait_until_idle(timeout_s)

    def break_off(self, error: BaseException) -> None:
        """Let the report say that this error has ended the run too early."""
        self._broke_off = error

    def destroy_node(self) -> None:
        """Finish the cloud that is worked on, write the report, then end.

        Where nothing has come there is nothing to report, and the folder may be used again.

        Raises:
            WriteError: the report cannot be written.
        """
        self._worker.close()
        if self.context.ok():
            self._log.flush(all=True)
        try:
            if self._comparison is not None and self._report is not None:
                self._write_report(self._comparison, self._report)
        finally:
            self._comparison = None  # so that a second call writes nothing
            if self._jumps is not None:
                self._jumps.unregister()
            self._jumps = None
            if self._transforms is not None:
                self._transforms.close()
            self._transforms = None
            super().destroy_node()

    def _load(self, load: Callable[..., Model], role: str) -> Model:
        settings = self._settings
        return load(
            getattr(settings, role),
            backend=getattr(settings, f'{role}_backend'),
            device=settings.device,
            num_threads=settings.num_threads,
        )

    def _build_rules(self) -> ComparisonRules:
        names = {role: model.detector.class_names for role, model in self._models.items()}
        common = common_classes(names)
        for role, all_names in names.items():
            if others := [name for name in all_names if name not in common]:
                self.get_logger().warning(
                    f'only the {role} knows {", ".join(others)}: not compared'
                )
        ranges = tuple(one for model in self._models.values() for one in model.ranges)
        if len(set(ranges)) > 1:
            self.get_logger().warning(
                f'teacher and student see different ranges, {ranges[0]} and {ranges[1]}: what is '
                'in one of them alone counts as missed or extra'
            )
        least = self._settings.min_iou
        overlaps = (least,) * len(common) if least else default_overlaps(common)
        return ComparisonRules(common, overlaps, tuple(self._settings.distances), ranges)

    def _subscribe(self) -> None:
        reliability = QoSReliabilityPolicy[self._settings.reliability.upper()]
        qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
        # Before the clouds: a player begins when it sees that these are listened to.
        kinds = {'boxes': PointCloud2, 'detections': Detection3DArray}
        if kind := kinds.get(self._settings.ground_truth_type):
            many = QoSProfile(depth=TRUTH_QUEUE_DEPTH, reliability=reliability)
            subscribe(
                self,
                kind,
                'ground_truth',
                self._on_truth,
                many,
                on_error=self._on_bad_truth,
                create=create_subscription,
            )
        points = create_subscription(
            self,
            PointCloud2,
            'points',
            self._on_points,
            qos,
            on_lost=self._monitor.lose,
            raw=True,  # so that reading a broken message is an error like any other of a cloud
        )
        names = ' and '.join(model.about['name'] for model in self._models.values())
        self.get_logger().info(f'comparing {names} in clouds on {points.topic_name}')

    def _count_clouds(self, *, ended: bool) -> dict[str, int]:
        assert self._comparison is not None
        counts, heard = self._comparison.counts, self._monitor.counts
        done = counts['compared'] + counts['repeated'] + heard.failed
        return {
            'received': heard.received,
            'compared': counts['compared'],
            'repeated': counts['repeated'],
            'failed': heard.failed,
            'dropped': heard.received - done if ended else heard.dropped,
            'lost': heard.lost,
        }

    def _on_points(self, cloud: bytes) -> None:
        self._monitor.receive(self.get_clock().now().nanoseconds)
        self._monitor.drop(self._worker.submit(cloud))

    def _on_truth(self, message: PointCloud2 | Detection3DArray) -> None:
        comparison = self._comparison
        assert comparison is not None
        truth = self._read_truth(message, comparison.rules.class_names)
        with self._lock:
            comparison.add_truth(stamp_ns(message.header.stamp), truth, message.header.frame_id)
        self._warn_of_frames(comparison)

    def _warn_of_frames(self, comparison: OnlineComparison) -> None:
        if comparison.frames_apart and not self._warned_of_frames:
            self._warned_of_frames = True
            of_cloud, of_truth = comparison.frames_apart
            self.get_logger().warning(
                f'ground truth in the frame {of_truth!r} of a cloud in {of_cloud!r} is not used: '
                "send boxes in the cloud's frame; it is counted and not mentioned again"
            )

    def _on_bad_truth(self, error: Exception) -> None:
        self._num_bad_truth += 1
        self._fatal = error if isinstance(error, WriteError) else self._fatal
        self._log.error(f'truth {type(error)}', f'a ground truth is not used: {describe(error)}')

    def _read_truth(self, message: Any, class_names: Sequence[str]) -> GroundTruth:
        if isinstance(message, PointCloud2):
            given = [name for name in self._settings.ground_truth_classes if name]
            names = given or self._models['teacher'].detector.class_names
            return relabel_truth(truth_from_boxes_cloud(message), names, class_names)
        return truth_from_detection_array(message, class_names)

    def _process(self, serialized: bytes) -> None:
        comparison = self._comparison
        assert comparison is not None
        cloud = read_message(PointCloud2, serialized)
        points = self._reader.read(cloud)
        mountings = self._find_mountings(cloud.header.frame_id)
        if not self._warm:  # a network's first run takes longer: it is not measured
            for role, mounting in mountings.items():
                self._models[role].detector(points, mounting=mounting)
            self._warm = True
        names = comparison.rules.class_names
        teacher, student = (self._detect(role, points, mountings[role], names) for role in ROLES)
        result = CloudResult(
            stamp_ns(cloud.header.stamp),
            points,
            teacher,
            student,
            (mountings['teacher'], mountings['student']),
            cloud.header.frame_id,
        )
        with self._lock:
            agreement = comparison.add(result)
        seen = without_filled_intensity(student, self._settings)
        self._monitor.succeed(seen, {'end_to_end': student.latency_ms['total']})
        self._warn_of_frames(comparison)
        self._problem = ''
        self._publish(cloud.header, result, agreement, comparison.rules)

    def _find_mountings(self, frame_id: str) -> dict[str, Mounting | None]:
        """The mounting of a cloud's sensor for each role: they may differ in what they expect."""
        given = self._settings.mounting
        return {
            role: find_mounting(
                given, self._transforms, frame_id, model.detector.info.sensor_height
            )
            for role, model in self._models.items()
        }

    def _detect(
        self,
        role: str,
        points: NDArray[np.float32],
        mounting: Mounting | None,
        class_names: Sequence[str],
    ) -> Detections:
        detector = self._models[role].detector
        found = detector(points, mounting=mounting)
        for name in REPAIRS:
            self._repairs[role][name] += found.counts.get(name, 0)
        sure = found[found.scores >= getattr(self._settings, f'{role}_score_threshold')]
        return relabel(sure, detector.class_names, class_names)

    def _publish(
        self,
        header: Header,
        result: CloudResult,
        agreement: CloudAgreement,
        rules: ComparisonRules,
    ) -> None:
        """Send what somebody listens to, then the answer; whatever fails, the rest is sent."""
        builders: Mapping[str, Callable[[], Any]] = {
            'teacher/boxes': lambda: to_boxes_cloud(result.teacher, header),
            'markers': lambda: self._build_markers(header, result, agreement, rules.class_names),
            'agreement': lambda: self._build_agreement(header, agreement, rules),
            ANSWER: lambda: to_boxes_cloud(result.student, header),
        }
        for name, publisher in self._outputs.items():
            if name == ANSWER or publisher.get_subscription_count():
                try:
                    publisher.publish(builders[name]())
                except Exception as error:  # the cloud is compared: it has not failed
                    self._on_unsent(name, error)

    def _build_markers(
        self,
        header: Header,
        result: CloudResult,
        agreement: CloudAgreement,
        class_names: Sequence[str],
    ) -> MarkerArray:
        matches = agreement.matches
        groups = {
            'agreed': result.student[matches.true_positives],
            'missed': result.teacher[matches.missed],
            'extra': result.student[matches.false_positives],
        }
        markers = to_agreement_markers(groups, header, class_names, self._shown_markers)
        self._shown_markers = marker_keys(markers)
        return markers

    def _build_agreement(
        self, header: Header, agreement: CloudAgreement, rules: ComparisonRules
    ) -> DiagnosticArray:
        cloud = numbers_of(agreement, rules)
        return to_agreement(self.get_fully_qualified_name(), header, cloud, self.summarize())

    def _on_unsent(self, name: str, error: Exception) -> None:
        self._num_unsent += 1
        self._num_unanswered += name == ANSWER
        self._problem = f'a message on ~/{name} is not sent: {describe(error)}'
        self._log.error(name, self._problem)

    def _on_error(self, error: Exception) -> None:
        self._monitor.fail(error)
        self._problem = f'the last cloud failed: {describe(error)}'
        self._fatal = error if isinstance(error, WriteError) else self._fatal
        self._log.error(type(error).__name__, f'a cloud is not compared: {describe(error)}')

    def report(self) -> None:
        """Say how it does, in the diagnostics and, of what goes wrong, in the log."""
        now = self.get_clock().now()
        report = self._monitor.report(now.nanoseconds)
        for kind, text in warnings_of(report, self._settings.reliability):
            self._log.warning(kind, text)
        self._log.flush()
        self._diagnostics_publisher.publish(
            to_comparison_diagnostics(
                self.get_fully_qualified_name(),
                now.to_msg(),
                self.summarize(),
                report=report,
                limits=self._settings.diagnostics,
                problem=self._problem,
                device=self._settings.device,
                warning=self._reader.problem,
            )
        )

    def _save(self) -> None:
        """The numbers so far, for whoever looks and in case that the process is killed."""
        assert self._report is not None
        try:
            self._report.replace(JSON_FILE, to_json(self.summarize()))
        except WriteError as error:
            self._fatal = error

    def _write_report(self, comparison: OnlineComparison, report: ReportFolder) -> None:
        from pointdistiller_core.evaluation.comparison.page import build_page  # late: matplotlib

        log = get_logger('pointdistiller')  # the node's own would use an ended middleware
        summary = self.summarize(ended=True)
        report.close()
        if not self._monitor.counts.received and not self.num_truth:
            log.warning(f'no report in {report.path}: neither clouds nor labels have come')
            return
        # Whatever happens to the page, the numbers are there, and complete only with it.
        error = summary['error'] or f'{PAGE_FILE} is not written'
        report.replace(JSON_FILE, to_json(summary | {'complete': False, 'error': error}))
        report.replace(PAGE_FILE, build_page(comparison, summary))
        report.replace(JSON_FILE, to_json(summary))
        log.info(f'wrote {report.path / PAGE_FILE}')


def check_settings(settings: ComparisonParameters) -> None:
    """Refuse what no descriptor can express.

    Raises:
        ConfigError: distances do not ascend, or vision_msgs is wanted and not installed.
    """
    distances = list(settings.distances)
    if distances != sorted(set(distances)) or (distances and distances[0] <= 0):
        raise ConfigError(f'parameter distances is {distances}; it must be positive and ascend')
    if settings.ground_truth_type == 'detections' and Detection3DArray is None:
        raise ConfigError(
            "parameter ground_truth_type is 'detections', but vision_msgs is not installed; "
            "install it, or send 'boxes'"
        )


def common_classes(names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The teacher's classes that the student has, too.

    Raises:
        ConfigError: there is none.
    """
    common = tuple(name for name in names['teacher'] if name in names['student'])
    if not common:
        given = ', '.join(f'the {role} {list(of_role)}' for role, of_role in names.items())
        raise ConfigError(f'teacher and student have no class in common: {given}')
    return common


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    return spin_node(ComparisonNode, args, finished=ComparisonNode.finished)


if __name__ == '__main__':
    sys.exit(main())
