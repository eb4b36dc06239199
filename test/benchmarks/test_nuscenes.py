# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the nuScenes metric, on a few samples."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[2]


def test_each_step_is_timed(tmp_path):
    sizes = ['--samples', '3', '--boxes', '5', '--repetitions', '1']
    places = ['--folder', str(tmp_path), '--json', str(tmp_path / 'times.json')]
    command = [sys.executable, ROOT / 'benchmarks' / 'nuscenes_metric.py', *sizes, *places]
    environment = {'PYTHONPATH': str(ROOT), 'PATH': ''}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '3 samples, 5 boxes each' in done.stdout
    record = json.loads((tmp_path / 'times.json').read_text(encoding='utf-8'))
    assert set(record['median']) == {'make', 'open', 'evaluate'}
    assert all(memory > 10 for _, _, memory in record['median'].values())
    assert 0 < json.loads((tmp_path / 'scores.json').read_text(encoding='utf-8'))['NDS'] < 1
