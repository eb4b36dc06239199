# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the detector's node, for a moment, with small clouds and a small network."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

import ros_graph  # noqa: F401 - a domain of its own
import torch

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.grid import Grid
from pointdistiller_core.models import build_detector

ROOT = Path(__file__).resolve().parents[2]
PARTS = ('to_detector_ms', 'detector_ms', 'from_detector_ms')


@pytest.fixture
def bundle(tmp_path) -> Path:
    torch.manual_seed(0)
    grid = Grid(
        point_cloud_range=(0.0, -20.48, -3.0, 40.96, 20.48, 1.0), voxel_size=(0.64, 0.64, 4.0)
    )
    config = PointPillarsConfig(width=0.25, grid=grid)
    save_bundle(tmp_path / 'bundle', build_detector(config), BundleInfo(model=config))
    return tmp_path / 'bundle'


def test_memory_over_swaps(tmp_path, bundle):
    other = shutil.copytree(bundle, tmp_path / 'other')
    target = tmp_path / 'new' / 'swaps.json'
    options = ['--bundles', bundle, other, '--backends', 'torch', '--threads', 1]
    options += ['--swaps', 6, '--clouds', 2, '--json', target]
    done = subprocess.run(
        list(map(str, [sys.executable, ROOT / 'benchmarks' / 'swaps.py', *options])),
        env=os.environ | {'PYTHONPATH': str(ROOT), 'ROS_LOG_DIR': str(tmp_path / 'log')},
        capture_output=True,
        text=True,
        check=False,
    )
    assert target.exists(), done.stderr
    record = json.loads(target.read_text(encoding='utf-8'))
    assert len(record['resident_mb']) == 6
    assert all(value > 20 for value in [record['loaded_mb'], record['rest_mb']])
    assert 'growth' in done.stdout


def test_every_cloud_is_accounted_for(tmp_path, bundle):
    target = tmp_path / 'new' / 'node.json'
    options = ['--bundle', bundle, '--backend', 'torch', '--threads', 1, '--points', 500]
    options += ['--reliability', 'reliable', '--minutes', 0.025, '--rate', 20, '--json', target]
    done = subprocess.run(
        list(map(str, [sys.executable, ROOT / 'benchmarks' / 'node.py', *options])),
        env=os.environ
        | {
            'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path]),
            'ROS_LOG_DIR': str(tmp_path / 'log'),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert target.exists(), done.stderr
    record = json.loads(target.read_text(encoding='utf-8'))
    for role in ('echo', 'node'):
        found = record[role]
        assert found['sent'] == 30
        assert found['lost'] < 30, (role, done.stderr)
        assert found['memory_mb'] > 20
        times = found['times']
        assert times['end_to_end_ms']['max'] >= max(times[part]['max'] for part in PARTS)
        assert times['overhead_ms']['median'] > 0
    assert record['echo']['times']['detector_ms']['max'] == 0
    assert record['node']['times']['detector_ms']['median'] > 0
    assert 'overhead_ms' in done.stdout
    assert all(row['median'] > 0 for row in record['tracking'].values())
    assert '100 tracks' in done.stdout
