# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import math

import pytest
import torch

from pointdistiller_core.config import ContrastiveConfig
from pointdistiller_core.distill.terms.contrastive import ContrastiveTerm, contrast


def test_contrast_by_hand():
    """Orthogonal pairs: each row has cosine 1 with its own and 0 with the other."""
    rows = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    expected = 2 * math.log(1 + math.exp(-1 / 0.5))
    assert contrast(rows, rows, temperature=0.5).item() == pytest.approx(expected, rel=1e-6)


def test_constant_embeddings_cost_the_logarithm_of_the_number_of_rows():
    constant = torch.ones(64, 8)
    assert contrast(constant, constant, temperature=0.07).item() == pytest.approx(2 * math.log(64))


def test_mismatched_rows_cost_more():
    rows = torch.randn(20, 8)
    assert contrast(rows.roll(1, 0), rows, temperature=0.07) > contrast(
        rows, rows, temperature=0.07
    )


def test_both_sides_count_alike():
    student, teacher = torch.randn(20, 8), torch.randn(20, 8)
    torch.testing.assert_close(
        contrast(student, teacher, temperature=0.1), contrast(teacher, student, temperature=0.1)
    )


def test_embeddings_that_learn_recognise_rows(make_lesson):
    """Where the teacher is the student, a row knows its counterpart after a few steps."""
    lesson = make_lesson(40)
    config = ContrastiveConfig(taps=('voxels',), num_samples=40, channels=16)
    term = ContrastiveTerm(config, teacher={'voxels': 8}, student={'voxels': 8})
    features = torch.randn(len(lesson.prepared), 8)
    for view in (lesson.teacher, lesson.student):
        view.rows['voxels'] = replace(view.rows['voxels'], features=features)
    first = term(lesson).item()
    optimizer = torch.optim.Adam(term.parameters(), lr=0.02)
    for _ in range(40):
        loss = term(lesson)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * first
