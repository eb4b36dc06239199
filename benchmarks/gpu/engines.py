# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Do the engines of sparse convolution agree, forward and backward, and how fast are they.

    python benchmarks/gpu/engines.py --device cuda

Each layer of SECOND's middle sees random cells. Engines that are not installed are named.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from pointdistiller_core.config import SecondConfig
from pointdistiller_core.errors import PointDistillerError
from pointdistiller_core.files import write_text
from pointdistiller_core.sparse.convolution import SparseConv3d, SparseTensor
from pointdistiller_core.sparse.engines import LIBRARIES, TORCH, use_engine
from pointdistiller_core.sparse.middle import middle_stages

SHAPE = (21, 400, 352)
LARGEST_DIFFERENCE = 1e-3  # of the largest value: sums of thousands of float32 in any order


def main() -> int:
    """Print a row for each layer and engine; 1 if an engine that ran disagrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--cells', type=int, default=40_000)
    parser.add_argument('--calls', type=int, default=20)
    parser.add_argument('--json', type=Path, default=Path('bench_output/engines.json'))
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    convolutions = {conv for stage in middle_stages(SecondConfig()) for conv in stage}
    records = [
        record
        for conv in sorted(convolutions, key=str)
        for record in compare(conv, arguments.device, arguments.cells, arguments.calls)
    ]
    for record in records:
        print(*(f'{name}: {value}' for name, value in record.items()), sep='  ')
    write_text(arguments.json, json.dumps({'engines': records}, indent=2) + '\n')
    return int(any(record.get('agrees') is False for record in records))


def compare(conv: Any, device: str, num_cells: int, calls: int) -> list[dict[str, Any]]:
    """A record for each engine, for one layer."""
    inputs, outputs, kernel, stride, padding = conv
    layer = SparseConv3d(inputs, outputs, kernel, stride=stride, padding=padding).to(device)
    cells = torch.randperm(SHAPE[0] * SHAPE[1] * SHAPE[2])[:num_cells]
    coords = torch.stack(torch.unravel_index(cells, (1, *SHAPE)), dim=1).to(device)
    features = torch.randn(num_cells, inputs, device=device)
    expected = run(layer, features, coords)
    records = []
    for name in (TORCH, *LIBRARIES):
        record: dict[str, Any] = {'layer': f'{inputs}-{outputs} {kernel} {stride}', 'engine': name}
        try:
            use_engine(layer, name, device)
            found = run(layer, features, coords)
        except (PointDistillerError, ImportError) as error:
            records.append({**record, 'error': str(error)})
            continue
        worst = max(
            float((one - other).abs().max() / other.abs().max())
            for one, other in zip(found, expected, strict=True)
        )
        times = [timed(layer, features, coords, device) for _ in range(calls)]
        record |= {'difference': worst, 'agrees': worst < LARGEST_DIFFERENCE}
        records.append({**record, 'forward_backward_ms': round(median(times), 3)})
    use_engine(layer, TORCH, device)
    return records


def run(layer: SparseConv3d, features: Tensor, coords: Tensor) -> tuple[Tensor, ...]:
    """Output, and gradients of the features and of the weights."""
    inputs = features.clone().requires_grad_()
    output = layer(SparseTensor.build(inputs, coords, SHAPE, 1)).features
    gradients = torch.autograd.grad(output.square().mean(), (inputs, layer.weight))
    return output.detach(), *gradients


def timed(layer: SparseConv3d, features: Tensor, coords: Tensor, device: str) -> float:
    """Milliseconds of one pass forward and backward, rulebooks included."""
    start = perf_counter()
    run(layer, features, coords)
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize()
    return (perf_counter() - start) * 1e3


if __name__ == '__main__':
    raise SystemExit(main())
