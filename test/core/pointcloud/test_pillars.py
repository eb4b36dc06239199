# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Grouping of points into pillars."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud.pillars import group_pillars

GRID = Grid(point_cloud_range=(0.0, -1.5, -3.0, 2.0, 1.5, 1.0), voxel_size=(1.0, 1.0, 4.0))
CAPS = {'max_points_per_pillar': 3, 'max_pillars': 100}


def cloud(*rows: tuple[float, float, float]) -> torch.Tensor:
    """Points with a running intensity, so that each can be recognized."""
    return torch.tensor([(*row, 0.1 * (i + 1)) for i, row in enumerate(rows)]).view(-1, 4)


def test_pillars_by_hand():
    points = cloud((1.5, 1.2, 0), (0.5, -1.0, 0), (1.1, 0.6, -1), (5.0, 0, 0), (0.5, -1.0, 2.0))
    pillars = group_pillars([points], GRID, **CAPS)
    assert pillars.coords.tolist() == [[0, 2, 1], [0, 0, 0]]  # first appearance first
    assert pillars.num_points.tolist() == [2, 1]
    assert torch.equal(pillars.points[0, :2], points[[0, 2]])
    assert torch.equal(pillars.points[1, :1], points[[1]])
    assert not pillars.points[0, 2:].any()
    assert pillars.point_pillars[0].tolist() == [0, 1, 0, -1, -1]
    assert pillars.cuts == {'points': (3, 0), 'voxels': (2, 0)}


def test_a_pillar_keeps_its_first_points():
    points = cloud(*[(0.5, 0, 0)] * 5)
    pillars = group_pillars([points], GRID, **CAPS)
    assert torch.equal(pillars.points[0], points[:3])
    assert pillars.point_pillars[0].tolist() == [0] * 5
    assert pillars.cuts == {'points': (3, 2), 'voxels': (1, 0)}


def test_after_the_last_pillar_no_cell_opens_but_pillars_still_fill():
    points = cloud((0.5, -1, 0), (0.5, 0, 0), (0.5, 1, 0), (0.5, -1, 0.5))
    pillars = group_pillars([points], GRID, max_points_per_pillar=3, max_pillars=2)
    assert pillars.coords[:, 1].tolist() == [0, 1]
    assert pillars.num_points.tolist() == [2, 1]
    assert pillars.point_pillars[0].tolist() == [0, 1, -1, 0]
    assert pillars.cuts == {'points': (3, 1), 'voxels': (2, 1)}


def test_limits_of_the_range():
    low_is_in, high_is_out = (0.0, -1.5, -3.0), (2.0, 0, 0)
    points = cloud(low_is_in, high_is_out, (0, 1.5, 0), (0, 0, 1.0), (-1e-6, 0, 0), (0, 0, -3.01))
    pillars = group_pillars([points], GRID, **CAPS)
    assert pillars.point_pillars[0].tolist() == [0, -1, -1, -1, -1, -1]


def test_points_that_are_not_finite_are_out_of_range():
    nan, inf = float('nan'), float('inf')
    points = cloud((nan, 0, 0), (0.5, inf, 0), (0.5, 0, -inf), (0.5, 0, 0))
    pillars = group_pillars([points], GRID, **CAPS)
    assert pillars.point_pillars[0].tolist() == [-1, -1, -1, 0]
    assert pillars.points.isfinite().all()


def test_a_batch_is_its_frames_one_after_another():
    first, second = cloud((0.5, 0, 0), (1.5, 0, 0)), cloud((1.5, 1, 0), (9, 9, 9))
    batch = group_pillars([first, torch.zeros(0, 4), second], GRID, **CAPS)
    alone = [group_pillars([points], GRID, **CAPS) for points in (first, second)]
    assert batch.batch_size == 3
    assert torch.equal(batch.points, torch.cat([pillars.points for pillars in alone]))
    assert batch.coords.tolist() == [[0, 1, 0], [0, 1, 1], [2, 2, 1]]
    assert [frame.tolist() for frame in batch.point_pillars] == [[0, 1], [], [2, -1]]
    assert sum(batch.cuts['points']) == 3


def test_no_points_are_no_pillars():
    pillars = group_pillars([torch.zeros(0, 4)], GRID, **CAPS)
    assert len(pillars) == 0
    assert pillars.points.shape == (0, 3, 4)
    assert pillars.coords.shape == (0, 3)
    assert pillars.batch_size == 1


def test_layers_of_cells_are_refused():
    grid = Grid(point_cloud_range=(0, 0, 0, 1, 1, 2), voxel_size=(1, 1, 1))
    with pytest.raises(ValueError, match='has 2'):
        group_pillars([torch.zeros(0, 4)], grid, **CAPS)


def group_one_by_one(points, max_points, max_pillars):
    """OpenPCDet's rules, literally."""
    low, size = np.float32(GRID.point_cloud_range[:3]), np.float32(GRID.voxel_size)
    pillars: dict[tuple[int, int], list[np.ndarray]] = {}
    for point in points:
        column, row, layer = np.floor((point[:3] - low) / size).astype(int)
        if not (0 <= column < 2 and 0 <= row < 3 and layer == 0):
            continue
        if (row, column) not in pillars and len(pillars) == max_pillars:
            continue
        kept = pillars.setdefault((row, column), [])
        if len(kept) < max_points:
            kept.append(point)
    return pillars


coordinate = st.floats(-4, 4, width=32) | st.sampled_from([-3.0, -1.5, -0.5, 0.0, 1.0, 1.5, 2.0])
point = st.tuples(coordinate, coordinate, coordinate, st.floats(0, 1, width=32))


@settings(max_examples=100, deadline=None)
@given(st.lists(point, max_size=40), st.integers(1, 4), st.integers(1, 7))
def test_equals_one_point_after_another(rows, max_points, max_pillars):
    points = torch.tensor(rows, dtype=torch.float32).view(-1, 4)
    before = points.clone()
    pillars = group_pillars(
        [points], GRID, max_points_per_pillar=max_points, max_pillars=max_pillars
    )
    expected = group_one_by_one(points.numpy(), max_points, max_pillars)
    assert [tuple(cell) for cell in pillars.coords[:, 1:].tolist()] == list(expected)
    assert pillars.num_points.tolist() == [len(kept) for kept in expected.values()]
    for found, num_points, kept in zip(
        pillars.points, pillars.num_points, expected.values(), strict=True
    ):
        assert np.array_equal(found[:num_points].numpy(), np.stack(kept))
        assert not found[num_points:].any()
    assert torch.equal(points, before)


def test_equals_openpcdet_on_a_real_sweep(shared_data):
    expected = np.load(shared_data / 'openpcdet' / 'pointpillar_narrow_000008.npz')
    points = torch.from_numpy(np.load(shared_data / 'openpcdet' / 'frame_000008.npz')['points'])
    grid = Grid(
        point_cloud_range=(0.0, -39.68, -3.0, 69.12, 39.68, 1.0), voxel_size=(0.16, 0.16, 4.0)
    )
    pillars = group_pillars([points], grid, max_points_per_pillar=32, max_pillars=40000)
    assert np.array_equal(pillars.points.numpy(), expected['voxels'])
    assert np.array_equal(pillars.coords.numpy(), expected['voxel_coords'][:, [0, 2, 3]])
    assert np.array_equal(pillars.num_points.numpy(), expected['voxel_num_points'])
