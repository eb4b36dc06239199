# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Overlaps of rotated boxes."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch
from torch import Tensor

from pointdistiller_core.geometry import iou
from pointdistiller_core.geometry.boxes import box_corners_bev
from pointdistiller_core.geometry.iou import (
    aligned_intersection_bev,
    aligned_iou_3d,
    aligned_iou_bev,
    nearest_iou_bev,
    rotated_iou_3d,
    rotated_iou_bev,
)

UNIT = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0)
OCTAGON = 2 * math.sqrt(2) - 2  # a unit square and itself turned by 45 degrees


def box(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([values], dtype=dtype)


def random_boxes(count: int, *, spread: float, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 7, generator=generator, dtype=torch.float64)
    boxes[:, :3] = (boxes[:, :3] - 0.5) * spread
    boxes[:, 3:6] = boxes[:, 3:6] * 4 + 0.3
    boxes[:, 6] = (boxes[:, 6] - 0.5) * 20
    return boxes.to(dtype)


# name, a, b, intersection
BY_HAND = [
    ('identical', UNIT, UNIT, 1.0),
    ('turned by 45 degrees', UNIT, (0, 0, 0, 1, 1, 1, math.pi / 4), OCTAGON),
    ('turned by 90 degrees', (0, 0, 0, 4, 2, 1, 0), (0, 0, 0, 4, 2, 1, math.pi / 2), 4.0),
    ('opposite heading', (1, 2, 0, 4, 2, 1, 0.3), (1, 2, 0, 4, 2, 1, 0.3 - math.pi), 8.0),
    ('contained', (0, 0, 0, 5, 5, 1, 0.7), (0.5, 0.2, 0, 1, 2, 1, 2.0), 2.0),
    ('half a side apart', UNIT, (0.5, 0, 0, 1, 1, 1, 0), 0.5),
    ('sharing an edge', UNIT, (1, 0, 0, 1, 1, 1, 0), 0.0),
    ('sharing a corner', UNIT, (1, 1, 0, 1, 1, 1, 0), 0.0),
    ('edge inside an edge', (0, 0, 0, 2, 2, 1, 0), (0.5, 0.5, 0, 1, 1, 1, 0), 1.0),
    ('corner cut off', (0, 0, 0, 2, 2, 1, 0), (1, 1, 0, 9, math.sqrt(2), 1, 3 * math.pi / 4), 0.5),
    ('a cross', (0, 0, 0, 10, 1, 1, 0), (0, 0, 0, 1, 10, 1, 0), 1.0),
    ('disjoint, circles meet', (0, 0, 0, 9, 1, 1, 0), (0, 2, 0, 9, 1, 1, 0), 0.0),
    ('disjoint across a corner', (0, 0, 0, 2, 2, 1, 0), (1.8, 1.8, 0, 2, 2, 1, math.pi / 4), 0.0),
    ('far away', UNIT, (50, 3, 0, 1, 1, 1, 1), 0.0),
    ('no area', UNIT, (0, 0, 0, 0, 0, 0, 0), 0.0),
    ('a line', UNIT, (0, 0, 0, 3, 0, 1, 0.4), 0.0),
]
NAMES = [case[0] for case in BY_HAND]


@pytest.mark.parametrize(('a', 'b', 'area'), [case[1:] for case in BY_HAND], ids=NAMES)
@pytest.mark.parametrize('shift', [0.0, 70.0])
@pytest.mark.parametrize('turn', [0.0, 0.4, -2.0])
def test_intersection_by_hand(a, b, area, shift, turn):
    def place(values):
        x, y, z, *size, yaw = values
        cos, sin = math.cos(turn), math.sin(turn)
        return box(x * cos - y * sin + shift, x * sin + y * cos - shift, z, *size, yaw + turn)

    for first, second in [(a, b), (b, a)]:
        shared = aligned_intersection_bev(place(first), place(second))
        assert shared.item() == pytest.approx(area, abs=1e-12 * (1 + shift))


@pytest.mark.parametrize('function', [rotated_iou_bev, rotated_iou_3d, nearest_iou_bev])
def test_boxes_without_size_overlap_nothing(function):
    flat = box(0, 0, 0, 0, 0, 0, 0.3)
    assert function(flat, flat).item() == 0
    assert function(flat, box(*UNIT)).item() == 0


def test_iou_3d_by_hand():
    a, b = box(0, 0, 0, 2, 2, 2, 0), box(1, 0, 1.5, 2, 2, 2, 0)
    assert aligned_iou_bev(a, b).item() == pytest.approx(2 / 6)
    assert aligned_iou_3d(a, b).item() == pytest.approx(1 / 15)  # 1 x 2 x 0.5 of 8 + 8 - 1
    assert aligned_iou_3d(a, box(0, 0, 0.5, 2, 2, 1, 0)).item() == pytest.approx(0.5)  # contained
    assert aligned_iou_3d(a, box(0, 0, 2, 2, 2, 2, 0)).item() == 0  # stands on top


def test_matrices_hold_what_single_pairs_have():
    a = random_boxes(30, spread=8, seed=0, dtype=torch.float64)
    b = random_boxes(20, spread=8, seed=1, dtype=torch.float64)
    pairs_a, pairs_b = a.repeat_interleave(20, dim=0), b.repeat(30, 1)
    assert torch.equal(rotated_iou_bev(a, b), aligned_iou_bev(pairs_a, pairs_b).view(30, 20))
    assert torch.equal(rotated_iou_3d(a, b), aligned_iou_3d(pairs_a, pairs_b).view(30, 20))


def test_parts_give_what_the_whole_gives(monkeypatch):
    a = random_boxes(30, spread=8, seed=0, dtype=torch.float32)
    whole = rotated_iou_bev(a, a)
    monkeypatch.setattr(iou, 'PAIRS_AT_ONCE', 7)
    monkeypatch.setattr(iou, 'TESTS_AT_ONCE', 50)
    assert torch.equal(rotated_iou_bev(a, a), whole)


@pytest.mark.parametrize('function', [rotated_iou_bev, rotated_iou_3d, nearest_iou_bev])
def test_empty(function):
    none, three = torch.zeros(0, 7), torch.rand(3, 7)
    assert function(none, three).shape == (0, 3)
    assert function(three, none).shape == (3, 0)
    assert function(none, none).shape == (0, 0)


@pytest.mark.parametrize('function', [rotated_iou_bev, rotated_iou_3d, nearest_iou_bev])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_types_and_arguments_are_kept(function, dtype):
    boxes = random_boxes(5, spread=4, seed=0, dtype=dtype)
    before = boxes.clone()
    assert function(boxes, boxes).dtype == dtype
    assert torch.equal(boxes, before)


def test_single_precision_far_from_the_origin():
    a = random_boxes(300, spread=6, seed=0, dtype=torch.float32)
    b = random_boxes(300, spread=6, seed=1, dtype=torch.float32)
    far = torch.tensor([70.0, -40.0, 0, 0, 0, 0, 0])
    a, b = a + far, b + far
    difference = rotated_iou_bev(a, b) - rotated_iou_bev(a.double(), b.double())
    assert difference.abs().max() < 1e-6


def test_agrees_with_polygon_clipping():
    shapely = pytest.importorskip('shapely', exc_type=ImportError)
    a = random_boxes(2000, spread=4, seed=0, dtype=torch.float64)
    b = random_boxes(2000, spread=4, seed=1, dtype=torch.float64)
    polygons_a = shapely.polygons(box_corners_bev(a).numpy())
    polygons_b = shapely.polygons(box_corners_bev(b).numpy())
    expected = torch.from_numpy(shapely.area(shapely.intersection(polygons_a, polygons_b)))
    assert (expected > 0).sum() > 500
    torch.testing.assert_close(aligned_intersection_bev(a, b), expected, rtol=0, atol=1e-12)


coordinate = st.floats(-3, 3).map(lambda value: round(value, 2))
extent = st.floats(0, 4).map(lambda value: round(value, 2))
some_box = st.tuples(coordinate, coordinate, coordinate, extent, extent, extent, coordinate)


@settings(max_examples=200, deadline=None)
@given(some_box, some_box)
def test_properties_of_any_pair(first, second):
    a, b = box(*first), box(*second)
    area, swapped = aligned_intersection_bev(a, b), aligned_intersection_bev(b, a)
    smaller = min(first[3] * first[4], second[3] * second[4])
    assert area.item() == pytest.approx(swapped.item(), abs=1e-12)
    assert 0 <= area.item() <= smaller + 1e-12
    iou_bev = aligned_iou_bev(a, b).item()
    assert 0 <= aligned_iou_3d(a, b).item() <= 1 + 1e-9
    assert 0 <= iou_bev <= 1 + 1e-9


@settings(deadline=None)
@given(some_box)
def test_a_box_covers_itself(values):
    boxes = box(*values)
    area, volume = values[3] * values[4], values[3] * values[4] * values[5]
    assert aligned_iou_bev(boxes, boxes).item() == pytest.approx(float(area > 0))
    assert aligned_iou_3d(boxes, boxes).item() == pytest.approx(float(volume > 0))


def test_nearest_iou_rounds_the_yaw():
    anchor = box(0, 0, 0, 4, 2, 1, 0)
    assert nearest_iou_bev(anchor, box(0, 0, 0, 4, 2, 1, 0.7)).item() == 1  # below 45 degrees
    assert nearest_iou_bev(anchor, box(0, 0, 0, 4, 2, 1, 0.8)).item() == pytest.approx(4 / 12)
    assert nearest_iou_bev(anchor, box(0, 0, 0, 2, 4, 1, -1.57)).item() == 1
    assert nearest_iou_bev(anchor, box(2, 1, 0, 4, 2, 1, math.pi)).item() == pytest.approx(2 / 14)


@pytest.mark.parametrize(
    'function', [rotated_iou_bev, rotated_iou_3d, nearest_iou_bev, aligned_intersection_bev]
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_numpy_agrees(function, dtype):
    a = random_boxes(40, spread=6, seed=0, dtype=dtype)
    b = random_boxes(40, spread=6, seed=1, dtype=dtype)
    a[:3], b[3:5, 3:6] = b[:3], 0  # identical boxes, and some without area
    array = function(a.numpy(), b.numpy())
    expected = function(a, b)
    assert isinstance(array, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(array), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('function', [rotated_iou_bev, rotated_iou_3d, nearest_iou_bev])
def test_no_numpy_boxes(function):
    none, three = np.zeros((0, 7)), np.ones((3, 7))
    assert function(none, three).shape == (0, 3)
    assert function(three, none).shape == (3, 0)


@pytest.mark.cuda
def test_cuda_agrees(gpu):
    boxes = random_boxes(200, spread=10, seed=0, dtype=torch.float32)
    for function in (rotated_iou_bev, rotated_iou_3d, nearest_iou_bev):
        on_gpu = function(boxes.to(gpu), boxes.to(gpu)).cpu()
        torch.testing.assert_close(on_gpu, function(boxes, boxes), rtol=0, atol=1e-6)
