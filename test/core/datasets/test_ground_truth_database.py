# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Objects cut out of frames, stored, and pasted into others."""

from __future__ import annotations

from dataclasses import replace
import logging
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_folder import points_in, write_frame, write_splits
import numpy as np
import pytest

from pointdistiller_core.config import GroundTruthSamplingConfig, KittiConfig, SampledClassConfig
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.datasets import ground_truth_database as module
from pointdistiller_core.datasets.ground_truth_database import (
    GroundTruthDatabase,
    build_database,
    load_database,
    paste_objects,
)
from pointdistiller_core.errors import ConfigError, DatasetError, WriteError
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.records import IGNORE_LABEL, Frame, GroundTruth

CLASSES = ('Car', 'Pedestrian')
CAR, WALKER = [4.0, 2.0, 1.5], [0.8, 0.6, 1.8]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames: a near car and a van; a far car without points, a walker and a far car."""
    first = [[10, 0, 0, *CAR, 0.3], [20, 5, 0, 5, 2, 2, -2]]
    second = [[70, 0, 0, *CAR, 0], [12, -2, 0, *WALKER, 0], [60, 5, 0, *CAR, 0]]
    clutter = [[30, 0, -1, 0.5]]
    for name, points, boxes, names in (
        ('000003', [[10.5, 0, 0, 0.1], [20, 5, 0, 0.2], [9, 0, 0, 0.3]], first, ['Car', 'Van']),
        ('000007', [[12, -2, 0, 0.4], [60, 5, 0, 0.5]], second, ['Car', 'Pedestrian', 'Car']),
    ):
        write_frame(tmp_path, name, clutter + points, boxes, names)
    write_splits(tmp_path, {'train': ['000003', '000007'], 'val': ['000003']})
    return tmp_path


def dataset(root: Path, class_names=CLASSES, **options) -> KittiDataset:
    return KittiDataset(KittiConfig(root=root, **options), class_names)


def columns_of(database: GroundTruthDatabase) -> dict[str, np.ndarray]:
    truth = {'boxes': database.truth.boxes, **database.truth.columns()}
    return {**truth, 'points': database.points, 'starts': database.starts}


def equal(a: GroundTruthDatabase, b: GroundTruthDatabase) -> bool:
    of_a, of_b = columns_of(a), columns_of(b)
    names = (a.class_names, a.level_names, *of_a) == (b.class_names, b.level_names, *of_b)
    return names and all(np.array_equal(of_a[name], of_b[name]) for name in of_a)


def sampling(*, min_points=1, **counts: int) -> GroundTruthSamplingConfig:
    classes = {
        name: SampledClassConfig(count=count, min_points=min_points)
        for name, count in counts.items()
    }
    return GroundTruthSamplingConfig(classes=classes, difficulties=('easy', 'none'))


def database_of(boxes, labels=None, *, points_each=1, class_names=CLASSES) -> GroundTruthDatabase:
    """Objects with points at their centers, the intensity of which is the object's index."""
    boxes = np.array(boxes, np.float32).reshape(-1, 7)
    points = np.concatenate([boxes[:, :3], np.arange(len(boxes))[:, None]], axis=1)
    return GroundTruthDatabase(
        class_names,
        KittiDataset.levels,
        GroundTruth(
            boxes,
            np.zeros(len(boxes), np.int64) if labels is None else np.array(labels),
            levels=np.zeros(len(boxes), np.int64),
        ),
        points=points.astype(np.float32).repeat(points_each, axis=0),
        starts=np.arange(len(boxes) + 1) * points_each,
    )


def frame_of(points=(), boxes=(), labels=()) -> Frame:
    truth = GroundTruth(
        np.array(boxes, np.float32).reshape(-1, 7), np.array(labels, np.int64).reshape(-1)
    )
    return Frame(np.array(points, np.float32).reshape(-1, 4), 'a', truth, stamp_ns=7)


# --- building and storing --------------------------------------------------------------------


def test_objects_with_points_are_cut_out(root):
    database = build_database(dataset(root))
    assert len(database) == 3  # no van, and nothing without a point
    assert database.truth.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(database.truth.boxes[:, 0], [10, 12, 60], atol=1e-4)
    assert database.num_points.tolist() == [2, 1, 1]
    np.testing.assert_array_equal(database.points[:, 3], np.float32([0.1, 0.3, 0.4, 0.5]))
    # 90, 90 and 15 pixels high
    assert database.truth.levels.tolist() == [0, 0, -1]


def test_some_objects(root):
    database = build_database(dataset(root))
    some = database[np.array([2, 0])]
    assert some.truth.labels.tolist() == [0, 0]
    assert some.truth.levels.tolist() == [-1, 0]
    assert some.starts.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(some.points[:, 3], np.float32([0.5, 0.1, 0.3]))
    none = database[np.zeros(0, np.int64)]
    assert (len(none), none.points.shape, none.starts.tolist()) == (0, (0, 4), [0])


def test_a_dataset_without_any_object(tmp_path):
    write_frame(tmp_path, 'a', np.zeros((0, 4)), [], [])
    write_splits(tmp_path, {'train': ['a']})
    database = load_database(dataset(tmp_path))
    assert len(database) == 0
    assert equal(load_database(dataset(tmp_path)), database)


def test_a_stored_database_is_the_same(root, monkeypatch):
    built = load_database(dataset(root))
    assert len(list((root / '.cache' / 'ground_truth').iterdir())) == 1
    monkeypatch.setattr(module, 'build_database', None)  # would be an error
    assert equal(load_database(dataset(root)), built)


def test_the_cache_may_be_elsewhere(root, tmp_path):
    load_database(dataset(root, cache=tmp_path / 'elsewhere'))
    assert len(list((tmp_path / 'elsewhere' / 'ground_truth').iterdir())) == 1
    assert not (root / '.cache').exists()


def touch(path: Path) -> None:
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


@pytest.mark.parametrize('file', ['velodyne/000007.bin', 'label_2/000003.txt', 'calib/000003.txt'])
def test_a_dataset_that_changed_gets_another_database(root, file):
    load_database(dataset(root))
    touch(root / 'training' / file)
    load_database(dataset(root))
    assert len(list((root / '.cache' / 'ground_truth').iterdir())) == 2


@pytest.mark.parametrize('content', [b'', b'too short', -5, None])
def test_a_damaged_database_is_made_again(root, caplog, content):
    built = load_database(dataset(root))
    (file,) = (root / '.cache' / 'ground_truth').iterdir()
    whole = file.read_bytes()
    if content is None:  # a single bit, of a number
        content = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    file.write_bytes(whole[:content] if isinstance(content, int) else content)
    with caplog.at_level(logging.WARNING):
        assert equal(load_database(dataset(root)), built)
    assert file.read_bytes() == whole
    assert f'{file}: damaged' in caplog.text


def test_a_cache_that_cannot_be_written_is_reported(root):
    (root / '.cache').write_bytes(b'')
    problem = r'ground_truth/.*\.safetensors: cannot be written: .*; set dataset\.cache to another'
    with pytest.raises(WriteError, match=problem):
        load_database(dataset(root))


def test_frames_without_labels_are_reported(tiny_dataset, tmp_path):
    class Unlabelled(tiny_dataset):
        class_names, cache = ('Car',), tmp_path

        def __getitem__(self, index):
            return replace(super().__getitem__(index), ground_truth=None)

    with pytest.raises(DatasetError, match='frame 000000 has no labels'):
        build_database(Unlabelled(1))


def test_usable_objects():
    database = database_of(np.ones((4, 7)), [0, 0, 1, 1], points_each=2)
    database = replace(database, truth=replace(database.truth, levels=np.array([0, -1, 2, 1])))

    def usable(min_points, levels, *names):
        classes = {name: SampledClassConfig(min_points=min_points) for name in names}
        config = GroundTruthSamplingConfig(classes=classes, difficulties=levels)
        return database.usable(config).points[::2, 3].tolist()

    published = ('easy', 'moderate', 'hard')
    assert usable(2, published, 'Car', 'Pedestrian') == [0, 2, 3]
    assert usable(3, published, 'Car', 'Pedestrian') == []
    assert usable(1, published, 'Pedestrian') == [2, 3]
    assert usable(1, ('none', 'hard'), 'Car', 'Pedestrian') == [1, 2]
    with pytest.raises(ConfigError, match=r"\['Tram'\] are not in the database; .*'Pedestrian'"):
        usable(1, published, 'Car', 'Tram')


# --- pasting ---------------------------------------------------------------------------------


def test_a_class_of_which_nothing_can_be_pasted_is_said(caplog):
    database = database_of(np.zeros((3, 7)), [0, 0, 1], points_each=3)
    database = replace(database, truth=replace(database.truth, levels=np.array([0, -1, 2])))
    database.usable(sampling(Car=9, Pedestrian=0, min_points=4))
    assert [record.getMessage() for record in caplog.records] == [
        'ground_truth_sampling: nothing of class Car can be pasted: of its 2 objects, 0 have 4 '
        'points, 2 are easy or none'
    ]
    caplog.clear()
    database.usable(sampling(Car=9, min_points=3))
    assert not caplog.records


def test_pasting_by_hand():
    database = database_of([[10, 0, 0, *CAR, 0], [10, 8, 0, *WALKER, 0]], [0, 1])
    points = [[11.9, 0.9, 0.7, 0.5], [11.9, 0.9, 0.8, 0.6], [30, 0, 0, 0.7]]  # inside, above, far
    frame = frame_of(points, [[30, 0, 0, *CAR, 0]], [IGNORE_LABEL])
    pasted = paste_objects(
        frame, database, sampling(Car=1, Pedestrian=3), np.random.default_rng(0)
    )
    assert pasted.ground_truth.labels.tolist() == [IGNORE_LABEL, 0, 1]
    assert pasted.ground_truth.boxes[:, :2].tolist() == [[30, 0], [10, 0], [10, 8]]
    expected = np.float32([[10, 0, 0, 0], [10, 8, 0, 1], *points[1:]])  # pasted ones first
    np.testing.assert_array_equal(pasted.points, expected)
    assert (pasted.frame_id, pasted.stamp_ns) == ('a', 7)
    assert (pasted.points.dtype, pasted.ground_truth.boxes.dtype) == (np.float32, np.float32)


def test_a_frame_is_filled_up_to_the_number():
    database = database_of([[10 * i, 0, 0, *CAR, 0] for i in range(1, 9)])
    for own, expected in ((0, 5), (3, 5), (5, 5), (7, 7)):
        boxes = [[10 * i, 50, 0, *CAR, 0] for i in range(own)]
        frame = frame_of([], boxes, [0] * own)
        pasted = paste_objects(frame, database, sampling(Car=5), np.random.default_rng(0))
        assert len(pasted.ground_truth) == expected


def test_no_object_twice_and_no_more_than_there_are():
    database = database_of([[10 * i, 0, 0, *CAR, 0] for i in range(4)])
    pasted = paste_objects(frame_of(), database, sampling(Car=15), np.random.default_rng(0))
    assert sorted(pasted.points[:, 3]) == [0, 1, 2, 3]


@pytest.mark.parametrize('label', [0, 1, IGNORE_LABEL])
def test_what_collides_with_the_frame_is_left_out(label):
    database = database_of([[10, 0, 0, *CAR, 0], [10, 10, 0, *CAR, 0]])
    above = [13, 1, 50, *CAR, 0.5]  # seen from above it overlaps the first one
    frame = frame_of([], [above], [label])
    pasted = paste_objects(frame, database, sampling(Car=9), np.random.default_rng(0))
    assert pasted.points[:, 3].tolist() == [1]


def test_of_two_that_collide_one_is_pasted():
    database = database_of([[10, 0, 0, *CAR, 0], [11, 0, 0, *CAR, 1], [10, 1.9, 0, *CAR, 0]])
    seen = set()
    for seed in range(20):
        pasted = paste_objects(frame_of(), database, sampling(Car=9), np.random.default_rng(seed))
        (one,) = pasted.points[:, 3].tolist()
        seen.add(one)
    assert seen == {0, 1, 2}


def test_boxes_that_touch_do_not_collide():
    database = database_of([[10, 0, 0, *CAR, 0], [14, 0, 0, *CAR, 0]])
    pasted = paste_objects(frame_of(), database, sampling(Car=9), np.random.default_rng(0))
    assert len(pasted.ground_truth) == 2


def test_frames_without_labels_stay_as_they_are():
    bare = Frame(np.zeros((3, 4), np.float32))
    database = database_of([[10, 0, 0, *CAR, 0]])
    assert paste_objects(bare, database, sampling(Car=1), np.random.default_rng(0)) is bare


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), own=st.integers(0, 5), stored=st.integers(0, 12))
def test_boxes_and_points_stay_consistent(seed, own, stored):
    rng = np.random.default_rng(seed)
    low, high = (0, -15, -3, 0.5, 0.5, 0.5, -3.1), (30, 15, 1, 6, 3, 3, 3.1)
    labels = rng.integers(0, 2, stored)
    database = database_of(rng.uniform(low, high, (stored, 7)), labels, points_each=3)
    boxes = rng.uniform(low, high, (own, 7))
    points = np.concatenate([points_in(boxes, 4, rng).reshape(-1, 4), rng.normal(size=(20, 4))])
    frame = frame_of(points, boxes, rng.integers(-1, 2, own))
    copies = [frame.points, frame.ground_truth.boxes, *columns_of(database).values()]
    before = [array.copy() for array in copies]
    config = sampling(Car=3, Pedestrian=4)

    pasted = paste_objects(frame, database, config, np.random.default_rng(seed))

    truth, count = pasted.ground_truth, len(pasted.ground_truth) - own
    np.testing.assert_array_equal(truth.boxes[:own], frame.ground_truth.boxes)
    np.testing.assert_array_equal(truth.labels[:own], frame.ground_truth.labels)
    for label, most in enumerate((3, 4)):
        of_frame = (frame.ground_truth.labels == label).sum()
        assert of_frame <= (truth.labels == label).sum() <= max(most, of_frame)
    overlaps = rotated_iou_bev(truth.boxes[own:], truth.boxes)
    overlaps[np.arange(count), own + np.arange(count)] = 0
    assert (overlaps == 0).all()
    objects = pasted.points[: 3 * count : 3, 3].astype(int)  # named by their intensity
    np.testing.assert_array_equal(database.truth.boxes[objects], truth.boxes[own:])
    np.testing.assert_array_equal(database.truth.labels[objects], truth.labels[own:])
    rest = pasted.points[3 * count :]
    outside = ~points_in_boxes(frame.points, truth.boxes[own:]).any(axis=1)
    np.testing.assert_array_equal(rest, frame.points[outside])
    again = paste_objects(frame, database, config, np.random.default_rng(seed))
    np.testing.assert_array_equal(again.points, pasted.points)
    for array, copy in zip(copies, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_real_objects(kitti_mini, tmp_path):
    frames = dataset(kitti_mini, ('Car', 'Pedestrian', 'Cyclist'), cache=tmp_path)
    database = load_database(frames)
    inside = [
        points_in_boxes(database.points_of(np.array([i])), database.truth.boxes[i : i + 1]).all()
        for i in range(len(database))
    ]
    assert all(inside)
    assert len(database) == 46
    usable = database.usable(GroundTruthSamplingConfig())
    assert np.bincount(usable.truth.labels).tolist() == [27, 7, 1]
    assert usable.num_points.min() >= 5
