# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Import of mmdetection3d's checkpoints; numbers: models/test_mmdetection3d_parity.py."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pointdistiller_core.deploy.importers import import_checkpoint
from pointdistiller_core.deploy.importers.mmdetection3d import our_name
from pointdistiller_core.errors import CheckpointError, ConfigError

GENERATOR = ('model', 'pts_bbox_head', 'anchor_generator')


@pytest.fixture
def golden(shared_data) -> tuple[dict[str, Any], dict[str, Any]]:
    """A small checkpoint, and its settings."""
    folder = shared_data / 'mmdet3d_nuscenes'
    content = torch.load(folder / 'pointpillars_fpn_nus_narrow.pth', weights_only=True)
    return content, yaml.safe_load((folder / 'pointpillars_fpn_nus_narrow.yaml').read_text())


def write(folder: Path, content: Any, settings: Any) -> tuple[Path, Path]:
    checkpoint, config = folder / 'a.pth', folder / 'a.yaml'
    torch.save(content, checkpoint)
    config.write_text(yaml.safe_dump(settings))
    return checkpoint, config


def change(settings: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = deepcopy(settings)
    node = changed
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return changed


def test_settings_are_translated(golden, tmp_path):
    imported = import_checkpoint(*write(tmp_path, *golden))
    config = imported.config
    assert config.class_names[0] == 'car'
    assert len(config.class_names) == 10
    assert (config.sweeps, config.point_features[3:]) == (11, ('intensity', 'age'))
    assert (config.encoder.hidden, config.encoder.channels) == (24, 32)
    assert config.encoder.columns == ('x', 'y', 'z', 'age')
    assert config.encoder.center_axes == 'xyz'
    assert (config.voxels.max_voxels, config.voxels.max_voxels_training) == (40000, 30000)
    assert config.head.scales == (1, 2, 4)
    assert config.head.anchors['size_3'].size == (0.4, 0.4, 1)
    assert config.anchor_configs[0].unmatched_iou == 0.3
    loss = config.loss
    assert (loss.box, loss.velocity, loss.direction) == (1, 0.2, 0.2)
    assert config.detection.max_candidates == 1000
    assert 'axes: sensor' in ' '.join(imported.notes)


def test_settings_of_release_1_0_stand_at_their_older_places(golden, tmp_path):
    content, settings = golden
    model = settings['model']
    model['pts_voxel_layer'] = model.pop('data_preprocessor')['voxel_layer']
    model['pts_neck']['type'] = 'FPN'
    assert import_checkpoint(*write(tmp_path, content, settings)).config.voxels.max_points == 64


def test_an_encoder_without_heights_above_the_center_is_recognized(golden, tmp_path):
    content, settings = golden
    name = 'pts_voxel_encoder.vfe_layers.0.linear.weight'
    content['state_dict'][name] = content['state_dict'][name][:, :9].clone()
    imported = import_checkpoint(*write(tmp_path, content, settings))
    assert imported.config.encoder.center_axes == 'xy'
    content['state_dict'][name] = content['state_dict'][name][:, :8].clone()
    with pytest.raises(CheckpointError, match='reads 8 numbers of a point; with 4 columns, 9 or'):
        import_checkpoint(*write(tmp_path, content, settings))


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('pts_voxel_encoder.vfe_layers.0.norm.bias', 'encoder.hidden.norm.bias'),
        ('pts_voxel_encoder.vfe_layers.1.linear.weight', 'encoder.linear.weight'),
        ('pts_backbone.blocks.1.0.weight', 'backbone.stages.1.0.0.weight'),
        ('pts_backbone.blocks.2.16.running_var', 'backbone.stages.2.5.1.running_var'),
        ('pts_neck.lateral_convs.2.bn.weight', 'neck.laterals.2.1.weight'),
        ('pts_neck.fpn_convs.0.conv.weight', 'neck.outputs.0.0.weight'),
        ('img_backbone.conv1.weight', 'img_backbone.conv1.weight'),
    ],
)
def test_names_by_hand(theirs, ours):
    assert our_name(theirs) == ours


def test_boxes_of_older_releases_are_refused(golden, tmp_path):
    content, settings = golden
    content['meta']['mmdet3d_version'] = '0.17.1'
    with pytest.raises(CheckpointError, match=r'0\.17\.1, where boxes are width, length'):
        import_checkpoint(*write(tmp_path, content, settings))
    del content['meta']['mmdet3d_version']
    older = change(settings, (*GENERATOR, 'sizes'), [[0.866, 2.5981, 1.0]])
    with pytest.raises(CheckpointError, match='anchors are wider than long'):
        import_checkpoint(*write(tmp_path, content, older))


@pytest.mark.parametrize(
    ('path', 'value', 'problem'),
    [
        (('model', 'pts_backbone', 'type'), 'SECONDX', "supported is 'SECOND'"),
        (('model', 'pts_neck', 'num_outs'), 4, r'num_outs is 4, supported is here 3'),
        (('model', 'train_cfg', 'pts', 'code_weight'), [1] * 7, 'code_weight is'),
        (('model', 'train_cfg', 'pts', 'assigner', 'min_pos_iou'), 0.2, 'supported is here 0.3'),
        ((*GENERATOR, 'custom_values'), [0], 'custom_values'),
        ((*GENERATOR, 'ranges'), [[-40, -50, -1.8, 50, 50, -1.8]], 'is not the point_cloud_range'),
        (('model', 'pts_voxel_encoder', 'in_channels'), 3, 'in_channels is none of'),
        (('model', 'test_cfg', 'pts'), {}, r'lacks model\.test_cfg\.pts\.score_thr'),
    ],
)
def test_what_does_not_exist_here_is_listed(golden, tmp_path, path, value, problem):
    content, settings = golden
    with pytest.raises(ConfigError, match=problem):
        import_checkpoint(*write(tmp_path, content, change(settings, path, value)))


def test_classes_without_names(golden, tmp_path):
    content, settings = golden
    names = content['meta'].pop('CLASSES')
    with pytest.raises(ConfigError, match='names the 10 classes'):
        import_checkpoint(*write(tmp_path, content, settings))
    with pytest.raises(ConfigError, match='10 classes, but their names are'):
        import_checkpoint(*write(tmp_path, content, settings | {'class_names': ['car']}))
    found = import_checkpoint(*write(tmp_path, content, settings | {'class_names': names}))
    assert list(found.config.class_names) == names


@pytest.mark.parametrize(
    'missing', ['pts_bbox_head.conv_reg.weight', 'pts_neck.fpn_convs.0.bn.bias']
)
def test_a_missing_weight_is_named(golden, tmp_path, missing):
    content, settings = golden
    del content['state_dict'][missing]
    with pytest.raises(CheckpointError, match=r'head\.conv\.weight|neck\.outputs\.0\.1\.bias'):
        import_checkpoint(*write(tmp_path, content, settings))


@pytest.mark.parametrize('content', [{'model_state': {}}, [1], {'state_dict': {'a': 1}}])
def test_other_checkpoints(golden, tmp_path, content):
    with pytest.raises(
        CheckpointError, match="no weights under state_dict; is it mmdetection3d's"
    ):
        import_checkpoint(*write(tmp_path, content, golden[1]))
