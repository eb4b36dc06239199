# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files of points in every form, and what is none."""

from __future__ import annotations

import io
import logging
from pathlib import Path

from clouds import COMPRESSED_PCD, flat_ground, with_ring_and_time
import numpy as np
import pytest

from pointdistiller_core.datasets.point_files import read_points
from pointdistiller_core.errors import DatasetError

CLOUD = flat_ground()
COLUMNS = with_ring_and_time(CLOUD)
NAMED = np.zeros(2, [('Z', '<f4'), ('i', 'u1'), ('label', 'U3'), ('X', '<f8'), ('Y', '<f4')])
NAMED['X'], NAMED['Y'], NAMED['Z'], NAMED['i'] = [1, 2], [3, 4], [5, 6], [51, 255]


def numpy_file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def raw(points: np.ndarray, code: str = '<f4') -> bytes:
    return points.astype(code).tobytes()


def read(tmp_path: Path, content: bytes, name: str = 'cloud', **options) -> np.ndarray:
    path = tmp_path / name
    path.write_bytes(content)
    return read_points(path, **options)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (raw(CLOUD), None),
        (raw(CLOUD, '<f8'), 'read as 4 columns of float64'),
        (raw(COLUMNS[:, :5]), 'read as 5 columns of float32'),
        (numpy_file(CLOUD), None),
        (numpy_file(CLOUD.astype('>f8')), None),
        (numpy_file(np.asfortranarray(CLOUD)), None),
        (numpy_file(CLOUD.reshape(20, 30, 4)), None),
        (numpy_file(COLUMNS), 'the first 4 of 8 columns are taken as x, y, z, intensity'),
    ],
)
def test_forms_of_one_cloud(tmp_path, content, message, caplog):
    points = read(tmp_path, content)
    assert points.dtype == np.float32
    assert points.flags.writeable
    np.testing.assert_array_equal(points, CLOUD)
    assert caplog.messages == ([f'{tmp_path}/cloud: {message}'] if message else [])


def test_a_name_may_announce_five_columns(tmp_path, caplog):
    points = read(tmp_path, raw(COLUMNS[:8, :5]), 'a.pcd.bin')
    np.testing.assert_array_equal(points, CLOUD[:8])
    assert caplog.messages == []


def test_named_columns(tmp_path):
    points = read(tmp_path, numpy_file(NAMED))
    np.testing.assert_allclose(points, [[1, 3, 5, 0.2], [2, 4, 6, 1]])
    points = read(tmp_path, COMPRESSED_PCD)
    np.testing.assert_allclose(points.T, [[1, 2, 3, 4], [0] * 4, [-1] * 4, [0, 0.2, 0.4, 1]])


def test_a_sensor_that_is_elsewhere_is_told(tmp_path, caplog):
    read(tmp_path, COMPRESSED_PCD.replace(b'VIEWPOINT 0.0', b'VIEWPOINT 2.0'))
    (message,) = caplog.messages
    assert message.endswith('VIEWPOINT is 2.0 0.0 0.0 1.0 0.0 0.0 0.0; the points are as they are')


@pytest.mark.parametrize('content', [raw(CLOUD[:, :3]), numpy_file(CLOUD[:, :3])])
def test_without_intensities(tmp_path, content):
    with pytest.raises(DatasetError, match=r'cloud: has no intensity, only .*; --missing-intensi'):
        read(tmp_path, content)
    points = read(tmp_path, content, needs_intensity=False)
    np.testing.assert_array_equal(points[:, :3], CLOUD[:, :3])
    assert not points[:, 3].any()


def test_points_that_are_not_finite_are_dropped_with_a_warning(tmp_path, caplog):
    points = CLOUD.astype(float)
    points[1, 2], points[3, 3], points[4, 0], points[4, 1] = np.nan, np.inf, 1e300, -np.inf
    with caplog.at_level(logging.WARNING):
        kept = read(tmp_path, numpy_file(points))
    np.testing.assert_array_equal(kept, np.delete(CLOUD, [1, 3, 4], axis=0))
    assert caplog.messages == [f'{tmp_path}/cloud: dropped 3 of 600 points, not finite']


def test_no_points(tmp_path, caplog):
    for content in (b'', numpy_file(CLOUD[:0])):
        assert read(tmp_path, content).shape == (0, 4)
    assert caplog.messages == [f'{tmp_path}/cloud: has no points'] * 2


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            b'ARROW1\0\0' + raw(CLOUD),
            r'is a feather file \(pandas.read_feather reads it\); save x',
        ),
        (b'PAR1' + raw(CLOUD), r'is a parquet file .*np\.save\('),
        (b'PK\x03\x04' + raw(CLOUD), r'is a zip archive, such as \.npz'),
        (b'\x89MCAP0\r\n' + raw(CLOUD), 'is a bag, .*`run detect --bag` plays it'),
        (b'1.0 2.0 3.0 0.5\n' * 4, r'is text \(np\.loadtxt may read it\)'),
        (raw(COLUMNS[:, :6]), r'seems to be 6 columns of float32, whose meaning is not known'),
        (raw(CLOUD * 1000), '100% of the points are farther than 1000 m'),
        (numpy_file(CLOUD * 1000), '100% of the points are farther than 1000 m'),
        (numpy_file(CLOUD.T), r'an array of float32 and shape \(4, 600\); expected .* \(N, 4\)'),
        (numpy_file(CLOUD[0]), r'an array of float32 and shape \(4,\)'),
        (numpy_file(CLOUD.astype(int)), 'an array of int64 and shape'),
        (numpy_file(np.array([{}])), 'not a whole .npy file of numbers: '),
        (numpy_file(CLOUD)[:-1], 'not a whole .npy file of numbers: '),
        (numpy_file(CLOUD).replace(b"'fortran", b"'\0ortran"), 'not a whole .npy file of numb'),
        (
            numpy_file(np.zeros(2, [('X', '<f4'), ('i', 'u1')])),
            r"has no column \['y', 'z'\], only",
        ),
        (COMPRESSED_PCD[:-3], 'cut short: 31 of 34 bytes'),
    ],
)
def test_what_is_no_cloud_is_refused(tmp_path, content, message):
    with pytest.raises(DatasetError, match=rf'^{tmp_path}/cloud: {message}'):
        read(tmp_path, content)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DatasetError, match=r'nowhere: no such file'):
        read_points(tmp_path / 'nowhere')
    with pytest.raises(DatasetError, match=r'is a folder; name the files in it'):
        read_points(tmp_path)
    (tmp_path / 'cloud').touch()
    with pytest.raises(DatasetError, match=r'cloud/more: cannot be read: Not a directory'):
        read_points(tmp_path / 'cloud' / 'more')


@pytest.mark.parametrize('content', [COMPRESSED_PCD, numpy_file(NAMED), raw(CLOUD[:20])])
def test_damage_anywhere_is_read_or_refused(tmp_path, content):
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
        try:
            points = read(tmp_path, damaged.tobytes())
        except DatasetError as error:
            assert str(tmp_path) in str(error)  # noqa: PT017
        else:
            assert points.shape[1:] == (4,)
            assert np.isfinite(points).all()
