# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRange,
    FrameRow,
    FrameTable,
    Label,
    format_labels,
    read_info,
    read_labels,
    read_points,
    read_split,
    resolve_split,
    shortest_floats,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.geometry.poses import Pose

CAR = Label('Car', (1.5, -2.25, 0.5, 4.0, 1.75, 1.5, 0.3))


def points_of(number, count=3):
    return np.arange(4 * count, dtype=np.float32).reshape(-1, 4) + number


def write_frames(root, count, *, drive='a', labels=(CAR,), **info):
    with FolderWriter(root, FolderInfo(class_names=('Car',), **info)) as writer:
        for number in range(count):
            pose = Pose.from_values((number, 0.1, 0, 0, 0, 0, 1))
            row = FrameRow(f'{drive}_{number:06d}', drive, 10**9 + number, None, pose)
            writer.add(row, points_of(number), labels)


def test_what_is_written_is_read(tmp_path):
    write_frames(tmp_path, 2)
    table = FrameTable(tmp_path / 'frames.csv')
    pose = Pose((1.0, 0.1, 0.0, 0.0, 0.0, 0.0, 1.0))
    assert table[1] == FrameRow('a_000001', 'a', 10**9 + 1, 3, pose)
    info = read_info(tmp_path)
    points = read_points(tmp_path, table[1], info.columns)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, points_of(1))
    assert read_labels(tmp_path, 'a_000001') == [CAR]


def test_a_frame_without_labels_has_none(tmp_path):
    write_frames(tmp_path, 1, labels=None)
    assert read_labels(tmp_path, 'a_000000') is None


def test_a_label_keeps_everything(tmp_path):
    label = replace(
        CAR, score=0.25, track='t1', velocity=(1.0, -0.5), ignore=True, further={'kitti': [1]}
    )
    write_frames(tmp_path, 1, labels=[label, CAR])
    assert read_labels(tmp_path, 'a_000000') == [label, CAR]


def test_labels_take_a_line_each():
    assert format_labels([]) == '{"objects": []}\n'
    assert len(format_labels([CAR, CAR]).splitlines()) == 4


def test_shortest_floats_give_the_same_bits_back():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    np.testing.assert_array_equal(np.array(shortest_floats(values), np.float32), values)
    assert shortest_floats([np.float32(0.1)]) == (0.1,)


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('{', 'objects'),
        ('[]', 'objects'),
        ('{"objects": [{"class": "Car", "box": [1, 2]}]}', 'object 0: box'),
        ('{"objects": [{"class": "Car", "box": [1, 2, 3, 4, 5, 6, NaN]}]}', 'object 0: box'),
        ('{"objects": [{"class": "", "box": [1, 2, 3, 4, 5, 6, 7]}]}', 'object 0: class'),
        ('{"objects": [7]}', 'object 0'),
    ],
)
def test_malformed_labels_are_named(tmp_path, text, problem):
    write_frames(tmp_path, 1)
    (tmp_path / 'labels' / 'a_000000.json').write_text(text)
    with pytest.raises(DatasetError, match=problem):
        read_labels(tmp_path, 'a_000000')


def test_points_of_another_size_are_named(tmp_path):
    write_frames(tmp_path, 1)
    path = tmp_path / 'points' / 'a_000000.bin'
    path.write_bytes(path.read_bytes()[:-4])
    row = FrameTable(tmp_path / 'frames.csv')[0]
    with pytest.raises(DatasetError, match='44 bytes; 3 points of 4 columns are 48'):
        read_points(tmp_path, row, ('x', 'y', 'z', 'intensity'))


def test_rows_may_have_fields_of_others_in_any_order(tmp_path):
    path = tmp_path / 'frames.csv'
    path.write_text('weather,frame,stamp_ns\nrain,f1,7\n,f2,\n')
    assert list(FrameTable(path)) == [FrameRow('f1', stamp_ns=7), FrameRow('f2')]


def test_a_row_without_its_end_is_none_yet(tmp_path):
    path = tmp_path / 'frames.csv'
    path.write_text('frame,drive\nf1,a\nf2')
    assert list(FrameTable(path).names()) == ['f1']


def test_a_malformed_row_is_named(tmp_path):
    path = tmp_path / 'frames.csv'
    path.write_text('frame,drive,stamp_ns\nf1,a,x\n')
    with pytest.raises(DatasetError, match=r'frames.csv:2: .*x'):
        FrameTable(path)[0]


@pytest.mark.parametrize('name', ['', '../up', 'a,b', 'a/b', '.hidden', 'a..b'])
def test_names_are_safe_as_files_and_in_rows(name):
    with pytest.raises(DatasetError, match='no name'):
        FrameRow(name)


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('a: [', 'not valid YAML'),
        ('a: 1', 'not a dataset'),
        ('format: pointdistiller-folder\nversion: 2', 'version 2'),
        ('format: pointdistiller-folder\nversion: 1\ncolumns: 3', 'columns'),
        ('format: pointdistiller-folder\nversion: 1\ncolumns: [y, x, z]', 'x, y, z must be'),
    ],
)
def test_a_malformed_dataset_file_is_named(tmp_path, text, problem):
    (tmp_path / 'dataset.yaml').write_text(text)
    with pytest.raises(DatasetError, match=problem):
        read_info(tmp_path)


# --- splits ----------------------------------------------------------------------------------


def test_a_range_takes_the_frames_of_its_drive(tmp_path):
    write_frames(tmp_path, 3)
    write_frames(tmp_path, 1, drive='b')
    with FolderWriter(tmp_path, FolderInfo(class_names=('Car',))) as writer:
        writer.add(FrameRow('a_000003', 'a'), points_of(3))
        ranges = [FrameRange('a_000001', 'a_000003')]
        writer.set_ranges(['a_000002'], {'train': [FrameRange('a_000002', 'a_000002')]})
        alone = [FrameRange('a_000000', 'a_000000')]
        own = [f'a_00000{number}' for number in range(4)]
        writer.set_ranges(own, {'train': ranges, 'val': alone})
        writer.set_ranges(['b_000000'], {'train': [FrameRange('b_000000', 'b_000000')]})
    assert (tmp_path / 'splits' / 'train.txt').read_text() == 'a_000001..a_000003\nb_000000\n'
    table = FrameTable(tmp_path / 'frames.csv')
    chosen = resolve_split(table, read_split(tmp_path, 'train+val'), 'here')
    names = [table.name(place) for place in chosen]
    assert names == ['a_000001', 'a_000002', 'a_000003', 'b_000000', 'a_000000']


def test_a_split_of_unknown_frames_is_named(tmp_path):
    write_frames(tmp_path, 2)
    table = FrameTable(tmp_path / 'frames.csv')
    with pytest.raises(DatasetError, match="no frame 'x'"):
        resolve_split(table, [FrameRange('x', 'x')], 'here')
    with pytest.raises(DatasetError, match='ends before it begins'):
        resolve_split(table, [FrameRange('a_000001', 'a_000000')], 'here')
    with pytest.raises(DatasetError, match='no such split; there are all'):
        read_split(tmp_path, 'train')


# --- writing ---------------------------------------------------------------------------------


def test_a_writer_goes_on_after_a_row_that_was_cut_off(tmp_path):
    write_frames(tmp_path, 2)
    frames = tmp_path / 'frames.csv'
    whole = frames.read_text()
    frames.write_text(whole + 'a_0000')
    with FolderWriter(tmp_path, FolderInfo(class_names=('Car',))) as writer:
        assert [writer.earlier.name(place) for place in writer.places('a')] == [
            'a_000000',
            'a_000001',
        ]
        writer.add(FrameRow('a_000002', 'a'), points_of(2))
    assert frames.read_text() == whole + 'a_000002,a,,3,,,,,,,,\n'


def test_other_columns_or_other_files_are_refused(tmp_path):
    write_frames(tmp_path / 'one', 1)
    with (
        pytest.raises(DatasetError, match='columns is'),
        FolderWriter(tmp_path / 'one', FolderInfo(columns=('x', 'y', 'z'))),
    ):
        pass
    (tmp_path / 'two').mkdir()
    (tmp_path / 'two' / 'thesis.txt').write_text('')
    with (
        pytest.raises(DatasetError, match='holds other files'),
        FolderWriter(tmp_path / 'two', FolderInfo()),
    ):
        pass


def test_two_writers_are_kept_apart(tmp_path):
    with (
        FolderWriter(tmp_path, FolderInfo()),
        pytest.raises(WriteError, match='another process'),
        FolderWriter(tmp_path, FolderInfo()),
    ):
        pass


def test_a_frame_whose_points_were_lost_is_not_whole(tmp_path):
    write_frames(tmp_path, 2)
    (tmp_path / 'points' / 'a_000001.bin').write_bytes(b'')
    with FolderWriter(tmp_path, FolderInfo(class_names=('Car',))) as writer:
        assert [writer.is_whole(row) for row in writer.earlier] == [True, False]
