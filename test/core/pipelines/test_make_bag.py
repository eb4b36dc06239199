# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from recording_bags import write_recording

from pointdistiller_core.config import BagConfig, ConversionConfig, FolderConfig, SplitConfig
from pointdistiller_core.datasets import BagDataset
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.folder import FrameTable, Label, write_labels
from pointdistiller_core.pipelines.bag_conversion import convert_bags
from pointdistiller_core.pipelines.make_bag import write_folder_bag

CAR = Label('Car', (10.0, 2.0, -1.0, 4.0, 1.75, 1.5, 0.5))


def convert(bag, root, drive='drive'):
    convert_bags({drive: bag}, root, ConversionConfig(), SplitConfig())
    return root


def test_a_drive_as_a_bag_and_back_is_the_same(tmp_path):
    recorded = write_recording(tmp_path / 'bag', tf=True, num_points=2000)
    root = convert(recorded, tmp_path / 'data')
    config = FolderConfig(root=root, split='all')
    assert write_folder_bag(config, tmp_path / 'again') == 10
    again = convert(tmp_path / 'again', tmp_path / 'back')
    first, second = (list(FrameTable(folder / 'frames.csv')) for folder in (root, again))
    assert [row.stamp_ns for row in second] == [row.stamp_ns for row in first]
    for one, two in zip(first, second, strict=True):
        np.testing.assert_allclose(one.pose.matrix, two.pose.matrix, atol=1e-12)
        files = [folder / 'points' / f'{one.name}.bin' for folder in (root, again)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_labels_become_boxes(tmp_path):
    root = convert(write_recording(tmp_path / 'bag', num_clouds=3), tmp_path / 'data')
    for number in range(3):
        write_labels(root, f'drive_{number:06d}', [CAR])
    info = root / 'dataset.yaml'
    info.write_text(info.read_text().replace('class_names: []', 'class_names: [Car]'))
    config = FolderConfig(root=root, split='all')
    frames = ['drive_000002', 'drive_000000']
    count = write_folder_bag(config, tmp_path / 'labelled', frames=frames, ground_truth=['Car'])
    assert count == 2
    dataset = BagDataset(BagConfig(root=tmp_path / 'labelled'), ['Car'])
    np.testing.assert_allclose(dataset[0].ground_truth.boxes, [CAR.box])
    assert dataset[0].ground_truth.labels.tolist() == [0]


def test_frames_of_several_drives_are_not_mixed(tmp_path):
    recorded = write_recording(tmp_path / 'bag', num_clouds=4)
    for drive in ('one', 'two'):
        convert(recorded, tmp_path / 'data', drive)
    config = FolderConfig(root=tmp_path / 'data', split='all')
    with pytest.raises(ConfigError, match='choose one with --drive: one, two'):
        write_folder_bag(config, tmp_path / 'out')
    assert write_folder_bag(config, tmp_path / 'out', drive='two', max_frames=3) == 3
    with pytest.raises(ConfigError, match="no drive 'three'"):
        write_folder_bag(config, tmp_path / 'x', drive='three')
    with pytest.raises(DatasetError, match="no frame 'x'"):
        write_folder_bag(config, tmp_path / 'x', frames=['x'])
