# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from pointdistiller_core.config import SimilarityConfig
from pointdistiller_core.distill.terms.feature_term import pair_features
from pointdistiller_core.distill.terms.similarity import SimilarityTerm, flat_frames, similarities


def test_similarities_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    expected = torch.tensor([[1 / 2**0.5, 1 / 2**0.5], [1 / 5**0.5, 2 / 5**0.5]])
    torch.testing.assert_close(similarities(vectors), expected)


def test_width_and_rotation_do_not_matter():
    vectors = torch.randn(6, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4)).Q
    wider = torch.cat([vectors @ rotation, torch.zeros(6, 3)], dim=1)
    torch.testing.assert_close(similarities(wider), similarities(vectors))


def test_frames_of_pillars_are_compared_where_both_have_points(make_lesson):
    pair = pair_features(make_lesson(300, 200), 'voxels')
    cells = [
        {(y, x): i for i, (f, y, x) in enumerate(pair.rows.cells.tolist()) if f == j}
        for j in (0, 1)
    ]
    common = cells[0].keys() & cells[1].keys()
    expected = sum(pair.teacher[cells[0][c]] @ pair.teacher[cells[1][c]] for c in common)
    first, second = flat_frames(pair.rows, pair.teacher)
    torch.testing.assert_close(first @ second, expected)


def make_term(**fields: object) -> SimilarityTerm:
    config = SimilarityConfig(taps=('voxels',), **fields)
    return SimilarityTerm(config, teacher={'voxels': 8}, student={'voxels': 4})


def test_one_frame_teaches_nothing_by_frames(make_lesson):
    lesson = make_lesson(300)
    assert make_term()(lesson) < 1e-6
    assert make_term(among='cells')(lesson) > 1e-3


def test_number_of_samples_changes_the_loss(make_lesson):
    lesson = make_lesson(300, 200)
    losses = []
    for num_samples in (10, 50):
        torch.manual_seed(0)
        losses.append(make_term(among='cells', num_samples=num_samples)(lesson))
    assert losses[0] != losses[1]
