# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Processor time and memory of a training step, with and without keeping freed memory.

    python benchmarks/kept_memory.py
    python benchmarks/kept_memory.py --models pointpillars_small_4x second_small

Processes with and without take turns, on one core each. Random weights, simulated frames.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import resource
from statistics import median
import subprocess
import sys
import tempfile
from time import process_time

from sparse_training import build
import torch
from untrained import machine

from pointdistiller_core.config import SimulationConfig
from pointdistiller_core.datasets.simulated import simulate_dataset
from pointdistiller_core.training.memory import keep_freed_memory

WARM_UP, STEPS = 2, 6


def main() -> None:
    """Print a row per model."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--models', nargs='+', default=['lidar_4x', 'pointpillars_small_4x'])
    parser.add_argument('--frames', type=int, default=4)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.models[0], arguments.frames, *arguments.child)))
        return
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        simulate_dataset(
            Path(folder), config=SimulationConfig(), splits={'train': arguments.frames}, seed=0
        )
        for model in arguments.models:
            seconds: dict[str, list[float]] = {'as usual': [], 'kept': []}
            memory: dict[str, list[float]] = {'as usual': [], 'kept': []}
            for _ in range(arguments.rounds):
                for kind in seconds:
                    words = [sys.executable, __file__, '--models', model]
                    words += ['--frames', str(arguments.frames), '--child', kind, folder]
                    result = json.loads(subprocess.check_output(words))
                    seconds[kind].append(result['seconds'])
                    memory[kind].append(result['megabytes'])
            ratios = [a / b for a, b in zip(seconds['kept'], seconds['as usual'], strict=True)]
            print(
                f'{model:24}'
                f' usual {median(seconds["as usual"]):.2f} s {median(memory["as usual"]):.0f} MB,'
                f' kept {median(seconds["kept"]):.2f} s {median(memory["kept"]):.0f} MB,'
                f' ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
            )


def measure(model: str, num_frames: int, kind: str, folder: str) -> dict[str, float]:
    """Median processor time [s] of a step, and the largest memory [MB] of this process."""
    if kind == 'kept' and not keep_freed_memory():
        raise SystemExit('this C library cannot keep freed memory')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    objective, batch = build(model, Path(folder), num_frames)
    optimizer = torch.optim.AdamW(objective.parameters())
    times = []
    for _ in range(WARM_UP + STEPS):
        start = process_time()
        optimizer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16):
            losses = objective(batch)
        sum(losses.values()).backward()
        optimizer.step()
        times.append(process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {'seconds': median(times[WARM_UP:]), 'megabytes': peak}


if __name__ == '__main__':
    main()
