# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Grouping in NumPy, or compiled by Numba, keeps what grouping in torch keeps."""

from __future__ import annotations

from dataclasses import fields
import sys
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.datasets.point_files import read_points
from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud import voxel_arrays
from pointdistiller_core.pointcloud.voxel_arrays import (
    best_grouping,
    best_means,
    group_points,
    means_in_rows,
)
from pointdistiller_core.pointcloud.voxels import group_voxels

COMPILED = sys.modules[best_grouping().__module__]
GRID = Grid(point_cloud_range=(0.0, -1.6, -3.0, 3.2, 1.6, 1.0), voxel_size=(0.16, 0.16, 4.0))


def assert_compiled_alike(expected, points, grid, caps):
    """Every array has the same bits; without Numba, nothing is compared."""
    points = points.copy()
    points.flags.writeable = False  # as arrays of a message may be
    found = best_grouping()(points, grid, **caps)
    for field in fields(found):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(ours, theirs, strict=isinstance(ours, np.ndarray))
    assert all(type(number) is int for cut in found.cuts.values() for number in cut)


def assert_same_voxels(points, *, max_points, max_voxels, grid=GRID):
    caps = {'max_points': max_points, 'max_voxels': max_voxels}
    found = group_points(points, grid, **caps)
    assert_compiled_alike(found, points, grid, caps)
    expected = group_voxels([torch.from_numpy(points)], grid, **caps)
    _, layers, rows, columns = expected.coords.numpy().T
    used = np.arange(max_points) < expected.num_points.numpy()[:, None]
    height, width = grid.bev_shape
    np.testing.assert_array_equal(found.cells, (layers * height + rows) * width + columns)
    np.testing.assert_array_equal(found.num_points, expected.num_points.numpy())
    np.testing.assert_array_equal(found.points, expected.points.numpy()[used])
    np.testing.assert_array_equal(found.owners, expected.owners[0].numpy())
    assert found.cuts == expected.cuts
    assert found.starts.tolist() == (np.cumsum(found.num_points) - found.num_points).tolist()
    if len(found):
        sums = np.add.reduceat(found.points, found.starts, axis=0)
        means = (sums / found.num_points[:, None]).astype(np.float32)
        np.testing.assert_allclose(found.means(), means, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.means(3), found.means()[:, :3])
    assert found.means(3).shape == (len(found), 3)
    turned = np.arange(len(found))[::-1].copy()
    for means in (means_in_rows, best_means()):
        np.testing.assert_array_equal(means(found, turned), found.means()[::-1], strict=True)
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    num_points=st.integers(0, 300),
    max_points=st.integers(1, 5),
    max_voxels=st.integers(1, 200),
    height=st.sampled_from([4.0, 0.1]),
    table=st.sampled_from([1 << 22, 0]),
)
def test_any_cloud(seed, num_points, max_points, max_voxels, height, table):
    rng = np.random.default_rng(seed)
    points = rng.uniform((-0.3, -1.8, -3.2, 0), (2, 1.8, 1.2, 1), (num_points, 4))
    # on the limits of cells, where rounding decides
    points[::3, :2] = (points[::3, :2] / 0.16).round() * 0.16
    grid = Grid(point_cloud_range=GRID.point_cloud_range, voxel_size=(0.16, 0.16, height))
    with (
        mock.patch.object(voxel_arrays, '_LARGEST_TABLE', table),
        mock.patch.object(COMPILED, 'LARGEST_TABLE', table, create=True),
    ):
        assert_same_voxels(
            points.astype(np.float32), max_points=max_points, max_voxels=max_voxels, grid=grid
        )


def test_the_rim_and_values_that_are_no_position(recwarn):
    low, high = np.array(GRID.point_cloud_range, np.float32).reshape(2, 3)
    rims = np.array(
        [np.nextafter(limit, limit + step) for limit in (low, high) for step in (-1, 0, 1)]
    )
    mixed = np.random.default_rng(0).permuted(rims, axis=0)
    bad = np.full((5, 3), 0.5)
    bad[:, 0] = np.nan, np.inf, -np.inf, 3.4e38, -3.4e38
    points = np.zeros((len(rims) * 2 + len(bad), 4), np.float32)
    points[:, :3] = np.concatenate([rims, mixed, bad])
    found = assert_same_voxels(points, max_points=4, max_voxels=100)
    assert 0 < sum(found.cuts['points']) < len(points)
    assert not recwarn.list


def test_real_sweeps(kitti_mini):
    for name in ('000008', '000010'):
        points = read_points(kitti_mini / 'training' / 'velodyne' / f'{name}.bin')
        for caps in ((32, 40_000), (5, 3_000)):
            found = assert_same_voxels(
                points, grid=PointPillarsConfig().grid, max_points=caps[0], max_voxels=caps[1]
            )
            assert found.cuts['points'].dropped > 0


@pytest.mark.parametrize('max_voxels', [70_000, 100])
def test_more_voxels_than_sixteen_bits_hold(max_voxels):
    grid = Grid(point_cloud_range=(0.0, 0.0, -3.0, 300.0, 300.0, 1.0), voxel_size=(1.0, 1.0, 4.0))
    x, y = np.meshgrid(np.arange(300) + 0.5, np.arange(300) + 0.5)
    points = np.stack([x.ravel(), y.ravel(), np.zeros(90_000), np.ones(90_000)], 1)
    points = np.random.default_rng(0).permutation(np.repeat(points, 2, axis=0)).astype(np.float32)
    found = group_points(points, grid, max_points=1, max_voxels=max_voxels)
    assert_compiled_alike(found, points, grid, {'max_points': 1, 'max_voxels': max_voxels})
    expected = group_voxels([torch.from_numpy(points)], grid, max_points=1, max_voxels=max_voxels)
    np.testing.assert_array_equal(found.points, expected.points[:, 0].numpy())
    assert found.cuts == expected.cuts


def test_many_columns_and_other_kinds_of_arrays():
    rng = np.random.default_rng(0)
    points = rng.uniform((0, -1, -2, 0, 0), (3, 1, 0, 1, 1), (500, 5)).astype(np.float32)
    caps = {'max_points': 3, 'max_voxels': 90}
    for each in (points, np.asfortranarray(points), points[::2]):
        assert_compiled_alike(group_points(each, GRID, **caps), each, GRID, caps)
