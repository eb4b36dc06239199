# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Milliseconds of one cloud on a GPU: how the network is run, in which precision, stage by stage.

    python benchmarks/gpu/latency.py --device cuda

`eager` is the detector as it ships; the others replace what lies behind the pillar encoder by the
same network with folded batch norm: eager again, captured as a CUDA graph, or compiled. Weights
are random, sweeps simulated; boxes are compared with those of the CPU in float32.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
import copy
from dataclasses import replace
import json
from pathlib import Path
from statistics import median
import sys
import tempfile
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from untrained import MODELS, machine, make_sweeps, save_untrained

from pointdistiller_core.deploy.export.bev_network import build_network
from pointdistiller_core.detector import Detector
from pointdistiller_core.files import write_text
from pointdistiller_core.models.stages.anchor_head import AnchorOutput
from pointdistiller_core.records import Detections

PRECISIONS = ('fp32', 'tf32', 'bf16', 'fp16')
DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}
WAYS = ('eager', 'folded', 'graph', 'compiled')
STAGES = ('prepare', 'network', 'decode', 'total')


class Folded(nn.Module):
    """A detector whose network behind the encoder has its batch norm folded in, in one type."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        network = build_network(model).to(dtype).to(memory_format=torch.channels_last)
        # In a list, because it may not be a module.
        self._ways: list[Callable[[Tensor], Sequence[Tensor]]] = [network]

    def use(self, way: Callable[[Tensor], Sequence[Tensor]]) -> None:
        """Run the network in this way from now on."""
        self._ways.append(way)

    @property
    def network(self) -> Callable[[Tensor], Sequence[Tensor]]:
        """All behind the pillar encoder."""
        return self._ways[-1]

    def canvas(self, pillars: Any) -> Tensor:
        """(1, rows, columns, C) pillar features."""
        bev_features: Tensor = self.model.encode(pillars)
        return bev_features.permute(0, 2, 3, 1).to(self.dtype)

    def forward(self, pillars: Any) -> AnchorOutput:
        """Raw outputs of all anchors, as the detector's own."""
        class_maps, others = self.network(self.canvas(pillars))
        anchors = self.model.head.anchors
        kinds = class_maps.shape[1] // len(self.model.config.class_names)
        logits = class_maps.permute(0, 2, 3, 1).reshape(1, len(anchors), -1)
        residuals, directions = others[..., : 7 * kinds], others[..., 7 * kinds :]
        return AnchorOutput(
            logits.float(),
            residuals.reshape(1, -1, 7).float(),
            directions.reshape(1, -1, 2).float(),
            anchors,
        )


class Graph:
    """A network captured once and replayed: its kernels start without Python."""

    def __init__(self, network: Callable[[Tensor], Sequence[Tensor]], example: Tensor) -> None:
        self._input = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose their kernels before the capture
                network(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = network(self._input)

    def __call__(self, canvas: Tensor) -> Sequence[Tensor]:
        """The outputs, which the next call overwrites."""
        self._input.copy_(canvas)
        self._graph.replay()
        return self._outputs


def main() -> None:
    """Print a row for each way and precision, and write all as JSON."""
    arguments = parse_arguments()
    stop_at = monotonic() + arguments.seconds
    torch.backends.cudnn.benchmark = True
    clouds = make_sweeps(arguments.clouds, arguments.seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            bundle = Path(folder) / name
            save_untrained(bundle, name, clouds, backends=(), seed=arguments.seed)
            expected = [Detector.load(bundle, backend='torch')(points) for points in clouds]
            for way in arguments.ways:
                for precision in arguments.precisions:
                    row = {'model': name, 'way': way, 'precision': precision}
                    rows.append(row)
                    if monotonic() > stop_at:
                        row['skipped'] = f'{arguments.seconds:.0f} s are over'
                    elif reason := why_not(way, precision, arguments.device):
                        row['skipped'] = reason
                    else:
                        row |= measure(bundle, row, clouds, expected, arguments)
                    print(format_row(row), flush=True)
    values = {
        'machine': machine(),
        'device': device_name(arguments.device),
        'torch': torch.__version__,
        'points': round(np.mean([len(points) for points in clouds])),
        'calls': arguments.calls,
        'seed': arguments.seed,
        'rows': rows,
    }
    write_text(arguments.json, json.dumps(values, indent=2) + '\n')


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--models', nargs='+', choices=MODELS, default=['teacher', '4x', '16x'])
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=[*WAYS])
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS, default=[*PRECISIONS])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--clouds', type=int, default=5)
    parser.add_argument('--calls', type=int, default=50)
    parser.add_argument('--seconds', type=float, default=600, help='after which rows are skipped')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/gpu_latency.json'))
    return parser.parse_args()


def why_not(way: str, precision: str, device: str) -> str:
    """Why a way of running is not measured here; empty if it is."""
    if device == 'cpu' and (way == 'graph' or precision in {'tf32', 'fp16'}):
        return 'needs a GPU'
    if way == 'compiled' and precision not in {'fp16', 'fp32'}:
        return 'compilation takes long; float16 and float32 stand for the others'
    return ''


def measure(
    bundle: Path,
    row: dict[str, Any],
    clouds: Sequence[Any],
    expected: Sequence[Detections],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Median milliseconds of each stage, and how far the boxes are from the CPU's."""
    way, precision = row['way'], row['precision']
    begin = perf_counter()
    try:
        detector = Detector.load(
            bundle, backend='torch', device=arguments.device, precision=precision
        )
        if way != 'eager':
            replace_network(detector, way, precision, clouds[0], arguments.device)
        first = detector(clouds[0])
    except Exception as error:  # a compiler may be missing; the other rows go on
        return {'skipped': f'{type(error).__name__}: {str(error).splitlines()[0][:200]}'}
    start_s = perf_counter() - begin
    times: dict[str, list[float]] = defaultdict(list)
    found = [first]
    for call in range(arguments.calls):
        detections = detector(clouds[call % len(clouds)])
        if call < len(clouds):
            found.append(detections)
        for stage in STAGES:
            times[stage].append(detections.latency_ms[stage])
    return {
        'median_ms': {stage: round(median(values), 3) for stage, values in times.items()},
        'p95_total_ms': round(float(np.percentile(times['total'], 95)), 3),
        'start_s': round(start_s, 2),
        **compare(found[1:], expected),
    }


def replace_network(
    detector: Detector, way: str, precision: str, points: Any, device: str
) -> None:
    """Let a loaded detector run its network in another way."""
    backend: Any = detector._backend
    dtype = DTYPES.get(precision, torch.float32)
    folded = Folded(copy.deepcopy(backend.model), dtype).eval()
    # The folded network has its type already.
    backend.precision = replace(backend.precision, dtype=torch.float32)
    with torch.inference_mode():
        prepare = folded.model.prepare
        example = folded.canvas(prepare([torch.from_numpy(points).to(device)]))
        if way == 'graph':
            folded.use(Graph(folded.network, example))
        elif way == 'compiled':
            folded.use(torch.compile(folded.network))
            folded.network(example)
    folded.prepare, folded.detect = prepare, folded.model.detect  # type: ignore[assignment]
    backend.model = folded


def compare(found: Sequence[Detections], expected: Sequence[Detections]) -> dict[str, Any]:
    """Boxes here and there, and the largest difference of the scores by rank."""
    pairs = list(zip(found, expected, strict=True))
    differences = [
        float(np.abs(ours.scores[:n] - theirs.scores[:n]).max(initial=0))
        for ours, theirs in pairs
        for n in [min(len(ours), len(theirs))]
    ]
    return {
        'boxes': sum(len(ours) for ours, _ in pairs),
        'boxes_on_the_cpu': sum(len(theirs) for _, theirs in pairs),
        'score_difference': round(max(differences), 6),
    }


def device_name(device: str) -> str:
    """The model of the GPU."""
    return torch.cuda.get_device_name(device) if device.startswith('cuda') else device


def format_row(row: dict[str, Any]) -> str:
    """One line."""
    head = f'{row["model"]:8} {row["way"]:9} {row["precision"]:5}'
    if 'skipped' in row:
        return f'{head} skipped: {row["skipped"]}'
    stages = '  '.join(f'{stage} {value:7.2f}' for stage, value in row['median_ms'].items())
    return (
        f'{head} {stages}  p95 {row["p95_total_ms"]:7.2f}  start {row["start_s"]:6.1f} s  '
        f'boxes {row["boxes"]} of {row["boxes_on_the_cpu"]}, scores +- {row["score_difference"]}'
    )


if __name__ == '__main__':
    main()
