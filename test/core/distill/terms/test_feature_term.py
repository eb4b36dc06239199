# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pointdistiller_core.distill.terms.feature_term import (
    map_coords,
    mean_square,
    pair_features,
    rows_of,
    safe_norm,
    sample_rows,
)


@pytest.fixture
def pillars(make_lesson):
    return pair_features(make_lesson(300, 0, 200), 'pillars')


@pytest.fixture
def cells(make_lesson):
    return pair_features(make_lesson(300, 0, 200), 'backbone.1')


def test_rows_of_a_map_are_its_cells_in_order():
    maps = torch.arange(24.0).view(2, 3, 2, 2)
    rows, coords = rows_of(maps), map_coords(2, (2, 2), 'cpu')
    assert rows.shape == (8, 3)
    for row, (frame, y, x) in zip(rows, coords, strict=True):
        assert torch.equal(row, maps[frame, :, y, x])


def test_rows_of_pillars_are_the_pillars(make_lesson):
    lesson = make_lesson(300, 0, 200)
    pair = pair_features(lesson, 'pillars')
    assert torch.equal(pair.student, lesson.student.features['pillars'])
    assert torch.equal(pair.coords, lesson.pillars.coords[:, [0, 2, 3]])
    assert pair.sizes[1] == 0
    assert sum(pair.sizes) == len(lesson.pillars)


@pytest.mark.parametrize('kind', ['pillars', 'cells'])
def test_maps_and_rows_invert_each_other(kind, request):
    pair = request.getfixturevalue(kind)
    maps = pair.to_map(pair.teacher)
    assert maps.shape == (3, pair.teacher.shape[1], *pair.bev_shape)
    assert torch.equal(pair.from_map(maps), pair.teacher)


def test_the_map_of_pillars_is_empty_elsewhere(pillars):
    assert pillars.to_map(torch.ones(len(pillars.teacher), 1)).sum() == len(pillars.teacher)


def test_frame_means(pillars):
    means = pillars.frame_means(pillars.teacher)
    torch.testing.assert_close(means[2], pillars.teacher[pillars.frames == 2].mean(dim=0))
    assert torch.equal(means[1], torch.zeros_like(means[1]))


def test_samples_are_rows_of_their_frame_without_repetition(make_lesson):
    lesson = make_lesson(300, 0, 20)
    pair = pair_features(lesson, 'pillars')
    samples = sample_rows(pair, lesson, 30)
    assert [len(rows) for rows in samples] == [30, 0, pair.sizes[2]]
    for frame, rows in enumerate(samples):
        assert (pair.frames[rows] == frame).all()
        assert len(rows.unique()) == len(rows)


def test_samples_of_a_map_are_its_cells_with_points(make_lesson):
    """The tap is half as fine as the grid: a cell is two rows and two columns of it."""
    lesson = make_lesson(100, 0, 20)
    pair = pair_features(lesson, 'backbone.1')
    occupied = {(f, y // 2, x // 2) for f, _, y, x in lesson.pillars.coords.tolist()}
    samples = torch.cat(sample_rows(pair, lesson, 10_000))
    assert {tuple(cell) for cell in pair.coords[samples].tolist()} == occupied


def test_maps_meet_at_the_coarser_resolution(make_lesson):
    lesson = make_lesson(100)
    features = {'neck': torch.arange(16.0).view(1, 1, 4, 4)}
    finer = replace(lesson, teacher=replace(lesson.teacher, features=features))
    coarse = {'neck': torch.zeros(1, 1, 2, 2)}
    pair = pair_features(replace(finer, student=replace(lesson.student, features=coarse)), 'neck')
    assert pair.teacher.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pair.bev_shape == (2, 2)


def test_mean_square_of_nothing_has_a_gradient():
    student = torch.zeros(0, 3, requires_grad=True)
    mean_square(student, torch.zeros(0, 3)).backward()
    assert student.grad.shape == (0, 3)


def test_safe_norm():
    assert safe_norm(torch.tensor([[3.0, 4.0], [0.0, 12.0]])) == 13.0
    values = torch.zeros(2, 3, requires_grad=True)
    safe_norm(values, dim=1).sum().backward()
    assert torch.equal(values.grad, torch.zeros(2, 3))
