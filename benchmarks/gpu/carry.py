# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""To the machine with the GPU, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

from jobs import JOBS, has_failed

ROOT = Path(__file__).resolve().parents[2]
CARRY = Path('gpu_carry')
MOST_BYTES = 64 * 2**20
# What a machine with torch and lightning usually lacks, for its Python.
WHEELS = (
    *('pydantic', 'pydantic_core', 'typing-inspection', 'annotated-types'),
    *('trimesh', 'embreex', 'threadpoolctl', 'lightning-fabric'),
    *('rosbags', 'lz4', 'apsw', 'ruamel.yaml', 'typing_extensions', 'backports.zstd'),
)
PYTHON = '3.12'
PLATFORMS = ('manylinux_2_28_x86_64', 'manylinux_2_17_x86_64', 'manylinux2014_x86_64')
RUN = """#!/usr/bin/env bash
# Usage: OUT=results bash run.sh JOB...; needs Python {python} with torch, but no network.
set -euo pipefail
here=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
work=${{WORK:-/tmp/pointdistiller_gpu}}
mkdir -p "$work"
if [ ! -e "$work/ready" ]; then
    mkdir -p "$work/code" "$work/site"
    tar -xzf "$here/code.tar.gz" -C "$work/code"
    if [ -d "$here/../weights" ]; then  # of the checkout that travels beside this folder
        ln -sfn "$(realpath "$here/../weights")" "$work/code/weights"
    fi
    if ls "$here"/wheels/*.whl >/dev/null 2>&1; then
        python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \\
            --target "$work/site" "$here"/wheels/*.whl
    fi
    touch "$work/ready"
fi
export PYTHONPATH="$work/code:$work/site" PYTHONUNBUFFERED=1
export POINTDISTILLER_REVISION=$(cat "$here/revision")
exec python3 "$work/code/benchmarks/gpu" run "$@" --work "$work" --out "${{OUT:-gpu_out}}"
"""
BEGIN, END = '<!-- jobs: begin -->', '<!-- jobs: end -->'


def prepare(carry: Path, *, wheels: bool = True) -> None:
    """Write code, wheels and a script into a folder, after checking that they fit."""
    shutil.rmtree(carry, ignore_errors=True)
    (carry / 'wheels').mkdir(parents=True)
    revision = _git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')
    if revision.endswith('-dirty'):
        print('uncommitted changes stay here: what is carried is the last commit')
    (carry / 'revision').write_text(revision.removesuffix('-dirty'), encoding='utf-8')
    # weights hardly shrink, and travel once, in the checkout
    code = str((carry / 'code.tar.gz').resolve())
    _git('archive', '--format=tar.gz', '-o', code, 'HEAD', ':(exclude)weights')
    (carry / 'run.sh').write_text(RUN.format(python=PYTHON), encoding='utf-8')
    if wheels:
        words = ['--no-deps', '--only-binary=:all:', '--python-version', PYTHON]
        words += ['--implementation', 'cp', '-d', carry / 'wheels', '-c', ROOT / 'constraints.txt']
        for platform in PLATFORMS:
            words += ['--platform', platform]
        command = [sys.executable, '-m', 'pip', 'download', '-q', *map(str, words), *WHEELS]
        subprocess.run(command, check=True)
    files = [file for file in carry.rglob('*') if file.is_file()]
    files += [ROOT / name for name in _git('ls-files', '-z').split('\0') if name]
    size = sum(file.stat().st_size for file in files if file.exists())
    if size > MOST_BYTES:
        sys.exit(
            f'{carry} and the checkout beside it: {size / 2**20:.1f} MiB, more than the '
            f'{MOST_BYTES / 2**20:.0f} allowed'
        )
    print(
        f'{carry} and the checkout: {size / 2**20:.1f} MiB; there: '
        f'OUT=results bash {carry}/run.sh {" ".join(JOBS)}'
    )


def collect(results: Path, root: Path | None, *, keep: Sequence[str] = ()) -> None:
    """Verify what came back and put it where it belongs.

    Results go to docs/gpu and into the table of docs/gpu.md; logs and runs to bench_output/gpu;
    the runs that are to be kept, as float16, to weights.

    Args:
        results: folder with `gpu.pack.json` and its parts.
        root: of the checkout; this one by default.
        keep: names of runs.
    """
    from pointdistiller_core.training.packing import unpack_files, write_files

    root = root or ROOT
    files = unpack_files(results / 'gpu.pack.json')
    place = root / 'bench_output/gpu'
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_files({name: data for name, data in files.items()}, place)
    for file in sorted((place / 'results').glob('*.json')):
        if json.loads(file.read_bytes())['small']:
            print(f'{file.name}: shrunken, and not for the docs')
            continue
        (root / 'docs/gpu').mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / 'docs/gpu' / file.name)
        print(root / 'docs/gpu' / file.name)
    for name in keep:
        target = root / 'weights' / name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(place / 'runs' / name, target)
        print(target)
    update_table(root)


def update_table(root: Path) -> None:
    """Say in docs/gpu.md which jobs are done."""
    page = root / 'docs/gpu.md'
    before, _, rest = page.read_text(encoding='utf-8').partition(BEGIN)
    after = rest.partition(END)[2]
    lines = ['| job | what it does | done |', '| --- | --- | --- |']
    for name, job in JOBS.items():
        file = root / 'docs/gpu' / f'{name}.json'
        done = '-'
        if file.exists():
            record = json.loads(file.read_bytes())
            done = 'partly: ' if is_partial(record) else ''
            done += (
                f'{record["date"]}, {record["gpu"]}, {record["seconds"]:.0f} s, '
                f'revision {record["revision"][:12]}: [{name}.json](gpu/{name}.json)'
            )
        summary = (job.__doc__ or '').strip().splitlines()[0]
        lines.append(f'| `{name}` | {summary} | {done} |')
    table = '\n'.join(lines)
    page.write_text(f'{before}{BEGIN}\n{table}\n{END}{after}', encoding='utf-8')


def is_partial(record: Mapping[str, Any]) -> bool:
    """Whether a job was cut off: a run was stopped, a measurement not reached, a part failed."""
    result = record['result']
    states = [outcome['state'] for outcome in result.get('outcomes', {}).values()]
    skipped = [row for row in result.get('rows', ()) if ' are over' in row.get('skipped', '')]
    return bool(has_failed(result) or skipped) or any(state != 'complete' for state in states)


def _git(*words: str) -> str:
    command = ['git', *words]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
