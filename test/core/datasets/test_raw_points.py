# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Raw numbers: which clouds they are, and which they are not."""

from __future__ import annotations

from clouds import flat_ground, with_ring_and_time
import numpy as np
import pytest

from pointdistiller_core.datasets.raw_points import (
    KITTI_LAYOUT,
    NUSCENES_LAYOUT,
    Layout,
    far_points,
    find_layout,
)
from pointdistiller_core.errors import DatasetError

CLOUD = flat_ground()
COLUMNS = with_ring_and_time(CLOUD)


def layout_of(points: np.ndarray, code: str = '<f4', **options) -> Layout:
    return find_layout(bytes_of(points, code), 'a.bin', **options)


def bytes_of(points: np.ndarray, code: str = '<f4') -> np.ndarray:
    return np.frombuffer(points.astype(code).tobytes(), np.uint8)


@pytest.mark.parametrize('code', ['<f4', '<f8'])
@pytest.mark.parametrize('num_columns', [3, 4, 5, 6, 7, 8])
def test_layouts_are_recognized(num_columns, code):
    assert layout_of(COLUMNS[:, :num_columns], code) == Layout(code, num_columns)


@pytest.mark.parametrize('num_columns', [3, 4, 5])
def test_layouts_of_real_sweeps_are_recognized(kitti_mini, num_columns):
    for path in sorted((kitti_mini / 'training' / 'velodyne').iterdir())[::4]:
        points = np.fromfile(path, np.float32).reshape(-1, 4)
        points = points[: len(points) // 20 * 20]  # so that all numbers of columns fit
        ahead = points[points[:, 0] > 0]
        for cloud in (points, ahead[: len(ahead) // 20 * 20]):
            wide = np.column_stack([cloud, np.arange(len(cloud)) % 64])[:, :num_columns]
            for code in ('<f4', '<f8'):
                assert layout_of(wide, code) == Layout(code, num_columns)


@pytest.mark.parametrize(
    'change',
    [
        lambda points: points * [1, 1, 1, 255],
        lambda points: points * [1, 1, 1, 0],
        lambda points: points - [0, 0, 0, 0.5],  # below 0: odd, but four columns all the same
        lambda points: np.where(np.arange(600)[:, None] % 2, np.nan, points),
        lambda points: np.where(np.arange(600)[:, None] % 20, points, 1e30),
        lambda points: points * 0,
        lambda points: points[:5],
        lambda points: points[:0],
    ],
)
def test_odd_clouds_are_four_columns_all_the_same(change, caplog):
    assert layout_of(change(CLOUD)) == KITTI_LAYOUT
    assert caplog.messages == []


def test_an_announced_layout_is_taken_unless_another_fits():
    assert layout_of(COLUMNS[:12, :5], expected=NUSCENES_LAYOUT) == NUSCENES_LAYOUT
    assert layout_of(CLOUD, expected=NUSCENES_LAYOUT) == KITTI_LAYOUT


@pytest.mark.parametrize(
    ('points', 'code', 'message'),
    [
        (
            CLOUD * [1000, 1000, 1000, 1],
            '<f4',
            r'100% of the points are farther than 1000 m \(med',
        ),
        (
            CLOUD + np.array([5e5, 4e6, 0, 0]),
            '<f4',
            'coordinate: 4e.06.; positions must be in metres',
        ),
        (abs(CLOUD) * 100 + 5, '<i4', '100% of the points have coordinates below 1e-30 m, but'),
        (CLOUD * 100, '<i4', 'none of the points is finite'),
        (CLOUD * 500, '<i2', 'read as 4 columns of float32, and no other layout fits'),
    ],
)
def test_what_makes_no_points_is_refused(points, code, message):
    with pytest.raises(DatasetError, match=rf'^a\.bin: .*{message}'):
        layout_of(points, code)


def test_random_bits_are_refused():
    bits = np.random.default_rng(0).integers(0, 256, 16000, dtype=np.uint8)
    with pytest.raises(DatasetError, match='farther than 1000 m'):
        find_layout(bits, 'a.bin')


def test_a_file_that_was_cut_off_is_reported():
    with pytest.raises(DatasetError, match='truncated, 9597 bytes are not a whole number of 16-'):
        find_layout(bytes_of(CLOUD)[:-3], 'a.bin')


def test_columns_that_are_all_alike_are_told(caplog):
    assert layout_of(np.random.default_rng(0).normal(size=(601, 4))) == KITTI_LAYOUT
    assert caplog.messages == ['a.bin: read as 4 columns of float32, but all of them look alike']


def test_far_points():
    assert far_points(CLOUD) == far_points(CLOUD[:0]) == ''
    assert far_points(CLOUD * 1000).startswith('100% of the points')
