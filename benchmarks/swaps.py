# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Resident memory of the detector's node while its bundle is replaced again and again.

    python benchmarks/swaps.py
    python benchmarks/swaps.py --swaps 300 --backends openvino-int8 onnx torch

Two bundles take turns, and so do the backends. Clouds come at 20 Hz all the time: none, small,
half or full ones; every third time somebody subscribes to the importance, too. A network's memory
is freed when the next one has taken over, but malloc keeps much of it in the heaps of the threads:
memory rises to a plateau and stays there. Needs Linux and ROS 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
import json
from pathlib import Path
import signal
from statistics import median
import subprocess
import sys
import tempfile
from time import monotonic_ns
from typing import Any

from node import resident_mb
import numpy as np
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from untrained import MODELS, machine, make_sweeps, save_untrained

from pointdistiller_core.files import write_text
from pointdistiller_ros.conversions import to_cloud, to_stamp
from pointdistiller_ros.spinning import Session

LOADS = (0.0, 0.1, 0.5, 1.0)  # largest clouds between two swaps, of a full sweep
PERIOD_S, PATIENCE_S, REST_S = 0.05, 60.0, 3.0
GROWTH_LIMIT_MB = 40.0  # single samples differ by 60 as networks come and go


def main() -> int:
    """Print the memory over the run and write it; 1 if it goes on growing."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        sweeps = make_sweeps(4, arguments.seed)
        bundles = arguments.bundles or [Path(name) / model for model in arguments.models]
        if not arguments.bundles:
            for bundle, model in zip(bundles, arguments.models, strict=True):
                backends = [backend for backend in arguments.backends if backend != 'torch']
                save_untrained(bundle, model, sweeps, backends=backends, seed=arguments.seed)
        samples = measure(bundles, sweeps, arguments)
    record = {
        'machine': machine(),
        'bundles': list(map(str, arguments.bundles or arguments.models)),
        **{name: getattr(arguments, name) for name in ('backends', 'threads', 'swaps', 'seed')},
        'growth_mb': growth(samples['resident_mb']),
        **samples,
    }
    report(record)
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')
    return int(record['growth_mb'] > GROWTH_LIMIT_MB)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--swaps', type=int, default=120)
    parser.add_argument('--models', choices=MODELS, nargs=2, default=['4x', '16x'])
    parser.add_argument('--bundles', type=Path, nargs=2, help='instead of random weights')
    parser.add_argument('--backends', nargs='+', default=['openvino-int8', 'onnx'])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--clouds', type=int, default=6, help='at least, between two swaps')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/swaps.json'))
    return parser.parse_args()


def measure(
    bundles: Sequence[Path], sweeps: Sequence[np.ndarray], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Memory of the node after each swap, and of the node at rest in the end [MB]."""
    rng = np.random.default_rng(arguments.seed)
    turns = [(backend, bundle) for backend in arguments.backends for bundle in bundles]
    with Session() as session, start_node(*turns[0], arguments) as node:
        driver = session.add(Driver)
        assert session.spin_until(driver.ready, PATIENCE_S), 'the node does not start'
        loaded, resident = resident_mb(node.pid), []
        for index, (backend, bundle) in zip(range(arguments.swaps), cycle(turns[1:] + turns[:1])):
            driver.watch_importance(index % 3 == 2)
            answer = driver.swap(bundle, backend)
            for number in range(10**9):
                if number >= arguments.clouds and answer.done():
                    break
                driver.send(sweeps[number % len(sweeps)], LOADS[index % len(LOADS)], rng)
                session.spin_until(lambda: False, PERIOD_S)
            result = answer.result().result
            assert result.successful, result.reason
            resident.append(resident_mb(node.pid))
        session.spin_until(lambda: False, REST_S)
        rest = resident_mb(node.pid)
        assert driver.num_boxes, 'no cloud was answered'
    return {'loaded_mb': loaded, 'resident_mb': resident, 'rest_mb': rest}


@contextmanager
def start_node(
    backend: str, bundle: Path, arguments: argparse.Namespace
) -> Iterator[subprocess.Popen[bytes]]:
    """The node as users start it; it is interrupted at the end."""
    values = {
        'bundle': bundle,
        'backend': backend,
        'num_threads': arguments.threads,
        'reliability': 'reliable',
    }
    words = [word for pair in values.items() for word in ('-p', ':='.join(map(str, pair)))]
    command = [sys.executable, '-m', 'pointdistiller_ros.detector_node', '--ros-args', *words]
    with subprocess.Popen([*command, '--log-level', 'warn']) as running:
        try:
            yield running
        finally:
            running.send_signal(signal.SIGINT)


class Driver(Node):
    """Sends clouds, asks for other bundles and listens to the results."""

    def __init__(self, **options: Any) -> None:
        super().__init__('driver', **options)
        self.num_boxes = 0
        self._importance: Any = None
        reliable = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
        self._clouds = self.create_publisher(PointCloud2, '/points', reliable)
        self._parameters = self.create_client(
            SetParametersAtomically, '/detector/set_parameters_atomically'
        )
        self.create_subscription(PointCloud2, '/detector/boxes', self._on_boxes, 10)

    def ready(self) -> bool:
        """Whether the node listens."""
        return bool(self._parameters.service_is_ready() and self._clouds.get_subscription_count())

    def swap(self, bundle: Path, backend: str) -> Any:
        """Ask for another bundle; the future answer."""
        wanted = {'bundle': str(bundle), 'backend': backend}
        parameters = [Parameter(name, value=value) for name, value in wanted.items()]
        request = SetParametersAtomically.Request()
        request.parameters = [parameter.to_parameter_msg() for parameter in parameters]
        return self._parameters.call_async(request)

    def send(self, sweep: np.ndarray, load: float, rng: np.random.Generator) -> None:
        """Send a part of a sweep (N, 4), of a random size up to this load."""
        if load:
            size = max(1, int(len(sweep) * load * rng.random()))
            stamp = to_stamp(monotonic_ns())
            self._clouds.publish(to_cloud(sweep[:size], Header(stamp=stamp, frame_id='lidar')))

    def watch_importance(self, wanted: bool) -> None:
        """Subscribe to the importance, or no longer."""
        if wanted and self._importance is None:
            create = partial(self.create_subscription, PointCloud2, '/detector/importance')
            self._importance = create(lambda _: None, 5)
        elif not wanted and self._importance is not None:
            self.destroy_subscription(self._importance)
            self._importance = None

    def _on_boxes(self, _: PointCloud2) -> None:
        self.num_boxes += 1


def growth(resident: Sequence[float]) -> float:
    """From the second third of the samples to the last, each by its median."""
    third = max(1, len(resident) // 3)
    return round(median(resident[-third:]) - median(resident[third : 2 * third] or resident), 1)


def report(record: dict[str, Any]) -> None:
    """The memory over the run."""
    bundles, backends = (' and '.join(record[name]) for name in ('bundles', 'backends'))
    print(f'{record["machine"]}; {bundles} in {backends}, [MB]')
    resident = record['resident_mb']
    print(f'{"loaded":28}{record["loaded_mb"]:8.1f}')
    for tenth in range(1, 11):
        end = len(resident) * tenth // 10
        begin = len(resident) * (tenth - 1) // 10
        if end > begin:
            print(f'{f"swaps {begin + 1} to {end}, median":28}{median(resident[begin:end]):8.1f}')
    print(f'{"at rest after them":28}{record["rest_mb"]:8.1f}')
    print(f'{f"growth, of {GROWTH_LIMIT_MB:.0f}":28}{record["growth_mb"]:8.1f}')


if __name__ == '__main__':
    raise SystemExit(main())
