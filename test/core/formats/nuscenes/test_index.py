# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The index of nuScenes' tables: made, kept, opened; tables that are not whole."""

from __future__ import annotations

from collections.abc import Callable
import json
import logging
from pathlib import Path
import pickle
import random
from typing import Any

import numpy as np
from nuscenes_folder import write_key_frame, write_scene
import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes import index as index_module
from pointdistiller_core.formats.nuscenes.index import (
    annotation_velocities,
    build_arrays,
    open_index,
)

BOX = [10.0, 2.0, -1.0, 4.0, 2.0, 1.5, 0.5]
LOST = 'f' * 32


@pytest.fixture
def folder(tmp_path) -> Path:
    """Tables of three key frames with two objects."""
    sweeps = [
        write_key_frame(
            *(tmp_path, number, np.ones((3, 4)), [BOX, [20, *BOX[1:]]], ['vehicle.car'] * 2)
        )
        for number in range(3)
    ]
    write_scene(tmp_path, sweeps)
    return tmp_path / 'v1.0-simulated'


def change(folder: Path, table: str, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the records of a table."""
    file = folder / f'{table}.json'
    records = json.loads(file.read_text(encoding='utf-8'))
    edit(records)
    file.write_text(json.dumps(records), encoding='utf-8')


def test_the_order_of_records_means_nothing(folder):
    before = build_arrays(folder)
    for file in folder.glob('*.json'):
        if file.stem not in {'splits', 'category', 'attribute'}:
            change(folder, file.stem, random.Random(1).shuffle)
    after = build_arrays(folder)
    for name in ('tokens', 'sample_times', 'starts'):
        np.testing.assert_array_equal(after[name], before[name])
    for arrays in (before, after):
        poses = arrays['sweep_poses'][arrays['key_frames']]
        np.testing.assert_allclose(poses[:, 0], [1000, 1003, 1006])
    for sample in range(3):
        rows = slice(2 * sample, 2 * sample + 2)
        boxes = [sorted(arrays['boxes'][rows].tolist()) for arrays in (before, after)]
        assert boxes[0] == boxes[1]
    assert before['sample_places'].tolist() == [0, 1, 2] != after['sample_places'].tolist()


def lose(table: str, column: str) -> tuple[str, Callable[[list[dict[str, Any]]], object]]:
    return table, lambda records: records[1].update({column: LOST})


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (
            lose('sample_data', 'ego_pose_token'),
            f'sample_data.json: the ego_pose_token {LOST!r} of',
        ),
        (lose('sample_data', 'prev'), f'sample_data.json: the prev {LOST!r} of'),
        (
            lose('sample_data', 'calibrated_sensor_token'),
            f'calibrated_sensor_token {LOST!r} is not in calibrated_sensor.json',
        ),
        (
            ('calibrated_sensor', lambda records: records[0].update(sensor_token=LOST)),
            f'calibrated_sensor.json: record 0 .* its sensor_token {LOST!r} is not in sensor.json',
        ),
        (('ego_pose', lambda records: records.pop()), 'and of one version. Unpack them again'),
        (lose('sample_data', 'sample_token'), 'points nowhere: sample.json has no such record'),
        (lose('sample', 'scene_token'), 'points nowhere: scene.json has no such record'),
        (lose('sample_annotation', 'next'), f'sample_annotation.json: the next {LOST!r} of'),
        (lose('sample_annotation', 'instance_token'), 'instance.json has no such record'),
        (lose('instance', 'category_token'), 'category.json has no such record'),
        (('ego_pose', lambda records: records.pop()), 'ego_pose.json has no such record'),
        (
            ('sample_annotation', lambda records: records[2].update(attribute_tokens=[LOST])),
            f'record 2 .* is malformed: .*{LOST}.* are not all in attribute.json',
        ),
        (
            ('sample', lambda records: records.append(records[0])),
            'the records 0 and 3 have the same token',
        ),
        (
            ('sample_data', lambda records: records[1].update(is_key_frame=False)),
            '1 samples have no key frames of LIDAR_TOP',
        ),
        (
            (
                'sample_data',
                lambda records: records[1].update(sample_token=records[0]['sample_token']),
            ),
            '1 samples have no key frames of LIDAR_TOP',
        ),
        (('sensor', lambda records: records[0].update(channel='TOP')), "its LiDARs are .'TOP'."),
        (('ego_pose', lambda records: records[0].pop('rotation')), "record 0 .* lacks 'rotation'"),
        (
            ('ego_pose', lambda records: records[0].update(rotation=[1, 0, 0])),
            'is malformed: rotation has 3 numbers, not 4',
        ),
        (
            ('ego_pose', lambda records: records[0].update(translation=[0, float('nan'), 0])),
            'ego_pose.json: the translation of .* is .0.0, nan, 0.0., which is not finite',
        ),
        (
            ('sample', lambda records: records[0].update(timestamp='now')),
            'sample.json: record 0 .* is malformed: must be real number',
        ),
        (('scene', lambda records: records.append(3)), 'scene.json: record 1 is not an object'),
    ],
)
def test_tables_that_are_not_whole(folder, edit, message):
    change(folder, *edit)
    with pytest.raises(DatasetError, match=message):
        build_arrays(folder)


def test_missing_tables_are_named_together(folder):
    (folder / 'ego_pose.json').unlink()
    (folder / 'sample.json').unlink()
    with pytest.raises(DatasetError, match=r'ego_pose\.json, sample\.json; unpack all tables'):
        open_index(folder, folder)


def test_a_large_index_is_made_once(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(index_module, 'KEPT_FROM', 0)
    caplog.set_level(logging.WARNING)
    made = open_index(folder, tmp_path / 'cache')
    assert 'making an index of the tables, once' in caplog.text
    caplog.clear()
    monkeypatch.setattr(index_module, 'build_arrays', None)
    opened = open_index(folder, tmp_path / 'cache')
    assert not caplog.records
    assert isinstance(opened.boxes, np.memmap)
    np.testing.assert_array_equal(opened.boxes, made.boxes)
    assert (opened.scenes, opened.token(1)) == (made.scenes, made.token(1))
    pickled = pickle.dumps(opened)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).boxes, made.boxes)
    monkeypatch.undo()
    monkeypatch.setattr(index_module, 'KEPT_FROM', 0)
    # Tables that changed have another index, and so does one that is damaged.
    change(folder, 'sample_annotation', lambda records: records[0].update(size=[9, 9, 9]))
    assert open_index(folder, tmp_path / 'cache').boxes[:, 3:6].max() == 9
    for file in (tmp_path / 'cache').rglob('boxes.npy'):
        file.write_bytes(b'')
    caplog.clear()
    assert open_index(folder, tmp_path / 'cache').boxes[:, 3:6].max() == 9
    assert 'damaged' in caplog.text


def test_without_a_place_the_index_is_made_each_time(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(index_module, 'KEPT_FROM', 0)
    (tmp_path / 'file').write_text('', encoding='utf-8')
    assert len(open_index(folder, tmp_path / 'file')) == 3
    assert 'set dataset.cache to another folder' in caplog.text


def test_splits(folder):
    index = open_index(folder, folder)
    assert index.splits() == ('train',)
    assert index.samples('train').tolist() == index.samples('train+all').tolist() == [0, 1, 2]
    splits = folder / 'splits.json'
    splits.write_text('{"val": ["scene-0009"]}', encoding='utf-8')
    with pytest.raises(
        DatasetError, match=r"split val has the scenes \['scene-0009'\], which are"
    ):
        index.samples('val')
    splits.write_text('{"val": []}', encoding='utf-8')
    with pytest.raises(DatasetError, match='split val has no samples'):
        index.samples('val')
    splits.write_text('["val"]', encoding='utf-8')
    with pytest.raises(DatasetError, match=r'splits\.json: expected lists of names of scenes'):
        index.samples('val')
    splits.unlink()
    with pytest.raises(DatasetError, match="has no split 'val'; choose from all"):
        index.samples('val')


def test_velocities_by_hand():
    nan = [np.nan] * 3
    centers = np.array([[0.0, 0, 0], [1, 2, 0], [4, 2, 1], [9, 9, 9], [9, 9, 12]])
    before, after = np.array([-1, 0, 1, -1, 3]), np.array([1, 2, -1, 4, -1])
    near = annotation_velocities(centers, np.array([0.0, 0.5, 2.0, 7.0, 8.5]), before, after)
    expected = [[2, 4, 0], [2, 1, 0.5], [2, 0, 2 / 3], [0, 0, 2], [0, 0, 2]]
    np.testing.assert_allclose(near, expected)
    # Beyond 1.5 s to one side, or 3 s in all, nothing is known; one alone has none either.
    far = annotation_velocities(centers, np.array([0.0, 1.6, 3.1, 7.0, 8.6]), before, after)
    np.testing.assert_array_equal(far, [nan, nan, [2, 0, 2 / 3], nan, nan])
    alone = np.array([-1])
    np.testing.assert_array_equal(
        annotation_velocities(centers[:1], np.zeros(1), alone, alone), [nan]
    )
