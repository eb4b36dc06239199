# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration: strict, readable, complete."""

from __future__ import annotations

from typing import Literal

import pytest
import yaml

from pointdistiller_core.config import (
    CLASS_MAPS,
    DATASET_CONFIGS,
    MODEL_CONFIGS,
    DatasetConfig,
    DetectorConfig,
    ExperimentConfig,
    KittiConfig,
    PointPillarsConfig,
    SimulationConfig,
    apply_overrides,
    dump_config,
    load_config,
    load_experiment,
    load_stored_experiment,
    parse_class_map,
    parse_config,
    parse_yaml,
    shipped_configs,
)
from pointdistiller_core.errors import ConfigError


def test_files_of_windows_and_of_other_encodings(tmp_path):
    path = tmp_path / 'model.yaml'
    path.write_bytes(b'\xef\xbb\xbfwidth: 0.5\r\n')
    assert load_config(DetectorConfig, path).width == 0.5
    path.write_bytes(b'width: 0.5\n# caf\xe9\n')
    with pytest.raises(ConfigError, match=r'model\.yaml:2: not UTF-8 text: byte 0xe9'):
        load_config(DetectorConfig, path)
    with pytest.raises(ConfigError, match='cannot be read: Is a directory'):
        load_config(DetectorConfig, tmp_path)


def test_unknown_key_is_an_error_that_lists_the_known_ones(tmp_path):
    path = tmp_path / 'model.yaml'
    path.write_text('voxels: {max_voxel: 3}\n')
    with pytest.raises(ConfigError, match=r'voxels\.max_voxel: unknown key.*max_voxels'):
        load_config(DetectorConfig, path)


def test_all_problems_are_reported_together():
    with pytest.raises(ConfigError) as error:
        parse_config(
            DetectorConfig, {'width': -1, 'encoder': {'channels': 0}, 'foo': 1}, where='here'
        )
    message = str(error.value)
    assert message.startswith('here:')
    assert all(part in message for part in ('width', '-1', 'encoder.channels', 'foo'))


def test_class_without_anchors():
    with pytest.raises(ConfigError, match=r"head\.anchors lacks classes \['Tram'\]"):
        parse_config(DetectorConfig, {'class_names': ['Car', 'Tram']}, where='here')


def test_thresholds_of_classes_fit_the_classes():
    detection = {'score_thresholds': [0.1, 0.2]}
    with pytest.raises(ConfigError, match=r"2 score_thresholds for 3 classes: .*'Cyclist'"):
        parse_config(DetectorConfig, {'detection': detection}, where='x')
    model = PointPillarsConfig(class_names=('Car', 'Cyclist'), detection=detection)
    assert model.detection.score_thresholds == (0.1, 0.2)


def test_sampled_classes_are_those_of_the_model():
    sampling = {'classes': {'Car': {'count': 12}, 'Tram': {}}}
    values = {'dataset': {'root': 'x'}, 'augmentation': {'ground_truth_sampling': sampling}}
    problem = r"ground_truth_sampling\.classes: \['Tram'\] are no classes of the model; it has"
    with pytest.raises(ConfigError, match=problem):
        parse_config(ExperimentConfig, values, where='here')


def test_sampled_classes_are_all_of_the_model():
    values = {
        'model': {'class_names': ['Cyclist', 'Car']},
        'dataset': {'root': 'x'},
        'augmentation': {'ground_truth_sampling': {}},
    }
    sampling = parse_config(ExperimentConfig, values, where='here').augmentation
    assert list(sampling.ground_truth_sampling.classes) == ['Cyclist', 'Car']


def test_objects_are_not_pasted_into_levelled_frames():
    values = {
        'model': {'levelled': True, 'name': 'pointpillars'},
        'dataset': {'root': 'x'},
        'augmentation': {'ground_truth_sampling': {}},
    }
    with pytest.raises(ConfigError, match=r'not levelled: leave it out, or set model\.levelled'):
        parse_config(ExperimentConfig, values, where='a file')


def test_ground_truth_sampling_as_published():
    values = {'dataset': {'root': 'x'}, 'augmentation': {'ground_truth_sampling': {}}}
    sampling = parse_config(ExperimentConfig, values, where='here').augmentation
    classes = sampling.ground_truth_sampling.classes
    assert {name: (each.count, each.min_points) for name, each in classes.items()} == {
        'Car': (15, 5),
        'Pedestrian': (15, 5),
        'Cyclist': (15, 5),
    }


@pytest.mark.parametrize(
    ('width', 'channels', 'scaled'),
    [
        (1 / 2, 64, 32),
        (1 / 4, 64, 16),
        (0.3, 64, 19),
        (1 / 1.4, 64, 45),  # PointDistiller's students of nuScenes and PointRCNN
        (1 / 2.8, 64, 22),
        (0.7, 10, 7),  # a little less, as a float
        (0.001, 64, 1),
        (2.0, 64, 128),
    ],
)
def test_width_rounds_down(width, channels, scaled):
    assert PointPillarsConfig(width=width).scaled(channels) == scaled


@pytest.mark.parametrize(
    ('key', 'value', 'new'),
    [
        ('model.pillars.max_points_per_pillar', 8, 'model.voxels.max_points'),
        ('model.pillars.max_pillars', 8, 'model.voxels.max_voxels'),
        ('model.pillars.max_pillars_training', 8, 'model.voxels.max_voxels_training'),
        ('model.encoder_channels', 8, 'model.encoder.channels'),
        ('model.backbone_layers', [1, 1, 1], 'model.backbone.layers'),
        ('model.backbone_strides', [1, 2, 2], 'model.backbone.strides'),
        ('model.backbone_channels', [8, 8, 8], 'model.backbone.channels'),
        ('model.neck_strides', [2, 4, 8], 'model.neck.strides'),
        ('model.neck_channels', [8, 8, 8], 'model.neck.channels'),
        ('training.peak_beta1', 0.5, 'training.schedule.peak_beta1'),
        ('training.warmup_fraction', 0.5, 'training.schedule.warmup_fraction'),
        ('training.initial_factor', 5.0, 'training.schedule.initial_factor'),
        ('training.final_factor', 5.0, 'training.schedule.final_factor'),
    ],
)
def test_a_key_that_has_moved(tmp_path, key, value, new):
    path = tmp_path / 'experiment.yaml'
    path.write_text('model: pointpillars\ndataset: {root: data}\nfurther: 1\n')
    with pytest.raises(ConfigError) as error:
        load_experiment(path, (f'{key}={value}',))
    said = f'command line:\n  {key}: is now {new} (--set {key}={value})'
    assert str(error.value) == said
    stored = apply_overrides({'dataset': {'root': 'data'}}, (f'{key}={value}',))
    path.write_text(yaml.safe_dump(stored))
    found = load_stored_experiment(path)
    expected = apply_overrides({'dataset': {'root': 'data'}}, (f'{new}={value}',))
    assert found == parse_config(ExperimentConfig, expected, where='here')
    assert found != parse_config(ExperimentConfig, {'dataset': {'root': 'data'}}, where='here')


def test_moved_keys_of_a_model_alone():
    with pytest.raises(ConfigError) as error:
        parse_config(
            DetectorConfig, {'neck_channels': [1], 'pillars': {'max_pillars': 3}}, where='x'
        )
    moved = [
        '  pillars.max_pillars: is now voxels.max_voxels',
        '  neck_channels: is now neck.channels',
    ]
    assert str(error.value).splitlines() == ['x:', *moved]


class ToyConfig(DetectorConfig):
    name: Literal['toy'] = 'toy'
    class_names: tuple[str, ...] = ('Car',)
    size: int = 3


class ToyDataConfig(DatasetConfig):
    name: Literal['toys'] = 'toys'
    color: str = 'red'


def test_families_can_be_added(monkeypatch):
    monkeypatch.setitem(MODEL_CONFIGS, 'toy', ToyConfig)
    monkeypatch.setitem(DATASET_CONFIGS, 'toys', ToyDataConfig)
    data = {'name': 'toys', 'root': 'x', 'color': 'blue'}
    values = {'model': {'name': 'toy', 'size': 4}, 'dataset': data, 'validation': data}
    config = parse_config(ExperimentConfig, values, where='here')
    assert isinstance(config.model, ToyConfig)
    assert (config.model.size, config.validation.color) == (4, 'blue')
    assert parse_config(ExperimentConfig, yaml.safe_load(dump_config(config)), where='x') == config
    with pytest.raises(ConfigError, match=r'model\.sise: unknown key; expected some of .*size'):
        parse_config(ExperimentConfig, values | {'model': {'name': 'toy', 'sise': 4}}, where='x')


@pytest.mark.parametrize(
    ('values', 'problem'),
    [
        (
            {'model': {'name': 'third'}},
            r"model\.name: no 'third'; .* \['pointpillars', 'pointrcnn', 'second'\]",
        ),
        (
            {'dataset': {'name': 'kity', 'root': 'x'}},
            r"dataset\.name: no 'kity'; .*'folder', 'kitti'",
        ),
        ({'dataset': {'name': 'folder'}}, r'dataset\.root: Field required'),
        (
            {'training': {'schedule': 'steps'}},
            r"\.kind: no 'steps'; .*'one_cycle', 'step'",
        ),
        ({'training': {'schedule': {'milestones': [1]}}}, 'milestones: unknown key.*peak_beta1'),
        ({'training': {'schedule': 'step', 'epochs': 23}}, r'milestones \[23\] .* in 23 epochs'),
        ({'training': {'schedule': {'kind': 'step', 'milestones': [3, 2]}}}, 'once, in order'),
        (
            {'model': {'point_features': ['x', 'y', 'z', 'age']}},
            r"'z', 'age'\]: detectors read \['x'",
        ),
        ({'model': {'sweeps': 65}}, r'model\.sweeps: .*less than or equal to 64'),
        ({'model': {'neck': {'kind': 'pan'}}}, r"model\.neck\.kind: no 'pan'; choose from"),
        (
            {'model': {'neck': {'kind': 'fpn'}}},
            r'head\.scales \[1\.0\]: give one for each of the 3',
        ),
    ],
)
def test_what_cannot_be_chosen(values, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_config(ExperimentConfig, {'dataset': {'root': 'x'}} | values, where='here')


@pytest.mark.parametrize('text', ['- 1\n', 'a: [1\n'])
def test_broken_yaml(tmp_path, text):
    path = tmp_path / 'broken.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=r'broken\.yaml'):
        load_config(DetectorConfig, path)


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
        load_config(DetectorConfig, path)
    with pytest.raises(ConfigError, match='there 2 times'):
        apply_overrides({}, ('grid={a: 1, a: 2}',))


def test_merged_keys_may_be_replaced():
    text = 'near: &near {count: 1, reach: 2}\nfar: &far {<<: *near, reach: 9}\nall: {<<: *far}'
    values = parse_yaml(text)
    assert values['far'] == values['all'] == {'count': 1, 'reach': 9}


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match='no such file'):
        load_config(DetectorConfig, tmp_path / 'none.yaml')


def test_overrides_are_yaml_and_leave_their_argument_alone():
    values = {'grid': {'voxel_size': [1, 1, 1]}, 'width': 1}
    merged = apply_overrides(values, ('grid.voxel_size=[2, 2, 2]', 'head.x=true', 'width=0.5'))
    assert merged == {'grid': {'voxel_size': [2, 2, 2]}, 'width': 0.5, 'head': {'x': True}}
    assert values == {'grid': {'voxel_size': [1, 1, 1]}, 'width': 1}


@pytest.mark.parametrize(
    ('content', 'overrides', 'said'),
    [
        ('width: 2', ['width=-1'], ['command line:', '(--set width=-1)']),
        ('widths: 2', ['width=1'], ['model.yaml:', 'widths: unknown key; expected some of [']),
        ('widths: 2', ['grid.x=1'], ['model.yaml:', '(--set grid.x=1)', 'widths: unknown key']),
        ('', ['encoder_channels=3'], ['command line:', 'is now encoder.channels (--set encoder_']),
        ('', ['encoder=3'], ['command line:', '(--set encoder=3)']),
    ],
)
def test_who_is_blamed_for_a_wrong_value(tmp_path, content, overrides, said):
    path = tmp_path / 'model.yaml'
    path.write_text(f'name: pointpillars\n{content}\n')
    with pytest.raises(ConfigError) as refused:
        load_config(DetectorConfig, path, tuple(overrides))
    assert all(part in str(refused.value) for part in said), str(refused.value)
    assert 'model.yaml' in str(refused.value) or 'command line' in said[0]
    assert 'model.yaml' not in str(refused.value) or 'model.yaml' in said[0]


@pytest.mark.parametrize('override', ['width', '=3'])
def test_malformed_override(override):
    with pytest.raises(ConfigError, match=r'key\.sub=value'):
        apply_overrides({}, (override,))


@pytest.mark.parametrize('cls', [PointPillarsConfig, SimulationConfig])
def test_dump_reads_back_the_same(cls):
    config = parse_config(cls, {}, where='defaults')
    assert parse_config(cls, yaml.safe_load(dump_config(config)), where='dump') == config


@pytest.mark.parametrize('path', shipped_configs('models'), ids=lambda path: path.stem)
def test_shipped_models_are_valid(path):
    load_config(DetectorConfig, path)


@pytest.mark.parametrize('path', shipped_configs('experiments'), ids=lambda path: path.stem)
def test_shipped_experiments_are_valid(path):
    assert isinstance(load_experiment(path), ExperimentConfig)


def test_experiment_names_a_shipped_model(tmp_path):
    path = tmp_path / 'experiment.yaml'
    path.write_text('model: pointpillars_4x\ndataset: {root: data}\n')
    assert load_experiment(path, ('training.epochs=3',)).model.width == 0.5
    other = ('model.width=0.125', 'model=pointpillars_small_16x')  # a name, then parts of it
    assert load_experiment(path, other[1:]).model.width == 0.25
    assert load_experiment(path, other).model.width == 0.125
    with pytest.raises(ConfigError, match="none shipped of the name 'nothing'"):
        load_experiment(path, ('model=nothing',))
    path.write_text('model: pointpillars_5x\ndataset: {root: data}\n')
    with pytest.raises(ConfigError, match=r"'pointpillars_5x'; choose from .*pointpillars_4x"):
        load_experiment(path)


@pytest.mark.parametrize(
    ('values', 'problem'),
    [
        ({'neck': {'strides': [1, 1, 1]}}, r'neck\.strides .* do not .* strides \[2, 4, 8\]'),
        ({'backbone': {'strides': [3, 2, 2]}}, 'not a multiple of the stride 12'),
        ({'backbone': {'strides': [0, 2, 2]}}, 'greater than or equal to 1'),
        ({'backbone': {'layers': [3, 5]}}, 'must all have the same number of stages'),
        ({'neck': {'channels': [128]}}, 'must all have the same number of stages'),
    ],
)
def test_stages_that_do_not_fit_are_refused(values, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_config(DetectorConfig, values, where='here')


def test_head_stride_follows_from_the_strides():
    assert PointPillarsConfig().head_strides == (2,)
    changes = {'backbone': {'strides': (1, 2, 2)}, 'neck': {'strides': (1, 2, 4)}}
    assert PointPillarsConfig(**changes).head_strides == (1,)


def test_maps_of_classes_are_named_written_or_both():
    where = {'name': 'kitti', 'root': 'data'}
    for value, expected in (
        ({'Van': 'Car'}, {'Van': 'Car'}),
        ('autoware', CLASS_MAPS['autoware']),
        (['autoware', {'CAR': 'Auto'}], {**CLASS_MAPS['autoware'], 'CAR': 'Auto'}),
    ):
        config = parse_config(KittiConfig, {**where, 'class_map': value}, where='x')
        assert config.class_map == expected
    assert parse_class_map(['autoware', 'CAR=Auto'])['CAR'] == 'Auto'
    with pytest.raises(ConfigError, match="'kiti' is no map of classes"):
        parse_config(KittiConfig, {**where, 'class_map': 'kiti'}, where='x')
    with pytest.raises(ConfigError, match='--class-map Van=: expected NAME=CLASS'):
        parse_class_map(['Van='])
