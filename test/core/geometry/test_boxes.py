# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Corners of boxes and points inside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pointdistiller_core.geometry.boxes import box_corners, box_corners_bev, points_in_boxes

BOX = torch.tensor([[10.0, 20.0, 1.0, 4.0, 2.0, 3.0, math.pi / 2]])  # drives towards +y


def test_corners_by_hand():
    expected = torch.tensor([[[9.0, 22.0], [9.0, 18.0], [11.0, 18.0], [11.0, 22.0]]])
    torch.testing.assert_close(box_corners_bev(BOX), expected)
    corners = box_corners(BOX)
    torch.testing.assert_close(corners[:, :4, :2], expected)
    torch.testing.assert_close(corners[:, 4:, :2], expected)
    assert corners[0, :, 2].tolist() == [-0.5] * 4 + [2.5] * 4


@pytest.mark.parametrize('function', [box_corners, box_corners_bev])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_corners_in_numpy(function, dtype):
    boxes = BOX.to(dtype)
    corners = function(boxes.numpy())
    assert isinstance(corners, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(corners), function(boxes))


def test_corners_of_no_boxes():
    assert box_corners_bev(torch.zeros(0, 7)).shape == (0, 4, 2)
    assert box_corners(torch.zeros(0, 7)).shape == (0, 8, 3)


def test_points_in_boxes_by_hand():
    points = torch.tensor(
        [
            [10.0, 20.0, 1.0, 0.3],  # the center
            [10.0, 21.9, 1.0, 0.3],  # just inside the front
            [11.9, 20.0, 1.0, 0.3],  # would be inside, were the box not turned
            [10.0, 20.0, 2.6, 0.3],  # above
        ]
    )
    boxes = torch.cat([BOX, BOX + torch.tensor([100.0, 0, 0, 0, 0, 0, 0])])
    inside = points_in_boxes(points, boxes)
    assert inside[:, 0].tolist() == [True, True, False, False]
    assert not inside[:, 1].any()


def test_points_in_boxes_are_the_same_in_numpy():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 4)).astype(np.float32)
    boxes = rng.uniform(-1, 1, (5, 7)).astype(np.float32) + np.float32([0, 0, 0, 2, 2, 2, 0])
    inside = points_in_boxes(points, boxes)
    assert (inside.shape, inside.dtype) == ((200, 5), bool)
    assert 0 < inside.sum() < 500
    tensors = torch.from_numpy(points), torch.from_numpy(boxes)
    np.testing.assert_array_equal(points_in_boxes(*tensors).numpy(), inside)


def test_points_on_a_face_are_inside():
    box = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0]])
    assert points_in_boxes(torch.tensor([[1.0, -1.0, 1.0]]), box).all()


def test_points_in_boxes_of_nothing():
    assert points_in_boxes(torch.zeros(0, 4), BOX).shape == (0, 1)
    assert points_in_boxes(torch.zeros(3, 4), torch.zeros(0, 7)).shape == (3, 0)


def test_arguments_are_left_alone():
    points, boxes = torch.rand(5, 4), BOX.clone()
    before = points.clone()
    points_in_boxes(points, boxes)
    box_corners(boxes)
    assert torch.equal(points, before)
    assert torch.equal(boxes, BOX)
