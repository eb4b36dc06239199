# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbors in feature space."""

from __future__ import annotations

import pytest
import torch

from pointdistiller_core.pointcloud import neighbors
from pointdistiller_core.pointcloud.neighbors import knn


def test_neighbors_by_hand_nearest_first():
    candidates = torch.tensor([[0.0, 0.0], [5.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    query = torch.tensor([[0.1, 0.0], [4.0, 0.0]])
    assert knn(query, candidates, 3).tolist() == [[0, 2, 3], [1, 2, 0]]


def test_a_candidate_is_its_own_nearest_neighbor():
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert knn(features, features, 4)[:, 0].tolist() == list(range(50))


@pytest.mark.parametrize('chunk', [1, 100, 1 << 20])
def test_equals_all_distances_whatever_the_chunk(monkeypatch, chunk):
    monkeypatch.setattr(neighbors, '_MAX_DISTANCES', chunk)
    generator = torch.Generator().manual_seed(1)
    query, candidates = torch.randn(30, 5, generator=generator), torch.randn(70, 5)
    expected = torch.cdist(query, candidates).topk(9, largest=False).indices
    assert torch.equal(knn(query, candidates, 9), expected)


def test_fewer_candidates_than_neighbors():
    assert knn(torch.zeros(2, 3), torch.zeros(1, 3), 5).tolist() == [[0], [0]]


@pytest.mark.parametrize(('num_queries', 'num_candidates'), [(0, 4), (0, 0), (3, 0)])
def test_nothing_to_find(num_queries, num_candidates):
    found = knn(torch.zeros(num_queries, 3), torch.zeros(num_candidates, 3), 2)
    assert found.shape == (num_queries, min(2, num_candidates))
    assert found.dtype == torch.int64


def test_half_precision_does_not_confuse_neighbors():
    candidates = 100 + torch.arange(8.0)[:, None] / 100  # bfloat16 rounds all of them to 100
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert knn(candidates, candidates, 1)[:, 0].tolist() == list(range(8))
