# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sweeps per second that one core simulates, scene building and labels included.

python benchmarks/simulation.py [--config streets] [--frames 30] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from time import process_time

from pointdistiller_core.config import SimulationConfig, find_config, load_config
from pointdistiller_core.datasets.simulated import simulate_drive, simulate_scene
from pointdistiller_core.files import write_text


def main() -> None:
    """Time scenes and a drive in processor seconds, which other processes do not disturb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', help='a shipped simulation; the default is a plain street')
    parser.add_argument('--frames', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/simulation.json'))
    arguments = parser.parse_args()
    config = SimulationConfig()
    if arguments.config:
        config = load_config(SimulationConfig, find_config('simulations', arguments.config))
    simulate_scene(config, seed=arguments.seed, index=0)  # imports and caches

    scene_times, points = [], []
    for index in range(arguments.frames):
        start = process_time()
        frame = simulate_scene(config, seed=arguments.seed, index=index)
        scene_times.append(process_time() - start)
        points.append(len(frame.points))
    start = process_time()
    drive = list(simulate_drive(config, num_frames=arguments.frames, seed=arguments.seed))
    drive_time = (process_time() - start) / len(drive)

    records = [
        {'what': 'scenes', 'sweeps_per_core_second': 1 / median(scene_times)},
        {'what': 'drive', 'sweeps_per_core_second': 1 / drive_time},
    ]
    rays = config.sensor.num_columns * sum(count for *_, count in config.sensor.beams)
    print(f'{rays} rays a sweep, {median(points):.0f} returns (median), seed {arguments.seed}')
    for record in records:
        print(f'{record["what"]:8} {record["sweeps_per_core_second"]:6.1f} sweeps per core second')
    write_text(arguments.json, json.dumps(records, indent=2) + '\n')


if __name__ == '__main__':
    main()
