# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Resident memory of a process that holds a detector and sees cloud after cloud.

Its clouds are of all sizes, from none to a full sweep, and every hundredth is a full sweep:

    python benchmarks/memory.py
    python benchmarks/memory.py --clouds 1000 --bundle runs/student --backend openvino

If ROS is installed, the imports of the detector's node are included.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
import json
from pathlib import Path
from statistics import median
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from untrained import MODELS, machine, make_sweeps, save_untrained

from pointdistiller_core.files import write_text

LIMIT_MB, GROWTH_LIMIT_MB = 600, 30  # single samples differ by 20 as buffers come and go
SAMPLES = 40  # over the run; the first ones see the buffers grow to their size


def main() -> int:
    """Print the memory over the run and write it; 1 if it is over the limit or grows."""
    arguments = parse_arguments()
    if arguments.child:
        watch(arguments)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        sweeps = make_sweeps(4, arguments.seed)
        np.savez(Path(folder) / 'sweeps.npz', *sweeps)
        bundle = arguments.bundle or Path(folder) / arguments.model
        if arguments.bundle is None:
            save_untrained(
                bundle, arguments.model, sweeps, backends=[arguments.backend], seed=arguments.seed
            )
        record = run_child(arguments, bundle, Path(folder) / 'sweeps.npz')
    report(record)
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')
    return int(record['peak_mb'] > LIMIT_MB or record['growth_mb'] > GROWTH_LIMIT_MB)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--model', choices=MODELS, default='4x')
    parser.add_argument('--bundle', type=Path, help='instead of random weights')
    parser.add_argument('--backend', default='openvino-int8')
    parser.add_argument('--clouds', type=int, default=10_000)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/memory.json'))
    parser.add_argument('--child', type=Path, help=argparse.SUPPRESS)  # the sweeps' file
    return parser.parse_args()


def run_child(arguments: argparse.Namespace, bundle: Path, sweeps: Path) -> dict[str, Any]:
    """Measurements of a fresh process, which has never exported anything."""
    command = [sys.executable, __file__, '--child', str(sweeps), '--bundle', str(bundle)]
    for name in ('backend', 'clouds', 'threads', 'seed'):
        command += [f'--{name}', str(getattr(arguments, name))]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    samples: dict[str, Any] = json.loads(output.splitlines()[-1])
    resident = samples['resident_mb']
    return {
        'model': str(arguments.bundle or arguments.model),
        'backend': arguments.backend,
        'clouds': arguments.clouds,
        'seed': arguments.seed,
        'machine': machine(),
        'growth_mb': growth(resident),
        **samples,
    }


def watch(arguments: argparse.Namespace) -> None:
    """Detect in cloud after cloud and print the memory during that, as JSON."""
    from pointdistiller_core.detector import Detector

    has_node = find_spec('rclpy') is not None
    if has_node:
        import pointdistiller_ros.detector_node  # noqa: F401
    imported = resident_mb()
    sweeps = list(np.load(arguments.child).values())
    detector = Detector.load(
        arguments.bundle, backend=arguments.backend, num_threads=arguments.threads
    )
    loaded = resident_mb()
    for points in sweeps:
        detector(points)
    rng, samples = np.random.default_rng(arguments.seed), [resident_mb()]
    for index in range(1, arguments.clouds + 1):
        points = sweeps[index % len(sweeps)]
        size = len(points) if index % 100 == 0 else int(len(points) * rng.random() ** 3)
        detector(
            rng.permutation(points[len(points) - size :]) if index % 7 == 0 else points[:size]
        )
        if index % max(1, arguments.clouds // SAMPLES) == 0:
            samples.append(resident_mb())
    record = {'with_node': has_node, 'imported_mb': imported, 'loaded_mb': loaded}
    print(json.dumps({**record, 'peak_mb': resident_mb('VmHWM'), 'resident_mb': samples}))


def growth(resident: Sequence[float]) -> float:
    """From the first quarter of the samples to the last, each by its median."""
    quarter = max(1, len(resident) // 4)
    return round(median(resident[-quarter:]) - median(resident[:quarter]), 1)


def resident_mb(field: str = 'VmRSS') -> float:
    """Memory of this process [MB = 2^20 bytes]; `VmHWM` is the most that it ever was."""
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f'{field}:'))
    return round(int(kilobytes) / 1024, 1)


def report(record: dict[str, Any]) -> None:
    """The memory at each stage."""
    print(f'{record["machine"]}; {record["model"]} in {record["backend"]}, [MB]')
    node = ' of the node' if record['with_node'] else ''
    print(f'{"imports" + node:28}{record["imported_mb"]:8.1f}')
    print(f'{"loaded":28}{record["loaded_mb"]:8.1f}')
    print(f'{"after the first sweeps":28}{record["resident_mb"][0]:8.1f}')
    print(f'{"after " + str(record["clouds"]) + " clouds":28}{record["resident_mb"][-1]:8.1f}')
    print(f'{"growth":28}{record["growth_mb"]:8.1f}')
    print(f'{"peak, of " + str(LIMIT_MB):28}{record["peak_mb"]:8.1f}')


if __name__ == '__main__':
    raise SystemExit(main())
