# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Jobs for a GPU that is borrowed for minutes, on a machine without a network.

    python benchmarks/gpu prepare                    # here: gpu_carry/, code and wheels
    OUT=results bash gpu_carry/run.sh check latency  # there
    python benchmarks/gpu collect results            # here: docs/gpu/*.json, logs and runs

`run` ends within its time and leaves a few files of bounded size, whatever happens to a job.
"""

from __future__ import annotations

import argparse
from datetime import date
import json
import os
from pathlib import Path
import platform
import sys
from time import monotonic, perf_counter
import traceback
from typing import Any

from carry import CARRY, collect, prepare
from jobs import JOBS, Place, has_failed

LOG_TAIL = 200_000  # bytes of a log that are brought back


def main() -> int:
    """One of the three commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    preparing = commands.add_parser('prepare', help='code and wheels to carry')
    preparing.add_argument('--carry', type=Path, default=CARRY)
    preparing.add_argument('--no-wheels', action='store_true', help='all is installed there')
    running = commands.add_parser('run', help='jobs, there')
    running.add_argument('jobs', nargs='+', choices=JOBS)
    running.add_argument('--out', type=Path, required=True, help='what is to be brought back')
    running.add_argument('--work', type=Path, default=Path('gpu_work'))
    running.add_argument('--seconds', type=float, default=540)
    running.add_argument('--device', default='cuda')
    running.add_argument('--epochs', type=int, help="of the trainings, instead of the study's")
    running.add_argument('--small', action='store_true', help='shrunken, to try it on a CPU')
    collecting = commands.add_parser('collect', help='results, logs and runs, here')
    collecting.add_argument('results', type=Path)
    collecting.add_argument('--root', type=Path, help='of the checkout to write into')
    collecting.add_argument('--keep', nargs='*', default=[], help='runs that go into weights/')
    arguments = parser.parse_args()
    if arguments.command == 'prepare':
        prepare(arguments.carry, wheels=not arguments.no_wheels)
    elif arguments.command == 'collect':
        collect(arguments.results, arguments.root, keep=arguments.keep)
    else:
        return run(arguments)
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Run jobs one after the other; what they leave is packed after each."""
    stop_at = monotonic() + arguments.seconds
    work = arguments.work.resolve()
    place = Place(work, arguments.device, arguments.small, stop_at, arguments.epochs)
    failed = False
    for name in arguments.jobs:
        start = perf_counter()
        try:
            result = JOBS[name](place)
        except Exception as error:  # the other jobs, and what this one has done, must come back
            traceback.print_exc()
            result = {'error': f'{type(error).__name__}: {error}'}
        record = {
            'job': name,
            'date': date.today().isoformat(),
            'small': arguments.small,
            'seconds': round(perf_counter() - start, 1),
            **describe_machine(arguments.device),
            'result': result,
        }
        failed |= has_failed(result)
        results = work / 'results'
        results.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1)
        (results / f'{name}.json').write_text(text + '\n', encoding='utf-8')
        print(text, flush=True)
        leave(work, arguments.out)
    return int(failed)


def describe_machine(device: str) -> dict[str, Any]:
    """Revision, GPU, processor and versions."""
    import numpy as np
    import torch

    from pointdistiller_core.training.run import git_revision

    return {
        'revision': git_revision(),
        'gpu': torch.cuda.get_device_name() if device == 'cuda' else None,
        'cores': os.cpu_count(),
        'versions': {
            'python': platform.python_version(),
            'torch': torch.__version__,
            'numpy': np.__version__,
        },
    }


def leave(work: Path, out: Path) -> None:
    """Pack results, ends of logs, and runs without their optimizers, as float16."""
    from pointdistiller_core.errors import PointDistillerError
    from pointdistiller_core.training.packing import collect_run, pack_files

    files = {f'results/{file.name}': file.read_bytes() for file in (work / 'results').glob('*')}
    logs = [*(work / 'logs').glob('*.log'), *(work / 'study/runs').glob('*.log')]
    files |= {f'logs/{log.name}': log.read_bytes()[-LOG_TAIL:] for log in logs}
    for config in sorted((work / 'study/runs').glob('*/config.yaml')):
        try:
            content, _ = collect_run(config.parent, optimizer='none', half=True)
        except PointDistillerError as error:  # one that was never saved
            print(f'{config.parent.name} stays behind: {error}', file=sys.stderr)
            continue
        files |= {f'runs/{config.parent.name}/{name}': data for name, data in content.items()}
    packed = pack_files(files, out, 'gpu')
    print(f'{packed.manifest}: {len(packed.parts)} parts, {packed.size / 2**20:.1f} MiB')


if __name__ == '__main__':
    sys.exit(main())
