# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames with the sweeps before them: the same from a folder, from a bag, and live."""

from __future__ import annotations

from changed_config import changed
import numpy as np
import pytest
from recording_bags import write_recording

from pointdistiller_core.config import (
    BagConfig,
    FolderConfig,
    KittiConfig,
    PointPillarsConfig,
    SimulationConfig,
)
from pointdistiller_core.datasets import build_dataset, with_sweeps
from pointdistiller_core.datasets.simulated import simulate_dataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.folder import FolderInfo, FrameRange, FrameRow, Label
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.geometry.poses import Pose
from pointdistiller_core.pointcloud.sweeps import SweepBuffer

SECOND = 10**9
SPEED = 10.0  # [m/s]
AGED = changed(PointPillarsConfig(), point_features=('x', 'y', 'z', 'intensity', 'age'), sweeps=3)
WALL = 50.0  # [m]


def sweep(step):
    """(3, 4) a wall, a ray without return, and the time as intensity."""
    return np.array(
        [[WALL - SPEED * step / 10, 1, 0, step / 10], [5, 5, 1, step / 10], [0, 0, 0, 1]],
        np.float32,
    )


def write_drives(root, *, posed=True):
    """Two drives of five frames; the car drives along x."""
    with FolderWriter(root, FolderInfo(class_names=('Car',))) as writer:
        for drive in 'ab':
            for step in range(5):
                pose = Pose((100 + SPEED * step / 10, 0, 0, 0, 0, 0, 1)) if posed else None
                stamp = SECOND + step * SECOND // 10
                label = Label('Car', (12 - step, 0, 0, 4, 2, 1.5, 0))
                row = FrameRow(f'{drive}_{step:06d}', drive, stamp, pose=pose)
                writer.add(row, sweep(step), [label])
        ranges = [FrameRange('a_000003', 'a_000004'), FrameRange('b_000000', 'b_000001')]
        writer.set_ranges([row for row in ('a_000003',)], {'train': ranges})
    return root


def test_sweeps_of_a_folder_are_those_of_the_drive(tmp_path):
    config = FolderConfig(root=write_drives(tmp_path))
    frames = build_dataset(config, ['Car'], model=AGED)
    assert frames.point_features == AGED.point_features
    assert list(frames.frame_ids) == ['a_000003', 'a_000004', 'b_000000', 'b_000001']
    assert [len(frames[index].points) for index in range(4)] == [6, 6, 2, 4]
    frame = frames[1]
    walls = frame.points[::2]
    np.testing.assert_allclose(walls[:, 0], [WALL - 4] * 3, atol=1e-5)
    np.testing.assert_allclose(walls[:, 3], [0.4, 0.3, 0.2])
    np.testing.assert_allclose(walls[:, 4], [0, 0.1, 0.2], atol=1e-6)
    assert frame.ground_truth.boxes[0, 0] == 8
    np.testing.assert_array_equal(frames[3].points, frames[3].points)  # in any order


def test_live_and_offline_are_the_same_to_the_bit(tmp_path):
    config = FolderConfig(root=write_drives(tmp_path), split='all')
    frames = build_dataset(config, ['Car'], model=AGED)
    buffer = SweepBuffer(3, 1.0, with_age=True)
    for step in range(5):
        pose = Pose((100 + SPEED * step / 10, 0, 0, 0, 0, 0, 1)).matrix
        live = buffer.add(sweep(step)[:2], SECOND + step * SECOND // 10, pose)
        np.testing.assert_array_equal(frames[step].points, live)


def test_a_fingerprint_knows_of_the_sweeps_before(tmp_path):
    root = write_drives(tmp_path)
    config = FolderConfig(root=root, split='all')
    before = [build_dataset(config, ['Car'], model=AGED).fingerprint(i) for i in range(10)]
    (root / 'points' / 'a_000001.bin').write_bytes(sweep(0)[:1].tobytes())
    after = [build_dataset(config, ['Car'], model=AGED).fingerprint(i) for i in range(10)]
    assert [i for i in range(10) if before[i] != after[i]] == [1, 2, 3]
    fewer = changed(AGED, sweeps=2)
    assert build_dataset(config, ['Car'], model=fewer).fingerprint(4) != after[4]


def test_age_limits_the_sweeps(tmp_path):
    config = FolderConfig(root=write_drives(tmp_path), split='all')
    model = changed(AGED, sweeps=10, max_sweep_age_s=0.25)
    frames = build_dataset(config, ['Car'], model=model)
    assert [len(frames[index].points) for index in range(5)] == [2, 4, 6, 6, 6]


def test_frames_without_poses_are_refused(tmp_path):
    config = FolderConfig(root=write_drives(tmp_path, posed=False))
    with pytest.raises(DatasetError, match=r'no poses and times, but the model merges 3 sweeps'):
        build_dataset(config, ['Car'], model=AGED)
    frames = build_dataset(config, ['Car'])
    alone = with_sweeps(frames, AGED, tmp_path, alone=True)
    np.testing.assert_array_equal(alone[0].points[:, :4], sweep(3)[:2])
    assert not alone[0].points[:, 4].any()
    one = changed(AGED, sweeps=1)
    assert build_dataset(config, ['Car'], model=one)[0].points.shape == (2, 5)


def test_a_dataset_in_kittis_layout_has_no_poses(tmp_path):
    simulate_dataset(tmp_path, SimulationConfig(), splits={'val': 1}, seed=0, num_workers=1)
    with pytest.raises(DatasetError, match=r'set model\.sweeps=1|model\.sweeps=1'):
        build_dataset(KittiConfig(root=tmp_path, split='val'), ['Car'], model=AGED)


def test_one_sweep_is_the_dataset_itself(tmp_path):
    config = FolderConfig(root=write_drives(tmp_path))
    frames = build_dataset(config, ['Car'], model=PointPillarsConfig())
    assert type(frames).__name__ == 'FolderDataset'


@pytest.mark.parametrize('source', [{'tf': True}, {'odometry_topic': '/odom'}])
def test_sweeps_of_a_bag(tmp_path, source):
    bag = write_recording(tmp_path / 'drive', num_clouds=5, **source)
    frames = build_dataset(BagConfig(root=bag), ['Car'], labelled=False, model=AGED)
    single = build_dataset(BagConfig(root=bag), ['Car'], labelled=False)
    sizes = [len(single[index].points) for index in range(5)]
    for index in (2, 0, 4, 3):
        merged, first = frames[index].points, max(0, index - 2)
        assert len(merged) == sum(sizes[first : index + 1])
        oldest = merged[-sizes[first] :]
        np.testing.assert_allclose(oldest[:, 0], single[first].points[:, 0] - (index - first))
        np.testing.assert_allclose(oldest[:, 4], (index - first) / 10, atol=1e-6)


def test_a_bag_without_poses_is_refused(tmp_path):
    bag = write_recording(tmp_path / 'drive', num_clouds=3)
    with pytest.raises(DatasetError, match='no poses'):
        build_dataset(BagConfig(root=bag), ['Car'], labelled=False, model=AGED)
