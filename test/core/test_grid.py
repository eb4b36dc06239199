# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Shapes that follow from range and voxel size."""

from __future__ import annotations

from pydantic import ValidationError
import pytest

from pointdistiller_core.grid import Grid

KITTI_RANGE = (0.0, -39.68, -3.0, 69.12, 39.68, 1.0)


def test_kitti_grid():
    grid = Grid(point_cloud_range=KITTI_RANGE, voxel_size=(0.16, 0.16, 4.0))
    assert grid.shape == (432, 496, 1)
    assert grid.bev_shape == (496, 432)
    assert grid.strided_bev_shape(2) == (248, 216)


def test_cells_must_fill_the_range():
    with pytest.raises(ValidationError, match=r'x: .* is not a whole number of 0\.17 m cells'):
        Grid(point_cloud_range=KITTI_RANGE, voxel_size=(0.17, 0.16, 4.0))


@pytest.mark.parametrize('size', [0.0, -0.16])
def test_cells_must_be_positive(size):
    with pytest.raises(ValidationError, match=r'greater than or equal to 0\.001'):
        Grid(point_cloud_range=KITTI_RANGE, voxel_size=(size, 0.16, 4.0))


def test_stride_must_divide_the_grid():
    grid = Grid(point_cloud_range=KITTI_RANGE, voxel_size=(0.16, 0.16, 4.0))
    with pytest.raises(ValueError, match='not a multiple of the stride 5'):
        grid.strided_bev_shape(5)
