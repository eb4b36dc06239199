# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The check of a dataset in nuScenes' format."""

from __future__ import annotations

from pathlib import Path

from kitti_folder import points_in
import numpy as np
from nuscenes_folder import FIRST_US, vehicle_pose, write_key_frame, write_scene
import pytest

from pointdistiller_core.datasets.nuscenes_checks import check_nuscenes
from pointdistiller_core.formats.nuscenes.writer import WrittenSweep, cloud_file, write_cloud

BOXES = [[10, 2, -1, 4, 2, 1.5, 0.5], [20, -5, -1, 0.6, 0.6, 1.8, 1]]
NAMES = ['vehicle.car', 'human.pedestrian.child']


@pytest.fixture
def root(tmp_path) -> Path:
    """Three key frames with a car and a child, and a sweep."""
    rng = np.random.default_rng(0)
    sweeps = [
        write_key_frame(tmp_path, i, points_in(BOXES, 9, rng).reshape(-1, 4), BOXES, NAMES)
        for i in range(3)
    ]
    file = cloud_file('scene-0001', FIRST_US + 100, key_frame=False)
    write_cloud(tmp_path, file, np.ones((3, 5), np.float32))
    sweeps.insert(1, WrittenSweep(FIRST_US + 100, file, vehicle_pose(0)))
    write_scene(tmp_path, sweeps)
    return tmp_path


def told(root: Path, **options) -> list[tuple[str, bool]]:
    return [(each.what, each.broken) for each in check_nuscenes(root, **options).findings]


def test_a_sound_dataset(root):
    done = []
    report = check_nuscenes(root, on_frame=lambda *of: done.append(of))
    assert report.findings == ()
    assert report.splits == {'train': 3}
    assert report.points_per_sweep.tolist() == [18] * 3
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert report.objects.names.tolist() == ['car', 'pedestrian'] * 3
    assert report.objects.num_points.tolist() == [9] * 6
    assert not report.objects.rated
    assert check_nuscenes(root / 'v1.0-simulated', split='train').splits == {'train': 3}


def test_sweeps_that_are_missing_or_cut_off(root):
    (sweep,) = (root / 'sweeps').rglob('*.bin')
    sweep.write_bytes(b'12345')
    ((what, broken),) = told(root)
    assert broken
    assert '1 clouds are cut off: no multiple of 20 bytes' in what
    sweep.unlink()
    ((what, broken),) = told(root)
    assert not broken
    assert '1 clouds are missing, which only sweeps above 1 need' in what


def test_key_frames_that_are_missing_or_odd(root):
    first, second, _ = sorted((root / 'samples').rglob('*.bin'))
    first.unlink()
    second.write_bytes(b'')
    problems = told(root)
    assert ('the sweep has no points', True) in problems
    assert any(broken and 'No such file' in what for what, broken in problems)
    assert ('2 of 4 labels of the key frames have no point of theirs', False) in problems
    assert len(check_nuscenes(root).points_per_sweep) == 2


def test_tables_that_are_not_whole(root):
    assert "has no split 'val'" in told(root, split='val')[0][0]
    (root / 'v1.0-simulated' / 'ego_pose.json').unlink()
    report = check_nuscenes(root)
    assert report.num_broken == 1
    assert 'lacks the tables ego_pose.json' in report.findings[0].what


def test_without_labels(root):
    (root / 'v1.0-simulated' / 'sample_annotation.json').write_text('[]', encoding='utf-8')
    assert told(root) == [('has no labels', False)]
