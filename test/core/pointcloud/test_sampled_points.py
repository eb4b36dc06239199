# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A fixed number of points of each cloud."""

from __future__ import annotations

import pytest
import torch

from pointdistiller_core.pointcloud.sampled_points import sample_points

RANGE = (0, -40, -3, 70, 40, 1)


def cloud(num_points: int, seed: int = 0):
    points = torch.rand(num_points, 4, generator=torch.Generator().manual_seed(seed))
    return points * torch.tensor([68.0, 60, 2, 1]) + torch.tensor([1.0, -30, -2, 0])


def sample(*clouds, num_points=100, far=40.0, seed=0):
    return sample_points(clouds, RANGE, num_points=num_points, far=far, seed=seed)


def test_too_many_points_keep_the_far_ones():
    points = cloud(300)
    far = points[:, :3].norm(dim=1) >= 40
    assert 100 < far.sum() < 280
    found = sample(points, num_points=280)
    owned = found.owners[0] >= 0
    assert owned[far].all()
    assert owned.sum() == 280
    assert torch.equal(found.points[0, found.owners[0][owned]], points[owned])
    assert found.cuts['points'] == (280, 20)
    fewer = sample(points, num_points=100)  # not even the far ones fit
    assert 0 < (fewer.owners[0][~far] >= 0).sum() < 100


def test_too_few_points_are_seen_again():
    points = cloud(30)
    found = sample(points)
    assert found.points.shape == (1, 100, 4)
    times = (found.points[0][:, None] == points).all(dim=2).sum(dim=0)
    assert times.min() >= 3
    assert times.max() <= 4
    assert found.num_points.sum() == 30
    first = found.owners[0]
    assert torch.equal(found.points[0, first], points)
    assert (found.num_points[0, first] == 1).all()
    assert found.cuts['points'] == (30, 0)


def test_only_x_and_y_are_in_range_and_numbers_are_finite():
    rows = [[0.0, 40, 9, 0], [70, -40, -9, 0], [-1e-3, 0, 0, 0], [1, 40.1, 0, 0]]
    points = torch.tensor([*rows, [1, 1, torch.nan, 0]])
    found = sample(points, num_points=4)
    assert [own >= 0 for own in found.owners[0].tolist()] == [True, True, False, False, False]


def test_the_same_cloud_is_drawn_alike_wherever_it_stands():
    points = cloud(300)
    alone, among = sample(points), sample(cloud(50, seed=1), points[:0], points)
    assert torch.equal(among.points[1], alone.points[0])
    assert among.frames == (0, 2)
    assert among.sizes == (100, 0, 100)
    assert torch.equal(
        among.owners[2], torch.where(alone.owners[0] >= 0, alone.owners[0] + 100, -1)
    )
    torch.rand(5)  # of no influence
    assert torch.equal(sample(points).points, alone.points)


def test_without_a_seed_it_is_drawn_anew_from_the_global_generator():
    points = cloud(300)
    torch.manual_seed(3)
    first, second = sample(points, seed=None), sample(points, seed=None)
    assert not torch.equal(first.points, second.points)
    torch.manual_seed(3)
    assert torch.equal(sample(points, seed=None).points, first.points)


@pytest.mark.parametrize('clouds', [(torch.zeros(0, 5),), (torch.full((3, 5), -1.0),) * 2])
def test_nothing_to_see(clouds):
    found = sample(*clouds)
    assert len(found) == 0
    assert found.points.shape == (0, 100, 5)
    assert found.sizes == (0,) * len(clouds)
    assert found.cuts['points'] == (0, 0)
