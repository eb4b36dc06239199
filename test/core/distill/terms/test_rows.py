# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from pointdistiller_core.distill.terms.rows import frame_rows, points_per_row, rows_of
from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud.voxels import Voxels, group_voxels

GRID = Grid(point_cloud_range=(0, 0, 0, 6, 4, 1), voxel_size=(1, 1, 1))  # 4 rows, 6 columns


def make_pillars(*clouds: list[tuple[float, float]]) -> Voxels:
    """Clouds of points at x, y."""
    points = [torch.tensor([(x, y, 0.5, 0.0) for x, y in cloud]).view(-1, 4) for cloud in clouds]
    return group_voxels(points, GRID, max_points=8, max_voxels=100)


PILLARS = make_pillars(
    [(0.5, 0.5), (0.6, 0.6), (1.5, 0.5), (5.5, 3.5)], [], [(2.5, 1.5), (2.5, 2.5)]
)


def test_rows_of_a_map_go_frame_by_frame_and_row_by_row():
    maps = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    rows = rows_of(maps)
    assert rows.shape == (40, 3)
    assert torch.equal(rows[1 * 20 + 2 * 5 + 3], maps[1, :, 2, 3])


def test_rows_of_pillars_are_the_pillars():
    features = torch.rand(7, 3)
    assert rows_of(features) is features


def test_frames_of_pillars_and_of_a_map():
    of_pillars = frame_rows(torch.zeros(len(PILLARS), 3), PILLARS)
    assert [rows.tolist() for rows in of_pillars] == [[0, 1, 2], [], [3, 4]]
    of_map = frame_rows(torch.zeros(3, 8, 1, 2), PILLARS)
    assert [rows.tolist() for rows in of_map] == [[0, 1], [2, 3], [4, 5]]


def test_points_of_pillars():
    counts = points_per_row(torch.zeros(len(PILLARS), 3), PILLARS, GRID.bev_shape)
    assert counts.tolist() == [2, 1, 1, 1, 1]


def test_points_of_cells_are_those_of_their_pillars():
    counts = points_per_row(torch.zeros(3, 8, 2, 3), PILLARS, GRID.bev_shape)
    assert counts.view(3, 2, 3).tolist() == [
        [[3, 0, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 0]],
        [[0, 1, 0], [0, 1, 0]],
    ]


def test_points_of_cells_as_fine_as_the_pillars():
    counts = points_per_row(torch.zeros(3, 8, 4, 6), PILLARS, GRID.bev_shape).view(3, 4, 6)
    assert counts.sum() == 6
    assert counts[0, 0, :2].tolist() == [2, 1]
