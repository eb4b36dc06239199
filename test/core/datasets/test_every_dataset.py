# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What holds for the datasets of every name; `WRITERS` has a small one of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import os
from pathlib import Path

from kitti_folder import points_in, write_frame, write_splits
import numpy as np
from nuscenes_folder import write_key_frame, write_scene
import pytest

from pointdistiller_core.config import DATASET_CONFIGS
from pointdistiller_core.datasets import DATASETS, build_dataset, find_dataset, open_dataset
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.evaluation.metric import METRICS
from pointdistiller_core.formats.folder import FolderInfo, FrameRange, FrameRow, Label
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.pipelines.make_bag import write_kitti_bag
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth

CLASSES = ('Car', 'Pedestrian')
BOXES = [[10, 0, -1, 4, 2, 1.5, 0.3], [15, 4, -1, 0.8, 0.6, 1.8, 0], [20, -3, -1, 5, 2, 2, 1]]
NAMES = ['Car', 'Pedestrian', 'Van']
FRAMES = ('000003', '000004', '000007')


def write_kitti(path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in FRAMES:
        write_frame(path, name, points_in(BOXES, 20, rng).reshape(-1, 4), BOXES, NAMES)
    write_splits(path, {'train': FRAMES})


def write_bag(path: Path) -> None:
    write_kitti(path.with_name('source'))
    write_kitti_bag(path.with_name('source'), path, ground_truth=CLASSES)


def write_folder(path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = [Label(name, tuple(map(float, box))) for name, box in zip(NAMES, BOXES, strict=True)]
    with FolderWriter(path, FolderInfo(class_names=tuple(NAMES))) as writer:
        for second, name in enumerate(FRAMES, start=1):
            points = points_in(BOXES, 20, rng).reshape(-1, 4).astype(np.float32)
            writer.add(FrameRow(name, 'a', second * 10**9), points, labels)
        writer.set_ranges('a', {'train': [FrameRange(FRAMES[0], FRAMES[-1])]})


def write_nuscenes(path: Path) -> None:
    rng = np.random.default_rng(0)
    sweeps = [
        write_key_frame(path, number, points_in(BOXES, 20, rng).reshape(-1, 4), BOXES, NAMES)
        for number in range(len(FRAMES))
    ]
    write_scene(path, sweeps)


WRITERS: Mapping[str, Callable[[Path], None]] = {
    'kitti': write_kitti,
    'folder': write_folder,
    'bag': write_bag,
    'nuscenes': write_nuscenes,
}


@pytest.mark.parametrize('name', WRITERS)
def test_what_lies_elsewhere_or_is_of_another_kind_is_named(tmp_path, name):
    path, other = tmp_path / 'data', 'folder' if name == 'kitti' else 'kitti'
    WRITERS[name](path)
    remedy = rf'data: is not .*: set its name to {name} \(dataset\.name={name}\)$'
    with pytest.raises(DatasetError, match=remedy):
        build_dataset(DATASET_CONFIGS[other](root=path), CLASSES)
    with pytest.raises(DatasetError, match='typo: no such file or folder'):
        build_dataset(DATASET_CONFIGS[name](root=tmp_path / 'typo'), CLASSES)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match=r'empty: is not a[^;]*$'):
        build_dataset(DATASET_CONFIGS[name](root=tmp_path / 'empty'), CLASSES)


def test_every_dataset_has_a_configuration_and_is_tested():
    assert set(WRITERS) == set(DATASETS) == set(DATASET_CONFIGS)


def perfect(truth: GroundTruth) -> Detections:
    kept = truth[truth.labels != IGNORE_LABEL]
    return Detections(kept.boxes, np.ones(len(kept), np.float32), kept.labels)


@pytest.fixture(params=list(DATASETS))
def name(request) -> str:
    return request.param


@pytest.fixture
def path(name, tmp_path) -> Path:
    WRITERS[name](tmp_path / 'data')
    return tmp_path / 'data'


def test_it_is_known_by_what_lies_there(name, path):
    assert [each for each, kind in DATASETS.items() if kind.lies_at(path)] == [name]
    config = find_dataset(path)
    assert (config.name, config.root) == (name, path)
    assert type(config) is DATASET_CONFIGS[name]
    assert DATASETS[name].is_labelled(config)
    with pytest.raises(ConfigError, match='volume: unknown key'):
        find_dataset(path, volume=3)


def test_frames_are_what_the_dataset_says(path):
    dataset = open_dataset(path, class_names=CLASSES)
    assert (len(dataset), len(set(dataset.frame_ids))) == (3, 3)
    for index, frame in enumerate(dataset):
        assert frame.frame_id == dataset.frame_ids[index]
        assert frame.point_features == dataset.point_features
        assert frame.points.dtype == np.float32
        assert frame.points.shape == (60, len(dataset.point_features))
        truth, labels = frame.ground_truth, dataset.labels(index)
        np.testing.assert_allclose(truth.boxes, np.array(BOXES, np.float32), atol=1e-3)
        assert truth.labels.tolist() == [0, 1, IGNORE_LABEL]
        np.testing.assert_array_equal(truth.boxes, labels.boxes)
        np.testing.assert_array_equal(truth.labels, labels.labels)
        if truth.levels is not None:
            assert set(truth.levels) <= {-1, *range(len(dataset.levels))}
    assert dataset.class_names == CLASSES
    assert dataset.intensity_scale > 0


def test_labels_of_all_classes_have_names(path):
    dataset = open_dataset(path, class_names=CLASSES)
    names = dataset.label_names(0)
    renamed = {names[1]: 'Car'}  # of the pedestrian
    mapped = open_dataset(path, class_names=('Car',), class_map=renamed)
    assert (dataset.class_map, mapped.class_map) == ({}, renamed)
    assert mapped.label_names(0) == names
    counted = sum(renamed.get(each, each) == 'Car' for each in names)
    assert (mapped.labels(0).labels == 0).sum() == counted > 0
    assert mapped.fingerprint(0) != dataset.fingerprint(0)


def test_frames_come_in_any_order_as_often_as_wanted(path):
    dataset = open_dataset(path, class_names=CLASSES)
    in_order = [dataset[index] for index in range(3)]
    for index in (2, 0, 0, 1):
        np.testing.assert_array_equal(dataset[index].points, in_order[index].points)
    with pytest.raises(IndexError):
        dataset[3]


def test_without_labels_there_are_the_same_points(path):
    labelled = open_dataset(path, class_names=CLASSES)
    plain = open_dataset(path, class_names=(), labelled=False)
    assert plain[1].ground_truth is None
    np.testing.assert_array_equal(plain[1].points, labelled[1].points)


def test_intensities_are_scaled(path):
    plain = open_dataset(path, class_names=CLASSES)
    config = find_dataset(path, intensity_scale=plain.intensity_scale / 2)
    scaled = build_dataset(config, CLASSES)
    assert scaled.intensity_scale == plain.intensity_scale / 2
    np.testing.assert_array_equal(scaled[0].points[:, 3], plain[0].points[:, 3] * 0.5)
    assert scaled.fingerprint(0) != plain.fingerprint(0)


def test_a_fingerprint_is_that_of_a_frame_as_it_is_now(path):
    first, again = (open_dataset(path, class_names=CLASSES) for _ in range(2))
    prints = [first.fingerprint(index) for index in range(3)]
    assert len(set(prints)) == 3
    assert prints == [again.fingerprint(index) for index in range(3)]
    for file in path.rglob('*'):
        os.utime(file, ns=(1, 1))
    assert set(prints).isdisjoint(again.fingerprint(index) for index in range(3))


def test_its_metric_finds_its_labels_and_writes_results(path, name, tmp_path):
    dataset = open_dataset(path, class_names=CLASSES)
    metric, indices = METRICS[dataset.metric](), range(3)
    found = [perfect(dataset.labels(index)) for index in indices]
    scores = metric.evaluate(dataset, indices, found)
    assert scores.num_labels == {'Car': 3, 'Pedestrian': 3}
    assert min(scores.means.values()) > 0
    if name == 'nuscenes':
        with pytest.raises(DatasetError, match='knows no Car, Pedestrian, only car, truck'):
            metric.check_results(tmp_path / 'results', dataset, indices)
        return
    metric.write_results(tmp_path / 'results', dataset, indices, found)
    assert sorted(file.stem for file in (tmp_path / 'results').iterdir()) == sorted(
        dataset.frame_ids
    )


def test_nothing_is_written_by_reading(path):
    before = sorted(path.rglob('*'))
    dataset = open_dataset(path, class_names=CLASSES)
    assert dataset[0].points.size
    assert sorted(path.rglob('*')) == before
    assert not dataset.cache.exists()


@pytest.mark.parametrize(('made', 'message'), [(False, 'no such file'), (True, 'no dataset: ')])
def test_what_is_no_dataset(tmp_path, made, message):
    if made:
        (tmp_path / 'nothing').mkdir()
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / 'nothing', class_names=CLASSES)
