# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Seconds from the start of a process to its first boxes, and to the end of the command `detect`.

Warm, the files that it reads are in memory; cold, they were dropped from there (except those that
another process has in memory, so the first start after a boot may be slower):

    python benchmarks/startup.py
    python benchmarks/startup.py --model 16x --backend onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
from statistics import median
import subprocess
import sys
import tempfile
import time
from typing import Any

from untrained import MODELS, machine, make_sweeps, save_untrained

from pointdistiller_core.files import write_text

PHASES = ('imports', 'load', 'first result', 'detect')
CHILD = """
import json, sys, time
import numpy as np
from pointdistiller_core.detector import Detector
ends = [time.time()]
detector = Detector.load(sys.argv[1], backend=sys.argv[2], num_threads=int(sys.argv[3]))
ends.append(time.time())
detector(np.fromfile(sys.argv[4], np.float32).reshape(-1, 4))
ends.append(time.time())
mapped = {line.split()[-1] for line in open('/proc/self/maps') if '/' in line}
names = ('__file__', '__cached__')
modules = {vars(module).get(name) for module in sys.modules.values() for name in names} - {None}
print(json.dumps([ends, sorted(mapped | modules)]))
"""


def main() -> None:
    """Print a row for each phase, the median of all repetitions, and write them as JSON."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        sweeps = make_sweeps(4, arguments.seed)
        cloud = Path(folder) / 'cloud.bin'
        sweeps[0].tofile(cloud)
        bundle = arguments.bundle or Path(folder) / arguments.model
        if arguments.bundle is None:
            save_untrained(
                bundle, arguments.model, sweeps, backends=[arguments.backend], seed=arguments.seed
            )
        _, files = start(bundle, cloud, arguments)
        files += [str(path) for path in (cloud, *bundle.iterdir())]
        runs: dict[str, list[dict[str, float]]] = {'cold': [], 'warm': []}
        for _ in range(arguments.repetitions):
            forget(files)
            runs['cold'].append(start(bundle, cloud, arguments)[0])
            runs['warm'].append(start(bundle, cloud, arguments)[0])
            runs['warm'][-1]['detect'] = detect(bundle, cloud, arguments)
            forget(files)
            runs['cold'][-1]['detect'] = detect(bundle, cloud, arguments)
    record = {
        'model': str(arguments.bundle or arguments.model),
        'backend': arguments.backend,
        'machine': machine(),
        'seconds': {
            cache: {phase: round(median(run[phase] for run in each), 3) for phase in PHASES}
            for cache, each in runs.items()
        },
    }
    report(record)
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--model', choices=MODELS, default='4x')
    parser.add_argument('--bundle', type=Path, help='instead of random weights')
    parser.add_argument('--backend', default='openvino-int8')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/startup.json'))
    return parser.parse_args()


def start(
    bundle: Path, cloud: Path, arguments: argparse.Namespace
) -> tuple[dict[str, float], list[str]]:
    """Seconds since the start of a process at the end of each phase, and the files it read."""
    options = [str(bundle), arguments.backend, str(arguments.threads), str(cloud)]
    begin = time.time()
    output = subprocess.run(
        [sys.executable, '-c', CHILD, *options], check=True, stdout=subprocess.PIPE
    ).stdout
    ends, files = json.loads(output.splitlines()[-1])
    return {phase: end - begin for phase, end in zip(PHASES, ends, strict=False)}, files


def detect(bundle: Path, cloud: Path, arguments: argparse.Namespace) -> float:
    """Seconds of the whole command, printing included."""
    command = [sys.executable, '-m', 'pointdistiller_core', 'detect', str(bundle), str(cloud)]
    command += ['--backend', arguments.backend, '--num-threads', str(arguments.threads)]
    begin = time.time()
    subprocess.run([*command, '--json', '-'], check=True, stdout=subprocess.DEVNULL)
    return time.time() - begin


def forget(files: Sequence[str]) -> None:
    """Drop the contents of files from the system's memory."""
    os.sync()
    for path in files:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # built in, or removed since
            continue
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def report(record: dict[str, Any]) -> None:
    """Seconds at the end of each phase."""
    print(f'{record["machine"]}; {record["model"]} in {record["backend"]}')
    print('seconds since the start of the process at the end of ...')
    for cache, seconds in record['seconds'].items():
        print(f'{cache:6}' + ''.join(f'{phase:>14} {seconds[phase]:5.2f}' for phase in PHASES))


if __name__ == '__main__':
    main()
