# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The grid of anchors."""

from __future__ import annotations

import pytest
import torch

from pointdistiller_core.config import AnchorConfig
from pointdistiller_core.grid import Grid
from pointdistiller_core.models.boxes.anchors import make_anchors

GRID = Grid(point_cloud_range=(0, -2, -3, 8, 2, 1), voxel_size=(1, 1, 4))
CAR = AnchorConfig(size=(4, 2, 1.5), bottom=-1.75, matched_iou=0.6, unmatched_iou=0.45)
POST = AnchorConfig(size=(1, 1, 2), bottom=0, yaws=(0.5,), matched_iou=0.5, unmatched_iou=0.3)


def test_anchors_by_hand():
    anchors = make_anchors(GRID, [CAR, POST], stride=2)
    assert anchors.shape == (2, 4, 3, 7)
    expected = torch.tensor(
        [[0, -2, -1, 4, 2, 1.5, 0], [0, -2, -1, 4, 2, 1.5, 1.57], [0, -2, 1, 1, 1, 2, 0.5]]
    )
    torch.testing.assert_close(anchors[0, 0], expected)


def test_first_and_last_stand_on_the_limits_of_the_range():
    anchors = make_anchors(GRID, [POST], stride=2)
    torch.testing.assert_close(anchors[0, :, 0, 0], torch.tensor([0, 8 / 3, 16 / 3, 8]))
    assert anchors[:, 0, 0, 1].tolist() == [-2, 2]


def test_stride_must_divide_the_grid():
    with pytest.raises(ValueError, match='4 x 8 cells is not a multiple of the stride 3'):
        make_anchors(GRID, [CAR], stride=3)


def test_in_the_middle_of_cells_and_of_another_scale():
    anchors = make_anchors(GRID, [POST], stride=2, scale=3.0, centers='cells')
    low_x, low_y, _, high_x, high_y, _ = GRID.point_cloud_range
    height, width = GRID.strided_bev_shape(2)
    size = (high_x - low_x) / width, (high_y - low_y) / height
    expected_x = low_x + (torch.arange(width) + 0.5) * size[0]
    torch.testing.assert_close(anchors[0, :, 0, 0], expected_x)
    torch.testing.assert_close(anchors[0, 0, 0, 1], torch.tensor(low_y + size[1] / 2))
    one = make_anchors(GRID, [POST], stride=2)[0, 0, 0]
    bottom, scaled = one[2] - one[5] / 2, anchors[0, 0, 0]
    torch.testing.assert_close(scaled[3:6], 3 * one[3:6])
    torch.testing.assert_close(scaled[2] - scaled[5] / 2, bottom)
