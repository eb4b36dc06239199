# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Key frames of nuScenes: against the official devkit, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
import pickle

from archives import unpack
import numpy as np
from nuscenes_folder import (
    FIRST_US,
    MOUNT,
    global_from_lidar,
    vehicle_pose,
    write_key_frame,
    write_scene,
)
import pytest

from pointdistiller_core.config import (
    GroundTruthSamplingConfig,
    NuScenesConfig,
    PointPillarsConfig,
)
from pointdistiller_core.datasets import NuScenesDataset, build_dataset
from pointdistiller_core.datasets.ground_truth_database import load_database
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.nuscenes.names import CLASS_NAMES
from pointdistiller_core.formats.nuscenes.writer import WrittenSweep, cloud_file, write_cloud
from pointdistiller_core.records import IGNORE_LABEL

CAR = [10.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.5]


# --- the devkit ------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def golden(shared_data, tmp_path_factory) -> Path:
    """The unpacked dataset."""
    path = tmp_path_factory.mktemp('golden')
    unpack(shared_data / 'nuscenes_eval' / 'dataset.tar.xz', path)
    return path / 'nuscenes'


def test_labels_are_those_of_the_devkit(shared_data, golden):
    with np.load(shared_data / 'nuscenes_eval' / 'expected' / 'reader_boxes.npz') as arrays:
        expected = {name: arrays[name] for name in arrays.files}
    dataset = NuScenesDataset(
        NuScenesConfig(root=golden, split='golden_all', axes='sensor'), CLASS_NAMES
    )
    compared = 0
    for number, token in enumerate(dataset.frame_ids):
        truth = dataset.labels(number)
        rows = np.flatnonzero((expected['sample'] == token) & (expected['detection_name'] != ''))
        assert len(truth) == len(rows)
        theirs = expected['values'][rows]
        nearest = np.linalg.norm(truth.boxes[:, None, :3] - theirs[None, :, :3], axis=-1)
        order = nearest.argmin(axis=1)
        assert sorted(order) == list(range(len(rows)))
        theirs, rows = theirs[order], rows[order]
        np.testing.assert_allclose(truth.boxes[:, :3], theirs[:, :3], atol=1e-4)
        np.testing.assert_allclose(truth.boxes[:, 3:6], theirs[:, [4, 3, 5]], atol=1e-6)
        turns = np.angle(np.exp(1j * (truth.boxes[:, 6] - theirs[:, 6])))
        np.testing.assert_allclose(turns, 0, atol=1e-5)
        np.testing.assert_allclose(truth.velocities, theirs[:, 9:], atol=1e-4)
        names = np.array([*CLASS_NAMES, 'ignored'])[truth.labels]
        seen = expected['num_pts'][rows, 0] > 0
        assert names[seen].tolist() == expected['detection_name'][rows[seen]].tolist()
        assert set(names[~seen]) <= {'ignored'}
        compared += len(rows)
    assert compared == (expected['detection_name'] != '').sum()


def test_sweeps_are_those_of_the_devkit(shared_data, golden):
    config = NuScenesConfig(
        root=golden, split='golden_all', sweeps=10, axes='sensor', intensity_scale=1.0
    )
    dataset = NuScenesDataset(config, CLASS_NAMES)
    with np.load(shared_data / 'nuscenes_eval' / 'expected' / 'reader_sweeps.npz') as expected:
        assert len(expected.files) == 12
        for token in expected.files:
            frame = dataset[dataset.frame_ids.index(token)]
            assert frame.point_features == ('x', 'y', 'z', 'intensity', 'age')
            np.testing.assert_allclose(frame.points, expected[token], rtol=0, atol=1e-4)


def test_sweeps_of_other_settings(shared_data, golden):
    file = shared_data / 'nuscenes_eval' / 'expected' / 'reader_sweeps.json'
    settings: dict[tuple[int, float], NuScenesDataset] = {}
    for case in json.loads(file.read_text(encoding='utf-8')):
        sweeps, min_distance = case['sweeps_asked'], case['min_distance']
        if (sweeps, min_distance) not in settings:
            options = {'axes': 'sensor', 'intensity_scale': 1.0, 'split': 'golden_all'}
            config = NuScenesConfig(
                root=golden, sweeps=sweeps, min_distance=min_distance, **options
            )
            settings[sweeps, min_distance] = NuScenesDataset(config, (), labelled=False)
        dataset = settings[sweeps, min_distance]
        points = dataset[dataset.frame_ids.index(case['sample'])].points.astype(np.float64)
        assert len(points) == case['points']
        np.testing.assert_allclose(points[:, :3].sum(axis=0), case['sum_xyz'], atol=0.05)
        assert points[:, 3].sum() == case['sum_intensity']
        if sweeps > 1:
            assert points[:, 4].sum() == pytest.approx(case['sum_lag'], abs=1e-3)
            assert len(np.unique(points[:, 4])) <= case['sweeps_found']


# --- by hand ---------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path) -> Path:
    """Three key frames with a car and a cone, and a sweep before the last one."""
    rng = np.random.default_rng(0)
    sweeps = []
    for number in range(3):
        points = np.pad(rng.uniform(2, 20, (30, 3)), ((0, 0), (0, 1)))
        boxes = [[CAR[0] + number, *CAR[1:]], [5, -4, -1, 0.4, 0.4, 0.9, 0], [9, 9, 0, 1, 1, 1, 0]]
        names = ['vehicle.car', 'movable_object.trafficcone', 'animal']
        sweeps.append(write_key_frame(tmp_path, number, points, boxes, names))
    time_us = FIRST_US + 900_000
    file = cloud_file('scene-0001', time_us, key_frame=False)
    points = np.array(
        [[0.5, 0.9, 0, 255, 7], [0.5, 1.1, 0, 255, 7], [-3, 8, 1, 51, 7]], np.float32
    )
    write_cloud(tmp_path, file, points)
    sweeps.insert(2, WrittenSweep(time_us, file, vehicle_pose(7)))
    write_scene(tmp_path, sweeps)
    return tmp_path


def open_at(root: Path, class_names=('car',), **options) -> NuScenesDataset:
    return build_dataset(NuScenesConfig(root=root, **options), class_names)


def test_boxes_and_velocities(root):
    truth = open_at(root, ('traffic_cone', 'car')).labels(1)
    np.testing.assert_allclose(truth.boxes[0], [11, *CAR[1:]], atol=1e-3)
    assert truth.labels.tolist() == [1, 0]  # an animal is nothing that is detected
    # Where the car is in the global frame half a second before and after.
    places = [
        (global_from_lidar(vehicle_pose(number)) @ [10 + number, 2, -1, 1])[:3]
        for number in (0, 2)
    ]
    turn = global_from_lidar(vehicle_pose(1))[:3, :3]
    expected = turn.T @ (places[1] - places[0])
    np.testing.assert_allclose(truth.velocities[0], expected[:2], rtol=1e-5)


def test_other_classes_are_ignored(root):
    assert open_at(root, ('car',)).labels(0).labels.tolist() == [0, IGNORE_LABEL]
    renamed = open_at(root, ('Cone',), class_map={'traffic_cone': 'Cone'})
    assert renamed.labels(0).labels.tolist() == [IGNORE_LABEL, 0]
    assert renamed.annotations(0).truth.boxes.labels.tolist() == [0]


def test_sweeps_come_with_their_age(root):
    dataset = open_at(root, sweeps=3)
    assert dataset.point_features == ('x', 'y', 'z', 'intensity', 'age')
    points = dataset[2].points
    ages, counts = np.unique(points[:, 4], return_counts=True)
    np.testing.assert_allclose(ages, [0, 0.1, 0.5], rtol=1e-6)
    assert counts.tolist() == [30, 2, 30]  # less the one at the vehicle itself
    sensor = np.array([-3.0, 8.0, 1.0, 1.0])  # x to the right
    native = global_from_lidar(vehicle_pose(7)) @ [sensor[1], -sensor[0], *sensor[2:]]
    expected = np.linalg.inv(global_from_lidar(vehicle_pose(2))) @ native
    np.testing.assert_allclose(points[31], [*expected[:3], 0.2, 0.1], atol=1e-4)
    # The sweeps of the first key frame are no more than there are.
    assert np.unique(dataset[0].points[:, 4]).tolist() == [0.0]


def test_a_model_says_how_many_sweeps(root):
    columns = ('x', 'y', 'z', 'intensity', 'age')
    model = PointPillarsConfig(point_features=columns, sweeps=3)
    frames = build_dataset(NuScenesConfig(root=root), ('car',), model=model)
    np.testing.assert_array_equal(frames[2].points, open_at(root, sweeps=3)[2].points)
    with pytest.raises(ConfigError, match=r'dataset\.sweeps is 2, but that of the model is 3'):
        build_dataset(NuScenesConfig(root=root, sweeps=2), ('car',), model=model)
    with pytest.raises(ConfigError, match=r'set model\.point_features'):
        build_dataset(NuScenesConfig(root=root), ('car',), model=PointPillarsConfig(sweeps=3))


def test_a_model_says_how_old_sweeps_may_be(root):
    columns = ('x', 'y', 'z', 'intensity', 'age')
    model = PointPillarsConfig(point_features=columns, sweeps=3, max_sweep_age_s=0.2)
    young = build_dataset(NuScenesConfig(root=root), ('car',), model=model)
    np.testing.assert_allclose(np.unique(young[2].points[:, 4]), [0, 0.1], rtol=1e-6)
    assert young.fingerprint(0) != open_at(root, sweeps=3).fingerprint(0)
    with pytest.raises(ConfigError, match=r'max_sweep_age_s is 1, but that of the model is 0\.2'):
        build_dataset(NuScenesConfig(root=root, max_sweep_age_s=1), ('car',), model=model)


def test_axes_of_the_sensor_or_ahead(root):
    ahead, native = open_at(root), open_at(root, axes='sensor')
    x, y, z, intensity = ahead[0].points.T
    np.testing.assert_array_equal(native[0].points, np.stack([-y, x, z, intensity], axis=1))
    yaws = ahead.labels(0).boxes[:, 6], native.labels(0).boxes[:, 6]
    np.testing.assert_allclose(yaws[1] - yaws[0], np.pi / 2, rtol=1e-5)
    assert ahead.fingerprint(0) != native.fingerprint(0)
    # Both are the same place in the world.
    for dataset in (ahead, native):
        center = dataset.annotations(0).global_from_lidar @ [*dataset.labels(0).boxes[0, :3], 1]
        expected = (global_from_lidar(vehicle_pose(0)) @ [*CAR[:3], 1])[:3]
        np.testing.assert_allclose(center[:3], expected, atol=1e-3)
    assert MOUNT[3:] != (1, 0, 0, 0)


def test_it_survives_the_way_to_another_process(root):
    dataset = open_at(root, sweeps=2)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[2].points, dataset[2].points)


def test_objects_are_cut_out_with_their_velocities_and_ages(root):
    dataset = open_at(root, ('car', 'traffic_cone'), sweeps=2)
    database = load_database(dataset)
    assert database.points.shape[1] == 5
    assert database.truth.velocities is not None
    assert not len(database.usable(GroundTruthSamplingConfig()).truth) or len(database)


def test_a_version_is_named_or_found(root):
    assert open_at(root, version='v1.0-simulated').frame_ids == open_at(root).frame_ids
    assert open_at(root / 'v1.0-simulated').frame_ids == open_at(root).frame_ids
    with pytest.raises(DatasetError, match=r"no version 'v2'; it has \['v1.0-simulated'\]"):
        open_at(root, version='v2')
    with pytest.raises(DatasetError, match=r"has no split 'val'; choose from train, all"):
        open_at(root, split='val')
    (root / 'v1.0-mini').mkdir()
    (root / 'v1.0-mini' / 'sample.json').write_text('[]', encoding='utf-8')
    assert open_at(root, split='train').index.folder.name == 'v1.0-simulated'
    with pytest.raises(DatasetError, match=r'no version .* split .val.; v1\.0-mini has mini_'):
        open_at(root, split='val')
    with pytest.raises(DatasetError, match=r'split all is in v1\.0-mini, v1\.0-simulated'):
        open_at(root, split='all')
    with pytest.raises(DatasetError, match=r'lacks the tables attribute\.json, calibrated'):
        open_at(root, split='mini_val')


def test_clouds_that_are_missing_or_cut_off(root):
    dataset = open_at(root)
    (file,) = (root / 'samples').rglob(f'*{FIRST_US}.pcd.bin')
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r'bin: has 597 bytes, no multiple of 20'):
        dataset[0]
    file.unlink()
    with pytest.raises(DatasetError, match=r'bin: No such file'):
        dataset[0]
    with pytest.raises(DatasetError, match=r'bin: No such file'):
        dataset.fingerprint(0)
