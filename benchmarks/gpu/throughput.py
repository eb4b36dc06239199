# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames per second of a training step on a GPU, and where the time of a step goes.

    python benchmarks/gpu/throughput.py --device cuda --batch-sizes 4 8 16

The same frames are used again and again, already on the device: what the network could do if it
never waited. Stages are timed in runs of their own, with a wait after each stage.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
import json
from pathlib import Path
from statistics import median
import sys
import tempfile
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from untrained import machine

from pointdistiller_core.config import (
    DetectorConfig,
    DistillationConfig,
    KittiConfig,
    PointPillarsConfig,
    SimulationConfig,
    find_config,
    load_config,
    parse_config,
)
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.datasets.simulated import simulate_dataset
from pointdistiller_core.distill import Distiller
from pointdistiller_core.files import write_text
from pointdistiller_core.models import build_detector
from pointdistiller_core.records import Batch, Frame
from pointdistiller_core.training.data import collate
from pointdistiller_core.training.objective import DetectionObjective

TRAININGS = ('teacher', '4x', '16x', '4x default', '4x paper')
MODELS = {'teacher': 'pointpillars', '4x': 'pointpillars_4x', '16x': 'pointpillars_16x'}
PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16}


def main() -> None:
    """Print a row for each training; write all as JSON."""
    arguments = parse_arguments()
    frames = simulate(max(arguments.batch_sizes))
    torch.backends.cudnn.benchmark = True
    rows = []
    for name in arguments.trainings:
        for precision in arguments.precisions:
            for size in arguments.batch_sizes:
                batch = collate(frames[:size]).to(arguments.device)
                row = {'training': name, 'precision': precision, 'batch_size': size}
                row |= measure(name, precision, batch, arguments)
                rows.append(row)
                print(row, flush=True)
    values = {
        'machine': machine(),
        'device': torch.cuda.get_device_name() if arguments.device == 'cuda' else arguments.device,
        'torch': torch.__version__,
        'steps': arguments.steps,
        'rows': rows,
    }
    write_text(arguments.json, json.dumps(values, indent=2) + '\n')


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--trainings', nargs='+', choices=TRAININGS, default=[*TRAININGS])
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS, default=['bf16'])
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[8])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--steps', type=int, default=15)
    parser.add_argument('--json', type=Path, default=Path('bench_output/gpu_throughput.json'))
    return parser.parse_args()


def simulate(count: int) -> list[Frame]:
    """Labelled full-range frames."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / 'data'
        simulate_dataset(root, SimulationConfig(), splits={'train': count}, seed=0)
        dataset = KittiDataset(KittiConfig(root=root), PointPillarsConfig().class_names)
        return [dataset[index] for index in range(count)]


def measure(
    name: str, precision: str, batch: Batch, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Frames per second, memory, and milliseconds of the stages of a step."""
    device = arguments.device
    torch.manual_seed(0)
    objective = build_objective(name).to(device).train()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    if device == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = partial(
        run_step,
        objective,
        optimizer,
        trained,
        batch=batch,
        device=device,
        dtype=PRECISIONS[precision],
    )
    times: list[float] = []
    for _ in range(arguments.steps + 3):
        start = perf_counter()
        step()
        times.append(perf_counter() - start)
    with timed(objective, device) as stages:
        for _ in range(arguments.steps):
            step(stages=stages)
    parts = {stage: round(median(spent) * 1e3, 2) for stage, spent in stages.items()}
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == 'cuda' else None
    seconds = median(times[3:])
    return {
        'frames_per_second': round(len(batch) / seconds, 1),
        'step_ms': round(seconds * 1e3, 2),
        'stages_ms': parts,
        'peak_gib': memory and round(memory, 2),
    }


def build_objective(name: str) -> nn.Module:
    """A detector on labels alone, or a student and a teacher of random weights."""
    model, _, preset = name.partition(' ')
    detector = build_detector(load_config(DetectorConfig, find_config('models', MODELS[model])))
    if not preset:
        return DetectionObjective(detector)
    teacher = build_detector(load_config(DetectorConfig, find_config('models', MODELS['teacher'])))
    return Distiller(teacher, detector, parse_config(DistillationConfig, preset, where=name))


def run_step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    trained: list[nn.Parameter],
    *,
    batch: Batch,
    device: str,
    dtype: torch.dtype,
    stages: Mapping[str, list[float]] | None = None,
) -> None:
    """One step, as `fit` makes it."""

    def lap(stage: str, since: float) -> float:
        if stages is None:
            return since
        synchronize(device)
        stages[stage].append(perf_counter() - since)
        return perf_counter()

    optimizer.zero_grad()
    start = perf_counter()
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        losses: dict[str, Tensor] = objective(batch)
    start = lap('forward', start)
    torch.stack([*losses.values()]).sum().backward()
    start = lap('backward', start)
    norm = torch.nn.utils.clip_grad_norm_(trained, 35.0)
    norm.item()
    optimizer.step()
    synchronize(device)
    lap('optimizer', start)


@contextmanager
def timed(objective: Any, device: str) -> Iterator[dict[str, list[float]]]:
    """Times of the stages of a step; those of `forward` are taken apart once more."""
    stages: dict[str, list[float]] = defaultdict(list)
    detector = objective.detector
    parts = {
        'forward.prepare': 'prepare',
        'forward.losses': 'losses',
        'forward.network': 'forward',
    }

    def wrap(stage: str, method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            synchronize(device)
            start = perf_counter()
            result = method(*arguments)
            synchronize(device)
            stages[stage].append(perf_counter() - start)
            return result

        return call

    for stage, name in parts.items():
        setattr(detector, name, wrap(stage, getattr(detector, name)))
    try:
        yield stages
    finally:
        for name in parts.values():
            delattr(detector, name)


def synchronize(device: str) -> None:
    """Wait for the GPU."""
    if device == 'cuda':
        torch.cuda.synchronize()


if __name__ == '__main__':
    main()
