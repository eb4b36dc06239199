# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The two benchmarks of the KITTI metric, on one frame."""

from __future__ import annotations

import io
import json
from pathlib import Path
import subprocess
import sys
import tarfile

import pytest

ROOT = Path(__file__).resolve().parents[2]
LABEL = 'Car 0 0 1.5 100 100 200 150 1.5 1.6 4 0 1.5 20 1.5\n'
RESULTS = ('pointgnn_results', 'perturbed_seed1', 'perturbed_seed2')
PRECISION = {'Car': {'ap11': [9.0909] * 3, 'ap40': [0.0] * 3}}  # one hit: the first of 41 points


@pytest.fixture
def data(tmp_path) -> Path:
    """One frame with one car that is found."""
    for name in ('label_2', *RESULTS):
        text = LABEL if name == 'label_2' else LABEL.replace('\n', ' 0.9\n')
        with tarfile.open(tmp_path / f'{name}.tar.xz', 'w:xz') as archive:
            member = tarfile.TarInfo(f'{name}/000001.txt')
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    (tmp_path / 'val.txt').write_text('000001\n', encoding='utf-8')
    return tmp_path


def run(script: str, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / 'benchmarks' / script, *options]
    # As in an installed environment, where the package is importable from anywhere.
    environment = {'PYTHONPATH': str(ROOT), 'PATH': ''}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(('shift', 'code'), [(0.0, 0), (0.5, 1)])
def test_parity_ends_with_the_largest_difference(data, shift, code):
    precision = {'Car': {**PRECISION['Car'], 'ap40': [shift] * 3}}
    case = {'seed1': dict.fromkeys(('bbox', 'bev', '3d', 'aos'), precision)}
    (data / 'a_expected.json').write_text(json.dumps(case), encoding='utf-8')
    done = run('kitti_parity.py', '--data', data, '--json', data / 'new' / 'parity.json')
    assert done.returncode == code, done.stderr
    # 1 / 11 is 9.090909...%, of which the expected number has four decimals.
    largest = '0.500000' if shift else '0.000009'
    assert done.stdout.splitlines()[-1] == f'largest difference: {largest} percent points'
    (row,) = json.loads((data / 'new' / 'parity.json').read_text(encoding='utf-8'))
    assert (row['case'], row['frames'], row['detections']) == ('seed1', 1, 1)


def test_time_of_each_phase(data):
    target = data / 'new' / 'metric.json'
    done = run('kitti_metric.py', '--data', data, '--repetitions', 1, '--json', target)
    assert done.returncode == 0, done.stderr
    record = json.loads(target.read_text(encoding='utf-8'))
    phases = ['start-up', 'reading', 'overlaps', 'matching', 'other', 'total']
    assert list(record['seconds']) == phases
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == phases
    (run_record,) = record['runs']
    assert all(seconds > 0 for seconds in run_record.values())
    assert sum(run_record.values()) == pytest.approx(2 * run_record['total'])
