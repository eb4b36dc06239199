# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration: strict, readable, complete."""

from __future__ import annotations

import pytest
import yaml

from pointdistiller_core.config import (
    ExperimentConfig,
    ModelConfig,
    SimulationConfig,
    apply_overrides,
    dump_config,
    load_config,
    load_experiment,
    parse_config,
    parse_yaml,
    shipped_configs,
)
from pointdistiller_core.errors import ConfigError


def test_files_of_windows_and_of_other_encodings(tmp_path):
    path = tmp_path / 'model.yaml'
    path.write_bytes(b'\xef\xbb\xbfwidth: 0.5\r\n')
    assert load_config(ModelConfig, path).width == 0.5
    path.write_bytes(b'width: 0.5\n# caf\xe9\n')
    with pytest.raises(ConfigError, match=r'model\.yaml:2: not UTF-8 text: byte 0xe9'):
        load_config(ModelConfig, path)
    with pytest.raises(ConfigError, match='cannot be read: Is a directory'):
        load_config(ModelConfig, tmp_path)


def test_unknown_key_is_an_error_that_lists_the_known_ones(tmp_path):
    path = tmp_path / 'model.yaml'
    path.write_text('pillars: {max_pilars: 3}\n')
    with pytest.raises(ConfigError, match=r'pillars\.max_pilars: unknown key.*max_pillars'):
        load_config(ModelConfig, path)


def test_all_problems_are_reported_together():
    with pytest.raises(ConfigError) as error:
        parse_config(ModelConfig, {'width': -1, 'encoder_channels': 0, 'foo': 1}, where='here')
    message = str(error.value)
    assert message.startswith('here:')
    assert all(part in message for part in ('width', '-1', 'encoder_channels', 'foo'))


def test_class_without_anchors():
    with pytest.raises(ConfigError, match=r"head\.anchors lacks classes \['Tram'\]"):
        parse_config(ModelConfig, {'class_names': ['Car', 'Tram']}, where='here')


def test_thresholds_of_classes_fit_the_classes():
    detection = {'score_thresholds': [0.1, 0.2]}
    with pytest.raises(ConfigError, match=r"2 score_thresholds for 3 classes: .*'Cyclist'"):
        parse_config(ModelConfig, {'detection': detection}, where='x')
    model = ModelConfig(class_names=('Car', 'Cyclist'), detection=detection)
    assert model.detection.score_thresholds == (0.1, 0.2)


def test_sampled_classes_are_those_of_the_model():
    sampling = {'classes': {'Car': {'count': 12}, 'Tram': {}}}
    values = {'dataset': {'root': 'x'}, 'augmentation': {'ground_truth_sampling': sampling}}
    problem = r"ground_truth_sampling\.classes: \['Tram'\] are no classes of the model; it has"
    with pytest.raises(ConfigError, match=problem):
        parse_config(ExperimentConfig, values, where='here')


def test_ground_truth_sampling_as_published():
    values = {'dataset': {'root': 'x'}, 'augmentation': {'ground_truth_sampling': {}}}
    sampling = parse_config(ExperimentConfig, values, where='here').augmentation
    classes = sampling.ground_truth_sampling.classes
    assert {name: (each.count, each.min_points) for name, each in classes.items()} == {
        'Car': (15, 5),
        'Pedestrian': (15, 5),
        'Cyclist': (15, 5),
    }


def test_width_must_give_whole_channels():
    with pytest.raises(ConfigError, match=r'width 0\.3 does not divide 64 channels evenly'):
        parse_config(ModelConfig, {'width': 0.3}, where='here')


@pytest.mark.parametrize('text', ['- 1\n', 'a: [1\n'])
def test_broken_yaml(tmp_path, text):
    path = tmp_path / 'broken.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=r'broken\.yaml'):
        load_config(ModelConfig, path)


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('width: 1.0\nname: x\nwidth: 0.5\n', "the key 'width' is there 2 times.*line 3"),
        ('grid: {voxel_size: [1, 1, 1], "voxel_size": [2, 2, 2]}', "key 'voxel_size' is there 2"),
        ('[' * 1500, 'nested too deeply'),
    ],
)
def test_yaml_that_says_two_things_or_never_ends(tmp_path, text, problem):
    path = tmp_path / 'model.yaml'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(ConfigError, match=rf'(?s)model\.yaml: not valid YAML: .*{problem}'):
        load_config(ModelConfig, path)
    with pytest.raises(ConfigError, match='there 2 times'):
        apply_overrides({}, ('grid={a: 1, a: 2}',))


def test_merged_keys_may_be_replaced():
    text = 'near: &near {count: 1, reach: 2}\nfar: &far {<<: *near, reach: 9}\nall: {<<: *far}'
    values = parse_yaml(text)
    assert values['far'] == values['all'] == {'count': 1, 'reach': 9}


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match='no such file'):
        load_config(ModelConfig, tmp_path / 'none.yaml')


def test_overrides_are_yaml_and_leave_their_argument_alone():
    values = {'grid': {'voxel_size': [1, 1, 1]}, 'width': 1}
    merged = apply_overrides(values, ('grid.voxel_size=[2, 2, 2]', 'head.x=true', 'width=0.5'))
    assert merged == {'grid': {'voxel_size': [2, 2, 2]}, 'width': 0.5, 'head': {'x': True}}
    assert values == {'grid': {'voxel_size': [1, 1, 1]}, 'width': 1}


@pytest.mark.parametrize('override', ['width', '=3'])
def test_malformed_override(override):
    with pytest.raises(ConfigError, match=r'key\.sub=value'):
        apply_overrides({}, (override,))


@pytest.mark.parametrize('cls', [ModelConfig, SimulationConfig])
def test_dump_reads_back_the_same(cls):
    config = parse_config(cls, {}, where='defaults')
    assert parse_config(cls, yaml.safe_load(dump_config(config)), where='dump') == config


@pytest.mark.parametrize('path', shipped_configs('models'), ids=lambda path: path.stem)
def test_shipped_models_are_valid(path):
    load_config(ModelConfig, path)


@pytest.mark.parametrize('path', shipped_configs('experiments'), ids=lambda path: path.stem)
def test_shipped_experiments_are_valid(path):
    assert isinstance(load_experiment(path), ExperimentConfig)


def test_experiment_names_a_shipped_model(tmp_path):
    path = tmp_path / 'experiment.yaml'
    path.write_text('model: pointpillars_4x\ndataset: {root: data}\n')
    assert load_experiment(path, ('training.epochs=3',)).model.width == 0.5
    path.write_text('model: pointpillars_5x\ndataset: {root: data}\n')
    with pytest.raises(ConfigError, match=r"'pointpillars_5x'; choose from .*pointpillars_4x"):
        load_experiment(path)
