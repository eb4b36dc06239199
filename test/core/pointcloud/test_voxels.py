# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Grouping of points into voxels."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import torch

from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud.voxels import cell_centers, group_voxels

GRID = Grid(point_cloud_range=(0.0, -1.5, -3.0, 2.0, 1.5, 1.0), voxel_size=(1.0, 1.0, 4.0))
CAPS = {'max_points': 3, 'max_voxels': 100}


def cloud(*rows: tuple[float, float, float]) -> torch.Tensor:
    """Points with a running intensity, so that each can be recognized."""
    return torch.tensor([(*row, 0.1 * (i + 1)) for i, row in enumerate(rows)]).view(-1, 4)


def test_voxels_by_hand():
    points = cloud((1.5, 1.2, 0), (0.5, -1.0, 0), (1.1, 0.6, -1), (5.0, 0, 0), (0.5, -1.0, 2.0))
    voxels = group_voxels([points], GRID, **CAPS)
    assert voxels.coords.tolist() == [[0, 0, 2, 1], [0, 0, 0, 0]]  # first appearance first
    assert voxels.num_points.tolist() == [2, 1]
    assert torch.equal(voxels.points[0, :2], points[[0, 2]])
    assert torch.equal(voxels.points[1, :1], points[[1]])
    assert not voxels.points[0, 2:].any()
    assert voxels.owners[0].tolist() == [0, 1, 0, -1, -1]
    assert voxels.cuts == {'points': (3, 0), 'voxels': (2, 0)}


def test_a_voxel_keeps_its_first_points():
    points = cloud(*[(0.5, 0, 0)] * 5)
    voxels = group_voxels([points], GRID, **CAPS)
    assert torch.equal(voxels.points[0], points[:3])
    assert voxels.owners[0].tolist() == [0] * 5
    assert voxels.cuts == {'points': (3, 2), 'voxels': (1, 0)}


def test_after_the_last_voxel_no_cell_opens_but_voxels_still_fill():
    points = cloud((0.5, -1, 0), (0.5, 0, 0), (0.5, 1, 0), (0.5, -1, 0.5))
    voxels = group_voxels([points], GRID, max_points=3, max_voxels=2)
    assert voxels.coords[:, 2].tolist() == [0, 1]
    assert voxels.num_points.tolist() == [2, 1]
    assert voxels.owners[0].tolist() == [0, 1, -1, 0]
    assert voxels.cuts == {'points': (3, 1), 'voxels': (2, 1)}


def test_limits_of_the_range():
    low_is_in, high_is_out = (0.0, -1.5, -3.0), (2.0, 0, 0)
    points = cloud(low_is_in, high_is_out, (0, 1.5, 0), (0, 0, 1.0), (-1e-6, 0, 0), (0, 0, -3.01))
    voxels = group_voxels([points], GRID, **CAPS)
    assert voxels.owners[0].tolist() == [0, -1, -1, -1, -1, -1]


def test_points_that_are_not_finite_are_out_of_range():
    nan, inf = float('nan'), float('inf')
    points = cloud((nan, 0, 0), (0.5, inf, 0), (0.5, 0, -inf), (0.5, 0, 0))
    voxels = group_voxels([points], GRID, **CAPS)
    assert voxels.owners[0].tolist() == [-1, -1, -1, 0]
    assert voxels.points.isfinite().all()


def test_a_batch_is_its_frames_one_after_another():
    first, second = cloud((0.5, 0, 0), (1.5, 0, 0)), cloud((1.5, 1, 0), (9, 9, 9))
    batch = group_voxels([first, torch.zeros(0, 4), second], GRID, **CAPS)
    alone = [group_voxels([points], GRID, **CAPS) for points in (first, second)]
    assert batch.batch_size == 3
    assert torch.equal(batch.points, torch.cat([voxels.points for voxels in alone]))
    assert batch.coords.tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [2, 0, 2, 1]]
    assert [frame.tolist() for frame in batch.owners] == [[0, 1], [], [2, -1]]
    assert batch.cuts['points'] == (3, 0)


def test_no_points_are_no_voxels():
    voxels = group_voxels([torch.zeros(0, 4)], GRID, **CAPS)
    assert len(voxels) == 0
    assert voxels.points.shape == (0, 3, 4)
    assert voxels.coords.shape == (0, 4)
    assert voxels.batch_size == 1


def test_layers_and_further_columns():
    grid = Grid(point_cloud_range=(0, 0, -1, 2, 1, 1), voxel_size=(1, 1, 0.5))
    rows = [(0.5, 0.5, 0.9, 0.1, 7), (1.5, 0.5, -1, 0.2, 8), (0.5, 0.5, 0.6, 0.3, 9)]
    points = torch.tensor(rows)
    voxels = group_voxels([points], grid, **CAPS)
    assert voxels.coords.tolist() == [[0, 3, 0, 0], [0, 0, 0, 1]]
    assert torch.equal(voxels.points[0, :2], points[[0, 2]])
    assert cell_centers(voxels.coords, grid).tolist() == [[0.5, 0.5, 0.75], [1.5, 0.5, -0.75]]


def group_one_by_one(points, grid, max_points, max_voxels):
    """OpenPCDet's rules, literally."""
    low, size = np.float32(grid.point_cloud_range[:3]), np.float32(grid.voxel_size)
    voxels: dict[tuple[int, ...], list[np.ndarray]] = {}
    for point in points:
        cell = np.floor((point[:3] - low) / size).astype(int)
        if (cell < 0).any() or (cell >= grid.shape).any():
            continue
        cell = tuple(cell[::-1].tolist())
        if cell not in voxels and len(voxels) == max_voxels:
            continue
        kept = voxels.setdefault(cell, [])
        if len(kept) < max_points:
            kept.append(point)
    return voxels


coordinate = st.floats(-4, 4, width=32) | st.sampled_from([-3.0, -1.5, -0.5, 0.0, 1.0, 1.5, 2.0])
point = st.tuples(coordinate, coordinate, coordinate, st.floats(0, 1, width=32))
LAYERS = Grid(point_cloud_range=GRID.point_cloud_range, voxel_size=(1.0, 1.0, 0.5))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(point, max_size=40),
    st.sampled_from([GRID, LAYERS]),
    st.integers(1, 4),
    st.integers(1, 7),
)
def test_equals_one_point_after_another(rows, grid, max_points, max_voxels):
    points = torch.tensor(rows, dtype=torch.float32).view(-1, 4)
    before = points.clone()
    voxels = group_voxels([points], grid, max_points=max_points, max_voxels=max_voxels)
    expected = group_one_by_one(points.numpy(), grid, max_points, max_voxels)
    assert [tuple(cell) for cell in voxels.coords[:, 1:].tolist()] == list(expected)
    assert voxels.num_points.tolist() == [len(kept) for kept in expected.values()]
    for found, num_points, kept in zip(
        voxels.points, voxels.num_points, expected.values(), strict=True
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
    voxels = group_voxels([points], grid, max_points=32, max_voxels=40000)
    assert np.array_equal(voxels.points.numpy(), expected['voxels'])
    assert np.array_equal(voxels.coords.numpy(), expected['voxel_coords'])
    assert np.array_equal(voxels.num_points.numpy(), expected['voxel_num_points'])
