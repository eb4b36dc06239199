# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Number-for-number parity with the authors' losses (shared data: kd_loss)."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from pointdistiller_core.config import LocalGraphConfig
from pointdistiller_core.distill.importance import IMPORTANCE
from pointdistiller_core.distill.local_graph import (
    GraphAdapter,
    LocalGraphs,
    build_graphs_per_group,
    edge_moments,
    edge_product,
    graph_distance,
)

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
GRADIENTS = {'conv_weight': 'linear.weight', 'bn_weight': 'scale', 'bn_bias': 'shift'}


class Level:
    """One feature level of a golden case, flattened to rows of (sample, item)."""

    def __init__(self, case: dict, arrays: dict[str, np.ndarray], prefix: str) -> None:
        self.case = case
        self.arrays = {
            name.removeprefix(prefix): torch.from_numpy(value)
            for name, value in arrays.items()
            if name.startswith(prefix)
        }
        self.batch_size = case['B']
        self.teacher = self.rows('teacher_feat')
        self.student = self.rows('student_feat').requires_grad_()
        self.num_items = len(self.teacher) // self.batch_size

    def rows(self, name: str) -> Tensor:
        values = self.arrays[name]
        return values if values.ndim == 2 else values.flatten(2).transpose(1, 2).flatten(0, 1)

    def config(self, *, reweight: bool, temperature: float | None) -> LocalGraphConfig:
        return LocalGraphConfig(
            num_samples=self.case['N'],
            num_neighbors=self.case['K'],
            importance='num_points' if 'num_points' in self.arrays else 'channel_max',
            reweight=reweight,
            temperature=temperature or 1.0,
        )

    def graphs(self, *, reweight: bool = False, temperature: float | None = None):
        config = self.config(reweight=reweight, temperature=temperature)
        num_points = self.arrays.get('num_points', torch.zeros(len(self.teacher)))
        importance = IMPORTANCE[config.importance](self.teacher, num_points)
        groups = torch.arange(len(self.teacher)).split(self.num_items)
        return build_graphs_per_group(self.teacher, importance, groups, config)

    def adapter(self, letter: str, features: Tensor, edge: str) -> GraphAdapter:
        weight = self.arrays[f'adapter_{letter}_conv_weight']
        adapter = GraphAdapter(features.shape[1], len(weight), edge=edge)
        adapter.load_state_dict(
            {
                target: self.arrays[f'adapter_{letter}_{source}']
                for source, target in GRADIENTS.items()
            }
        )
        return adapter

    def loss(self, *, edge: str, reweight: bool, pool: str, authors: bool, temperature):
        """The loss of the authors' code, or of it with the softmax over the samples."""
        pillars = self.case['detector'] == 'pointpillars'
        graphs = self.graphs(
            reweight=reweight and (pillars or not authors), temperature=temperature
        )
        if reweight and authors and self.case['detector'] == 'second':
            # A softmax over an axis of length 1, times the length of another: the batch size.
            graphs = [replace(g, weights=self.batch_size * g.weights) for g in graphs]
        self.adapters = {
            't': self.adapter('t', self.teacher, EDGES[edge]),
            's': self.adapter('s', self.student, EDGES[edge]),
        }
        distance = graph_distance(
            self.adapters['t'](self.teacher, graphs),
            self.adapters['s'](self.student, graphs),
            graphs,
            pool=POOLS[pool],
            norm='mean_square' if reweight else 'global',
        )
        return (2 if reweight else 5e-4) * distance


@pytest.fixture(scope='module')
def load(shared_data: Path):
    folder = shared_data / 'kd_loss'
    cases = {
        case['id']: case
        for case in json.loads((folder / 'cases.json').read_text(encoding='utf-8'))['cases']
    }

    def load_levels(name: str) -> list[Level]:
        with np.load(folder / cases[name]['file']) as file:
            arrays = dict(file)
        return [Level(cases[name], arrays, prefix) for prefix in cases[name]['prefixes']]

    return load_levels


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Within a part of the largest entry, as the reference asks."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def test_all_graph_cases_are_covered(shared_data):
    cases = json.loads((shared_data / 'kd_loss' / 'cases.json').read_text(encoding='utf-8'))
    assert set(CASES) == {case['id'] for case in cases['cases'] if case['kind'] == 'graph'}


@pytest.mark.parametrize('name', CASES)
def test_samples_and_neighbors(load, name):
    for level in load(name):
        shape = (level.batch_size, level.case['N'])
        expected_centers = level.arrays['topk_idx'].reshape(shape)
        expected_neighbors = level.arrays['knn_idx'].reshape(*shape, level.case['K'])
        for sample, graph in enumerate(level.graphs()):
            centers, order = (graph.centers - sample * level.num_items).sort()
            neighbors = (graph.neighbors[order] - sample * level.num_items).sort(dim=1).values
            assert torch.equal(centers.int(), expected_centers[sample])
            assert torch.equal(neighbors.int(), expected_neighbors[sample])


@pytest.mark.parametrize('name', CASES)
def test_edge_statistics(load, name):
    """The moments are those that batch normalization would have added to its running ones."""
    for level in load(name):
        graphs = level.graphs()
        num_edges = sum(graph.neighbors.numel() for graph in graphs)
        for letter, features in (('t', level.teacher), ('s', level.student)):
            weight = level.arrays[f'adapter_{letter}_conv_weight']
            terms = edge_product(features, weight, EDGES[level.case['edge_mode']])
            mean, variance = edge_moments(terms, graphs)
            unbiased = variance * num_edges / (num_edges - 1)
            key = f'adapter_{letter}_bn_running'
            assert_near(0.1 * mean, level.arrays[f'{key}_mean_after'])
            assert_near(0.9 + 0.1 * unbiased, level.arrays[f'{key}_var_after'])


VARIANTS = [(case, '') for case in CASES]
VARIANTS += [(case, suffix) for case in FIXED for suffix in ('_fixed', '_fixedtau')]


@pytest.mark.parametrize(('name', 'suffix'), VARIANTS)
def test_loss_and_gradients(load, name, suffix):
    levels = load(name)
    case = levels[0].case
    losses = [
        level.loss(
            edge=case['edge_mode'],
            reweight=case['reweight'],
            pool=case['pooling'],
            authors=not suffix,
            temperature=case[f'tau{suffix}'],
        )
        for level in levels
    ]
    assert sum(losses).item() == pytest.approx(case[f'expected_loss{suffix}'], rel=1e-5)
    for level, loss in zip(levels, losses, strict=True):
        check_gradients(level, loss, suffix)


def check_gradients(level: Level, loss: Tensor, suffix: str) -> None:
    expected = level.arrays
    assert loss.item() == pytest.approx(expected[f'expected_loss{suffix}'].item(), rel=1e-5)
    loss.backward()
    gradient = Level.rows(level, f'expected_grad_student_feat{suffix}')
    assert_near(level.student.grad, gradient)
    for letter, adapter in level.adapters.items():
        for source, target in GRADIENTS.items():
            name = f'expected_grad_adapter_{letter}_{source}{suffix}'
            assert_near(adapter.get_parameter(target).grad, expected[name])


@pytest.mark.parametrize(('name', 'suffix'), VARIANTS)
def test_weights(load, name, suffix):
    for level in load(name):
        if (expected := level.arrays.get(f'expected_reweight{suffix}')) is None:
            continue
        if level.case['detector'] != 'pointpillars' and not suffix:
            continue  # constants of the authors' code, part of `Level.loss`
        graphs = level.graphs(reweight=True, temperature=level.case[f'tau{suffix}'])
        for graph, weights in zip(graphs, expected.reshape(len(graphs), -1), strict=True):
            assert_near(graph.weights[graph.centers.argsort()], weights)


@pytest.mark.parametrize('name', CASES)
def test_other_settings_on_the_same_input(load, name):
    levels = load(name)
    for setting, expected in levels[0].case['other_losses_same_input'].items():
        mode, edge, *options = setting.split('|')
        values = dict(re.fullmatch(r'(\w+)=(.+)', option).groups() for option in options)
        with torch.no_grad():
            losses = [
                level.loss(
                    edge=edge,
                    reweight=values['reweight'] == 'True',
                    pool=values.get('pool', 'none'),
                    authors=mode == 'authors',
                    temperature=float(values.get('tau', 1)),
                )
                for level in levels
            ]
        assert sum(losses).item() == pytest.approx(expected, rel=1e-5), setting


def test_order_of_rows_does_not_matter(load):
    (level,) = load('pp_concat_tau1')
    graphs = level.graphs(reweight=True, temperature=1.0)
    shuffled = [
        LocalGraphs(g.centers.flip(0), g.neighbors.flip(0).flip(1), g.weights.flip(0))
        for g in graphs
    ]
    teacher, student = (
        level.adapter(letter, features, 'concat')
        for letter, features in (('t', level.teacher), ('s', level.student))
    )
    first, second = (
        graph_distance(
            teacher(level.teacher, some),
            student(level.student, some),
            some,
            pool='none',
            norm='mean_square',
        )
        for some in (graphs, shuffled)
    )
    assert first.item() == pytest.approx(second.item(), rel=1e-6)
