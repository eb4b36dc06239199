# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Seconds that `pointdistiller evaluate` takes for 3769 KITTI frames and three classes, by phase.

Every repetition is a process of its own, so starting Python and importing count. Example:
`python benchmarks/kitti_metric.py --data ../shared/data/kitti_eval`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
import json
import os
from pathlib import Path
from statistics import median
import subprocess
import sys
import tempfile
from time import perf_counter
from typing import Any

from kitti_parity import ARCHIVES, unpack

from pointdistiller_core.files import write_text

PHASES = {
    'read_results_folder': 'reading',
    '_overlapping_pairs': 'overlaps',
    '_covered_by_dont_care': 'overlaps',
    'measure': 'matching',
}
ROWS = ('start-up', 'reading', 'overlaps', 'matching', 'other', 'total')


def main() -> None:
    """Print a row for each phase, the median of all repetitions, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, help='folder of archives of KITTI files')
    parser.add_argument('--case', choices=sorted(ARCHIVES), default='seed1')
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--json', type=Path, default=Path('bench_output/kitti_metric.json'))
    parser.add_argument('--once', type=Path, help=argparse.SUPPRESS)  # unpacked; one repetition
    arguments = parser.parse_args()
    if arguments.once:
        run_once(arguments.once, ARCHIVES[arguments.case])
        return
    with tempfile.TemporaryDirectory() as folder:
        unpack(arguments.data, Path(folder))
        runs = [measure(Path(folder), arguments.case) for _ in range(arguments.repetitions)]
    seconds = {row: round(median(run[row] for run in runs), 3) for row in ROWS}
    print(f'{arguments.case}, median of {len(runs)} processes, {os.cpu_count()} cores')
    for row, value in seconds.items():
        print(f'{row:10}{value:8.2f} s')
    record = {'case': arguments.case, 'cores': os.cpu_count(), 'seconds': seconds, 'runs': runs}
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')


def measure(folder: Path, case: str) -> dict[str, float]:
    """Seconds of each phase of one process; the rest of its time is start-up."""
    command = [sys.executable, __file__, '--case', case, '--once', str(folder)]
    start = perf_counter()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    total = perf_counter() - start
    phases: dict[str, float] = json.loads(output.splitlines()[-1])
    after_imports = phases.pop('command')
    other = after_imports - sum(phases.values())
    return {'start-up': total - after_imports, **phases, 'other': other, 'total': total}


def run_once(folder: Path, results: str) -> None:
    """Run the command in this process and print what its phases took."""
    from pointdistiller_core.cli.app import app
    from pointdistiller_core.evaluation.kitti import metric as kitti

    seconds: dict[str, float] = defaultdict(float)
    for name, phase in PHASES.items():
        setattr(kitti, name, timed(getattr(kitti, name), phase, seconds))
    options = {'--predictions': results, '--labels': 'label_2', '--json': 'ap.json'}
    texts = [text for key, name in options.items() for text in (key, str(folder / name))]
    start = perf_counter()
    app(['evaluate', *texts], standalone_mode=False)
    seconds['command'] = perf_counter() - start
    print(json.dumps(seconds))


def timed(
    function: Callable[..., Any], phase: str, seconds: dict[str, float]
) -> Callable[..., Any]:
    """The same function, which also adds its time to its phase."""

    def call(*arguments: Any, **options: Any) -> Any:
        start = perf_counter()
        result = function(*arguments, **options)
        seconds[phase] += perf_counter() - start
        return result

    return call


if __name__ == '__main__':
    main()
