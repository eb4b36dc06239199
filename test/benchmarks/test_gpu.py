# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The jobs for a borrowed GPU, shrunken, from the door of this machine and back to it."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / 'benchmarks/gpu'
JOBS = ('check', 'latency', 'throughput', 'engines', 'frames', 'teacher', 'students', 'core')
MOST_FILES, MOST_BYTES = 8, 16 * 2**20


def call(*words, **environment):
    return subprocess.run(
        list(map(str, words)),
        env=os.environ
        | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONDONTWRITEBYTECODE': '1'}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    """What all jobs leave, and the folder that they worked in."""
    folder = tmp_path_factory.mktemp('gpu')
    done = call(
        sys.executable, GPU, 'run', *JOBS, '--small', '--device', 'cpu',
        '--work', folder / 'work', '--out', folder / 'out', CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / 'out'


def test_what_comes_back_fits_through_the_door(out):
    files = list(out.iterdir())
    assert len(files) <= MOST_FILES
    assert all(file.is_file() and file.stat().st_size <= MOST_BYTES for file in files)


def test_collected_it_is_where_it_belongs(out, tmp_path):
    (tmp_path / 'docs').mkdir()
    shutil.copy(ROOT / 'docs/gpu.md', tmp_path / 'docs/gpu.md')
    done = call(sys.executable, GPU, 'collect', out, '--root', tmp_path, '--keep', 'default-seed0')
    assert done.returncode == 0, done.stderr
    place = tmp_path / 'bench_output/gpu'
    results = {file.stem: json.loads(file.read_text()) for file in (place / 'results').iterdir()}
    assert set(results) == set(JOBS)
    assert results['check']['result']['passed'] >= 2
    assert results['check']['result']['failed'] == {}
    rows = results['latency']['result']['rows']
    eager, *others = rows
    assert eager['boxes'] == eager['boxes_on_the_cpu'] > 0
    assert {row['skipped'] for row in others} == {'needs a GPU'}
    assert results['throughput']['result']['rows'][0]['frames_per_second'] > 0
    engines = results['engines']['result']['engines']
    assert {row['agrees'] for row in engines if row['engine'] == 'torch'} == {True}
    others = [row['error'] for row in engines if row['engine'] != 'torch']
    assert len(others) == len(engines) * 2 / 3 > 8
    assert all('runs on a GPU alone' in error for error in others)
    assert results['frames']['result']['frames'] == 7
    assert len(results['frames']['result']['input_pipeline']['loader']) == 4
    states = [each['state'] for each in results['students']['result']['outcomes'].values()]
    assert states == ['complete'] * 3
    assert [run['arm'] for run in results['teacher']['result']['runs']] == ['teacher']
    bundles = sorted(path.parents[1].name for path in place.glob('runs/*/bundle/bundle.json'))
    assert bundles == ['default-seed0', 'student_4x-seed0', 'teacher-seed0']
    assert (tmp_path / 'weights/default-seed0/bundle/model.safetensors').exists()
    assert not (tmp_path / 'docs/gpu').exists()  # shrunken results are none


def test_damaged_on_the_way_it_is_refused(out, tmp_path):
    shutil.copytree(out, tmp_path / 'out')
    (part,) = (tmp_path / 'out').glob('*.part-*')
    part.write_bytes(part.read_bytes()[:-1])
    done = call(sys.executable, GPU, 'collect', tmp_path / 'out', '--root', tmp_path)
    assert done.returncode != 0
    assert 'truncated or altered' in done.stderr


def test_a_job_that_fails_is_told_and_the_others_go_on(tmp_path):
    done = call(
        sys.executable, GPU, 'run', 'teacher', 'core', '--small', '--device', 'cpu',
        '--work', tmp_path / 'work', '--out', tmp_path / 'out',
    )  # fmt: skip
    assert done.returncode == 1
    results = {
        file.stem: json.loads(file.read_text()) for file in (tmp_path / 'work/results').iterdir()
    }
    state = results['teacher']['result']['outcomes']['runs/teacher-seed0']['state']
    assert 'no such file or folder' in state  # there are no frames
    assert results['core']['result']['passed'] > 0


@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='not a checkout')
def test_what_is_carried_runs_there(tmp_path):
    carry = tmp_path / 'carry'
    done = call(sys.executable, GPU, 'prepare', '--no-wheels', '--carry', carry)
    assert done.returncode == 0, done.stderr
    python = tmp_path / 'bin/python3'
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    done = call(
        'bash', carry / 'run.sh', 'core', '--small', '--device', 'cpu',
        PATH=f'{Path(sys.executable).parent}:{python.parent}:{os.environ["PATH"]}',
        WORK=str(tmp_path / 'work'), OUT=str(tmp_path / 'out'),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / 'work/results/core.json').read_text())
    assert record['revision'] == (carry / 'revision').read_text()
    assert len(record['revision']) == 40
    assert record['result']['passed'] > 0
