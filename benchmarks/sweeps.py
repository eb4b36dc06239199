# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What it takes to merge sensors and past sweeps, and to drop the vehicle itself.

    python benchmarks/sweeps.py

Random points, seed 0, in one thread; no ROS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
from pathlib import Path
from time import perf_counter

import numpy as np
from untrained import machine

from pointdistiller_core.files import write_text
from pointdistiller_core.geometry.transforms import rotation_from_angles
from pointdistiller_core.pointcloud.sensors import EgoBox, join_points, move_points
from pointdistiller_core.pointcloud.sweeps import SweepBuffer

STEP_NS = 50_000_000
WARM_UP = 20


def main() -> None:
    """Print a table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--sweeps', type=int, default=10)
    parser.add_argument('--points', type=int, default=35_000, help='of a sweep')
    parser.add_argument('--cloud', type=int, default=120_000, help='points that are moved')
    parser.add_argument('--repeats', type=int, default=300)
    parser.add_argument('--json', type=Path, default=Path('bench_output/sweeps.json'))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    cloud = random_points(rng, arguments.cloud)
    half = len(cloud) // 2
    box, pose = EgoBox((-2.0, -1.0, -2.0), (2.0, 1.0, 0.5)), pose_at(1)
    cases: dict[str, Callable[[], object]] = {
        f'move {len(cloud)} points': lambda: move_points(pose, cloud),
        f'join two sensors of {half}': lambda: join_points(
            [(np.eye(4), cloud[:half]), (pose, cloud[half:])]
        ),
        f'drop the vehicle of {len(cloud)}': lambda: box.outside(cloud),
        f'{arguments.sweeps} x {arguments.points}, with age': buffer_case(rng, arguments),
    }
    rows = {name: measure(case, arguments.repeats) for name, case in cases.items()}
    for name, row in rows.items():
        print(f'{name:32s}' + ''.join(f'  {key} {value:6.2f}' for key, value in row.items()))
    record = {'machine': machine(), 'repeats': arguments.repeats, 'ms': rows}
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')


def buffer_case(rng: np.random.Generator, arguments: argparse.Namespace) -> Callable[[], object]:
    """A full buffer that gets one more sweep."""
    sweeps = [random_points(rng, arguments.points) for _ in range(4)]
    buffer = SweepBuffer(arguments.sweeps, 1e6, with_age=True)
    count = 0

    def add() -> None:
        nonlocal count
        count += 1
        buffer.add(sweeps[count % 4], count * STEP_NS, pose_at(count))

    return add


def random_points(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) around a sensor."""
    return rng.normal(0, (20, 20, 1, 0.3), (count, 4)).astype(np.float32)


def pose_at(step: int) -> np.ndarray:
    """(4, 4) of a car in a curve."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_angles(0.01, 0.02, 0.01 * step)
    pose[:3, 3] = (0.5 * step, 0.1 * step, 1.7)
    return pose


def measure(case: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median and 95th percentile [ms]."""
    times = []
    for _ in range(WARM_UP + repeats):
        begin = perf_counter()
        case()
        times.append(1e3 * (perf_counter() - begin))
    median, p95 = np.quantile(times[WARM_UP:], (0.5, 0.95))
    return {'median': float(median), 'p95': float(p95)}


if __name__ == '__main__':
    main()
