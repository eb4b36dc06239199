# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Processor time of a training step of SECOND on a CPU, by the engine of sparse convolutions.

    python benchmarks/sparse_training.py data/simulated --models second_small second_small_4x

The folder is in KITTI's layout. Random weights, the first frames of its train split; the engines
take turns. Its columns: forward and backward through the sparse convolutions, and the whole step
without the optimizer, in seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from untrained import machine

from pointdistiller_core.config import ExperimentConfig, find_config, parse_config
from pointdistiller_core.config.files import read_yaml
from pointdistiller_core.sparse import convolution
from pointdistiller_core.sparse.array_engines import NUMPY_TRAINING, best_training_engine
from pointdistiller_core.training.data import collate
from pointdistiller_core.training.experiment import build_dataset, build_objective

FUNCTIONS = {
    'torch': convolution.TorchConvolution,
    'numpy': convolution.ArrayConvolution,
    'numba': convolution.ArrayConvolution,
}


def main() -> None:
    """Print a line per model and engine."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('data', type=Path, help="folder in KITTI's layout")
    parser.add_argument('--models', nargs='+', default=['second_small', 'second_small_4x'])
    parser.add_argument('--frames', type=int, default=4)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    engines = {'numpy': NUMPY_TRAINING}
    if best_training_engine() is not NUMPY_TRAINING:
        engines['numba'] = best_training_engine()
    print(machine())
    for model in arguments.models:
        torch.manual_seed(arguments.seed)
        objective, batch = build(model, arguments.data, arguments.frames)
        times: dict[str, list[tuple[float, ...]]] = {}
        for _ in range(arguments.rounds + 1):
            for name in ('torch', *engines):
                convolution.best_training_engine = lambda _dtype, own=name: engines[own]
                times.setdefault(name, []).append(step(objective, batch, FUNCTIONS[name]))
        for name, own in times.items():
            forward, backward, whole = map(median, zip(*own[1:], strict=True))  # the first is cold
            print(f'{model:16} {name:6} {forward:6.2f} {backward:6.2f} {whole:6.2f}')


def build(model: str, data: Path, num_frames: int) -> tuple[Any, Any]:
    """An untrained network with its losses, and a batch."""
    values = {
        'model': read_yaml(find_config('models', model)),
        'dataset': {'root': str(data), 'split': 'train'},
    }
    config = parse_config(ExperimentConfig, values, where=model)
    dataset = build_dataset(config.dataset, config.model.class_names, model=config.model)
    return build_objective(config, None).train(), collate([dataset[i] for i in range(num_frames)])


def step(objective: Any, batch: Any, function: Any) -> tuple[float, float, float]:
    """Processor time [s] of sparse convolutions forward, backward, and of all."""
    spent = {'forward': 0.0, 'backward': 0.0}

    def timed(name: str) -> Any:
        run: Callable[..., Any] = getattr(function, name)

        def run_and_count(*arguments: Any) -> Any:
            start = process_time()
            result = run(*arguments)
            spent[name] += process_time() - start
            return result

        return staticmethod(run_and_count)

    bases = (torch.autograd.Function,)
    convolution.ArrayConvolution = type('Timed', bases, {name: timed(name) for name in spent})
    start = process_time()
    objective.zero_grad()
    with torch.autocast('cpu', torch.bfloat16):
        losses = objective(batch)
    sum(losses.values()).backward()
    return spent['forward'], spent['backward'], process_time() - start


if __name__ == '__main__':
    main()
