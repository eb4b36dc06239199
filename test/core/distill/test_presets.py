# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import yaml

from pointdistiller_core.config import (
    DISTILLATION_PRESETS,
    LOCAL_GRAPH_PRESETS,
    DetectorConfig,
    DistillationConfig,
    ExperimentConfig,
    distillation_presets,
    dump_config,
    parse_config,
)
from pointdistiller_core.distill import check_distillation
from pointdistiller_core.errors import ConfigError


@pytest.mark.parametrize('name', DISTILLATION_PRESETS)
def test_a_file_may_name_a_preset(name):
    values = {'dataset': {'root': 'data'}, 'distillation': name}
    config = parse_config(ExperimentConfig, values, where='experiment.yaml')
    expected = DISTILLATION_PRESETS[name]
    assert {key: getattr(config.distillation, key) for key in expected} == expected
    assert expected['terms']


@pytest.mark.parametrize('name', LOCAL_GRAPH_PRESETS)
def test_presets_of_local_graphs_are_that_alone(name):
    config = parse_config(DistillationConfig, name, where='x')
    assert config == DistillationConfig(terms=(LOCAL_GRAPH_PRESETS[name],))
    assert config.initialization == 'random'


def test_what_is_not_said_is_the_default_preset():
    config = parse_config(DistillationConfig, {'initialization': 'random'}, where='x')
    assert config.terms == DistillationConfig().terms
    assert config.initialization == 'random'
    assert parse_config(DistillationConfig, {'terms': []}, where='x').terms == ()


def test_an_unknown_preset_lists_those_that_exist():
    values = {'dataset': {'root': 'data'}, 'distillation': 'papr'}
    with pytest.raises(ConfigError) as error:
        parse_config(ExperimentConfig, values, where='experiment.yaml')
    message = str(error.value)
    assert "got 'papr'" in message
    assert f'choose from {sorted(distillation_presets())}' in message


def test_a_term_appears_once():
    with pytest.raises(ConfigError, match='each may appear once'):
        parse_config(
            DistillationConfig,
            {'terms': ['fitnets', {'name': 'fitnets', 'weight': 2.0}]},
            where='x',
        )


def test_a_term_with_its_defaults_is_its_name():
    short = parse_config(DistillationConfig, {'terms': ['fitnets', 'attention']}, where='x')
    long = {'terms': [{'name': 'fitnets'}, {'name': 'attention'}]}
    assert short == parse_config(DistillationConfig, long, where='x')


@pytest.mark.parametrize(
    ('term', 'message'),
    [
        ('fitnet', r"terms\.0\.name: no 'fitnet'; choose from \['attention', .*'fitnets'"),
        ({'weight': 1.0}, r"terms\.0\.name: missing; choose from \['attention', "),
        (
            {'name': 'fitnets', 'regresor': 'linear'},
            r'terms\.0\.fitnets\.regresor: unknown key; '
            r"expected some of \['name', 'regressor', 'taps', 'weight'\]",
        ),
        ({'name': 'fitnets', 'weight': -1}, r'terms\.0\.fitnets\.weight: .*got -1'),
    ],
)
def test_a_wrong_term_says_what_is_right(term, message):
    values = {'dataset': {'root': 'x'}, 'distillation': {'terms': [term]}}
    with pytest.raises(ConfigError, match=message):
        parse_config(ExperimentConfig, values, where='x')


def test_a_term_is_read_as_it_was_written():
    terms = {'terms': ['overhaul', {'name': 'box_features', 'taps': ['pillars'], 'margin': 1.0}]}
    config = parse_config(DistillationConfig, terms, where='x')
    assert (
        parse_config(DistillationConfig, yaml.safe_load(dump_config(config)), where='y') == config
    )


def test_unlabelled_frames_need_a_term():
    values = {'terms': [], 'unlabelled': {'root': 'more', 'split': 'rest'}}
    with pytest.raises(ConfigError, match='unlabelled more, rest: without a term'):
        parse_config(DistillationConfig, values, where='x')
    values['terms'].append({'name': 'logits'})
    assert parse_config(DistillationConfig, values, where='x').unlabelled.split == 'rest'


def test_an_unknown_key_of_a_term_lists_those_of_that_term():
    values = {'terms': [{'name': 'labels', 'treshold': 0.5}]}
    with pytest.raises(ConfigError, match=r"\['class_score_thresholds', 'max_overlap', 'name', "):
        parse_config(DistillationConfig, values, where='x')


@pytest.mark.parametrize('taps', [[], ['neck', 'neck']])
def test_taps_of_a_term_are_one_or_more_and_each_once(taps):
    values = {'terms': [{'name': 'local_graph', 'taps': taps}]}
    with pytest.raises(ConfigError, match=r'terms\.0\S*\.taps|terms\[0\].taps'):
        parse_config(DistillationConfig, values, where='x')


def test_the_default_is_the_default_preset():
    assert DistillationConfig() == parse_config(DistillationConfig, 'default', where='x')


def test_the_authors_preset_is_what_their_code_does():
    """The switches that the goldens of PointPillars were made with (reference, section 1.3)."""
    preset = LOCAL_GRAPH_PRESETS['authors_code']
    assert preset.model_dump() == {
        'name': 'local_graph',
        'taps': ('pillars',),
        'weight': 2.0,
        'num_samples': 6000,
        'num_neighbors': 128,
        'importance': 'num_points',
        'sample': 'top',
        'edge': 'concat',
        'adapter_channels': 32,
        'teacher_adapter': 'trained',
        'pool': 'none',
        'norm': 'mean_square',
        'reweight': 'importance',
        'temperature': 0.01,
        'per_frame': False,
    }


def test_the_authors_presets_of_maps_differ_in_what_their_code_does_for_maps():
    base = LOCAL_GRAPH_PRESETS['local_graph'].model_dump()
    shared = {'num_samples': 256, 'importance': 'channel_max', 'teacher_adapter': 'trained'}
    second = {'taps': ('backbone.0', 'backbone.1'), 'reweight': 'batch_size'}
    nuscenes = {'taps': ('neck',), 'reweight': 'none', 'adapter_channels': 64}
    assert LOCAL_GRAPH_PRESETS['authors_second'].model_dump() == {**base, **shared, **second}
    assert LOCAL_GRAPH_PRESETS['authors_nuscenes'].model_dump() == {**base, **shared, **nuscenes}
    points = {'taps': ('points',), 'reweight': 'none', 'adapter_channels': 45, 'pool': 'max'}
    assert LOCAL_GRAPH_PRESETS['authors_pointrcnn'].model_dump() == {
        **{**base, **shared, **points},
        'num_samples': 6000,
    }


SECOND = {'name': 'second', 'class_names': ['Car', 'Pedestrian', 'Cyclist']}
DATASET = {'root': 'data'}


@pytest.mark.parametrize(
    ('distillation', 'taps'),
    [
        ('paper', ('middle.4',)),
        ('authors_second', ('backbone.0', 'backbone.1')),
        ({'terms': ['local_graph']}, ('middle.4',)),
        ({'terms': [{'name': 'local_graph', 'taps': ['middle.2']}]}, ('middle.2',)),
        ({'terms': [{'name': 'local_graph', 'taps': ['voxels']}]}, ('voxels',)),
    ],
)
def test_second_compares_its_last_middle_where_no_taps_are_named(distillation, taps):
    values = {'model': SECOND, 'dataset': DATASET, 'distillation': distillation}
    experiment = parse_config(ExperimentConfig, values, where='experiment')
    (term,) = experiment.distillation.terms
    assert term.taps == taps
    again = parse_config(
        ExperimentConfig, experiment.model_dump(mode='json'), where='the file beside a run'
    )
    assert again == experiment


@pytest.mark.parametrize(
    ('distillation', 'settings'),
    [
        ('paper', ('points', 'channel_max', 'graph', 'max')),
        ('authors_pointrcnn', ('points', 'channel_max', 'none', 'max')),
        ({'terms': ['local_graph']}, ('points', 'channel_max', 'graph', 'none')),
        (
            {'terms': [{'name': 'local_graph', 'importance': 'confidence'}]},
            ('points', 'confidence', 'graph', 'none'),
        ),
    ],
)
def test_pointrcnn_weighs_points_by_features_where_nothing_else_is_said(distillation, settings):
    model = {'name': 'pointrcnn', 'class_names': ['Car']}
    values = {'model': model, 'dataset': DATASET, 'distillation': distillation}
    experiment = parse_config(ExperimentConfig, values, where='experiment')
    (term,) = experiment.distillation.terms
    assert (*term.taps, term.importance, term.reweight, term.pool) == settings


def test_voxels_of_second_are_no_layer():
    terms = {'terms': [{'name': 'local_graph', 'taps': ['voxels']}]}
    config = parse_config(DistillationConfig, terms, where='distillation')
    model = parse_config(DetectorConfig, SECOND, where='model')
    with pytest.raises(ConfigError, match=r"the teacher has no \['voxels'\]; choose from \['mid"):
        check_distillation(config, model, model)
