# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Number-for-number parity with the authors' losses (shared data: kd_loss)."""

from __future__ import annotations

import json
from pathlib import Path
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from pointdistiller_core.config import LOCAL_GRAPH_PRESETS, LocalGraphConfig
from pointdistiller_core.distill.importance import IMPORTANCE
from pointdistiller_core.distill.term import Lesson, View, layer_names
from pointdistiller_core.distill.terms.local_graph import (
    LocalGraphs,
    LocalGraphTerm,
    build_graphs_per_group,
    edge_moments,
    edge_product,
    graph_distance,
)
from pointdistiller_core.models.layer import Rows
from pointdistiller_core.records import Batch

CASES = (
    'pp_concat_code',
    'pp_sub_code',
    'pp_concat_noreweight',
    'pp_concat_tau1',
    'pp_sub_tau10',
    'second_concat_2levels',
    'second_sub_1level',
    'pointrcnn_concat_max',
    'pointrcnn_sub_nopool',
    'nuscenes_concat',
)
FIXED = tuple(case for case in CASES if not case.startswith('pp_'))
EDGES = {'idendity': 'concat', 'sub': 'difference'}
POOLS = {'none': 'none', 'max': 'max', 'avg': 'mean'}
GRADIENTS = {
    'conv_weight': 'linear.weight',
    'bn_weight': 'norm.weight',
    'bn_bias': 'norm.bias',
}
# PointRCNN's features of points (B, C, n) stand here as maps of one row.
PRESETS = {
    'pointpillars': LOCAL_GRAPH_PRESETS['authors_code'],
    'second': LOCAL_GRAPH_PRESETS['authors_second'],
    'pointrcnn': LOCAL_GRAPH_PRESETS['authors_pointrcnn'],
    'nuscenes': LOCAL_GRAPH_PRESETS['authors_nuscenes'],
}


class Level:
    """One feature level of a golden case, as a tap."""

    def __init__(self, arrays: dict[str, np.ndarray], prefix: str) -> None:
        self.arrays = {
            name.removeprefix(prefix): torch.from_numpy(value)
            for name, value in arrays.items()
            if name.startswith(prefix)
        }
        self.teacher = self.features('teacher_feat')
        self.student = self.features('student_feat').requires_grad_()

    def features(self, name: str) -> Tensor:
        values = self.arrays[name]
        return values[:, :, None] if values.ndim == 3 else values

    def adapter(self, letter: str) -> dict[str, Tensor]:
        return {
            target: self.arrays[f'adapter_{letter}_{source}']
            for source, target in GRADIENTS.items()
        }


class Golden:
    """A case: its levels, and the term that distils them."""

    def __init__(self, case: dict, arrays: dict[str, np.ndarray]) -> None:
        self.case = case
        self.preset = PRESETS[case['detector']]
        self.levels = [Level(arrays, prefix) for prefix in case['prefixes']]
        self.taps = layer_names(self.preset.taps[: len(self.levels)])

    def rows(self, features: Tensor) -> Rows:
        """Those of a map, or of the pillars of one frame, which the authors' are."""
        num_points = self.levels[0].arrays.get('num_points')
        if num_points is not None:
            return Rows(features, (len(features),), torch.empty(0), num_points.long())
        rows = features.permute(0, 2, 3, 1).flatten(0, 2)
        sizes = (len(rows) // len(features),) * len(features)
        return Rows(rows, sizes, torch.empty(0), torch.zeros(len(rows), dtype=torch.int64))

    def config(
        self, *, edge: str, reweight: bool, pool: str, authors: bool, temperature: float | None
    ) -> LocalGraphConfig:
        """The authors' code, or the same with the softmax over the samples."""
        changes = {
            'taps': self.taps,
            'num_samples': self.case['N'],
            'num_neighbors': self.case['K'],
            'adapter_channels': len(self.levels[0].arrays['adapter_t_conv_weight']),
            'edge': EDGES[edge],
            'pool': POOLS[pool],
            'temperature': temperature or self.preset.temperature,
        }
        if not reweight:
            changes |= {'reweight': 'none', 'norm': 'global', 'weight': 5e-4}
        elif not authors:
            changes |= {'reweight': 'importance'}
        return LocalGraphConfig(**(self.preset.model_dump() | changes))

    def term(self, **settings: object) -> LocalGraphTerm:
        channels = [
            {
                tap: getattr(level, side).shape[1]
                for tap, level in zip(self.taps, self.levels, strict=True)
            }
            for side in ('teacher', 'student')
        ]
        term = LocalGraphTerm(self.config(**settings), teacher=channels[0], student=channels[1])
        for loss, level in zip(term.losses, self.levels, strict=True):
            loss.teacher_adapter.load_state_dict(level.adapter('t'))
            loss.student_adapter.load_state_dict(level.adapter('s'))
        return term

    def lesson(self) -> Lesson:
        views = [
            View(
                None,
                {
                    tap: self.rows(getattr(level, side))
                    for tap, level in zip(self.taps, self.levels, strict=True)
                },
                None,
            )
            for side in ('teacher', 'student')
        ]
        return Lesson(Batch((), (), (), ()), None, *views)

    def settings(self, suffix: str) -> dict[str, object]:
        """Those of the expected values with this suffix."""
        return {
            'edge': self.case['edge_mode'],
            'reweight': self.case['reweight'],
            'pool': self.case['pooling'],
            'authors': not suffix,
            'temperature': self.case[f'tau{suffix}'],
        }

    def graphs(self, level: Level, suffix: str = '') -> list[LocalGraphs]:
        rows = self.rows(level.teacher)
        config = self.config(**self.settings(suffix))
        importance = IMPORTANCE[config.importance](rows.features, rows.num_points)
        groups = rows.split(torch.arange(len(rows)))
        return build_graphs_per_group(rows.features, importance, groups, config)


@pytest.fixture(scope='module')
def load(shared_data: Path):
    folder = shared_data / 'kd_loss'
    cases = {
        case['id']: case
        for case in json.loads((folder / 'cases.json').read_text(encoding='utf-8'))['cases']
    }

    def load_case(name: str) -> Golden:
        with np.load(folder / cases[name]['file']) as file:
            return Golden(cases[name], dict(file))

    return load_case


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Within a part of the largest entry, as the reference asks."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def test_all_graph_cases_are_covered(shared_data):
    cases = json.loads((shared_data / 'kd_loss' / 'cases.json').read_text(encoding='utf-8'))
    assert set(CASES) == {case['id'] for case in cases['cases'] if case['kind'] == 'graph'}


@pytest.mark.parametrize('name', CASES)
def test_samples_and_neighbors(load, name):
    golden = load(name)
    for level in golden.levels:
        num_items = len(golden.rows(level.teacher)) // golden.case['B']
        shape = (golden.case['B'], golden.case['N'])
        expected_centers = level.arrays['topk_idx'].reshape(shape)
        expected_neighbors = level.arrays['knn_idx'].reshape(*shape, golden.case['K'])
        for sample, graph in enumerate(golden.graphs(level)):
            centers, order = (graph.centers - sample * num_items).sort()
            neighbors = (graph.neighbors[order] - sample * num_items).sort(dim=1).values
            assert torch.equal(centers.int(), expected_centers[sample])
            assert torch.equal(neighbors.int(), expected_neighbors[sample])


@pytest.mark.parametrize('name', CASES)
def test_edge_statistics(load, name):
    """The moments are those that batch normalization would have added to its running ones."""
    golden = load(name)
    for level in golden.levels:
        graphs = golden.graphs(level)
        num_edges = sum(graph.neighbors.numel() for graph in graphs)
        for letter, features in (('t', level.teacher), ('s', level.student)):
            weight = level.arrays[f'adapter_{letter}_conv_weight']
            terms = edge_product(
                golden.rows(features).features, weight, EDGES[golden.case['edge_mode']]
            )
            mean, variance = edge_moments(terms, graphs)
            unbiased = variance * num_edges / (num_edges - 1)
            key = f'adapter_{letter}_bn_running'
            assert_near(0.1 * mean, level.arrays[f'{key}_mean_after'])
            assert_near(0.9 + 0.1 * unbiased, level.arrays[f'{key}_var_after'])


VARIANTS = [(case, '') for case in CASES]
VARIANTS += [(case, suffix) for case in FIXED for suffix in ('_fixed', '_fixedtau')]


@pytest.mark.parametrize(('name', 'suffix'), VARIANTS)
def test_loss_and_gradients(load, name, suffix):
    golden = load(name)
    term = golden.term(**golden.settings(suffix))
    loss = term(golden.lesson())
    assert loss.item() == pytest.approx(golden.case[f'expected_loss{suffix}'], rel=1e-5)
    loss.backward()
    for level, of_tap in zip(golden.levels, term.losses, strict=True):
        expected = level.arrays
        assert_near(level.student.grad, level.features(f'expected_grad_student_feat{suffix}'))
        for letter, adapter in (('t', of_tap.teacher_adapter), ('s', of_tap.student_adapter)):
            for source, target in GRADIENTS.items():
                gradient = expected[f'expected_grad_adapter_{letter}_{source}{suffix}']
                assert_near(adapter.get_parameter(target).grad, gradient)


@pytest.mark.parametrize(('name', 'suffix'), VARIANTS)
def test_weights(load, name, suffix):
    golden = load(name)
    for level in golden.levels:
        if (expected := level.arrays.get(f'expected_reweight{suffix}')) is None:
            continue
        graphs = golden.graphs(level, suffix)
        for graph, weights in zip(graphs, expected.reshape(len(graphs), -1), strict=True):
            scale = len(graphs) if golden.preset.reweight == 'batch_size' and not suffix else 1
            assert_near(scale * graph.weights[graph.centers.argsort()], weights)


@pytest.mark.parametrize('name', CASES)
def test_other_settings_on_the_same_input(load, name):
    golden = load(name)
    for setting, expected in golden.case['other_losses_same_input'].items():
        mode, edge, *options = setting.split('|')
        values = dict(re.fullmatch(r'(\w+)=(.+)', option).groups() for option in options)
        term = golden.term(
            edge=edge,
            reweight=values['reweight'] == 'True',
            pool=values.get('pool', 'none'),
            authors=mode == 'authors',
            temperature=float(values.get('tau', 1)),
        )
        with torch.no_grad():
            loss = term(golden.lesson())
        assert loss.item() == pytest.approx(expected, rel=1e-5), setting


def test_order_of_rows_does_not_matter(load):
    golden = load('pp_concat_tau1')
    (level,) = golden.levels
    (loss,) = golden.term(**golden.settings('')).losses
    graphs = golden.graphs(level)
    shuffled = [
        LocalGraphs(g.centers.flip(0), g.neighbors.flip(0).flip(1), g.weights.flip(0))
        for g in graphs
    ]
    first, second = (
        graph_distance(
            loss.teacher_adapter(level.teacher, some),
            loss.student_adapter(level.student, some),
            some,
            pool='none',
            norm='mean_square',
        )
        for some in (graphs, shuffled)
    )
    assert first.item() == pytest.approx(second.item(), rel=1e-6)
