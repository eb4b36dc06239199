# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Points in boxes: the choices of the public kernels."""

from __future__ import annotations

import torch

from pointdistiller_core.pointcloud import box_points
from pointdistiller_core.pointcloud.box_points import first_box, inside_boxes, pool_points


def test_pooling_of_the_kernel(operators, monkeypatch):
    for tests in (1, 1 << 22):
        monkeypatch.setattr(box_points, '_TESTS_AT_ONCE', tests)
        found = pool_points(operators['pool.points'], operators['pool.boxes'], 48)
        assert torch.equal(found.counts, operators['pool.count'].long())
        assert torch.equal(found.counts == 0, operators['pool.empty'].bool())
        assert torch.equal(found.indices, operators['pool.index'].long().clamp(min=0))


def test_pooling_of_a_real_sweep(network):
    found = pool_points(network['points'][:, :3], network['rois'], 512)
    assert torch.equal(found.counts, network['roi_pool_count'].long())
    assert torch.equal(found.indices, network['roi_pool_index'].long())


def test_the_first_box_wins(operators):
    found = first_box(operators['pool.points'], operators['pool.boxes'])
    assert torch.equal(found, operators['pool.first_box_of_point'].long())


def test_upper_and_lower_face_are_inside_and_sides_are_further_out():
    box = torch.tensor([[0.0, 0, 0, 4, 2, 2, 0]])
    points = [[0, 0, 1], [0, 0, 1.000001], [2.000005, 0, 0], [2.00002, 0, 0], [0, -1.000005, 0]]
    assert inside_boxes(torch.tensor(points), box).tolist() == [[True, False, True, False, True]]


def test_nothing_inside():
    empty = pool_points(torch.zeros(0, 3), torch.ones(2, 7), 4)
    assert empty.counts.tolist() == [0, 0]
    assert pool_points(torch.zeros(3, 3), torch.zeros(0, 7), 4).indices.shape == (0, 4)
    assert first_box(torch.zeros(3, 3), torch.zeros(0, 7)).tolist() == [-1, -1, -1]
