# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of reading PointCloud2, on few points."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

from benchmarks.point_cloud2 import LAYOUTS

ROOT = Path(__file__).resolve().parents[2]


def test_times_of_all_layouts(tmp_path):
    target = tmp_path / 'new' / 'cloud.json'
    command = [sys.executable, ROOT / 'benchmarks' / 'point_cloud2.py', '--points', 128]
    # As in an installed environment, where the package is importable from anywhere.
    environment = {'PYTHONPATH': str(ROOT), 'PATH': ''}
    done = subprocess.run(
        [*map(str, command), '--repeats', '3', '--json', str(target)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(target.read_text(encoding='utf-8'))
    assert [row['layout'] for row in record['layouts']] == list(LAYOUTS)
    assert all(0 < row['median_ms'] <= row['p99_ms'] for row in record['layouts'])
    assert len(done.stdout.splitlines()) == 2 + len(LAYOUTS)
