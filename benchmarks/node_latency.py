# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the detector node adds to the detector: clouds to another process, boxes back.

python benchmarks/node_latency.py [--bundle runs/student] [--clouds 100] [--all-outputs]

Without a bundle, a small network with random weights finds boxes. Needs ROS 2 and Linux.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory
from time import perf_counter

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pointdistiller_ros.conversions import stamp_ns, to_cloud, to_stamp
from pointdistiller_ros.spinning import Session

WARM_UP = 5  # clouds
PATIENCE_S = 2.0  # for what is still on its way
PAGE = os.sysconf('SC_PAGE_SIZE') if hasattr(os, 'sysconf') else 4096


def main() -> None:
    """Print a table, write it as JSON."""
    arguments = parse_arguments()
    with TemporaryDirectory() as folder:
        bundle = arguments.bundle or build_bundle(Path(folder) / 'bundle')
        with running_node(bundle, arguments) as process, Session() as session:
            record = measure(session, process.pid, arguments)
    record |= {key: str(value) for key, value in vars(arguments).items() if key != 'json'}
    for key, value in record.items():
        print(f'{key:24} {value:.2f}' if isinstance(value, float) else f'{key:24} {value}')
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--bundle', type=Path)
    parser.add_argument('--backend', default='auto')
    parser.add_argument('--num-threads', type=int, default=1)
    parser.add_argument('--reliability', default='reliable')
    parser.add_argument('--points', type=int, default=120_000)
    parser.add_argument('--clouds', type=int, default=100)
    parser.add_argument('--rate', type=float, default=10.0, help='clouds per second')
    parser.add_argument('--all-outputs', action='store_true', help='subscribe to all of them')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/node_latency.json'))
    return parser.parse_args()


def build_bundle(folder: Path) -> Path:
    """A sixteenth of PointPillars with random weights."""
    import torch

    from pointdistiller_core.config import ModelConfig
    from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
    from pointdistiller_core.grid import Grid
    from pointdistiller_core.models import build_detector

    torch.manual_seed(0)
    grid = Grid(
        point_cloud_range=(0.0, -40.96, -3.0, 81.92, 40.96, 1.0), voxel_size=(0.64, 0.64, 4.0)
    )
    config = ModelConfig(width=0.25, grid=grid)
    save_bundle(folder, build_detector(config), BundleInfo(model=config))
    return folder


@contextmanager
def running_node(bundle: Path, arguments: argparse.Namespace) -> Iterator[subprocess.Popen[bytes]]:
    """The node as a user runs it."""
    parameters = {
        'bundle': bundle,
        'backend': arguments.backend,
        'num_threads': arguments.num_threads,
        'reliability': arguments.reliability,
    }
    words = [word for item in parameters.items() for word in ('-p', ':='.join(map(str, item)))]
    command = [sys.executable, '-m', 'pointdistiller_ros.detector_node', '--ros-args', *words]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def measure(session: Session, pid: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Send clouds and wait for boxes.

    Returns:
        Median and 99th percentile [ms] from before a cloud is published until its boxes are
        there, the detector's part of it, what was lost, and how much memory the node gained.
    """
    sent: dict[int, float] = {}
    took: dict[int, float] = {}
    detector_ms: list[float] = []
    node = session.add(partial(Node, 'benchmark'))

    def on_boxes(message: PointCloud2) -> None:
        stamp = stamp_ns(message.header.stamp)
        took[stamp] = (perf_counter() - sent[stamp]) * 1e3

    def on_diagnostics(message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in message.status[0].values}
        if len(took) > WARM_UP and 'latency_ms.total' in values:
            detector_ms.append(float(values['latency_ms.total']))

    node.create_subscription(PointCloud2, '/detector/boxes', on_boxes, QoSProfile(depth=10))
    node.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, 10)
    if arguments.all_outputs:
        for name, kind in (
            ('markers', MarkerArray),
            ('importance', PointCloud2),
            ('importance_markers', MarkerArray),
        ):
            node.create_subscription(kind, f'/detector/{name}', lambda _: None, 10)
    publisher = node.create_publisher(PointCloud2, '/points', QoSProfile(depth=5))
    session.spin_until(publisher.get_subscription_count)
    session.spin_until(lambda: False, 1.0)  # so that the node knows of all subscriptions
    cloud = build_cloud(arguments.points, arguments.seed)
    begin, memory = perf_counter(), 0.0
    for index in range(arguments.clouds + WARM_UP):
        due = begin + index / arguments.rate
        session.spin_until(lambda due=due: perf_counter() >= due)
        cloud.header.stamp = to_stamp(index + 1)
        sent[index + 1] = perf_counter()
        publisher.publish(cloud)
        if index == WARM_UP:
            memory = resident_mib(pid)
    session.spin_until(lambda: len(took) == len(sent), PATIENCE_S)
    session.spin_until(lambda: detector_ms, PATIENCE_S)
    measured = [value for stamp, value in took.items() if stamp > WARM_UP]
    middle, detector = float(np.median(measured)), float(np.median(detector_ms))
    return {
        'end_to_end_ms': middle,
        'end_to_end_p99_ms': float(np.percentile(measured, 99)),
        'detector_ms': detector,
        'overhead_ms': middle - detector,
        'lost': arguments.clouds - len(measured),
        'memory_growth_mib': resident_mib(pid) - memory,
    }


def build_cloud(num_points: int, seed: int) -> PointCloud2:
    """Points all over the range of the detector."""
    rng = np.random.default_rng(seed)
    low, high = (0, -40, -2, 0), (80, 40, 1, 1)
    points = rng.uniform(low, high, (num_points, 4)).astype(np.float32)
    return to_cloud(points, Header(frame_id='lidar'))


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    pages = Path(f'/proc/{pid}/statm').read_text(encoding='utf-8').split()[1]
    return int(pages) * PAGE / 2**20


if __name__ == '__main__':
    main()
