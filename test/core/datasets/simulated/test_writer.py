# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated sweeps as files."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

import numpy as np
import pytest
import yaml

from pointdistiller_core.config import CameraConfig, KittiConfig, SensorConfig, SimulationConfig
from pointdistiller_core.config.simulation import SurfacesConfig
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.datasets.simulated import (
    SimulatedObject,
    simulate_dataset,
    simulate_drive,
    simulate_scene,
    write_drive_bag,
)
from pointdistiller_core.datasets.simulated.writer import label_objects
from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.messages.bags import read_clouds
from pointdistiller_core.messages.point_cloud2 import points_from_cloud

SMALL = SimulationConfig(sensor=SensorConfig(num_columns=300))
SPLITS = {'train': 2, 'val': 1}
CLASSES = ('Car', 'Pedestrian', 'Cyclist')


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def dataset(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('simulated') / 'data'
    simulate_dataset(root, SMALL, splits=SPLITS, seed=7, num_workers=1)
    return root


def test_reads_as_a_kitti_folder(dataset):
    frames = KittiDataset(KittiConfig(root=dataset, split='train', camera_view=False), CLASSES)
    assert len(frames) == 2
    expected = simulate_scene(SMALL, seed=7, index=1)
    np.testing.assert_array_equal(frames[1].points, expected.points)
    assert frames.image_size(1) == (2500, 375)


def test_labels_are_the_exact_boxes(dataset):
    frames = KittiDataset(KittiConfig(root=dataset, split='val'), CLASSES)
    exact = json.loads((dataset / 'training' / 'objects' / '000002.json').read_text())
    boxes = np.array([item['box'] for item in exact])
    truth = frames[0].ground_truth
    assert truth is not None
    assert len(truth) >= 3
    for box in truth.boxes:
        distance = np.linalg.norm(boxes[:, :3] - box[:3], axis=1)
        np.testing.assert_allclose(boxes[distance.argmin(), :6], box[:6], atol=1e-3)
        turn = boxes[distance.argmin(), 6] - box[6]
        assert np.cos(turn) == pytest.approx(1, abs=1e-6)


def item_at(x: float, y: float, **changes) -> SimulatedObject:
    values = {'num_points': 9, 'occlusion': 0.0, **changes}
    return SimulatedObject(0, 'Car', (x, y, -1.0, 4.0, 1.6, 1.5, 0.0), **values)


def test_only_what_is_seen_is_labelled():
    objects = [item_at(20, 0), item_at(20, 5, num_points=0), item_at(-20, 0), item_at(5, 40)]
    labels = label_objects(objects, CameraConfig())
    assert len(labels) == 1
    assert labels.locations[0, 2] == pytest.approx(20)


@pytest.mark.parametrize(
    ('occlusion', 'level'), [(0.0, 0), (0.19, 0), (0.2, 1), (0.5, 2), (0.8, 3), (0.99, 3)]
)
def test_occlusion_levels(occlusion, level):
    assert label_objects([item_at(20, 0, occlusion=occlusion)], CameraConfig()).occluded == level


def test_truth_tells_what_is_outside_of_the_image(dataset):
    exact = json.loads((dataset / 'training' / 'objects' / '000000.json').read_text())
    behind = [item['truncation'] for item in exact if item['box'][0] < -10]
    ahead = [
        item['truncation']
        for item in exact
        if item['box'][0] > 15 and abs(item['box'][1]) < item['box'][0]
    ]
    assert set(behind) == {1}
    assert set(ahead) == {0}


def test_no_objects_no_labels():
    assert len(label_objects([], CameraConfig())) == 0


def test_interrupted_simulation_goes_on_to_the_same_files(dataset, tmp_path):
    root = tmp_path / 'data'
    simulate_dataset(root, SMALL, splits=SPLITS, seed=7, num_workers=2)
    assert files_of(root) == files_of(dataset)
    (root / 'training' / 'objects' / '000001.json').unlink()
    (root / 'training' / 'velodyne' / '000001.bin').write_bytes(b'cut')
    heard = []
    simulate_dataset(
        root, SMALL, splits=SPLITS, seed=7, on_frame=lambda *counts: heard.append(counts)
    )
    assert heard == [(1, 1)]
    assert files_of(root) == files_of(dataset)


def test_other_settings_are_refused_and_nothing_is_touched(dataset):
    before = files_of(dataset)
    with pytest.raises(DatasetError, match=r'other settings: seed: 7 -> 8; choose another folder'):
        simulate_dataset(dataset, SMALL, splits=SPLITS, seed=8)
    other = SMALL.model_copy(update={'sensor': SensorConfig(num_columns=301)})
    with pytest.raises(DatasetError, match=r'settings: sensor\.num_columns: 300 -> 301; choose'):
        simulate_dataset(dataset, other, splits=SPLITS, seed=7)
    assert files_of(dataset) == before


def test_a_folder_from_before_a_setting_existed_goes_on(dataset, tmp_path):
    root = shutil.copytree(dataset, tmp_path / 'data')
    settings = yaml.safe_load((root / 'simulation.yaml').read_text())
    del settings['surfaces'], settings['sensor']['roof']
    (root / 'simulation.yaml').write_text(yaml.safe_dump(settings))
    simulate_dataset(root, SMALL, splits=SPLITS, seed=7, num_workers=1)
    other = SMALL.model_copy(update={'surfaces': SurfacesConfig(dark=0.5)})
    with pytest.raises(DatasetError, match=r'settings: surfaces\.dark: 0.0 -> 0.5; choose'):
        simulate_dataset(root, other, splits=SPLITS, seed=7, num_workers=1)


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / 'thesis.tex').write_text('precious')
    with pytest.raises(DatasetError, match='holds other files'):
        simulate_dataset(tmp_path, SMALL, splits=SPLITS, seed=7)
    assert files_of(tmp_path) == {'thesis.tex': b'precious'}


def test_leftovers_of_a_killed_process_are_no_other_files(dataset, tmp_path):
    (tmp_path / '.simulation.yaml.partial').write_bytes(b'seed: ')
    simulate_dataset(tmp_path, SMALL, splits=SPLITS, seed=7, num_workers=1)
    assert files_of(tmp_path) == files_of(dataset)


def test_settings_that_are_no_text_are_an_error(dataset, tmp_path):
    shutil.copy(dataset / 'simulation.yaml', tmp_path)
    with (tmp_path / 'simulation.yaml').open('ab') as file:
        file.write(b'# caf\xe9\n')
    with pytest.raises(DatasetError, match=r'simulation\.yaml:\d+: not UTF-8 text: byte 0xe9'):
        simulate_dataset(tmp_path, SMALL, splits=SPLITS, seed=7)


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='file: is a file; a folder is to be written'):
        simulate_dataset(tmp_path / 'file', SMALL, splits=SPLITS, seed=7)


def test_drive_appears_whole_and_once(tmp_path):
    drive = tmp_path / 'drive'

    def stop(done: int, _: int) -> None:
        assert [path.name for path in tmp_path.iterdir()] == ['.drive.partial']
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_drive_bag(drive, SMALL, num_frames=3, seed=1, on_frame=stop)
    assert not list(tmp_path.iterdir())
    write_drive_bag(drive, SMALL, num_frames=3, seed=1)
    before = files_of(drive)
    assert {'drive.mcap', 'metadata.yaml', 'truth.json', 'simulation.yaml'} == before.keys()
    write_drive_bag(drive, SMALL, num_frames=3, seed=1, on_frame=stop)  # nothing is left to do
    with pytest.raises(DatasetError, match='other settings: num_frames: 3 -> 4; choose another'):
        write_drive_bag(drive, SMALL, num_frames=4, seed=1)
    assert files_of(drive) == before
    assert len(list(read_clouds(drive))) == 3


def test_drive_bag_holds_the_sweeps_and_their_truth(tmp_path):
    write_drive_bag(tmp_path / 'drive', SMALL, num_frames=2, seed=1)
    truth = json.loads((tmp_path / 'drive' / 'truth.json').read_text())
    frames = list(simulate_drive(SMALL, num_frames=2, seed=1))
    clouds = list(read_clouds(tmp_path / 'drive'))
    assert len(clouds) == 2
    for cloud, frame, exact in zip(clouds, frames, truth, strict=True):
        assert cloud.frame_id == 'velodyne'
        assert cloud.stamp_ns == frame.stamp_ns == exact['stamp_ns']
        np.testing.assert_array_equal(points_from_cloud(cloud.message), frame.points)
        assert [item['track_id'] for item in exact['objects']] == [
            item.track_id for item in frame.objects
        ]
