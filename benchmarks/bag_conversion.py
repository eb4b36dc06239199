# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds per second that become frames of a dataset, from an uncompressed MCAP bag.

python benchmarks/bag_conversion.py [--clouds 600] [--points 30000]

Everything is measured: reading, checking, choosing, writing, and opening a dataset of 100,000
frames. 1 where fewer than 100 clouds come out in a processor second, or opening takes one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import resource
import sys
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

from pointdistiller_core.config import ConversionConfig, FolderConfig, SplitConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.files import write_text
from pointdistiller_core.formats.folder import ROW_FIELDS, FolderInfo, write_info
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.pipelines.bag_conversion import convert_bags

LEAST_CLOUDS, MOST_OPEN_S = 100.0, 1.0  # a processor second; processor seconds
NUM_LISTED = 100_000
PERIOD_NS = 100_000_000


def write_bag(path: Path, num_clouds: int, num_points: int, seed: int) -> int:
    """Clouds of a road between walls, each another one; returns the bytes of the bag."""
    rng = np.random.default_rng(seed)
    points = np.empty((num_points, 4), np.float32)
    points[:, 0], points[:, 1] = rng.uniform(-40, 40, num_points), rng.uniform(-9, 9, num_points)
    on_road = abs(points[:, 1]) < 7
    points[:, 2] = np.where(on_road, -1.73, rng.uniform(-1.73, 3, num_points))
    points[:, 3] = rng.uniform(0, 1, num_points)
    with CloudBagWriter(path) as writer:
        for number in range(num_clouds):
            points[:, 0] += np.float32(0.01)
            writer.write('/points', (number + 1) * PERIOD_NS, 'lidar', points)
    return sum(file.stat().st_size for file in path.iterdir())


def measure_conversion(bag: Path, root: Path) -> tuple[float, float, int]:
    """Processor seconds, seconds on the wall, and frames."""
    config = ConversionConfig(poses='none')
    wall, start = perf_counter(), process_time()
    (drive,) = convert_bags({'drive': bag}, root, config, SplitConfig())
    return process_time() - start, perf_counter() - wall, drive.num_frames


def measure_opening(root: Path) -> float:
    """Processor seconds to open a dataset of 100,000 frames, of which a split has four fifths."""
    write_info(root, FolderInfo())
    pose = '123.456789,-12.3456789,1.23456789,0.0,0.0,0.0,1.0'
    rows = [f'a_{i:06d},a,{10**18 + i},30000,{pose},\n' for i in range(NUM_LISTED)]
    (root / 'frames.csv').write_text(','.join(ROW_FIELDS) + '\n' + ''.join(rows), 'utf-8')
    write_text(root / 'splits' / 'train.txt', f'a_000000..a_{NUM_LISTED * 4 // 5 - 1:06d}\n')
    start = process_time()
    FolderDataset(FolderConfig(root=root), (), labelled=False)
    return process_time() - start


def main() -> int:
    """Convert a bag that is made for it; 1 if it is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--clouds', type=int, default=600)
    parser.add_argument('--points', type=int, default=30_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/bag_conversion.json'))
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        size = write_bag(Path(folder) / 'bag', arguments.clouds, arguments.points, arguments.seed)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        processor_s, wall_s, num_frames = measure_conversion(
            Path(folder) / 'bag', Path(folder) / 'data'
        )
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        (Path(folder) / 'many').mkdir()
        open_s = measure_opening(Path(folder) / 'many')
    record = {
        'clouds': arguments.clouds,
        'points': arguments.points,
        'frames': num_frames,
        'bag_mb': size / 1e6,
        'clouds_per_processor_second': arguments.clouds / processor_s,
        'clouds_per_second': arguments.clouds / wall_s,
        'memory_grown_mb': grown / 1e3,
        'open_100000_frames_s': open_s,
    }
    print(f'{arguments.clouds} clouds of {arguments.points} points, {size / 1e6:.0f} MB of MCAP')
    print(f'{record["clouds_per_processor_second"]:.0f} clouds per processor second')
    print(f'{record["clouds_per_second"]:.0f} clouds per second; disk and others count, too')
    print(f'{record["memory_grown_mb"]:.0f} MB of memory more than before')
    print(f'{open_s:.2f} s to open {NUM_LISTED} frames')
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')
    slow = record['clouds_per_processor_second'] < LEAST_CLOUDS or open_s > MOST_OPEN_S
    return int(slow)


if __name__ == '__main__':
    sys.exit(main())
