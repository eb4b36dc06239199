# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Weights by gradients: measured, written as presets, and right when they are measured again."""

from __future__ import annotations

from statistics import median

from changed_config import changed
import pytest
import yaml

from pointdistiller_core.config import (
    DISTILLATION_PRESETS,
    DistillationConfig,
    distillation_presets,
    load_experiment,
    parse_config,
    shipped_configs,
)
from pointdistiller_core.deploy.bundle import load_bundle
from pointdistiller_core.distill import TERMS
from pointdistiller_core.training.balance import balance_terms

SETTINGS = [
    {'name': 'logits', 'mask': 'rank', 'num_anchors': 20},
    {'name': 'local_graph', 'num_samples': 40, 'num_neighbors': 4},
    {'name': 'graph_contrast', 'num_samples': 20},
]


@pytest.fixture
def experiment(dataset, tmp_path, tiny_model):
    """File of an experiment; the teacher of its student is `bundle`."""

    def write(terms, name='experiment'):
        values = {
            'model': tiny_model.model_copy(update={'width': 0.5}).model_dump(mode='json'),
            'dataset': {'root': str(dataset), 'split': 'val'},
            'training': {'epochs': 2, 'batch_size': 2, 'num_workers': 0},
            'distillation': {'terms': terms, 'initialization': 'slice_norm'},
        }
        path = tmp_path / f'{name}.yaml'
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def test_balanced_terms_pull_alike(run, experiment, make_bundle, tmp_path):
    teacher, output = make_bundle('teacher'), tmp_path / 'balanced.yaml'
    words = ['--teacher', teacher, '--batches', 2, '--target', 0.25]
    code, table, said = run('balance', experiment(SETTINGS), *words, '-o', output)
    assert code == 0, said
    text = output.read_text()
    assert text.startswith('# Made by: pointdistiller balance ')
    assert '# Seed 0, 2 batches of 2 frames; 1 thread(s) of ' in text
    presets = yaml.safe_load(text)
    assert f'{output}: {len(presets)} presets' in said
    assert 'fitnets' in table
    weights, terms = {}, []
    for name, values in presets.items():
        config = parse_config(DistillationConfig, values, where=name)
        assert config.initialization == 'slice_norm'
        (term,) = config.terms
        assert name == f'{term.name}_balanced'
        weights[term.name] = term.weight
        terms.append(values['terms'][0])
    assert {'num_anchors', 'mask'} < set(terms[[t['name'] for t in terms].index('logits')])
    # Every other term is named with its reason: two random networks find no common boxes.
    missing = TERMS.keys() - weights.keys() - {'labels'}
    assert all(f'{name}: no weight: ' in said for name in missing)
    assert {'fitnets', 'attention', 'similarity', 'contrastive', 'overhaul'} < weights.keys()

    again = balance_terms(
        load_experiment(experiment(terms, 'balanced')), teacher, target=0.25, num_batches=2
    )
    for balance in again:
        if balance.term.name in weights:
            assert median(balance.ratios) == pytest.approx(0.25, rel=0.02), balance.term.name


def test_terms_that_do_not_fit_the_model_are_named(run, experiment, make_bundle, tmp_path):
    """A tiny grid has fewer pillars than the default samples; of one's own, that is an error."""
    words = ['--teacher', make_bundle('teacher'), '--batches', 1, '-o', tmp_path / 'out.yaml']
    code, _, said = run('balance', experiment(['fitnets']), *words)
    assert code == 0
    assert 'local_graph: no weight: distillation.terms.local_graph.num_samples 6000' in said
    code, _, said = run('balance', experiment(['local_graph']), *words)
    assert code == 2
    assert 'num_samples 6000 is more than voxels' in said


def test_a_target_outside_of_the_usual_is_refused(run, experiment, make_bundle, tmp_path):
    words = ['--teacher', make_bundle('teacher'), '-o', tmp_path / 'out.yaml', '--target', 3]
    code, _, said = run('balance', experiment(SETTINGS), *words)
    assert code == 2
    assert 'should be less than or equal to 1' in said


def test_shipped_presets_say_how_they_were_made():
    for path in shipped_configs('distillations'):
        assert '# Made by: pointdistiller balance ' in path.read_text(encoding='utf-8')
    for name, values in distillation_presets().items():
        assert parse_config(DistillationConfig, name, where=name).terms
        assert name in DISTILLATION_PRESETS or name.endswith('_balanced'), values


def test_a_term_that_does_not_fit_this_teacher_is_left_out(run, dataset, make_bundle, tmp_path):
    """Their anchors differ, so `logits` cannot compare them; other terms can."""
    model = load_bundle(make_bundle('teacher'))[0].model
    student = changed(model, width=0.5, backbone={'strides': (2, 2)}, neck={'strides': (1, 2)})
    values = {
        'model': student.model_dump(mode='json'),
        'dataset': {'root': str(dataset), 'split': 'val'},
        'training': {'epochs': 1, 'batch_size': 2, 'num_workers': 0},
        'distillation': {'terms': ['fitnets'], 'initialization': 'random'},
    }
    path, output = tmp_path / 'experiment.yaml', tmp_path / 'balanced.yaml'
    path.write_text(yaml.safe_dump(values))
    words = ['--teacher', make_bundle('teacher2'), '--batches', 1, '-o', output]
    code, _, said = run('balance', path, *words)
    assert code == 0, said
    assert 'logits: no weight: ' in said
    assert 'fitnets_balanced' in yaml.safe_load(output.read_text())
