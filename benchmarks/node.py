# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the detector's node adds to its detector, and whether it holds ten clouds per second.

    python benchmarks/node.py
    python benchmarks/node.py --minutes 10 --bundle runs/student

A process sends full sweeps over the middleware, the node works in another one as users start it,
and this one waits for the boxes. Before that, a node that only answers (`echo`) shows the time of
the middleware itself. Last, what tracking 100 objects would add (`outputs.tracks`), in processor
time. Needs Linux and ROS 2.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
from time import monotonic, monotonic_ns, process_time_ns, sleep
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from untrained import MODELS, machine, make_sweeps, save_untrained

from pointdistiller_core.config import TrackingConfig
from pointdistiller_core.files import write_text
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.live import LiveTracker
from pointdistiller_ros.conversions import (
    marker_keys,
    stamp_ns,
    to_boxes_cloud,
    to_cloud,
    to_stamp,
    to_track_markers,
)
from pointdistiller_ros.spinning import Session

POINTS, BOXES = '/points', '/detector/boxes'
PROFILES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
NUM_SWEEPS, WARM_UP = 4, 20  # clouds
ECHO_S, PATIENCE_S, START_S, ASKING_PERIOD_S = 15.0, 2.0, 40.0, 0.5
MOST_OVERHEAD_MS, MOST_TRACKING_MS = 10.0, 2.0  # median
NUM_OBJECTS, NUM_TRACKED = 100, 300  # objects, clouds
MILLISECONDS = 1e6  # [ns]


def main() -> int:
    """Print three tables and write them; 1 if a cloud is lost or the node adds too much."""
    arguments = parse_arguments()
    if arguments.role:
        return ROLES[arguments.role](arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = prepare(folder, arguments)
        seconds = 60 * arguments.minutes
        echo = measure('echo', folder, bundle, arguments, min(ECHO_S, seconds))
        node = measure('node', folder, bundle, arguments, seconds)
    record = {
        'machine': machine(),
        'profiles': next(filter(None, map(os.environ.get, PROFILES)), ''),
        'bundle': str(arguments.bundle or arguments.model),
        **{
            name: getattr(arguments, name)
            for name in (
                *('backend', 'threads', 'points', 'rate', 'reliability', 'profile_for'),
                *('seed', 'minutes'),
            )
        },
        'echo': echo,
        'node': node,
        'tracking': measure_tracking(arguments.seed),
    }
    report(record)
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')
    slow = (
        node['times']['overhead_ms']['median'] > MOST_OVERHEAD_MS
        or record['tracking']['update_ms']['median'] > MOST_TRACKING_MS
    )
    return int(node['lost'] > 0 or slow)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--minutes', type=float, default=1.0)
    parser.add_argument('--rate', type=float, default=10.0, help='clouds per second')
    parser.add_argument('--points', type=int, default=120_000)
    parser.add_argument('--model', choices=MODELS, default='16x', help='with random weights')
    parser.add_argument('--bundle', type=Path, help='instead of random weights')
    parser.add_argument('--backend', default='openvino-int8')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument(
        '--reliability', default='best_effort', choices=('best_effort', 'reliable')
    )
    parser.add_argument(
        '--profile-for',
        choices=('both', 'sender', 'receiver'),
        default='both',
        help='who uses the Fast DDS profile that the environment names',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/node.json'))
    # Of the other processes:
    parser.add_argument('--role', choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--count', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--node-arguments', nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(folder: Path, arguments: argparse.Namespace) -> Path:
    """Save the sweeps in the folder; the bundle."""
    rng = np.random.default_rng(arguments.seed)
    sweeps = make_sweeps(NUM_SWEEPS, arguments.seed)
    np.save(folder / 'sweeps.npy', [resized(sweep, arguments.points, rng) for sweep in sweeps])
    if arguments.bundle:
        return Path(arguments.bundle)
    save_untrained(
        folder / 'bundle',
        arguments.model,
        sweeps,
        backends=[arguments.backend],
        seed=arguments.seed,
    )
    return folder / 'bundle'


def resized(points: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """(wanted, 4): without some of the points (N, 4), or with some of them twice."""
    chosen = np.arange(wanted) % len(points)
    if wanted < len(points):
        chosen = np.sort(rng.choice(len(points), wanted, replace=False))
    return points[chosen]


def measure(
    role: str, folder: Path, bundle: Path, arguments: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """Send clouds for some time to a process and watch what comes back."""
    count = WARM_UP + round(seconds * arguments.rate)
    parameters = {
        'bundle': bundle,
        'backend': arguments.backend,
        'num_threads': arguments.threads,
        'reliability': arguments.reliability,
    }
    words = [word for item in parameters.items() for word in ('-p', ':='.join(map(str, item)))]
    receiver = ['--node-arguments', '--ros-args', *words]
    arrivals: dict[int, int] = {}
    with (
        Session() as session,
        process(role, folder, arguments, *receiver) as node,
        process('publisher', folder, arguments, '--count', str(count)) as publisher,
    ):
        session.add(partial(Listener, arrivals))
        samples = watch(session, node.pid, publisher)
    sent = np.array(json.loads((folder / 'publisher.json').read_text(encoding='utf-8')))
    calls = json.loads((folder / f'{role}.json').read_text(encoding='utf-8'))
    measured = sent[WARM_UP:]
    return {
        'sent': len(measured),
        'lost': sum(stamp not in arrivals for stamp in measured[:, 0].tolist()),
        'times': summarize(times(measured.tolist(), arrivals, calls)),
        **samples,
    }


@contextmanager
def process(
    role: str, folder: Path, arguments: argparse.Namespace, *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """This file in another role; at the end it is interrupted and writes what it measured."""
    command = [sys.executable, __file__, '--role', role, '--folder', str(folder)]
    for name in ('rate', 'reliability'):
        command += [f'--{name}', str(getattr(arguments, name))]
    side = 'sender' if role == 'publisher' else 'receiver'
    environment = dict(os.environ)
    if arguments.profile_for not in ('both', side):
        for name in PROFILES:
            environment.pop(name, None)
    with subprocess.Popen([*command, *words], env=environment) as running:
        try:
            yield running
        finally:
            running.send_signal(signal.SIGINT)


class Listener(Node):
    """Notes when the boxes of a cloud arrive.

    Args:
        arrivals: stamp to time, both in [ns] of the machine's monotonic clock.
        options: further arguments of `rclpy.node.Node`.
    """

    def __init__(self, arrivals: dict[int, int], **options: Any) -> None:
        super().__init__('listener', **options)
        self._arrivals = arrivals
        self.create_subscription(PointCloud2, BOXES, self._on_boxes, 100)

    def _on_boxes(self, message: PointCloud2) -> None:
        self._arrivals[stamp_ns(message.header.stamp)] = monotonic_ns()


def watch(session: Session, pid: int, publisher: subprocess.Popen[bytes]) -> dict[str, float]:
    """Memory and processor time of a process while another sends."""
    resident: list[float] = []
    began, used = monotonic(), cpu_seconds(pid)
    while publisher.poll() is None:
        session.spin_until(lambda: publisher.poll() is not None, 1.0)
        resident.append(resident_mb(pid))
    cores = (cpu_seconds(pid) - used) / (monotonic() - began)
    session.spin_until(lambda: False, PATIENCE_S)
    tenth = max(1, len(resident) // 10)  # the first one fills buffers
    return {
        'memory_mb': resident[-1],
        'memory_growth_mb': float(
            np.median(resident[-tenth:]) - np.median(resident[tenth : 2 * tenth])
        ),
        'cores': cores,
    }


def resident_mb(pid: int) -> float:
    """Memory of a process [MB]."""
    pages = Path(f'/proc/{pid}/statm').read_text(encoding='utf-8').split()[1]
    return int(pages) * os.sysconf('SC_PAGE_SIZE') / 1e6


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def times(
    sent: Sequence[Sequence[int]], arrivals: dict[int, int], calls: Sequence[Sequence[int]]
) -> dict[str, list[float]]:
    """Times of each cloud whose boxes arrived.

    Args:
        sent: when `publish` was called, which is the stamp, and when it returned [ns].
        arrivals: when the boxes of a stamp arrived [ns].
        calls: when the detector began and ended [ns], in order.

    Returns:
        [ms] in `publish`; from its begin until the detector's; in the detector; from there until
        the boxes arrived; all of it; and all of it without the detector.
    """
    ends = [end for _, end in calls]
    found: dict[str, list[float]] = {}
    for stamp, returned in sent:
        if stamp not in arrivals:
            continue
        arrived = arrivals[stamp]
        begin, end = calls[bisect_right(ends, arrived) - 1]
        row = {
            'publish_ms': returned - stamp,
            'to_detector_ms': begin - stamp,
            'detector_ms': end - begin,
            'from_detector_ms': arrived - end,
            'end_to_end_ms': arrived - stamp,
            'overhead_ms': arrived - stamp - (end - begin),
        }
        for name, nanoseconds in row.items():
            found.setdefault(name, []).append(nanoseconds / MILLISECONDS)
    return found


def summarize(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median and high percentiles of each."""
    kinds = {'median': 50, 'p95': 95, 'p99': 99, 'max': 100}
    return {
        name: {kind: float(np.percentile(values, rank)) for kind, rank in kinds.items()}
        for name, values in found.items()
    }


def report(record: dict[str, Any]) -> None:
    """Three tables."""
    print(
        f'{record["points"]} points at {record["rate"]:g} Hz, {record["reliability"]}, '
        f'{record["bundle"]} in {record["backend"]} with {record["threads"]} threads, '
        f'seed {record["seed"]}; Fast DDS profile: {record["profiles"] or "none"} '
        f'({record["profile_for"]}); '
        f'{record["machine"]}'
    )
    for role in ('echo', 'node'):
        found = record[role]
        print_rows(role, found['times'])
        print(
            f'  {found["sent"]} clouds, {found["lost"]} lost; {found["memory_mb"]:.0f} MB, grown '
            f'by {found["memory_growth_mb"]:.1f} MB; {found["cores"]:.2f} cores'
        )
    print_rows(f'{NUM_OBJECTS} tracks', record['tracking'])


def print_rows(title: str, rows: dict[str, dict[str, float]]) -> None:
    """A table of what `summarize` returns."""
    print(f'\n{title:18} {"median":>8} {"p95":>8} {"p99":>8} {"max":>8}')
    for name, row in rows.items():
        print(f'  {name:16} ' + ' '.join(f'{value:8.2f}' for value in row.values()))


def measure_tracking(seed: int) -> dict[str, dict[str, float]]:
    """Processor time [ms] for a cloud with 100 objects that drive: tracks, and their messages."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(-60, 60, (NUM_OBJECTS, 2)), rng.normal(0, 8, (NUM_OBJECTS, 2))
    tracker, shown, spent = LiveTracker(), frozenset[tuple[str, int]](), {}
    for index in range(NUM_TRACKED):
        noise = rng.normal(0, 0.1, places.shape)
        boxes = np.tile(np.array([0, 0, -1, 4, 2, 1.5, 0], np.float32), (NUM_OBJECTS, 1))
        # They turn back after a second, so that all stay near.
        boxes[:, :2] = places + speeds * abs(index % 20 - 10) / 10 + noise
        scores = rng.uniform(0.2, 1, NUM_OBJECTS).astype(np.float32)
        found = Detections(boxes, scores, np.zeros(NUM_OBJECTS, np.int64))
        began = process_time_ns()
        live = tracker.update(
            found,
            (index + 1) * 100_000_000,
            config=TrackingConfig(),
            frame='odom',
            class_names=('Car',),
            poses=[(0, (0, 0, 0, 0, 0, 0, 1))],
        )
        updated = process_time_ns()
        to_boxes_cloud(live.detections, Header())
        boxed = process_time_ns()
        markers = to_track_markers(live, Header(), ('Car',), shown)
        marked = process_time_ns()
        shown = marker_keys(markers)
        row = {
            'update_ms': updated - began,
            'boxes_ms': boxed - updated,
            'markers_ms': marked - boxed,
        }
        for name, nanoseconds in row.items():
            spent.setdefault(name, []).append(nanoseconds / MILLISECONDS)
    return summarize({name: values[WARM_UP:] for name, values in spent.items()})


def run_node(arguments: argparse.Namespace) -> int:
    """The node's own executable, with a watch on the detector."""
    from pointdistiller_core.detector import Detector
    from pointdistiller_ros import detector_node

    calls: list[tuple[int, int]] = []
    detect = Detector.__call__

    def timed(*words: Any, **options: Any) -> Any:
        begin = monotonic_ns()
        result = detect(*words, **options)
        calls.append((begin, monotonic_ns()))
        return result

    Detector.__call__ = timed  # type: ignore[method-assign]
    try:
        return detector_node.main(arguments.node_arguments)
    finally:
        save(arguments.folder / 'node.json', calls)


def run_echo(arguments: argparse.Namespace) -> int:
    """A node that answers each cloud with no boxes at all."""
    calls: list[tuple[int, int]] = []
    with Session() as session:
        node = session.add(partial(Node, 'echo'))
        boxes = node.create_publisher(PointCloud2, BOXES, 5)

        def answer(cloud: PointCloud2) -> None:
            calls.append((monotonic_ns(),) * 2)
            boxes.publish(PointCloud2(header=cloud.header))

        node.create_subscription(PointCloud2, POINTS, answer, quality(arguments))
        with suppress(KeyboardInterrupt):
            session.spin_until(lambda: False)
    save(arguments.folder / 'echo.json', calls)
    return 0


def run_publisher(arguments: argparse.Namespace) -> int:
    """Sends sweeps at a steady rate as soon as there are answers."""
    sweeps = np.load(arguments.folder / 'sweeps.npy')
    clouds = cycle([to_cloud(sweep, Header(frame_id='lidar')) for sweep in sweeps])
    with Session() as session:
        node = session.add(partial(Node, 'publisher'))
        reliable = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
        publisher = node.create_publisher(PointCloud2, POINTS, reliable)
        wait_for_answer(session, node, lambda: send(publisher, next(clouds)))
        begin, sent = monotonic(), []
        for index in range(arguments.count):
            sleep(max(0.0, begin + index / arguments.rate - monotonic()))
            sent.append(send(publisher, next(clouds)))
        sleep(PATIENCE_S)
    save(arguments.folder / 'publisher.json', sent)
    return 0


def send(publisher: Publisher[PointCloud2], cloud: PointCloud2) -> tuple[int, int]:
    """Publish a cloud; returns when that began, which is its stamp, and when it was done [ns]."""
    now = monotonic_ns()
    cloud.header.stamp = to_stamp(now)
    publisher.publish(cloud)
    return now, monotonic_ns()


def wait_for_answer(session: Session, node: Node, ask: Callable[[], Any]) -> None:
    """Ask for a while, until boxes arrive here and somebody listens elsewhere."""
    answers: list[PointCloud2] = []
    subscription = node.create_subscription(PointCloud2, BOXES, answers.append, 5)
    until = monotonic() + START_S

    def ready() -> bool:
        return bool(answers) and node.count_subscribers(BOXES) > 1

    while not session.spin_until(ready, ASKING_PERIOD_S) and monotonic() < until:
        ask()
    node.destroy_subscription(subscription)


def quality(arguments: argparse.Namespace) -> QoSProfile:
    """Of the subscription to the clouds."""
    return QoSProfile(depth=5, reliability=QoSReliabilityPolicy[arguments.reliability.upper()])


def save(path: Path, rows: Sequence[tuple[int, int]]) -> None:
    """Write times for the process that asked."""
    path.write_text(json.dumps(rows), encoding='utf-8')


ROLES: dict[str, Callable[[argparse.Namespace], int]] = {
    'node': run_node,
    'echo': run_echo,
    'publisher': run_publisher,
}


if __name__ == '__main__':
    sys.exit(main())
