# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Seconds that the nuScenes metric takes for a set of the validation set's size.

Made-up tables and a submission for them are written first. Every repetition is a process of its
own, so starting Python and importing count. The processor's time is given beside the clock's, as
it depends less on other programs. Example:
`python benchmarks/nuscenes_metric.py --samples 6019 --boxes 60`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median
import subprocess
import sys
import tempfile
from time import perf_counter, process_time

import numpy as np

from pointdistiller_core.files import write_text
from pointdistiller_core.formats.nuscenes.index import build_arrays, open_index
from pointdistiller_core.formats.nuscenes.names import ATTRIBUTES, CLASS_NAMES, CLASS_OF_CATEGORY
from pointdistiller_core.formats.nuscenes.submission import GlobalBoxes, format_submission
from pointdistiller_core.formats.nuscenes.writer import (
    WrittenLabel,
    WrittenScene,
    WrittenSweep,
    token_of,
    write_tables,
)

SAMPLES_PER_SCENE = 40


def main() -> None:
    """Print the median of all repetitions, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--samples', type=int, default=6019)
    parser.add_argument('--boxes', type=int, default=60, help='of each sample')
    parser.add_argument('--repetitions', type=int, default=3)
    parser.add_argument('--json', type=Path, default=Path('bench_output/nuscenes_metric.json'))
    parser.add_argument('--folder', type=Path, help='for the tables; they stay there')
    parser.add_argument('--once', choices=('make', 'open', 'evaluate'), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        run_once(arguments.folder, arguments.once)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / 'v1.0-simulated').exists():
            write_set(folder, arguments.samples, arguments.boxes)
        runs = {
            step: [measure(folder, step) for _ in range(arguments.repetitions)]
            for step in ('make', 'open', 'evaluate')
        }
    print(f'{arguments.samples} samples, {arguments.boxes} boxes each, {os.cpu_count()} cores')
    print(f'{"":12}{"processor":>12}{"clock":>10}{"memory":>10}')
    medians = {
        step: [round(median(column), 2) for column in zip(*own, strict=True)]
        for step, own in runs.items()
    }
    for step, (processor, clock, memory) in medians.items():
        print(f'{step:12}{processor:10.2f} s{clock:8.2f} s{memory:7.0f} MB')
    record = {
        **{'samples': arguments.samples, 'boxes': arguments.boxes, 'cores': os.cpu_count()},
        **{'median': medians, 'runs': runs},
    }
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')


def write_set(root: Path, num_samples: int, num_boxes: int) -> None:
    """Tables without clouds, and a submission with a miss, a hit nearby or a false alarm each."""
    rng = np.random.default_rng(0)
    categories = [name for name, kind in CLASS_OF_CATEGORY.items() if kind]
    scenes, truth = [], []
    for first in range(0, num_samples, SAMPLES_PER_SCENE):
        count = min(SAMPLES_PER_SCENE, num_samples - first)
        name = f'scene-{len(scenes) + 1:04d}'
        kinds = rng.integers(0, len(categories), num_boxes)
        starts, speeds = rng.uniform(-45, 45, (num_boxes, 2)), rng.normal(0, 2, (num_boxes, 2))
        sweeps = []
        for number in range(count):
            places = starts + speeds * number * 0.5
            labels = [
                WrittenLabel(
                    track,
                    categories[kinds[track]],
                    (*places[track].tolist(), 1.0, 1.0, 0.0, 0.0, 0.0),
                    (2.0, 4.0, 1.5),
                    5,
                    ATTRIBUTES[track % len(ATTRIBUTES)],
                )
                for track in range(num_boxes)
            ]
            sweeps.append(
                WrittenSweep(number * 500_000, 'none', (0, 0, 0, 1, 0, 0, 0), tuple(labels))
            )
            classes = [CLASS_NAMES.index(str(CLASS_OF_CATEGORY[categories[k]])) for k in kinds]
            truth.append((token_of('sample', name, number), places, np.array(classes)))
        scenes.append(WrittenScene(name, tuple(sweeps)))
    write_tables(root, scenes, {'all_of_it': [scene.name for scene in scenes]})
    places = np.concatenate([each[1] for each in truth])
    labels = np.concatenate([each[2] for each in truth])
    total = len(places)
    boxes = GlobalBoxes(
        samples=np.repeat(np.arange(len(truth)), num_boxes),
        translation=np.pad(places + rng.normal(0, 1, places.shape), ((0, 0), (0, 1))),
        size=np.tile([2.1, 4.2, 1.6], (total, 1)),
        rotation=np.tile([1.0, 0, 0, 0], (total, 1)),
        velocity=rng.normal(0, 2, (total, 2)),
        labels=np.where(rng.random(total) < 0.8, labels, rng.integers(0, 10, total)),
        attributes=rng.integers(-1, len(ATTRIBUTES), total),
        scores=rng.uniform(0.05, 1, total),
        num_points=np.full(total, -1),
    )
    content = format_submission(boxes, [each[0] for each in truth])
    (root / 'results_nusc.json').write_bytes(content)


def measure(folder: Path, step: str) -> list[float]:
    """Seconds of the processor, of the clock, and memory [MB] of a process with one step."""
    command = [sys.executable, __file__, '--folder', str(folder), '--once', step]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    values: list[float] = json.loads(output.splitlines()[-1])
    return values


def run_once(folder: Path, step: str) -> None:
    """Run one step in this process and print what it took, start-up and imports included."""
    start = perf_counter()
    tables, cache = folder / 'v1.0-simulated', folder / '.cache'
    if step == 'make':
        build_arrays(tables)
    elif step == 'open':
        open_index(tables, cache)
    else:
        from pointdistiller_core.cli.app import app

        options = {
            **{'--predictions': folder / 'results_nusc.json', '--labels': folder},
            **{'--split': 'all_of_it', '--json': folder / 'scores.json'},
        }
        texts = [text for key, value in options.items() for text in (key, str(value))]
        app(['evaluate', *texts], standalone_mode=False)
    status = Path('/proc/self/status').read_text(encoding='utf-8')
    memory = int(status.partition('VmHWM:')[2].split()[0]) / 1024
    print(json.dumps([process_time(), perf_counter() - start, memory]))


if __name__ == '__main__':
    main()
