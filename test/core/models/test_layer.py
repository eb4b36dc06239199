# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Reading layers of a detector, and their features as rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.grid import Grid
from pointdistiller_core.models import PointPillars
from pointdistiller_core.models.layer import Layer, map_rows, read_layers, rows_of, voxel_rows
from pointdistiller_core.pointcloud.voxels import Voxels, cell_centers, group_voxels

GRID = Grid(point_cloud_range=(0, 0, 0, 6, 4, 1), voxel_size=(1, 1, 1))  # 4 rows, 6 columns


def group(*clouds: list[tuple[float, float]]) -> Voxels:
    """Clouds of points at x, y."""
    points = [torch.tensor([(x, y, 0.5, 0.0) for x, y in cloud]).view(-1, 4) for cloud in clouds]
    return group_voxels(points, GRID, max_points=8, max_voxels=100)


VOXELS = group([(0.5, 0.5), (0.6, 0.6), (1.5, 0.5), (5.5, 3.5)], [], [(2.5, 1.5), (2.5, 2.5)])


def layer_of(module: nn.Module) -> Layer:
    return Layer(module, 1, 1, lambda output, _prepared: output)


# --- reading


def test_collects_the_newest_output_with_its_gradient():
    module = nn.Linear(2, 3)
    with read_layers({'layer': layer_of(module)}) as outputs:
        module(torch.ones(1, 2))
        newest = module(torch.zeros(1, 2))
    assert outputs['layer'] is newest
    assert newest.requires_grad


def test_is_gone_after_use_and_after_an_error():
    module = nn.Linear(2, 3)
    with read_layers({'layer': layer_of(module)}) as outputs:
        pass
    module(torch.ones(1, 2))
    assert outputs == {}
    with pytest.raises(RuntimeError), read_layers({'layer': layer_of(module)}):
        module(torch.ones(1, 5))
    assert not module._forward_hooks


def test_norms_are_read_before_their_relu(tiny_model, tiny_dataset):
    model = PointPillars(tiny_model)
    voxels = model.prepare([torch.from_numpy(tiny_dataset(1)[0].points)])
    with read_layers(model.layers()) as outputs:
        model(voxels)
    assert (outputs['backbone.1.norm'] < 0).any()
    torch.testing.assert_close(outputs['backbone.1.norm'].relu(), outputs['backbone.1'])


# --- rows


def test_rows_of_a_map_go_frame_by_frame_and_row_by_row():
    maps = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    rows = rows_of(maps)
    assert rows.shape == (40, 3)
    assert torch.equal(rows[1 * 20 + 2 * 5 + 3], maps[1, :, 2, 3])


def test_rows_of_voxels_are_the_voxels():
    features = torch.rand(len(VOXELS), 3)
    rows = voxel_rows(features, VOXELS, GRID)
    assert rows.features is features
    assert rows.sizes == (3, 0, 2)
    assert rows.num_points.tolist() == [2, 1, 1, 1, 1]
    assert torch.equal(rows.positions, cell_centers(VOXELS.coords, GRID))
    assert rows.frames.tolist() == [0, 0, 0, 2, 2]
    assert [len(part) for part in rows.split(rows.positions)] == [3, 0, 2]


def test_voxels_of_layers_are_no_cells_of_a_map():
    grid = Grid(point_cloud_range=GRID.point_cloud_range, voxel_size=(1, 1, 0.5))
    rows = voxel_rows(torch.rand(len(VOXELS), 3), VOXELS, grid)
    assert rows.cells is None
    assert rows.map_shape is None


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((2, 3), [[[3, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 1, 0]]]),
        ((1, 1), [[[4]], [[0]], [[2]]]),
    ],
)
def test_points_of_cells_are_those_of_their_voxels(shape, expected):
    rows = map_rows(torch.zeros(3, 8, *shape), VOXELS, GRID)
    assert rows.num_points.view(3, *shape).tolist() == expected
    assert rows.sizes == (shape[0] * shape[1],) * 3


def test_points_of_cells_as_fine_as_the_voxels():
    counts = map_rows(torch.zeros(3, 8, 4, 6), VOXELS, GRID).num_points.view(3, 4, 6)
    assert counts.sum() == 6
    assert counts[0, 0, :2].tolist() == [2, 1]


def test_cells_stand_in_their_middle_and_in_that_of_the_height():
    voxels = group([(0.5, 0.5)])
    rows = map_rows(torch.zeros(1, 1, 2, 3), voxels, GRID)
    assert rows.cells[4].tolist() == [0, 1, 1]
    assert rows.positions[4].tolist() == [3.0, 3.0, 0.5]
    tall = Grid(point_cloud_range=(0, 0, -1, 6, 4, 3), voxel_size=(1, 1, 0.5))
    positions = map_rows(torch.zeros(1, 1, 4, 6), voxels, tall).positions
    assert positions[0].tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize('is_map', [True, False])
def test_maps_and_rows_invert_each_other(is_map):
    rows = (
        map_rows(torch.rand(3, 5, 2, 3), VOXELS, GRID)
        if is_map
        else voxel_rows(torch.rand(len(VOXELS), 5), VOXELS, GRID)
    )
    maps = rows.to_map(rows.features)
    assert maps.shape == (3, 5, *rows.map_shape)
    assert torch.equal(rows.from_map(maps), rows.features)
    if not is_map:
        assert rows.to_map(torch.ones(len(rows), 1)).sum() == len(rows)
