# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import LOCAL_GRAPH_PRESETS, LocalGraphConfig
from pointdistiller_core.distill.importance import sample_rows
from pointdistiller_core.distill.term import Lesson, View
from pointdistiller_core.distill.terms import local_graph
from pointdistiller_core.distill.terms.local_graph import (
    EdgeTerms,
    GraphAdapter,
    LocalGraphs,
    LocalGraphTerm,
    PlainEdges,
    build_graphs,
    build_graphs_per_group,
    edge_moments,
    edge_product,
    graph_distance,
    normalize_edges,
    reweight_by_features,
)
from pointdistiller_core.grid import Grid
from pointdistiller_core.models.layer import Rows, map_rows, voxel_rows
from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.pointcloud.voxels import Voxels, group_voxels
from pointdistiller_core.records import Batch

SMALL = LocalGraphConfig(num_samples=20, num_neighbors=6, adapter_channels=4)
GRID = Grid(point_cloud_range=(0, 0, 0, 8, 8, 8), voxel_size=(1, 1, 8))


def random_graphs(num_rows: int = 30, samples: int = 9, k: int = 5) -> LocalGraphs:
    return LocalGraphs(
        torch.randperm(num_rows)[:samples],
        torch.randint(0, num_rows, (samples, k)),
        torch.rand(samples),
    )


def edges_of(terms: EdgeTerms, graphs: list[LocalGraphs]) -> Tensor:
    """(E, C): every edge built, which the code under test avoids."""
    parts = [terms.neighbor[g.neighbors] + terms.center[g.centers][:, None] for g in graphs]
    return torch.cat([part.flatten(0, 1) for part in parts])


def norm_of(weight: Tensor, bias: Tensor) -> BatchNormRows:
    norm = BatchNormRows(len(weight), eps=1e-5, tracks=False)
    norm.load_state_dict({'weight': weight, 'bias': bias})
    return norm


def make_pillars(*num_points: int, seed: int = 0) -> Voxels:
    generator = torch.Generator().manual_seed(seed)
    clouds = [torch.rand(n, 4, generator=generator) * 8 for n in num_points]
    return group_voxels(clouds, GRID, max_points=4, max_voxels=100)


def features_of(pillars: Voxels, channels: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(pillars), channels, generator=generator)


def features_for(tap: str, pillars: Voxels, channels: int) -> Tensor:
    if tap in {'voxels', 'points'}:
        return features_of(pillars, channels)
    side = 4 if tap == 'backbone.1' else 8
    return torch.randn(pillars.batch_size, channels, side, side)


def rows_of(output: Tensor, pillars: Voxels) -> Rows:
    """Of features (P, C) of pillars, or of a map (B, C, H, W)."""
    return (voxel_rows if output.ndim == 2 else map_rows)(output, pillars, GRID)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- graphs


def test_graphs_by_hand():
    features = torch.tensor([[0.0], [10.0], [1.0], [12.0]])
    graphs = build_graphs(
        features, torch.tensor([1.0, 5.0, 3.0, 2.0]), num_samples=2, num_neighbors=2
    )
    assert graphs.centers.tolist() == [1, 2]
    assert [sorted(row) for row in graphs.neighbors.tolist()] == [[1, 3], [0, 2]]
    assert graphs.weights.tolist() == [1.0, 1.0]


def test_neighbors_include_the_center():
    features = torch.randn(200, 8)
    graphs = build_graphs(features, torch.rand(200), num_samples=50, num_neighbors=3)
    assert (graphs.neighbors == graphs.centers[:, None]).any(dim=1).all()


def test_samples_and_neighbors_are_clipped_to_what_exists():
    graphs = build_graphs(torch.randn(7, 4), torch.rand(7), num_samples=6000, num_neighbors=128)
    assert graphs.centers.sort().values.tolist() == list(range(7))
    assert graphs.neighbors.shape == (7, 7)


def test_graphs_of_a_batch_are_those_of_its_frames():
    features, importance = torch.randn(50, 4), torch.rand(50)
    rows = torch.arange(50)
    both = build_graphs_per_group(features, importance, [rows[:20], rows[20:20], rows[20:]], SMALL)
    single = build_graphs_per_group(features[20:], importance[20:], [rows[:30]], SMALL)
    assert len(both) == 2
    assert both[0].neighbors.max() < 20
    assert torch.equal(both[1].centers, single[0].centers + 20)
    assert torch.equal(both[1].neighbors, single[0].neighbors + 20)
    assert torch.equal(both[1].weights, single[0].weights)


SCORES = torch.tensor([3.0, 1.0, 5.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ('sample', 'expected'), [('top', [2, 4, 0]), ('bottom', [0, 3, 1]), ('mixed', [2, 4, 1])]
)
def test_samples_by_hand(sample, expected):
    assert sample_rows(SCORES, 3, sample).tolist() == expected


@pytest.mark.parametrize('sample', ['top', 'bottom', 'mixed', 'random'])
@pytest.mark.parametrize('num_samples', [1, 4, 9])
def test_a_row_is_sampled_once_also_among_equals(sample, num_samples):
    rows = sample_rows(torch.ones(5), num_samples, sample).tolist()
    assert len(rows) == len({*rows}) == min(num_samples, 5)
    assert {*rows} <= {*range(5)}


def test_random_samples_follow_torchs_seed_and_not_importance():
    importance = torch.arange(1000.0)
    first = sample_rows(importance, 100, 'random')
    assert not torch.equal(first, sample_rows(importance, 100, 'random'))
    torch.manual_seed(0)
    assert torch.equal(first, sample_rows(importance.flip(0), 100, 'random'))
    assert 400 < first.float().mean() < 600


# --- edges


@pytest.mark.parametrize('edge', ['concat', 'difference'])
def test_edge_product_is_that_of_built_edges(edge):
    features, weight = torch.randn(30, 6), torch.randn(4, 12)
    graphs = random_graphs()
    center = features[graphs.centers][:, None].expand(-1, 5, -1)
    neighbor = features[graphs.neighbors]
    first = neighbor if edge == 'concat' else center - neighbor
    expected = torch.cat([first, center], dim=2) @ weight.T
    actual = edges_of(edge_product(features, weight, edge), [graphs])
    torch.testing.assert_close(actual, expected.flatten(0, 1))


def test_plain_edges_are_the_edge_vectors():
    features, graphs = torch.randn(30, 3), random_graphs()
    edges = edges_of(PlainEdges(edge='concat')(features, [graphs]), [graphs]).unflatten(0, (9, 5))
    torch.testing.assert_close(edges[2, 4, :3], features[graphs.neighbors[2, 4]])
    torch.testing.assert_close(edges[2, 4, 3:], features[graphs.centers[2]])


def test_moments_are_those_of_built_edges():
    terms = EdgeTerms(torch.randn(30, 4) + 100, torch.randn(30, 4) - 50)
    graphs = [random_graphs(), random_graphs(samples=4, k=11)]
    edges = edges_of(terms, graphs)
    mean, variance = edge_moments(terms, graphs)
    torch.testing.assert_close(mean, edges.mean(dim=0))
    torch.testing.assert_close(variance, edges.var(dim=0, unbiased=False), rtol=1e-4, atol=1e-5)


def test_normalization_is_that_of_batch_norm():
    terms = EdgeTerms(torch.randn(30, 4), torch.randn(30, 4))
    graphs, scale, shift = [random_graphs()], torch.rand(4), torch.randn(4)
    actual = edges_of(normalize_edges(terms, graphs, norm_of(scale, shift)), graphs)
    expected = F.batch_norm(edges_of(terms, graphs), None, None, scale, shift, training=True)
    torch.testing.assert_close(actual, expected)


def test_a_single_edge_normalizes_to_the_shift():
    graphs = [LocalGraphs(torch.tensor([0]), torch.tensor([[0]]), torch.ones(1))]
    terms = EdgeTerms(torch.full((1, 2), 7.0), torch.full((1, 2), -3.0))
    normal = normalize_edges(terms, graphs, norm_of(torch.ones(2), torch.tensor([0.5, 2.0])))
    torch.testing.assert_close(edges_of(normal, graphs), torch.tensor([[0.5, 2.0]]))


# --- weights


@pytest.mark.parametrize(
    ('pool', 'scores'), [('max', [5.0, 3.0]), ('mean', [4.0, 2.0]), ('none', [4.0, 2.0])]
)
def test_weights_by_features_by_hand(pool, scores):
    """Graph features (max, then mean) are (5, 0), (3, 0) and (4, 0), (2, 0)."""
    neighbor = torch.tensor([[5.0, -9.0], [3.0, -9.0], [1.0, -9.0]])
    terms = EdgeTerms(neighbor, torch.zeros(3, 2))
    graphs = LocalGraphs(torch.tensor([0, 1]), torch.tensor([[0, 1], [1, 2]]), torch.ones(2))
    (weighted,) = reweight_by_features([graphs], terms, pool=pool, temperature=2.0)
    torch.testing.assert_close(weighted.weights, 2 * (torch.tensor(scores) / 2).softmax(0))
    assert weighted.neighbors is graphs.neighbors


def test_no_gradient_through_the_weights():
    terms = EdgeTerms(torch.randn(30, 4, requires_grad=True), torch.randn(30, 4))
    (graphs,) = reweight_by_features([random_graphs()], terms, pool='max', temperature=1.0)
    assert not graphs.weights.requires_grad


# --- loss


@pytest.mark.parametrize('pool', ['none', 'max', 'mean'])
@pytest.mark.parametrize('norm', ['mean_square', 'per_graph', 'global'])
def test_distance_is_that_of_built_edges(pool, norm):
    teacher, student = (EdgeTerms(torch.randn(30, 4), torch.randn(30, 4)) for _ in range(2))
    graph = random_graphs()
    responses = [
        edges_of(terms, [graph]).relu().unflatten(0, (9, 5)) for terms in (teacher, student)
    ]
    pools = {'none': lambda h: h, 'max': lambda h: h.amax(1), 'mean': lambda h: h.mean(1)}
    difference = pools[pool](responses[0]) - pools[pool](responses[1])
    weights = graph.weights.reshape(-1, *[1] * (difference.ndim - 1))
    expected = {
        'mean_square': (weights * difference.square()).mean(),
        'per_graph': (graph.weights * difference.flatten(1).norm(dim=1)).mean(),
        'global': (weights.sqrt() * difference).norm(),
    }
    actual = graph_distance(teacher, student, [graph], pool=pool, norm=norm)
    torch.testing.assert_close(actual, expected[norm])


def test_chunks_change_nothing(monkeypatch):
    teacher, student = (EdgeTerms(torch.randn(30, 4), torch.randn(30, 4)) for _ in range(2))
    graph = random_graphs()

    def loss_and_gradient() -> tuple[Tensor, Tensor]:
        neighbor = student.neighbor.clone().requires_grad_()
        distance = graph_distance(
            teacher, replace(student, neighbor=neighbor), [graph], pool='none', norm='mean_square'
        )
        distance.backward()
        return distance.detach(), neighbor.grad

    whole = loss_and_gradient()
    monkeypatch.setattr(local_graph, '_EDGES_PER_CHUNK', {'cpu': 1})
    torch.testing.assert_close(loss_and_gradient(), whole)


@pytest.mark.parametrize('norm', ['per_graph', 'global'])
def test_equal_responses_have_finite_gradients(norm):
    terms = EdgeTerms(torch.randn(30, 4), torch.randn(30, 4, requires_grad=True))
    graph_distance(terms, terms, [random_graphs()], pool='max', norm=norm).backward()
    assert torch.isfinite(terms.center.grad).all()


def test_with_given_normalization_a_batch_is_the_mean_of_its_frames():
    """All but the adapters' batch norm, whose statistics span the batch, is per frame."""
    teacher, student = (EdgeTerms(torch.randn(30, 4), torch.randn(30, 4)) for _ in range(2))
    frames = [random_graphs(), random_graphs()]
    switches = {'pool': 'none', 'norm': 'mean_square'}
    singles = [graph_distance(teacher, student, [frame], **switches) for frame in frames]
    both = graph_distance(teacher, student, frames, **switches)
    torch.testing.assert_close(both, sum(singles) / 2)


# --- term


def make_term(config: LocalGraphConfig = SMALL) -> LocalGraphTerm:
    names = ('voxels', 'points', 'backbone.0', 'backbone.1', 'neck')
    return LocalGraphTerm(config, teacher=dict.fromkeys(names, 8), student=dict.fromkeys(names, 5))


def loss_of(
    term: LocalGraphTerm, pillars: Voxels, teacher: Tensor, student: Tensor, **maps: Tensor
) -> Tensor:
    """`maps` are features of further taps, e.g. `teacher_neck`."""

    def view(side: str, features: Tensor) -> View:
        further = {name: maps[f'{side}_{name}'] for name in ('neck',) if f'{side}_{name}' in maps}
        outputs = {'voxels': features, **further}
        return View(
            None, {name: rows_of(output, pillars) for name, output in outputs.items()}, None
        )

    sides = view('teacher', teacher), view('student', student)
    return term(Lesson(Batch((), (), (), ()), pillars, *sides))


def map_of(features: Tensor, batch_size: int = 2, side: int = 8) -> Tensor:
    """(B, C, 8, 8) map whose rows are those of (B * 64, C) features."""
    return features.unflatten(0, (batch_size, side, side)).permute(0, 3, 1, 2)


def test_a_map_is_its_cells_frame_by_frame():
    """Every cell has a pillar here, so cells and pillars are the same rows in another order."""
    x, y = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing='xy')
    cloud = torch.stack([x.flatten(), y.flatten(), *torch.ones(2, 64)], dim=1)
    clouds = [cloud, torch.cat([cloud, cloud[:20]])]
    pillars = group_voxels(clouds, GRID, max_points=4, max_voxels=100)
    assert len(pillars) == 128
    teacher, student = features_of(pillars, 8), features_of(pillars, 5)
    on_pillars, on_map = make_term(), make_term(SMALL.model_copy(update={'taps': ('neck',)}))
    on_map.load_state_dict(on_pillars.state_dict())
    maps = {'teacher_neck': map_of(teacher), 'student_neck': map_of(student)}
    torch.testing.assert_close(
        loss_of(on_map, pillars, teacher, student, **maps),
        loss_of(on_pillars, pillars, teacher, student),
    )


def test_the_losses_of_taps_are_summed():
    pillars = make_pillars(300, 100)
    features = {'teacher': features_of(pillars, 8), 'student': features_of(pillars, 5)}
    maps = {'teacher_neck': torch.randn(2, 8, 4, 4), 'student_neck': torch.randn(2, 5, 4, 4)}
    both = make_term(SMALL.model_copy(update={'taps': ('voxels', 'neck')}))
    parts = []
    for index, tap in enumerate(both.taps):
        part = make_term(SMALL.model_copy(update={'taps': (tap,)}))
        part.losses[0].load_state_dict(both.losses[index].state_dict())
        parts.append(loss_of(part, pillars, **features, **maps))
    torch.testing.assert_close(loss_of(both, pillars, **features, **maps), sum(parts))
    assert parts[0] != parts[1]


def test_a_constant_weight_of_the_batch_size():
    pillars = make_pillars(300, 100, 50)
    teacher, student = features_of(pillars, 8), features_of(pillars, 5)
    plain = make_term(SMALL.model_copy(update={'reweight': 'none'}))
    scaled = make_term(SMALL.model_copy(update={'reweight': 'batch_size'}))
    scaled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(
        loss_of(scaled, pillars, teacher, student), 3 * loss_of(plain, pillars, teacher, student)
    )


def test_a_frame_twice_costs_what_it_costs_once():
    """With equal frames the statistics of the batch norm are equal, too."""
    term = make_term()
    cloud = torch.rand(300, 4) * 8
    once, twice = (
        group_voxels([cloud] * times, GRID, max_points=4, max_voxels=100) for times in (1, 2)
    )
    teacher, student = features_of(once, 8), features_of(once, 5)
    torch.testing.assert_close(
        loss_of(term, twice, teacher.repeat(2, 1), student.repeat(2, 1)),
        loss_of(term, once, teacher, student),
    )


def test_the_whole_batch_as_one_set_has_other_samples():
    pillars = make_pillars(300, 20)
    teacher, student = features_of(pillars, 8), features_of(pillars, 5)
    term = make_term()
    whole = make_term(SMALL.model_copy(update={'per_frame': False}))
    whole.load_state_dict(term.state_dict())
    assert loss_of(term, pillars, teacher, student) != loss_of(whole, pillars, teacher, student)


@pytest.mark.parametrize('num_points', [(), (0,), (0, 0)])
def test_no_pillars_cost_nothing(num_points):
    pillars = make_pillars(*num_points or (0,))
    student = torch.zeros(0, 5, requires_grad=True)
    loss = loss_of(make_term(), pillars, torch.zeros(0, 8), student)
    loss.backward()
    assert loss == 0


def test_an_empty_frame_beside_a_full_one():
    pillars = make_pillars(0, 200)
    loss = loss_of(make_term(), pillars, features_of(pillars, 8), features_of(pillars, 5))
    assert torch.isfinite(loss)


def test_more_samples_and_neighbors_than_pillars():
    pillars = make_pillars(30)
    config = LocalGraphConfig(num_samples=6000, num_neighbors=128)
    loss = loss_of(make_term(config), pillars, features_of(pillars, 8), features_of(pillars, 5))
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ('mode', 'trained'),
    [
        ('trained', {'teacher_adapter', 'student_adapter'}),
        ('frozen', {'student_adapter'}),
        ('none', {'student_adapter'}),
    ],
)
def test_gradients_reach_only_what_is_trained(mode, trained):
    pillars = make_pillars(200)
    teacher = features_of(pillars, 8).requires_grad_()
    student = features_of(pillars, 5).requires_grad_()
    term = make_term(SMALL.model_copy(update={'teacher_adapter': mode}))
    loss_of(term, pillars, teacher, student).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    reached = {name for name, parameter in term.named_parameters() if parameter.grad is not None}
    assert {name.split('.')[2] for name in reached} == trained


def test_the_plain_teacher_sets_the_width_of_the_students_adapter():
    term = make_term(SMALL.model_copy(update={'teacher_adapter': 'none'}))
    assert term.losses[0].student_adapter.linear.weight.shape == (16, 10)


def test_weight_scales_the_loss():
    pillars = make_pillars(200)
    teacher, student = features_of(pillars, 8), features_of(pillars, 5)
    term = make_term()
    loss = loss_of(term, pillars, teacher, student)
    term.config = SMALL.model_copy(update={'weight': 3 * SMALL.weight})
    torch.testing.assert_close(loss_of(term, pillars, teacher, student), 3 * loss)


def test_arguments_stay_as_they_are():
    pillars = make_pillars(200)
    teacher, student = features_of(pillars, 8), features_of(pillars, 5)
    copies = teacher.clone(), student.clone(), pillars.points.clone()
    loss_of(make_term(), pillars, teacher, student)
    assert all(
        torch.equal(now, before)
        for now, before in zip((teacher, student, pillars.points), copies, strict=True)
    )


def test_half_precision_regions_do_not_reach_the_loss():
    pillars = make_pillars(200)
    teacher, student = features_of(pillars, 8), features_of(pillars, 5)
    term = make_term()
    with torch.autocast('cpu', torch.bfloat16):
        inside = loss_of(term, pillars, teacher, student)
    assert torch.equal(inside, loss_of(term, pillars, teacher, student))


CHANGES = {
    'taps': ('neck',),
    'weight': 1.0,
    'num_samples': 7,
    'num_neighbors': 3,
    'importance': 'channel_max',
    'sample': 'mixed',
    'edge': 'difference',
    'adapter_channels': 3,
    'teacher_adapter': 'none',
    'pool': 'max',
    'norm': 'per_graph',
    'reweight': 'graph',
    'temperature': 0.1,
    'per_frame': False,
}


def test_every_switch_is_covered():
    assert set(CHANGES) == set(LocalGraphConfig.model_fields) - {'name'}


@pytest.mark.parametrize('field', CHANGES)
def test_every_switch_changes_the_loss(field):
    pillars = make_pillars(300, 100)
    teacher, student = features_of(pillars, 8), features_of(pillars, 5)
    maps = {'teacher_neck': torch.randn(2, 8, 4, 4), 'student_neck': torch.randn(2, 5, 4, 4)}

    def loss(config: LocalGraphConfig) -> Tensor:
        torch.manual_seed(0)
        return loss_of(make_term(config), pillars, teacher, student, **maps)

    assert loss(SMALL) != loss(SMALL.model_copy(update={field: CHANGES[field]}))


@pytest.mark.parametrize('name', LOCAL_GRAPH_PRESETS)
def test_presets_run(name):
    pillars = make_pillars(300, 100)
    preset = LOCAL_GRAPH_PRESETS[name]
    config = preset.model_copy(update={'num_samples': 9, 'num_neighbors': 3})
    sizes, taps = {'teacher': 8, 'student': 5}, make_term(config).taps
    views = [
        View(None, {tap: rows_of(features_for(tap, pillars, size), pillars) for tap in taps}, None)
        for size in sizes.values()
    ]
    loss = make_term(config)(Lesson(Batch((), (), (), ()), pillars, *views))
    assert torch.isfinite(loss)
    assert loss > 0


@pytest.mark.parametrize(('mode', 'collapses'), [('trained', True), ('frozen', False)])
def test_two_trained_adapters_can_agree_on_nothing(mode, collapses):
    """With noise for a student only the degenerate minimum is left: it takes both adapters."""
    pillars = make_pillars(300)
    teacher, student = features_of(pillars, 8, seed=1), features_of(pillars, 5, seed=2)
    term = make_term(SMALL.model_copy(update={'teacher_adapter': mode}))
    optimizer = torch.optim.AdamW(
        [parameter for parameter in term.parameters() if parameter.requires_grad], lr=0.03
    )
    losses = []
    for _ in range(100):
        loss = loss_of(term, pillars, teacher, student)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert (losses[-1] < 0.1 * losses[0]) == collapses


def test_adapters_have_no_running_state():
    adapter = GraphAdapter(8, 4, edge='concat')
    assert list(dict(adapter.named_buffers())) == []
