# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes in one process, for machines without `ros2 launch`.

`python -m pointdistiller_ros.run detect --bundle student --bag drive --record out --lockstep`
`python -m pointdistiller_ros.run compare --teacher teacher --student student --bag drive`
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
import sys
from typing import Any

from rclpy.logging import get_logger

from pointdistiller_core.errors import PointDistillerError
from pointdistiller_ros.bag_player_node import BagPlayerNode
from pointdistiller_ros.detector_node import DetectorNode, PointDetector, load_detector
from pointdistiller_ros.parameters import DetectorParameters
from pointdistiller_ros.recorder import BagRecorderNode
from pointdistiller_ros.run_compare import add_compare_parser, main_compare
from pointdistiller_ros.run_parameters import add_parameter_option, check_parameters
from pointdistiller_ros.spinning import Session

POLL_PERIOD_S = 0.02
DISCOVERY_TIMEOUT_S = 10.0
ARRIVAL_TIMEOUT_S = 2.0  # of what is on its way in the middleware
BOXES_TOPIC = '/detector/boxes'


@dataclass(frozen=True)
class RunOptions:
    """What to run.

    Attributes:
        bundle: bundle of the detector, or run folder that holds one.
        bag: bag with PointCloud2 messages.
        topic: topic of the clouds; empty is the only one of the bag.
        record: bag to write clouds and results to; empty writes none.
        rate: speed relative to the recording.
        lockstep: wait for the result of each cloud instead, so that none is dropped.
        device: where the network runs.
        backend: what the network runs in; auto is the best that is there.
        num_threads: CPU threads of the network; 0 is its own.
        score_threshold: lowest score to publish; None is the node's default.
        parameters: further parameters of the detector node.
    """

    bundle: str
    bag: str
    topic: str = ''
    record: str = ''
    rate: float = 1.0
    lockstep: bool = False
    device: str = 'cpu'
    backend: str = 'auto'
    num_threads: int = 0
    score_threshold: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunCounts:
    """What became of the clouds of a run: `played` is the sum of the others.

    Attributes:
        played: clouds sent by the player.
        results: messages on `~/boxes`.
        failed: clouds refused, with an error in the log.
        dropped: clouds skipped because a newer one was there.
    """

    played: int
    results: int
    failed: int
    dropped: int


def run_detect(
    options: RunOptions,
    *,
    load: Callable[[DetectorParameters], PointDetector] = load_detector,
    on_cloud: Callable[[int], None] = lambda _: None,
) -> RunCounts:
    """Play a bag through a detector node and, where asked, record clouds and results.

    Args:
        options: what to run.
        load: makes the detector from the node's parameters.
        on_cloud: told the number of clouds played so far, for a progress bar.

    Raises:
        PointDistillerError: a bag, the bundle or a parameter cannot be used, or a result is
            missing in lock-step.
    """
    with Session() as session:
        run = _add_nodes(session, options, load)
        run.play(on_cloud)
        return run.finish()


def main(args: list[str] | None = None) -> int:
    """The command line of this module.

    Args:
        args: words after the program's name; None is this process's.

    Returns:
        Exit code: 0, or 1 where a comparison does not keep a limit that was given.

    Raises:
        PointDistillerError: as `run_detect` and `run_compare`.
    """
    options = vars(_build_parser().parse_args(args))
    if options.pop('command') == 'compare':
        return main_compare(options)
    options['parameters'] = dict(options['parameters'])
    counts = run_detect(RunOptions(**options))
    get_logger('pointdistiller').info(
        f'{counts.played} clouds played: {counts.results} results, {counts.failed} failed, '
        f'{counts.dropped} dropped'
    )
    return 0


def _add_nodes(
    session: Session, options: RunOptions, load: Callable[[DetectorParameters], PointDetector]
) -> _Run:
    player = session.add(
        BagPlayerNode,
        bag=options.bag,
        topic=options.topic,
        rate=options.rate,
        acknowledgment=BOXES_TOPIC if options.lockstep else '',
    )
    threshold = options.score_threshold
    parameters = {
        'bundle': options.bundle,
        'device': options.device,
        'backend': options.backend,
        'num_threads': options.num_threads,
        'reliability': 'reliable',  # nothing of a bag shall be lost on the way
        **({} if threshold is None else {'score_threshold': threshold}),
        **options.parameters,
    }
    detector = session.add(partial(DetectorNode, load), {'points': player.topic}, **parameters)
    check_parameters(detector, options.parameters)
    recorder = None
    if options.record:
        topics = [player.topic, *detector.output_topics]
        recorder = session.add(
            BagRecorderNode, output=options.record, topics=topics, use_sim_time=True
        )
    return _Run(session, player, detector, recorder)


@dataclass(frozen=True)
class _Run:
    """The nodes of a run."""

    session: Session
    player: BagPlayerNode
    detector: DetectorNode
    recorder: BagRecorderNode | None

    def play(self, on_cloud: Callable[[int], None]) -> None:
        self.session.spin_until(self.connected, DISCOVERY_TIMEOUT_S)
        self.player.start()
        failed = 0
        while not self.session.spin_until(self.player.finished, POLL_PERIOD_S):
            on_cloud(self.player.num_played)
            if self.detector.counts.failed > failed:  # no result will come, the log says why
                failed = self.detector.counts.failed
                self.player.go_on()
            if self.recorder is not None:
                self.recorder.finished()
        on_cloud(self.player.num_played)

    def connected(self) -> bool:
        if self.recorder is None:
            return self.player.num_subscribers >= 1
        return self.player.num_subscribers >= 2 and not self.recorder.awaited_topics

    def finish(self) -> RunCounts:
        """Let everything on its way arrive, then count."""
        detector, recorder, played = self.detector, self.recorder, self.player.num_played
        self.session.spin_until(lambda: detector.counts.received == played, ARRIVAL_TIMEOUT_S)
        self.session.spin_until(lambda: detector.wait_until_idle(0.0))
        results, failed = detector.counts.results, detector.counts.failed
        if recorder is not None:
            expected = {self.player.topic: played} | dict.fromkeys(detector.output_topics, results)
            self.session.spin_until(lambda: recorder.num_recorded == expected, ARRIVAL_TIMEOUT_S)
            recorder.finished()
        return RunCounts(played, results, failed, dropped=played - results - failed)


def _build_parser() -> ArgumentParser:
    parser = ArgumentParser('pointdistiller run', description='Nodes in one process.')
    commands = parser.add_subparsers(dest='command', required=True)
    add_compare_parser(commands)
    detect = commands.add_parser('detect', help='play a bag through a detector node')
    detect.add_argument('--bundle', required=True, help='bundle, or run folder that holds one')
    detect.add_argument('--bag', required=True, help='bag with PointCloud2 messages')
    detect.add_argument('--topic', default='', help='topic of the clouds, if the bag has several')
    detect.add_argument('--record', default='', help='bag to write clouds and results to')
    pace = detect.add_mutually_exclusive_group()
    pace.add_argument('--rate', type=float, default=1.0, help='speed relative to the recording')
    pace.add_argument('--lockstep', action='store_true', help='wait for each result; drop nothing')
    detect.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    detect.add_argument('--backend', default='auto', help='openvino-int8, openvino, onnx, torch')
    detect.add_argument('--num-threads', type=int, default=0, help='CPU threads; 0 is the default')
    detect.add_argument('--score-threshold', type=float, help='lowest score to publish')
    add_parameter_option(detect)
    return parser


if __name__ == '__main__':
    try:
        sys.exit(main())
    except PointDistillerError as problem:
        sys.exit(f'error: {problem}')
    except KeyboardInterrupt:
        sys.exit(130)
