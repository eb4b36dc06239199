# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Milliseconds from a PointCloud2 to boxes, by model, backend and stage.

Full sweeps of 64 beams are simulated, and the weights are random unless bundles are given:

    python benchmarks/latency.py
    python benchmarks/latency.py --models 4x --backends openvino-int8 --threads 1 2
    python benchmarks/latency.py --models 4x second_4x --backends openvino-int8 --busy 1
    python benchmarks/latency.py --models --bundle mine=runs/student
    python benchmarks/latency.py --sweeps 10 --backends openvino-int8
    python benchmarks/latency.py --models pointrcnn pointrcnn_16x --backends torch
    python benchmarks/latency.py --backends torch --device cuda --precision fp32 bf16 fp16

With --sweeps, sweeps of a drive are merged by a buffer, which is part of the stage `cloud`.

The configurations take turns, so that other work on the machine slows all of them alike.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import shutil
from statistics import mean, median
import subprocess
import sys
import tempfile
from time import perf_counter, process_time
from typing import Any

# Before torch is imported: see pointdistiller_core.cli.main.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

import numpy as np
from numpy.typing import NDArray
import torch
from untrained import (
    MERGED_MODELS,
    MODELS,
    POINT_MODELS,
    Drive,
    export_missing,
    machine,
    make_drive,
    make_sweeps,
    save_untrained,
    to_message,
)

from pointdistiller_core.cores import usable_cores
from pointdistiller_core.deploy.backends import BACKENDS
from pointdistiller_core.deploy.bundle import find_bundle, load_detector_model
from pointdistiller_core.detector import Detector, GroundFollower, Mounting
from pointdistiller_core.files import write_text
from pointdistiller_core.geometry import detection
from pointdistiller_core.messages.point_cloud2 import points_from_cloud

NMS = 'decode.nms'  # a part of `decode`, so the stages without it and `total` add up
PROCESSOR = 'processor'  # time of all threads for a call, which other programs lengthen little
STAGES = ('cloud', 'prepare', 'network', 'decode', NMS, 'total', PROCESSOR)
PEER, STUDENT = ('teacher', 'torch'), ('4x', 'openvino-int8')
ON_GPU = ('torch', 'onnx')
LOOKS_EVERY = 5  # clouds, for the ground, as the node does


@dataclass
class Configuration:
    """A loaded detector and what was measured with it [ms]."""

    model: str
    backend: str
    threads: int
    precision: str  # of torch; the others have their own
    detector: Detector
    cold: dict[str, float] = field(default_factory=dict)
    warm: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    boxes: list[int] = field(default_factory=list)
    ground: GroundFollower = field(default_factory=lambda: GroundFollower(every=LOOKS_EVERY))

    def find_mounting(self, points: NDArray[np.float32]) -> Mounting | None:
        """What the node tells a detector of levelled clouds; nothing for others."""
        info = self.detector.info
        if not info.model.levelled or (ground := self.ground.follow(points)) is None:
            return None
        return Mounting.on_ground(ground, info.sensor_height)


def main() -> None:
    """Print a row for each configuration and write a record for each of its stages."""
    arguments = parse_arguments()
    drive = None
    if arguments.sweeps > 1:
        drive = make_drive(arguments.clouds, arguments.sweeps, arguments.seed)
        clouds = drive.merged()
        messages = [to_message(points) for points, *_ in drive.sweeps[arguments.sweeps - 1 :]]
    else:
        clouds = make_sweeps(arguments.clouds, arguments.seed)
        messages = [to_message(points) for points in clouds]
    with tempfile.TemporaryDirectory() as folder:
        bundles = dict(make_bundles(Path(folder), clouds, arguments))
        configurations = load(bundles, arguments)
        with timed_suppression() as spent, busy_cores(arguments.busy):
            for _ in range(arguments.rounds):
                for configuration in configurations:
                    measure(configuration, messages, spent, drive)
    points = round(mean(map(len, clouds)))
    report(configurations, points)
    records = [
        record
        for configuration in configurations
        for record in to_records(configuration, points, arguments)
    ]
    write_text(arguments.json, json.dumps(records, indent=2) + '\n')


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    cores = usable_cores()
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    known = {**MODELS, **MERGED_MODELS, **POINT_MODELS}
    parser.add_argument(
        '--models', nargs='*', choices=known, metavar='MODEL', help=f'of {", ".join(known)}'
    )
    parser.add_argument('--sweeps', type=int, default=1, help='merged into each cloud')
    parser.add_argument('--bundle', action='append', default=[], metavar='NAME=PATH')
    parser.add_argument('--backends', nargs='+', choices=BACKENDS, default=[*BACKENDS][::-1])
    parser.add_argument('--threads', type=int, nargs='+', default=[min(2, cores)])
    parser.add_argument('--precision', nargs='+', default=['fp32'], help='of torch')
    parser.add_argument('--device', default='cpu', help='of torch and onnx')
    parser.add_argument('--clouds', type=int, default=5, help='different sweeps, taken in turn')
    parser.add_argument('--rounds', type=int, default=10, help='turns of each configuration')
    parser.add_argument('--busy', type=int, default=0, help='cores that other processes occupy')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/latency.json'))
    arguments = parser.parse_args()
    own, others = (MERGED_MODELS, MODELS) if arguments.sweeps > 1 else (MODELS, MERGED_MODELS)
    if arguments.models is None:
        arguments.models = [*own]
    if POINT_MODELS.keys() & set(arguments.models) and arguments.backends != ['torch']:
        parser.error('PointRCNN runs in torch alone: give --backends torch')
    if wrong := [name for name in arguments.models if name in others]:
        parser.error(f'{", ".join(wrong)}: see clouds of another kind, give --sweeps for these')
    return arguments


def make_bundles(
    folder: Path, clouds: Sequence[Any], arguments: argparse.Namespace
) -> Iterator[tuple[str, Path]]:
    """Name and place of each detector, exported to the backends that are asked for."""
    exported = [name for name in arguments.backends if name != 'torch']
    for name in arguments.models:
        save_untrained(folder / name, name, clouds, backends=exported, seed=arguments.seed)
        yield name, folder / name
    for text in arguments.bundle:
        name, _, path = text.partition('=')
        copy = shutil.copytree(find_bundle(path), folder / name)
        export_missing(copy, load_detector_model(copy), clouds, exported)
        yield name, copy


def load(bundles: dict[str, Path], arguments: argparse.Namespace) -> list[Configuration]:
    """Every model in every backend with every number of threads."""
    return [
        Configuration(
            model,
            backend,
            threads,
            precision,
            Detector.load(
                folder,
                backend=backend,
                device=arguments.device if backend in ON_GPU else 'cpu',
                num_threads=threads,
                precision=precision,
            ),
        )
        for model, folder in bundles.items()
        for backend in arguments.backends
        for threads in arguments.threads
        for precision in (arguments.precision if backend == 'torch' else ['fp32'])
    ]


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many other processes that never rest, within the block."""
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def timed_suppression() -> Iterator[list[float]]:
    """A list to which every non-maximum suppression within the block adds its milliseconds."""
    spent: list[float] = []
    suppress = detection._suppress

    def timed(*arguments: Any) -> Any:
        start = perf_counter()
        kept = suppress(*arguments)
        spent.append((perf_counter() - start) * 1e3)
        return kept

    detection._suppress = timed
    try:
        yield spent
    finally:
        detection._suppress = suppress


def measure(
    configuration: Configuration,
    messages: Sequence[Any],
    spent: list[float],
    drive: Drive | None,
) -> None:
    """One turn: a call with each sweep. The first call of all is the cold one."""
    torch.set_num_threads(configuration.threads)  # a setting of the whole process
    buffer = drive.full_buffer() if drive else None
    for number, message in enumerate(messages):
        spent.clear()
        start, worked = perf_counter(), process_time()
        points = points_from_cloud(message)
        if drive and buffer:
            points = buffer.add(points, *drive.sweeps[drive.count - 1 + number][1:])
        cloud = (perf_counter() - start) * 1e3
        found = configuration.detector(points, mounting=configuration.find_mounting(points))
        total = (perf_counter() - start) * 1e3
        times = {**found.latency_ms, 'cloud': cloud, NMS: sum(spent), 'total': total}
        times[PROCESSOR] = (process_time() - worked) * 1e3
        if not configuration.cold:
            configuration.cold = times
            continue
        configuration.boxes.append(len(found))
        for stage, value in times.items():
            configuration.warm[stage].append(value)


def to_records(
    configuration: Configuration, points: int, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A record for each stage; model, backend, precision, threads and stage name it."""
    for stage in STAGES:
        times = configuration.warm[stage]
        yield {
            'model': configuration.model,
            'backend': configuration.backend,
            'precision': configuration.precision,
            'stage': stage,
            'points': points,
            'threads': configuration.threads,
            'median_ms': round(median(times), 3),
            'p95_ms': round(float(np.percentile(times, 95)), 3),
            'p99_ms': round(float(np.percentile(times, 99)), 3),
            'cold_ms': round(configuration.cold[stage], 3),
            'calls': len(times),
            'boxes': round(mean(configuration.boxes)),
            'seed': arguments.seed,
            'busy': arguments.busy,
            'machine': machine(),
        }


def report(configurations: Sequence[Configuration], points: int) -> None:
    """A row for each configuration, and how much faster the student is than its teacher."""
    print(f'{machine()}, load {os.getloadavg()[0]:.1f}; sweeps of {points} points')
    names = [*STAGES, 'p95', 'p99', 'cold']
    heads = ''.join(f'{name:>11}' for name in names)
    print(f'{"medians [ms]":13}{"backend":15}threads boxes{heads}')
    for each in configurations:
        values = [median(each.warm[stage]) for stage in STAGES]
        values += [*np.percentile(each.warm['total'], [95, 99]), each.cold['total']]
        numbers = ''.join(f'{value:11.2f}' for value in values)
        boxes = mean(each.boxes)
        backend = each.backend + (f' {each.precision}' if each.precision != 'fp32' else '')
        print(f'{each.model:13}{backend:15}{each.threads:7}{boxes:6.0f}{numbers}')
    medians = {
        (each.model, each.backend, each.threads): median(each.warm['total'])
        for each in configurations
        if each.precision == 'fp32'
    }
    for threads in dict.fromkeys(each.threads for each in configurations):
        peer, student = medians.get((*PEER, threads)), medians.get((*STUDENT, threads))
        if peer and student:
            print(f'{" ".join(PEER)} : {" ".join(STUDENT)}, {threads} threads, total:')
            print(f'{peer:.0f} ms : {student:.0f} ms, {peer / student:.1f} times as fast')


if __name__ == '__main__':
    main()
