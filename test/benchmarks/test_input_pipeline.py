# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the input pipeline, on two frames."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

from kitti_folder import write_frame, write_splits

ROOT = Path(__file__).resolve().parents[2]


def test_frames_a_second(tmp_path):
    for name, x in (('000003', 10), ('000007', 30)):
        write_frame(tmp_path, name, [[x, 0, 0, 0.5]] * 9, [[x, 0, 0, 4, 2, 1.5, 0]], ['Car'])
    write_splits(tmp_path, {'val': ['000003', '000007']})
    target = tmp_path / 'new' / 'pipeline.json'
    options = ['--dataset', tmp_path, '--split', 'val', '--workers', 0, '--batches', 1]
    command = [sys.executable, ROOT / 'benchmarks' / 'input_pipeline.py', *options]
    command += ['--batch-size', 2, '--steps-per-second', 1e9, '--json', target]
    # As in an installed environment, where the package is importable from anywhere.
    environment = {'PYTHONPATH': str(ROOT), 'PATH': ''}
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(target.read_text(encoding='utf-8'))
    assert record['network_frames_per_second'] == 2e9
    assert set(record['cpu_ms_per_frame']) >= {'read', 'read, kept', 'paste objects'}
    assert len(record['loader']) == 4
    assert all(row['frames_per_second'] > 0 for row in record['loader'])
    assert done.stdout.splitlines()[-1].endswith('100% of its time')
    assert not (tmp_path / '.cache').exists()
