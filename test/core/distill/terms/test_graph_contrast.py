# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Contrast of local graphs; what all terms that compare features have is in test_feature_terms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import GraphContrastConfig
from pointdistiller_core.distill.importance import importance_weights
from pointdistiller_core.distill.terms.contrastive import contrast
from pointdistiller_core.distill.terms.feature_term import pair_features
from pointdistiller_core.distill.terms.graph_contrast import (
    GraphContrastTerm,
    build_frame_graphs,
    graph_features,
    standardize,
)

SMALL = GraphContrastConfig(num_samples=20, num_neighbors=5, channels=8, importance='num_points')


def build(lesson, **changes) -> GraphContrastTerm:
    sides = {
        side: {name: layer.channels for name, layer in view.model.layers().items()}
        for side, view in (('teacher', lesson.teacher), ('student', lesson.student))
    }
    torch.manual_seed(0)
    return GraphContrastTerm(SMALL.model_copy(update=changes), **sides)


def sampled(term: GraphContrastTerm, lesson) -> tuple[list[Tensor], list]:
    """Features of the occupied rows of student and teacher, and the graphs of the next loss."""
    pair = pair_features(lesson, 'neck')
    frames = pair.rows.occupied()
    kept, counts = torch.cat(frames), pair.rows.num_points
    torch.manual_seed(1)
    graphs = build_frame_graphs(
        pair.teacher[kept], counts[kept].float(), tuple(map(len, frames)), term.config
    )
    return [pair.student[kept], pair.teacher[kept]], graphs


def loss_of(term: GraphContrastTerm, lesson) -> Tensor:
    torch.manual_seed(1)
    return term(lesson)


def plain_embedding(adapter, rows: Tensor, chosen: Tensor) -> Tensor:
    """ReLU(BN(W x)) of some rows, by torch's own batch norm."""
    weight = adapter.linear.weight[:, rows.shape[1] :]  # of the row itself: x_i - x_i is 0
    norm = adapter.norm
    products = F.linear(rows[chosen], weight)
    scale, shift = norm.weight, norm.bias
    return F.batch_norm(products, None, None, scale, shift, training=True, eps=norm.eps).relu()


def test_one_neighbor_is_the_plain_contrast_of_the_rows(make_lesson):
    lesson = make_lesson(400, 300)
    term = build(lesson, num_neighbors=1)
    for adapter in (*term.student_adapters, *term.teacher_adapters):
        torch.nn.init.normal_(adapter.norm.weight)
        torch.nn.init.normal_(adapter.norm.bias)
    sides, graphs = sampled(term, lesson)
    rows = torch.cat([graph.centers for graph in graphs])
    assert all(torch.equal(graph.neighbors[:, 0], graph.centers) for graph in graphs)
    adapters = term.student_adapters[0], term.teacher_adapters[0]
    embeddings = [
        plain_embedding(adapter, side, rows) for adapter, side in zip(adapters, sides, strict=True)
    ]
    weights = torch.cat([graph.weights for graph in graphs])
    expected = term.config.weight * contrast(
        *embeddings, temperature=term.config.temperature, weights=weights
    )
    torch.testing.assert_close(loss_of(term, lesson), expected, rtol=1e-4, atol=1e-5)


def test_alike_rows_are_weighed_alike(make_lesson):
    lesson = make_lesson(400, 300)
    plain = build(lesson, num_neighbors=1, importance='uniform')
    _, graphs = sampled(plain, lesson)
    importance = torch.zeros(700)
    weights = importance_weights(importance, 0.5)
    assert torch.equal(weights, torch.ones(700))
    assert graphs


def test_graphs_by_hand(make_lesson):
    """Edges built one by one, as the definition says it."""
    lesson = make_lesson(400, 300)
    term = build(lesson)
    (student, _), graphs = sampled(term, lesson)
    adapter = term.student_adapters[0]
    centers = torch.cat([graph.centers for graph in graphs])
    neighbors = torch.cat([graph.neighbors for graph in graphs])
    around = student[centers][:, None].expand(-1, neighbors.shape[1], -1)
    edges = torch.cat([around - student[neighbors], around], dim=2)
    products = F.linear(edges.flatten(0, 1), adapter.linear.weight)
    norm = adapter.norm
    normal = F.batch_norm(products, None, None, norm.weight, norm.bias, True, eps=norm.eps)
    expected = normal.relu().view(*neighbors.shape, -1).amax(dim=1)
    found = graph_features(adapter(student, graphs), graphs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_graphs_stay_in_their_frame_and_on_cells_with_points(make_lesson):
    lesson = make_lesson(100, 0, 60)
    term = build(lesson, num_samples=500, num_neighbors=7)
    pair = pair_features(lesson, 'neck')
    frames = pair.rows.occupied()
    _, graphs = sampled(term, lesson)
    assert [len(graph) for graph in graphs] == [len(frame) for frame in frames if len(frame)]
    kept, frame_of = torch.cat(frames), pair.rows.frames
    assert (pair.rows.num_points[kept] > 0).all()
    for graph in graphs:
        of_centers, of_neighbors = (
            frame_of[kept[rows]] for rows in (graph.centers, graph.neighbors)
        )
        assert (of_neighbors == of_centers[:, None]).all()
        assert graph.neighbors.shape[1] == 7


def test_neighbors_are_near_in_standardized_features():
    """A channel of large numbers does not decide alone."""
    features = torch.tensor([[0.0, 0.0], [1000.0, 0.0], [0.0, 0.5], [1000.0, 9.0]])
    config = SMALL.model_copy(update={'num_samples': 4, 'num_neighbors': 2})
    (graph,) = build_frame_graphs(features, torch.arange(4.0), (4,), config)
    nearest = dict(zip(graph.centers.tolist(), graph.neighbors[:, 1].tolist(), strict=True))
    assert (nearest[0], nearest[2]) == (2, 0)
    torch.testing.assert_close(standardize(features).mean(dim=0), torch.zeros(2))
    torch.testing.assert_close(standardize(features).std(dim=0, correction=0), torch.ones(2))
    assert not standardize(torch.full((3, 2), 7.0)).any()


def test_important_graphs_weigh_more():
    features, importance = torch.randn(40, 3), torch.linspace(0, 9, 40)
    (graph,) = build_frame_graphs(features, importance, (40,), SMALL)
    weights = graph.weights[graph.centers.argsort()]
    assert (weights.diff() > 0).all()
    assert weights.mean().item() == pytest.approx(1, rel=1e-5)
    # The scores are scaled to 0 to 1, so the extremes differ by exp(1 / 0.5).
    assert (weights[-1] / weights[0]).item() == pytest.approx(math.exp(2), rel=1e-4)


def test_weights_of_pairs_by_hand():
    rows = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    each = 2 * math.log(1 + math.exp(-1 / 0.5))
    weights = torch.tensor([0.5, 1.5])
    found = contrast(rows, rows, temperature=0.5, weights=weights)
    assert found.item() == pytest.approx(each, rel=1e-6)
    other = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    losses = [
        contrast(other, rows, temperature=0.5, weights=torch.tensor(pair))
        for pair in ([2.0, 0.0], [0.0, 2.0])
    ]
    assert losses[0] > losses[1]


def test_constant_features_cost_the_most(make_lesson):
    """Not the least, as with a distance: the logarithm of the number of graphs, twice."""
    lesson = make_lesson(400, 300)
    term = build(lesson)
    for adapter in (*term.student_adapters, *term.teacher_adapters):
        torch.nn.init.zeros_(adapter.norm.weight)
        torch.nn.init.ones_(adapter.norm.bias)
    _, graphs = sampled(term, lesson)
    num = sum(map(len, graphs))
    assert loss_of(term, lesson).item() == pytest.approx(0.1 * 2 * math.log(num), rel=1e-4)


def test_it_can_be_learned(make_lesson):
    lesson = make_lesson(400, 300)
    term = build(lesson)
    first = loss_of(term, lesson).item()
    optimizer = torch.optim.Adam(term.parameters(), lr=0.02)
    for _ in range(40):
        loss = loss_of(term, lesson)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.7 * first
