# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from pointdistiller_core.distill.terms.feature_term import (
    mean_square,
    pair_features,
    safe_norm,
    sample_frames,
)


def test_frame_means(make_lesson):
    pair = pair_features(make_lesson(300, 0, 200), 'voxels')
    means = pair.frame_means(pair.teacher)
    torch.testing.assert_close(means[2], pair.teacher[pair.rows.frames == 2].mean(dim=0))
    assert torch.equal(means[1], torch.zeros_like(means[1]))


def test_samples_are_rows_of_their_frame_without_repetition(make_lesson):
    rows = make_lesson(300, 0, 20).student.rows['voxels']
    samples = sample_frames(rows, 30)
    assert [len(own) for own in samples] == [30, 0, rows.sizes[2]]
    for frame, own in enumerate(samples):
        assert (rows.frames[own] == frame).all()
        assert len(own.unique()) == len(own)


def test_samples_of_a_map_are_its_cells_with_points(make_lesson):
    """The layer is half as fine as the grid: a cell is two rows and two columns of it."""
    lesson = make_lesson(100, 0, 20)
    rows = lesson.student.rows['backbone.1']
    occupied = {(f, y // 2, x // 2) for f, _, y, x in lesson.prepared.coords.tolist()}
    samples = torch.cat(sample_frames(rows, 10_000))
    assert {tuple(cell) for cell in rows.cells[samples].tolist()} == occupied


def test_maps_meet_at_the_coarser_resolution(make_lesson):
    teacher = {'neck': (torch.arange(16.0).view(1, 1, 4, 4),)}
    student = {'neck': (torch.zeros(1, 1, 2, 2),)}
    pair = pair_features(make_lesson(100, teacher=teacher, student=student), 'neck')
    assert pair.teacher.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pair.rows.map_shape == (2, 2)
    assert pair.rows.num_points.sum() == 100


def test_mean_square_of_nothing_has_a_gradient():
    student = torch.zeros(0, 3, requires_grad=True)
    mean_square(student, torch.zeros(0, 3)).backward()
    assert student.grad.shape == (0, 3)


def test_safe_norm():
    assert safe_norm(torch.tensor([[3.0, 4.0], [0.0, 12.0]])) == 13.0
    values = torch.zeros(2, 3, requires_grad=True)
    safe_norm(values, dim=1).sum().backward()
    assert torch.equal(values.grad, torch.zeros(2, 3))
