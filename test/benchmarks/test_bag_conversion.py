# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of converting bags, on few clouds."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[2]


def test_every_cloud_becomes_a_frame(tmp_path):
    target = tmp_path / 'conversion.json'
    command = [sys.executable, str(ROOT / 'benchmarks' / 'bag_conversion.py'), '--clouds', '30']
    done = subprocess.run(
        [*command, '--points', '3000', '--json', str(target)],
        env={'PYTHONPATH': str(ROOT), 'PATH': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: slow, as a busy machine is
    record = json.loads(target.read_text(encoding='utf-8'))
    assert (record['clouds'], record['frames']) == (30, 30)
    assert record['clouds_per_processor_second'] > 0
    assert len(done.stdout.splitlines()) == 5
