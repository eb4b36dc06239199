# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Neighbors in space: the indices of the public kernels, with and without a grid."""

from __future__ import annotations

import pytest
import torch

from pointdistiller_core.pointcloud import point_neighbors
from pointdistiller_core.pointcloud.point_neighbors import (
    ball_query,
    gather_rows,
    interpolate,
    three_nearest,
)

SCALES = [(0.1, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]


@pytest.fixture(params=['grid', 'all pairs'], autouse=True)
def path(request, monkeypatch):
    monkeypatch.setattr(point_neighbors, '_FEW', 0 if request.param == 'grid' else 1 << 40)
    monkeypatch.setattr(point_neighbors, '_SMALL', 0 if request.param == 'grid' else 1024)
    pairs = 3000 if request.param == 'grid' and 'levels' not in request.fixturenames else 1 << 20
    monkeypatch.setattr(point_neighbors, '_PAIRS_AT_ONCE', pairs)
    return request.param


@pytest.mark.parametrize('case', range(4))
def test_balls_of_the_kernel(operators, case):
    radius, expected = operators[f'ball.{case}.radius'].item(), operators[f'ball.{case}.index']
    points, queries = operators['ball.xyz'][None], operators['ball.query'][None]
    (found,) = ball_query(points, queries, [radius], [expected.shape[1]])
    assert torch.equal(found[0], expected.long())


def test_several_radii_at_once(operators):
    cases = (2, 0, 1)
    points, queries = operators['ball.xyz'][None], operators['ball.query'][None]
    radii = [operators[f'ball.{case}.radius'].item() for case in cases]
    found = ball_query(points, queries, radii, [32, 16, 16])
    for case, own in zip(cases, found, strict=True):
        assert torch.equal(own[0], operators[f'ball.{case}.index'].long())


@pytest.mark.parametrize(('case', 'count'), [('nn', 80), ('nn_two_known', 2), ('nn_one_known', 1)])
def test_three_nearest_of_the_kernel(operators, case, count):
    known, features = operators['nn.known'][None, :count], operators['nn.known_features'][None]
    indices, distances = three_nearest(operators['nn.unknown'][None], known)
    assert torch.equal(indices[0], operators[f'{case}.index'].long())
    torch.testing.assert_close(distances[0], operators[f'{case}.dist2'].sqrt())
    mixed = interpolate(features[:, :count], indices, distances)
    torch.testing.assert_close(mixed[0], operators[f'{case}.interpolated'])


@pytest.fixture
def levels(network, path):
    if path != 'grid':
        pytest.skip('slow')
    points = [network['points'][None, :, :3]]
    for level in range(1, 5):
        points.append(points[-1][:, network[f'sa{level}.fps_index'].long()])
    return points


def test_balls_of_a_real_sweep(levels, network):
    for level, radii in enumerate(SCALES, 1):
        points, centers = levels[level - 1 : level + 1]
        for scale, found in enumerate(ball_query(points, centers, radii, (16, 32))):
            expected = network[f'sa{level}.ball{scale}_index_head'].long()
            assert torch.equal(found[0, : len(expected)], expected)
            total = network[f'sa{level}.ball{scale}_index__stats'][0]
            assert found.sum() == total


def test_nearest_of_a_real_sweep(levels, network):
    for level in range(1, 5):
        found, _ = three_nearest(*levels[level - 1 : level + 1])
        assert found.sum() == network[f'fp{level}.nn_index__stats'][0]


@pytest.mark.usefixtures('levels')
def test_balls_in_pooled_boxes(network):
    local, taken = network['roi_local_xyz'], network['rcnn.sa1.fps_index'].long()
    (found,) = ball_query(local, gather_rows(local, taken), [0.2], [16])
    assert found.sum() == network['rcnn.sa1.ball_index__stats'][0]
    some = network['roi_sample'].long()
    assert torch.equal(found[some], network['rcnn.sa1.ball_index_sample'].long())


def test_a_ball_without_its_surface_and_an_empty_one():
    points = torch.tensor([[[9.0, 0, 0], [1, 0, 0], [0.5, 0, 0], [0, 0.25, 0]]])
    (found,) = ball_query(points, torch.tensor([[[0.0, 0, 0], [50, 50, 50]]]), [1.0], [3])
    assert found.tolist() == [[[2, 3, 2], [0, 0, 0]]]


@pytest.mark.parametrize('seed', range(3))
def test_equals_all_distances_in_each_frame(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(2, 400, 3, generator=generator) * torch.tensor([30.0, 20.0, 3.0])
    centers = torch.rand(2, 60, 3, generator=generator) * torch.tensor([40.0, 20.0, 5.0]) - 2
    squares = (points[:, None] - centers[:, :, None]).square().sum(dim=3)
    (found,) = ball_query(points, centers, [1.7], [5])
    for frame in range(2):
        for center in range(60):
            hits = (squares[frame, center] < torch.tensor(1.7) ** 2).nonzero()[:, 0].tolist()
            filled = (hits + hits[:1] * 5)[:5] or [0] * 5
            assert found[frame, center].tolist() == filled
    indices, distances = three_nearest(centers, points)
    expected = squares.sqrt().topk(3, largest=False)
    assert torch.equal(indices, expected.indices)
    torch.testing.assert_close(distances, expected.values)


def test_nothing_to_look_for():
    none, some = torch.zeros(0, 5, 3), torch.zeros(1, 0, 3)
    assert ball_query(none, none, [1.0], [4])[0].shape == (0, 5, 4)
    assert ball_query(some, some, [1.0], [4])[0].shape == (1, 0, 4)
    assert three_nearest(none, none)[0].shape == (0, 5, 3)
