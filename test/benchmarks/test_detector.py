# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of latency, memory and start-up, with a small detector."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

from backend_parameters import backends
import pytest

from pointdistiller_core.config import DetectorConfig, find_config, load_config
from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle
from pointdistiller_core.deploy.bundle_format import add_files
from pointdistiller_core.deploy.export.exporters import export_detector
from pointdistiller_core.models import build_detector

ROOT = Path(__file__).resolve().parents[2]


def run(script, *options, folder):
    # As in an installed environment, where the package is importable from anywhere.
    environment = {'PYTHONPATH': str(ROOT), 'PATH': ''}
    command = [sys.executable, ROOT / 'benchmarks' / script, *options]
    done = subprocess.run(
        list(map(str, command)),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def small_bundle(tmp_path):
    config = load_config(DetectorConfig, find_config('models', 'pointpillars_small_16x'))
    save_bundle(tmp_path / 'bundle', build_detector(config), BundleInfo(model=config))
    return tmp_path / 'bundle'


@pytest.fixture
def exported_bundle(small_bundle):
    add_files(small_bundle, export_detector(load_detector_model(small_bundle), 'onnx'))
    return small_bundle


@pytest.mark.parametrize('name', backends('onnx'))
def test_records_of_every_stage(small_bundle, tmp_path, name):
    before = sorted(small_bundle.iterdir())
    options = ['--bundle', f'small={small_bundle}', '--backends', 'torch', name]
    options += ['--models', '--threads', 1, '--clouds', 2, '--rounds', 1]
    options += ['--precision', 'fp32', 'bf16']
    printed = run('latency.py', *options, folder=tmp_path)
    records = json.loads((tmp_path / 'bench_output' / 'latency.json').read_text(encoding='utf-8'))
    stages = ('cloud', 'prepare', 'network', 'decode', 'decode.nms', 'total', 'processor')
    networks = [('torch', 'fp32'), ('torch', 'bf16'), (name, 'fp32')]
    assert [(record['backend'], record['precision'], record['stage']) for record in records] == [
        (*network, stage) for network in networks for stage in stages
    ]
    for record in records:
        assert (record['model'], record['threads'], record['calls']) == ('small', 1, 1)
        assert 115_000 < record['points'] < 125_000
        assert record['median_ms'] == record['p95_ms'] == record['p99_ms'] >= 0  # of one call
    by_stage = {record['stage']: record['median_ms'] for record in records[-len(stages) :]}
    parts = sum(by_stage[stage] for stage in ('cloud', 'prepare', 'network', 'decode'))
    assert parts <= by_stage['total'] + 0.01
    assert by_stage['decode.nms'] <= by_stage['decode'] + 0.01
    assert [line.split()[:3] for line in printed.splitlines()[-3:]] == [
        ['small', 'torch', '1'],
        ['small', 'torch', 'bf16'],
        ['small', name, '1'],
    ]
    assert sorted(small_bundle.iterdir()) == before  # exported aside


@pytest.mark.parametrize('name', backends('onnx'))
def test_memory_over_a_run(exported_bundle, tmp_path, name):
    options = ['--bundle', exported_bundle, '--backend', name, '--clouds', 8, '--threads', 1]
    printed = run('memory.py', *options, folder=tmp_path)
    record = json.loads((tmp_path / 'bench_output' / 'memory.json').read_text(encoding='utf-8'))
    assert len(record['resident_mb']) == 9  # the sweeps, then one after each cloud
    assert record['imported_mb'] < record['loaded_mb'] < record['peak_mb']
    assert max(record['resident_mb']) <= record['peak_mb']
    assert printed.splitlines()[-1].startswith('peak, of 600')


@pytest.mark.parametrize('name', backends('onnx'))
def test_seconds_of_a_start(exported_bundle, tmp_path, name):
    options = ['--bundle', exported_bundle, '--backend', name, '--repetitions', 1]
    printed = run('startup.py', *options, folder=tmp_path)
    record = json.loads((tmp_path / 'bench_output' / 'startup.json').read_text(encoding='utf-8'))
    for cache in ('cold', 'warm'):
        seconds = record['seconds'][cache]
        assert list(seconds) == ['imports', 'load', 'first result', 'detect']
        assert all(value > 0 for value in seconds.values())
    assert [line.split()[0] for line in printed.splitlines()[-2:]] == ['cold', 'warm']
