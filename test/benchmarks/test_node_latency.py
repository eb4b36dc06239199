# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the detector node, with a few small clouds."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import ros_graph

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not Path('/proc').is_dir(), reason='needs Linux')
def test_clouds_are_answered(tmp_path):
    options = ['--clouds', '5', '--rate', '4', '--points', '1000', '--all-outputs']
    command = [sys.executable, ROOT / 'benchmarks' / 'node_latency.py', *options]
    environment = {'PYTHONPATH': str(ROOT), 'ROS_LOG_DIR': str(tmp_path)}
    done = subprocess.run(
        [*command, '--json', tmp_path / 'out.json'],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * ros_graph.TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / 'out.json').read_text(encoding='utf-8'))
    assert 0 <= record['lost'] < 5  # a busy machine works on the newest
    assert 0 < record['detector_ms'] < record['end_to_end_p99_ms']
    assert 'overhead_ms' in done.stdout
