# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames per second that the input pipeline delivers, and whether the network waits for it.

Without a dataset, scenes are simulated. The network's time is measured on a device, or given:

    python benchmarks/input_pipeline.py --dataset data/kitti --workers 0 2 4 8 --device cuda
    python benchmarks/input_pipeline.py --steps-per-second 12
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
import json
import os
from pathlib import Path
from statistics import median
import tempfile
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from pointdistiller_core.config import (
    AugmentationConfig,
    GroundTruthSamplingConfig,
    KittiConfig,
    ObjectNoiseConfig,
    PointPillarsConfig,
    SimulationConfig,
    TrainingConfig,
)
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.datasets.augmentation import augment
from pointdistiller_core.datasets.ground_truth_database import load_database, paste_objects
from pointdistiller_core.datasets.object_noise import move_objects
from pointdistiller_core.datasets.simulated import simulate_dataset
from pointdistiller_core.files import write_text
from pointdistiller_core.models import build_detector
from pointdistiller_core.records import Frame
from pointdistiller_core.training.data import collate, load_batches
from pointdistiller_core.training.objective import DetectionObjective

MODEL = PointPillarsConfig()
SAMPLING = GroundTruthSamplingConfig()


def main() -> None:
    """Print processor time by stage and frames per second by number of workers; write JSON."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.dataset or Path(folder) / 'data'
        if arguments.dataset is None:
            simulate_dataset(root, SimulationConfig(), splits={'train': 24}, seed=0)
        config = KittiConfig(root=root, split=arguments.split, cache=Path(folder))
        plain = KittiDataset(config, MODEL.class_names)
        kept = KittiDataset(config.model_copy(update={'cache_frames': True}), MODEL.class_names)
        record: dict[str, Any] = {
            'dataset': str(arguments.dataset or 'simulated'),
            'frames': len(plain),
            'batch_size': arguments.batch_size,
            'cores': os.cpu_count(),
            'load_average': os.getloadavg()[0],
            'cpu_ms_per_frame': time_stages(plain, kept),
            'network_frames_per_second': network_rate(plain, arguments),
            'loader': [
                {
                    'workers': workers,
                    'ground_truth_sampling': sampling,
                    'cache_frames': dataset is kept,
                    'frames_per_second': round(
                        loader_rate(dataset, arguments, workers=workers, sampling=sampling), 1
                    ),
                }
                for dataset in (plain, kept)
                for sampling in (False, True)
                for workers in arguments.workers
            ],
        }
    report(record)
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--dataset', type=Path, help='in KITTI layout; simulated by default')
    parser.add_argument('--split', default='train')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--batch-size', type=int, default=6)
    parser.add_argument('--batches', type=int, default=20, help='that are timed')
    parser.add_argument('--steps-per-second', type=float, help='of the network')
    parser.add_argument('--device', help='measure the full PointPillars network there')
    parser.add_argument('--json', type=Path, default=Path('bench_output/input_pipeline.json'))
    return parser.parse_args()


def time_stages(plain: KittiDataset, kept: KittiDataset) -> dict[str, float]:
    """Median processor milliseconds per frame, which other processes hardly disturb."""
    database = load_database(plain).usable(SAMPLING)
    times: dict[str, list[float]] = defaultdict(list)

    def timed(stage: str, work: Callable[[], Frame]) -> Frame:
        start = process_time()
        frame = work()
        times[stage].append(1e3 * (process_time() - start))
        return frame

    crop = {'point_cloud_range': MODEL.grid.point_cloud_range}
    for turn in range(100):
        rng, index = np.random.default_rng(turn), turn % len(plain)
        kept[index]  # now it is cached
        timed('read, kept', partial(kept.__getitem__, index))
        frame = timed('read', partial(plain.__getitem__, index))
        frame = timed('paste objects', partial(paste_objects, frame, database, SAMPLING, rng))
        timed('object noise', partial(move_objects, frame, ObjectNoiseConfig(), rng))
        timed('flip to shuffle', partial(augment, frame, AugmentationConfig(), rng, **crop))
    return {stage: round(median(spent), 2) for stage, spent in times.items()}


def loader_rate(
    dataset: KittiDataset, arguments: argparse.Namespace, *, workers: int, sampling: bool
) -> float:
    """Frames per second of so many loader processes when nobody uses the frames."""
    augmentation = AugmentationConfig(ground_truth_sampling=SAMPLING if sampling else None)
    training = TrainingConfig(
        epochs=10**6, batch_size=arguments.batch_size, num_workers=workers, seed=0
    )
    batches = load_batches(
        dataset, augmentation, training, point_cloud_range=MODEL.grid.point_cloud_range
    )
    with closing(batches):
        for _ in range(2 * workers + 1):  # the loaders' start, and frames already loaded
            next(batches)
        start, frames = perf_counter(), 0
        for _ in range(arguments.batches):
            frames += len(next(batches))
        return frames / (perf_counter() - start)


def network_rate(dataset: KittiDataset, arguments: argparse.Namespace) -> float | None:
    """Frames per second that the network trains on: given, measured, or not known."""
    if arguments.steps_per_second:
        return float(arguments.steps_per_second * arguments.batch_size)
    if not arguments.device:
        return None
    objective = DetectionObjective(build_detector(MODEL)).to(arguments.device).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4)
    frames = [dataset[turn % len(dataset)] for turn in range(arguments.batch_size)]
    batch = collate(frames).to(arguments.device)
    times = []
    for _ in range(10):
        start = perf_counter()
        optimizer.zero_grad()
        torch.stack([*objective(batch).values()]).sum().backward()
        optimizer.step()
        if arguments.device.startswith('cuda'):
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return round(arguments.batch_size / median(times[2:]), 1)


def report(record: dict[str, Any]) -> None:
    """Both tables."""
    print(
        f'{record["dataset"]}: {record["frames"]} frames; {record["cores"]} cores, '
        f'load {record["load_average"]:.1f}'
    )
    for stage, spent in record['cpu_ms_per_frame'].items():
        print(f'{stage:16}{spent:8.2f} ms of one core for a frame')
    network = record['network_frames_per_second']
    print(f'\nnetwork: {f"{network:g} frames/s" if network else "not measured"}')
    print('workers  GT sampling  cache  frames/s  network waits')
    for row in record['loader']:
        rate = row['frames_per_second']
        waits = '-' if not network else f'{max(0.0, 1 - rate / network):.0%} of its time'
        sampling, cache = (
            'on' if row[name] else 'off' for name in ('ground_truth_sampling', 'cache_frames')
        )
        print(f'{row["workers"]:7}{sampling:>13}{cache:>7}{rate:10.1f}  {waits}')


if __name__ == '__main__':
    main()
