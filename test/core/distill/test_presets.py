# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import yaml

from pointdistiller_core.config import (
    DISTILLATION_PRESETS,
    DistillationConfig,
    ExperimentConfig,
    dump_config,
    parse_config,
)
from pointdistiller_core.errors import ConfigError


@pytest.mark.parametrize('name', DISTILLATION_PRESETS)
def test_a_file_may_name_a_preset(name):
    values = {'dataset': {'root': 'data'}, 'distillation': name}
    config = parse_config(ExperimentConfig, values, where='experiment.yaml')
    assert config.distillation.terms == (DISTILLATION_PRESETS[name],)


def test_an_unknown_preset_lists_those_that_exist():
    values = {'dataset': {'root': 'data'}, 'distillation': 'papr'}
    with pytest.raises(ConfigError) as error:
        parse_config(ExperimentConfig, values, where='experiment.yaml')
    message = str(error.value)
    assert "got 'papr'" in message
    assert "choose from ['authors_code', 'default', 'paper']" in message


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


def test_the_default_is_the_default_preset():
    assert DistillationConfig() == parse_config(DistillationConfig, 'default', where='x')


def test_the_authors_preset_is_what_their_code_does():
    """The switches that the goldens of PointPillars were made with (reference, section 1.3)."""
    preset = DISTILLATION_PRESETS['authors_code']
    assert preset.model_dump() == {
        'name': 'local_graph',
        'weight': 2.0,
        'num_samples': 6000,
        'num_neighbors': 128,
        'importance': 'num_points',
        'edge': 'concat',
        'adapter_channels': 32,
        'teacher_adapter': 'trained',
        'pool': 'none',
        'norm': 'mean_square',
        'reweight': True,
        'temperature': 0.01,
        'per_frame': False,
    }
