# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller run compare`: a bag through a comparison node, in one process."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import sys
from typing import Any

from rclpy.logging import get_logger

from pointdistiller_core.detector import DEFAULT_BUNDLE, DEFAULT_TEACHER, Detector
from pointdistiller_core.evaluation.comparison.report import Check, failures, format_table
from pointdistiller_core.messages.bags import check_new_bag, read_class_names, read_clouds
from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.comparison_parameters import ComparisonParameters
from pointdistiller_ros.detectors import load_bundle
from pointdistiller_ros.parameters import TF_TOPICS
from pointdistiller_ros.playback import ARRIVAL_TIMEOUT_S, RELIABLE, Playback, Topics
from pointdistiller_ros.run_parameters import (
    add_bag_options,
    add_parameter_options,
    check_parameters,
    settle_parameters,
)
from pointdistiller_ros.spinning import Session

RESULT_TOPIC = '/comparison/student/boxes'
OPTIONS = (  # parameters
    *('teacher_score_threshold', 'student_score_threshold'),
    *('teacher_backend', 'student_backend', 'min_iou', 'device', 'num_threads'),
)


@dataclass(frozen=True)
class CompareOptions:
    """What to compare.

    Attributes:
        teacher: its bundle, run folder that holds one, or name of a shipped bundle.
        student: the same of the student.
        bag: bag with PointCloud2 messages.
        topic: topic of the clouds, or topics of several sensors; none is the only one of the bag.
        ground_truth: topic of the bag with labelled boxes; empty compares without.
        record: bag to write clouds and results to; empty writes none.
        output: folder to create for the report; empty writes none.
        rate: speed relative to the recording; None waits for each result, so that none is dropped.
        parameters: further parameters of the comparison node.
    """

    teacher: str
    student: str
    bag: str
    topic: Topics = None
    ground_truth: str = ''
    record: str = ''
    output: str = ''
    rate: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def run_compare(
    options: CompareOptions,
    *,
    load: Callable[..., Detector] = load_bundle,
    on_cloud: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Play a bag through a comparison node and, if asked, record clouds and results.

    Args:
        options: what to compare.
        load: makes a detector, as `load_bundle` does.
        on_cloud: told the number of clouds played so far, for a progress bar.

    Returns:
        The numbers of the report.

    Raises:
        PointDistillerError: a bag, a bundle or a parameter cannot be used, the report cannot be
            written, or a result is missing in lock-step.
    """
    if options.record:
        check_new_bag(Path(options.record))
    with Session() as session:
        playback, node = _add_nodes(session, options, load)
        try:
            playback.attach(node, options.record)
            _play(session, node, playback, truth=options.ground_truth, on_cloud=on_cloud)
        except BaseException as error:  # also Ctrl-C: the bag is not at its end
            node.break_off(error)
            raise
        return node.summarize(ended=True)


def main_compare(options: dict[str, Any]) -> int:
    """Run with options of the command line, and print a table.

    Args:
        options: as the parser of `add_compare_parser` names them.

    Returns:
        Exit code: 0, or 1 if no cloud was compared or a check does not hold.

    Raises:
        PointDistillerError: as `run_compare`, or a check cannot be understood.
    """
    checks = [Check.parse(text) for text in options.pop('check')]
    summary = run_compare(CompareOptions(**options))
    sys.stdout.write(format_table(summary))
    if not summary['clouds']['compared']:
        get_logger('pointdistiller').error('no cloud could be compared; the log says why')
        return 1
    failed = failures(checks, summary)
    for text in failed:
        get_logger('pointdistiller').error(text)
    return 1 if failed else 0


def add_compare_parser(commands: Any) -> None:
    """Add the command to the sub-parsers of `pointdistiller run`."""
    parser: ArgumentParser = commands.add_parser(
        'compare', help='play a bag through teacher and student'
    )
    for role, default in (('teacher', DEFAULT_TEACHER), ('student', DEFAULT_BUNDLE)):
        about = f'bundle, run folder that holds one, or shipped name; default: {default}'
        parser.add_argument(f'--{role}', default=default, help=about)
    parser.add_argument('--ground-truth', default='', help='topic of the bag with labelled boxes')
    parser.add_argument('--output', default='', help='folder to create for the report')
    add_bag_options(parser, rate=None)
    parser.add_argument(
        '--check',
        action='append',
        default=[],
        help="a limit such as 'recall>=0.8' or 'latency.median_ratio>=3': exit code 1 where it "
        'does not hold; repeatable',
    )
    add_parameter_options(parser, ComparisonParameters, OPTIONS)


def _play(
    session: Session,
    node: ComparisonNode,
    playback: Playback,
    *,
    truth: str,
    on_cloud: Callable[[int], None],
) -> None:
    """Play the bag to its end, and let everything arrive."""
    player = playback.player
    playback.play(
        on_cloud,
        num_failed=lambda: node.num_unanswered,
        ready=lambda: not truth or player.num_extra_subscribers[truth] > 0,
        check=node.finished,
    )
    playback.settle(lambda: node.counts['received'], node.wait_until_idle)
    if truth:
        sent = player.num_extra_played[truth]
        session.spin_until(lambda: node.num_truth == sent, ARRIVAL_TIMEOUT_S)
    playback.finish_recording(node.counts['compared'] + node.counts['repeated'])


def _add_nodes(
    session: Session, options: CompareOptions, load: Callable[..., Detector]
) -> tuple[Playback, ComparisonNode]:
    given = settle_parameters('comparison', ComparisonParameters, options.parameters)
    truth = options.ground_truth
    if truth:  # the player would only warn of a missing topic
        next(read_clouds(Path(options.bag), truth, on_note=lambda _: None), None)
    playback = Playback(
        session,
        RESULT_TOPIC,
        rate=options.rate,
        bag=options.bag,
        topic=options.topic,
        extra_topics=[*TF_TOPICS, truth],  # an empty name is none
    )
    names, topics = playback.connect()
    names |= {'ground_truth': truth}
    parameters = {
        'teacher': options.teacher,
        'student': options.student,
        'output': options.output,
        'ground_truth_type': 'boxes' if truth else 'none',
        **_classes_of(options.bag, truth),
        **RELIABLE,
        **topics,
        **given,
    }
    remapped = {name: topic for name, topic in names.items() if topic}
    node = session.add(partial(ComparisonNode, load), remapped, **parameters)
    check_parameters(node, given)
    return playback, node


def _classes_of(bag: str, truth: str) -> dict[str, list[str]]:
    """The parameter with the classes of labelled boxes, if the bag names them."""
    names = read_class_names(Path(bag)).get(truth, ()) if truth else ()
    return {'ground_truth_classes': list(names)} if names else {}
