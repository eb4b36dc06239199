# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import math

import pytest
import torch

from pointdistiller_core.config import BoxFeaturesConfig
from pointdistiller_core.distill.terms.box_features import (
    BoxFeaturesTerm,
    flatten_boxes,
    rows_in_boxes,
)


def with_boxes(lesson, boxes: list[list[float]], labels: list[int]):
    tensors = {'boxes': (torch.tensor(boxes),), 'labels': (torch.tensor(labels),)}
    return replace(lesson, batch=replace(lesson.batch, **tensors))


def inside_by_hand(lesson, **options) -> set[tuple[int, int]]:
    rows = lesson.student.rows['backbone.0']
    chosen = rows.positions[rows_in_boxes(rows, lesson.batch, **options)]
    return {(round(x / 0.4), round(y / 0.4)) for x, y, _ in chosen.tolist()}  # half cells


def test_boxes_are_rotated_and_their_height_does_not_matter(make_lesson):
    """A box of 2 x 0.4 m across the x-axis: of the cells of 0.8 m two centers lie in it."""
    lesson = with_boxes(make_lesson(100), [[8.4, 0.0, 30.0, 2.0, 0.4, 1.0, math.pi / 2]], [0])
    assert inside_by_hand(lesson, margin=0.0) == {(21, 1), (21, -1)}
    assert inside_by_hand(lesson, margin=0.3) == {(21, 1), (21, -1), (21, 3), (21, -3)}


def test_margin_is_added_on_every_side():
    box = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.5]])
    assert flatten_boxes(box, 0.5).tolist() == [[1.0, 2.0, 0.0, 5.0, 6.0, 6.0, 0.5]]


def test_ignored_boxes_and_those_of_other_frames_do_not_count(make_lesson):
    lesson = with_boxes(make_lesson(100), [[8.4, 0.4, 0.0, 0.8, 0.8, 1.0, 0.0]], [-1])
    assert inside_by_hand(lesson, margin=0.0) == set()
    lesson = make_lesson(100, 100)
    box = torch.tensor([[8.4, 0.4, 0.0, 0.5, 0.5, 1.0, 0.0]])
    batch = replace(
        lesson.batch,
        boxes=(torch.zeros(0, 7), box),
        labels=(torch.zeros(0, dtype=torch.int64), torch.tensor([0])),
    )
    lesson = replace(lesson, batch=batch)
    rows = lesson.student.rows['neck']
    inside = rows_in_boxes(rows, lesson.batch, margin=0.0)
    assert rows.frames[inside].tolist() == [1]


@pytest.mark.parametrize(('norm', 'expected'), [('mean_square', 9.0), ('per_cell', 12.0)])
def test_loss_by_hand(make_lesson, norm, expected):
    """Sixteen channels that differ by 3: a length of 12."""
    lesson = with_boxes(make_lesson(100), [[8.4, 0.4, 0.0, 2.0, 2.0, 1.0, 0.0]], [0])
    term = BoxFeaturesTerm(
        BoxFeaturesConfig(norm=norm, taps=('neck',)), teacher={'neck': 16}, student={'neck': 8}
    )
    torch.nn.init.zeros_(term.adapters[0][0].weight)
    torch.nn.init.zeros_(term.adapters[0][0].bias)
    rows = lesson.teacher.rows['neck']
    lesson.teacher.rows['neck'] = replace(rows, features=torch.full((1024, 16), 3.0))
    assert term(lesson).item() == pytest.approx(expected)


@pytest.mark.parametrize('norm', ['mean_square', 'per_cell'])
def test_no_box_costs_nothing(make_lesson, norm):
    lesson = make_lesson(100)
    batch = replace(lesson.batch, boxes=(torch.zeros(0, 7),), labels=(torch.zeros(0).long(),))
    term = BoxFeaturesTerm(
        BoxFeaturesConfig(norm=norm, taps=('neck',)), teacher={'neck': 16}, student={'neck': 8}
    )
    loss = term(replace(lesson, batch=batch))
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None for parameter in term.parameters())
