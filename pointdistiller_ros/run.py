# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes in one process, for machines without `ros2 launch`.

`python -m pointdistiller_ros.run detect --bundle student --bag drive --record out --lockstep`
`python -m pointdistiller_ros.run compare --teacher teacher --student student --bag drive`
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import sys
from typing import Any

from rclpy.logging import get_logger

from pointdistiller_core.detector import DEFAULT_BUNDLE, REPAIRS, Detector
from pointdistiller_core.errors import PointDistillerError
from pointdistiller_core.messages.bags import check_new_bag
from pointdistiller_ros.detector_node import DetectorNode
from pointdistiller_ros.detector_setup import load_detector
from pointdistiller_ros.parameters import DetectorParameters
from pointdistiller_ros.playback import RELIABLE, Playback, Topics
from pointdistiller_ros.run_compare import add_compare_parser, main_compare
from pointdistiller_ros.run_parameters import (
    add_bag_options,
    add_parameter_options,
    check_parameters,
    settle_parameters,
)
from pointdistiller_ros.spinning import Session, interrupted_by_signals

BOXES_TOPIC = '/detector/boxes'
OPTIONS = ('device', 'backend', 'num_threads', 'score_threshold')  # parameters


@dataclass(frozen=True)
class RunOptions:
    """What to run.

    Attributes:
        bundle: bundle of the detector, or run folder that holds one.
        bag: bag with PointCloud2 messages.
        topic: topic of the clouds, or topics of several sensors; none is the only one of the bag.
        record: bag to write clouds and results to; empty writes none.
        rate: speed relative to the recording; None waits for each result, so that none is dropped.
        parameters: further parameters of the detector node.
    """

    bundle: str
    bag: str
    topic: Topics = None
    record: str = ''
    rate: float | None = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunCounts:
    """What became of the clouds of a run: `played` is the sum of results, failed and dropped.

    Attributes:
        played: clouds sent by the player.
        results: messages on `~/boxes`.
        failed: clouds refused, with an error in the log.
        dropped: clouds skipped because a newer one was there.
        repairs: of all results, see `Monitor.repairs`.
    """

    played: int
    results: int
    failed: int
    dropped: int
    repairs: Mapping[str, int] = field(default_factory=dict, compare=False)

    def describe(self) -> str:
        """All of it in words."""
        return (
            f'{self.played} clouds played: {self.results} results, {self.failed} failed, '
            f'{self.dropped} dropped'
        )


def run_detect(
    options: RunOptions,
    *,
    load: Callable[[DetectorParameters], Detector] = load_detector,
    on_cloud: Callable[[int], None] = lambda _: None,
) -> RunCounts:
    """Play a bag through a detector node and, if asked, record clouds and results.

    Args:
        options: what to run.
        load: makes the detector from the node's parameters.
        on_cloud: told the number of clouds played so far, for a progress bar.

    Raises:
        PointDistillerError: a bag, the bundle or a parameter cannot be used, or a result is
            missing in lock-step.
    """
    given = settle_parameters('detector', DetectorParameters, options.parameters)
    if options.record:
        check_new_bag(Path(options.record))
    with Session() as session:
        playback = Playback(
            session, BOXES_TOPIC, rate=options.rate, bag=options.bag, topic=options.topic
        )
        names, topics = playback.connect()
        parameters = {'bundle': options.bundle, **RELIABLE, **topics, **given}
        detector = session.add(partial(DetectorNode, load), names, **parameters)
        check_parameters(detector, given)
        playback.attach(detector, options.record)
        playback.play(on_cloud, num_failed=lambda: detector.counts.failed)
        playback.settle(lambda: detector.counts.received, detector.wait_until_idle)
        played, counts = playback.player.num_played, detector.counts
        playback.finish_recording(counts.results)
        dropped = played - counts.results - counts.failed
        repairs = dict(detector.health.monitor.repairs)
        return RunCounts(played, counts.results, counts.failed, dropped, repairs)


def main(args: list[str] | None = None) -> int:
    """The command line of this module.

    Args:
        args: words after the program's name; None is this process's.

    Returns:
        Exit code: 0, or 1 if there is no result at all or a comparison does not keep a limit.

    Raises:
        PointDistillerError: as `run_detect` and `run_compare`.
    """
    parser = _build_parser()
    options = vars(parser.parse_args(args))
    if options['command'] == 'detect':
        given = [options.pop('bundle_argument'), options['bundle']]
        if None not in given:
            parser.error('give the bundle of detect once: BUNDLE or --bundle BUNDLE')
        options['bundle'] = given[0] or given[1] or DEFAULT_BUNDLE
    kept = [options[name] for name in ('record', 'output') if options.get(name)]
    with interrupted_by_signals(), _said_when_stopped(kept):
        if options.pop('command') == 'compare':
            return main_compare(options)
        counts = run_detect(RunOptions(**options))
    log, text = get_logger('pointdistiller'), counts.describe()
    if counts.dropped and options['rate'] is not None:
        text += ' (--lockstep drops none)'
    for name, meaning in REPAIRS.items():
        if number := counts.repairs.get(name):
            log.warning(f'{number} {meaning}')
    if not counts.results:
        log.error(f'{text}: no cloud has a result; the log says why')
        return 1
    if counts.failed:
        log.warning(text)
    else:
        log.info(text)
    return 0


@contextmanager
def _said_when_stopped(results: Sequence[str]) -> Iterator[None]:
    """After Ctrl-C, say in the log what was kept of the results that were asked for."""
    try:
        yield
    except KeyboardInterrupt:
        kept = ' and '.join(path for path in results if Path(path).exists())
        get_logger('pointdistiller').warning(
            f'stopped; kept in {kept}: what came until then; for the whole bag, remove that and '
            'repeat the command'
            if kept
            else 'stopped; nothing is kept: repeat the command'
        )
        raise


def _build_parser() -> ArgumentParser:
    parser = ArgumentParser('pointdistiller run', description='Nodes in one process.')
    commands = parser.add_subparsers(dest='command', required=True)
    add_compare_parser(commands)
    detect = commands.add_parser('detect', help='play a bag through a detector node')
    about = f'bundle, run folder that holds one, or shipped name; default: {DEFAULT_BUNDLE}'
    detect.add_argument('bundle_argument', nargs='?', metavar='BUNDLE', help=about)
    detect.add_argument('--bundle', help=f'{about}; instead of BUNDLE')
    add_bag_options(detect, rate=1.0)
    add_parameter_options(detect, DetectorParameters, OPTIONS)
    return parser


if __name__ == '__main__':
    try:
        sys.exit(main())
    except PointDistillerError as problem:
        sys.exit(f'error: {problem}')
    except KeyboardInterrupt:
        sys.exit(130)
