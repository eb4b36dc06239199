# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files of the Point Cloud Library, whole and damaged."""

from __future__ import annotations

from clouds import COMPRESSED_PCD
import numpy as np
import pytest

from pointdistiller_core.datasets.pcd import decompress_lzf, read_pcd
from pointdistiller_core.errors import DatasetError

HEADER = (
    '# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS z _ x y _ i\n'
    'SIZE 8 1 4 4 1 2\nTYPE F U F F U U\nCOUNT 1 3 1 1 2 1\nWIDTH 2\nHEIGHT 1\n'
    'VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA '
)
RECORD = np.dtype(
    [('z', '<f8'), ('a', 'u1', 3), ('x', '<f4'), ('y', '<f4'), ('b', 'u1', 2), ('i', '<u2')]
)
EXPECTED = {'z': [1.25, -2], 'x': [3, 4], 'y': [5, np.nan], 'i': [6, 65535]}


def binary() -> bytes:
    records = np.zeros(2, RECORD)
    for name, column in EXPECTED.items():
        records[name] = column
    return HEADER.encode() + b'binary\n' + records.tobytes()


def text(header: str = HEADER) -> bytes:
    return f'{header}ascii\n1.25 0 0 0 3 5 0 0 6\n-2 0 0 0 4 nan 0 0 65535\n'.encode()


@pytest.mark.parametrize(
    'content', [binary(), binary() + b'more', text(), text().replace(b'\n', b'\r\n')]
)
def test_padded_fields_in_any_order(content):
    columns, note = read_pcd(content, 'a.pcd')
    assert note == ''
    assert columns.keys() == EXPECTED.keys()
    assert [columns[name].dtype.str for name in ('z', 'x', 'i')] == ['<f8', '<f4', '<u2']
    for name, column in EXPECTED.items():
        np.testing.assert_array_equal(columns[name], column)


def test_compressed_columns():
    columns, _ = read_pcd(COMPRESSED_PCD, 'a.pcd')
    assert {name: column.tolist() for name, column in columns.items()} == {
        'x': [1, 2, 3, 4],
        'y': [0, 0, 0, 0],
        'reflectivity': [0, 51, 102, 255],
        'z': [-1, -1, -1, -1],
    }


def test_what_compresses_badly_may_be_left_as_it_is():
    head, data = COMPRESSED_PCD.split(b'DATA binary_compressed\n')
    columns = decompress_lzf(data[8:], 52)
    whole = head + b'DATA binary_compressed\n' + bytes([52, 0, 0, 0] * 2) + columns
    assert read_pcd(whole, 'a.pcd')[0]['reflectivity'].tolist() == [0, 51, 102, 255]


def test_headers_of_old_writers():
    short = 'COLUMNS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nHEIGHT 1\nDATA ascii\n1 2 3\n4 5 6'
    columns, _ = read_pcd(short.encode(), 'a.pcd')
    assert columns['z'].tolist() == [3, 6]


def test_no_points():
    empty = text(HEADER.replace('POINTS 2', 'POINTS 0')).split(b'1.25')[0]
    assert [len(column) for column in read_pcd(empty, 'a.pcd')[0].values()] == [0] * 4


def test_a_sensor_that_is_elsewhere_is_told():
    moved = HEADER.replace('VIEWPOINT 0 0 0 1', 'VIEWPOINT 0 0 1.5 1')
    assert read_pcd(text(moved), 'a.pcd')[1].startswith('VIEWPOINT is 0 0 1.5 1 0 0 0; the points')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'# .PCD\nFIELDS x\n', r"lacks \['SIZE', 'TYPE', 'DATA'\]"),
        (text(HEADER.replace('SIZE 8', 'SIZE 4 8')), 'they must agree'),
        (text(HEADER.replace('TYPE F', 'TYPE X')), "field 'z' has TYPE X, SIZE 8 and COUNT 1"),
        (text(HEADER.replace('COUNT 1 3', 'COUNT 1 99999999')), 'COUNT 99999999; known are'),
        (text(HEADER.replace('POINTS 2', 'POINTS two')), "POINTS is 'two'; expected a number"),
        (text(HEADER.replace('POINTS 2', 'POINTS 3')), '18 numbers; 3 points of 9 numbers'),
        (text().replace(b'-2', b'minus'), 'could not convert'),
        (text().replace(b'DATA ascii', b'DATA gzip'), r'DATA gzip; expected one of .*binary'),
        (binary()[:-1], 'cut short: 45 of 46 bytes'),
        (COMPRESSED_PCD[:-1], 'cut short: 33 of 34 bytes'),
        (COMPRESSED_PCD.replace(b'POINTS 4', b'POINTS 5'), 'said to hold 52; 5 points need 65'),
        (
            COMPRESSED_PCD.replace(b'\x07\x00\x00\x80?', b'\x27\x00\x00\x80?'),
            'damaged, its compressed',
        ),
    ],
)
def test_damage_is_reported(content, message):
    with pytest.raises(DatasetError, match=rf'^a\.pcd: .*{message}'):
        read_pcd(content, 'a.pcd')


def test_lzf_by_hand():
    # Three bytes as they are; then 4 + 2 from three back, which reaches into what it makes; then
    # 7 + 1 + 2 of the last byte.
    data = bytes([2, *b'abc', 4 << 5, 2, 7 << 5, 1, 0])
    assert decompress_lzf(data, 19) == b'abcabcabc' + b'c' * 10
    assert decompress_lzf(b'', 0) == b''


@pytest.mark.parametrize(
    ('data', 'size'),
    [([2, 65], 3), ([7 << 5], 9), ([1 << 5, 5], 3), ([0, 65, 0, 65], 1), ([0, 65], 2)],
)
def test_damaged_lzf(data, size):
    with pytest.raises(ValueError, match=r'cut short|before its beginning|bytes instead of'):
        decompress_lzf(bytes(data), size)
