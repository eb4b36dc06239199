# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Farthest point sampling: the indices of the public kernel, on every path."""

from __future__ import annotations

import pytest
import torch

from pointdistiller_core.pointcloud import sampling
from pointdistiller_core.pointcloud.sampling import farthest_points, tie_order


@pytest.fixture(params=['dense', 'blocks'], autouse=True)
def path(request, monkeypatch):
    monkeypatch.setattr(sampling, '_DENSE', 0 if request.param == 'blocks' else 1 << 30)
    return request.param


def one_by_one(points, num_samples):
    """The definition: the farthest point, of equal ones the first in the order of ties."""
    points = points[tie_order(len(points))]
    distances, taken = torch.full((len(points),), 1e10), [0]
    for _ in range(num_samples - 1):
        offset = points - points[taken[-1]]
        distances = torch.minimum(distances, (offset * offset).sum(dim=1))
        taken.append(int(distances.argmax()))
    return torch.from_numpy(tie_order(len(points)))[taken]


@pytest.mark.parametrize('case', ['a', 'b', 'c'])
def test_ties_are_broken_as_in_the_kernel(operators, case):
    points, expected = operators[f'fps_{case}.xyz'], operators[f'fps_{case}.index'].long()
    lowest = operators[f'fps_{case}.index_if_lowest_index_won']
    (found,) = farthest_points(points[None], len(expected))
    assert torch.equal(found, expected)
    assert (found != lowest).any()


def test_all_levels_of_a_real_sweep(network, path):
    points = network['points'][None, :, :3]
    for level in range(1, 5):
        expected = network[f'sa{level}.fps_index'].long()[None]
        if len(points[0]) < 16384 or path == 'blocks':  # slow without
            assert torch.equal(farthest_points(points, expected.shape[1]), expected)
        points = points[:, expected[0]]


def test_pooled_points_of_many_boxes_at_once(network):
    local = network['roi_local_xyz'][::7]
    assert torch.equal(farthest_points(local, 128), network['rcnn.sa1.fps_index'][::7].long())


@pytest.mark.parametrize('num_points', [1, 2, 63, 64, 65, 1000, 1500])
@pytest.mark.parametrize('scale', [1.0, 1e-3, 1e3])
def test_equals_its_definition(num_points, scale):
    points = scale * torch.rand(num_points, 3, generator=torch.Generator().manual_seed(num_points))
    (found,) = farthest_points(points[None], min(num_points, 300))
    assert torch.equal(found, one_by_one(points, min(num_points, 300)))


def test_a_lattice_on_which_nearly_all_are_equally_far():
    steps = torch.arange(12.0)
    points = torch.cartesian_prod(steps, steps, steps)
    (found,) = farthest_points(points[None], 1000)
    assert torch.equal(found, one_by_one(points, 1000))


def test_copies_are_taken_last():
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)).repeat(40, 1)
    (found,) = farthest_points(points[None], 12)
    assert sorted((found[:5] % 5).tolist()) == [0, 1, 2, 3, 4]
    assert found[5:].tolist() == [0] * 7


def test_each_cloud_by_itself_and_none():
    points = torch.rand(3, 200, 3, generator=torch.Generator().manual_seed(0))
    together = farthest_points(points, 20)
    assert torch.equal(together, torch.cat([farthest_points(own[None], 20) for own in points]))
    assert farthest_points(points[:0], 20).shape == (0, 20)


def test_order_of_ties_reverses_the_bits_of_the_thread():
    assert tie_order(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert tie_order(6).tolist() == [0, 4, 2, 1, 5, 3]  # four threads; the first takes 0 and 4
    assert tie_order(2049)[:4].tolist() == [0, 1024, 2048, 512]
