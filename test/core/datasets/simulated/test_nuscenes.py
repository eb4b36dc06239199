# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated drives in nuScenes' format."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

import numpy as np
import pytest

from pointdistiller_core.config import SensorConfig, SimulationConfig
from pointdistiller_core.datasets import open_dataset
from pointdistiller_core.datasets.simulated import simulate_drive, simulate_nuscenes
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.nuscenes.scores import NuScenesMetric
from pointdistiller_core.formats.nuscenes.names import CLASS_NAMES
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.records import Detections

CONFIG = SimulationConfig(
    sensor=SensorConfig(beams=((2.0, -24.0, 12),), num_columns=200, rate=4.0, height=1.5)
)
SPLITS = {'train': 2, 'val': 1}


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """Three key frames of two scenes."""
    path = tmp_path_factory.mktemp('simulated') / 'drives'
    simulate_nuscenes(path, CONFIG, splits=SPLITS, seed=3, num_workers=1)
    return path


def test_splits_and_sweeps(root):
    train = open_dataset(root, class_names=CLASS_NAMES, sweeps=10)
    assert len(train) == 2
    assert len(open_dataset(root, split='val', class_names=CLASS_NAMES)) == 1
    assert len(open_dataset(root, split='simulated_val', class_names=())) == 1
    for frame in train:
        ages = np.unique(frame.points[:, 4])
        np.testing.assert_allclose(ages, np.arange(10) / 4, atol=1e-6)
    assert train[1].stamp_ns - train[0].stamp_ns == 500_000_000


def test_what_is_simulated_is_read(root):
    dataset = open_dataset(root, class_names=CLASS_NAMES)
    seed = int(np.random.SeedSequence((3, 0)).generate_state(1)[0])
    drive = list(simulate_drive(CONFIG, num_frames=13, seed=seed))
    for index, number in enumerate((10, 12)):
        frame, expected = dataset[index], drive[number]
        far = (np.abs(expected.points[:, :2]) >= 1).any(axis=1)
        np.testing.assert_allclose(frame.points, expected.points[far], rtol=1e-6)
        boxes = [item.box for item in expected.objects if np.hypot(*item.box[:2]) <= 80]
        own = frame.ground_truth.boxes
        order = np.linalg.norm(np.array(boxes)[:, None, :3] - own[:, :3], axis=-1).argmin(axis=1)
        assert sorted(order) == list(range(len(own)))
        np.testing.assert_allclose(own[order], boxes, atol=1e-4)


def test_velocities_move_objects_from_frame_to_frame(root):
    dataset = open_dataset(root, class_names=CLASS_NAMES)
    first, second = (dataset[index] for index in range(2))
    truth = first.ground_truth
    known = np.isfinite(truth.velocities).all(axis=1)
    assert known.sum() > 5
    assert (np.hypot(*truth.velocities[known].T) > 2).any()
    # The part along z is not known: the road has slopes.
    moved = truth.boxes[known, :3].astype(np.float64)
    moved[:, :2] += 0.5 * truth.velocities[known]
    poses = [dataset.annotations(index).global_from_lidar for index in range(2)]
    seen = (
        np.linalg.inv(poses[1]) @ poses[0] @ np.pad(moved, ((0, 0), (0, 1)), constant_values=1).T
    )
    offsets = seen[:2].T[:, None] - second.ground_truth.boxes[:, :2]
    distances = np.linalg.norm(offsets, axis=-1).min(axis=1)
    assert distances.max() < 0.05


def test_points_lie_in_the_boxes(root):
    frame = open_dataset(root, class_names=CLASS_NAMES)[0]
    counted = frame.ground_truth.labels >= 0
    boxes = frame.ground_truth.boxes[counted].copy()
    boxes[:, 3:6] += 0.2  # the range is noisy
    assert points_in_boxes(frame.points, boxes).any(axis=0).all()


def test_a_perfect_detector(root):
    dataset = open_dataset(root, class_names=CLASS_NAMES)
    found = []
    for index in range(2):
        truth = dataset.labels(index)
        truth = truth[truth.labels >= 0]
        found.append(
            Detections(truth.boxes, np.ones(len(truth)), truth.labels, velocities=truth.velocities)
        )
    result = NuScenesMetric().evaluate(dataset, range(2), found).result
    for name, values, errors in zip(
        result.class_names, result.average_precision, result.errors, strict=True
    ):
        if result.counts['truth']['outside_racks'][name]:
            np.testing.assert_allclose(values, 1)
            np.testing.assert_allclose(errors[:4], 0, atol=0.02)
            assert errors[4] <= 0.35  # attributes are guessed from class and speed


def test_the_same_seed_gives_the_same_bytes_also_after_an_interruption(root, tmp_path):
    path = tmp_path / 'drives'
    shutil.copytree(root, path)
    done = []
    for file in path.rglob('simulated-0002*'):
        file.unlink()
    (path / 'v1.0-simulated' / 'sample.json').unlink()
    simulate_nuscenes(
        path, CONFIG, splits=SPLITS, seed=3, num_workers=1, on_frame=lambda *of: done.append(of)
    )
    assert done == [(3, 3)]
    files = [file.relative_to(root) for file in sorted(root.rglob('*')) if file.is_file()]
    assert len(files) == 13 + 10 + 2 + 14 + 2 + 1
    for file in files:
        assert (path / file).read_bytes() == (root / file).read_bytes(), file
    with pytest.raises(DatasetError, match='was simulated with other settings: seed: 3 -> 4'):
        simulate_nuscenes(path, CONFIG, splits=SPLITS, seed=4)
    (path / 'scenes' / 'simulated-0002.json').write_text('{}', encoding='utf-8')
    with pytest.raises(DatasetError, match=r'simulated-0002\.json: damaged; remove it'):
        simulate_nuscenes(path, CONFIG, splits=SPLITS, seed=3)


def test_the_tables_are_complete(root):
    folder = root / 'v1.0-simulated'
    tables = {file.stem: json.loads(file.read_bytes()) for file in folder.glob('*.json')}
    splits = tables.pop('splits')
    assert len(tables) == 13
    assert set(splits) == {'train', 'val', 'simulated_train', 'simulated_val'}
    tokens = [record['token'] for records in tables.values() for record in records]
    # A pose has the token of its sweep, as in nuScenes.
    assert len(set(tokens)) == len(tokens) - len(tables['ego_pose'])
    for instance in tables['instance']:
        own = [
            each
            for each in tables['sample_annotation']
            if each['instance_token'] == instance['token']
        ]
        assert len(own) == instance['nbr_annotations']
        assert [each['token'] for each in own if not each['prev']] == [
            instance['first_annotation_token']
        ]
        assert [each['token'] for each in own if not each['next']] == [
            instance['last_annotation_token']
        ]
    (picture,) = {record['filename'] for record in tables['map']}
    assert (root / picture).read_bytes().startswith(b'\x89PNG')
