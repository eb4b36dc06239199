# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Import of OpenPCDet's PointRCNN; the numbers are compared in models/test_pointrcnn_parity.py."""

from __future__ import annotations

import pytest
import yaml

from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet, our_name, read_config
from pointdistiller_core.errors import CheckpointError, ConfigError


@pytest.fixture
def folder(shared_data):
    return shared_data / 'openpcdet_pointrcnn'


@pytest.fixture
def settings(folder):
    return yaml.safe_load((folder / 'pointrcnn_narrow.yaml').read_text(encoding='utf-8'))


def write(tmp_path, settings):
    path = tmp_path / 'changed.yaml'
    path.write_text(yaml.safe_dump(settings), encoding='utf-8')
    return path


def test_configuration_is_translated(folder):
    config = read_config(folder / 'pointrcnn_narrow.yaml')
    assert config.name == 'pointrcnn'
    assert config.sample.num_points == 16384
    assert config.backbone.radii[0] == (0.1, 0.5)
    assert config.backbone.channels[1] == ((32, 32, 48), (32, 40, 56))
    assert config.head.mean_sizes['Cyclist'] == (1.76, 0.6, 1.73)
    assert config.head.label_margin == 0.2
    assert config.refinement.num_points == (128, 32)
    assert config.refinement.num_neighbors == (16, 16)
    assert config.targets.class_iou == (0.45, 0.6)
    assert config.detection.nms_iou_threshold == 0.1


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        (
            'backbone_3d.SA_modules.2.mlps.1.4.running_var',
            'backbone.levels.2.scales.1.1.norm.running_var',
        ),
        ('backbone_3d.FP_modules.3.mlp.3.weight', 'backbone.propagation.3.layers.1.linear.weight'),
        ('point_head.cls_layers.6.bias', 'classifier.2.linear.bias'),
        ('point_head.box_layers.1.weight', 'regressor.0.norm.weight'),
        ('roi_head.SA_modules.2.mlps.0.0.weight', 'refinement.levels.2.scales.0.0.linear.weight'),
        ('roi_head.cls_layers.1.bias', 'refinement.classifier.0.norm.bias'),
        ('roi_head.cls_layers.4.weight', 'refinement.classifier.1.linear.weight'),
        ('roi_head.reg_layers.7.bias', 'refinement.regressor.2.linear.bias'),
        ('roi_head.xyz_up_layer.2.weight', 'refinement.point_layers.1.0.weight'),
        ('roi_head.merge_down_layer.0.bias', 'refinement.merge.0.bias'),
        ('roi_head.something', 'roi_head.something'),
    ],
)
def test_names_by_hand(theirs, ours):
    assert our_name(theirs, 'pointrcnn') == ours


def test_checkpoints_of_other_detectors_are_named(folder, shared_data):
    other = shared_data / 'openpcdet'
    with pytest.raises(CheckpointError, match='two stages, as PointRCNN; the YAML file is of sec'):
        import_openpcdet(folder / 'pointrcnn_narrow.pth', other / 'second_narrow.yaml')
    with pytest.raises(CheckpointError, match=r'has a 3D backbone.*is of pointrcnn'):
        import_openpcdet(other / 'second_narrow.pth', folder / 'pointrcnn_narrow.yaml')


def test_all_unsupported_settings_are_listed(settings, tmp_path):
    model = settings['MODEL']
    model['POINT_HEAD']['TARGET_CONFIG']['GT_EXTRA_WIDTH'] = [0.2, 0.1, 0.2]
    model['ROI_HEAD']['ROI_POINT_POOL']['POOL_EXTRA_WIDTH'] = [1.0, 1.0, 1.0]
    model['ROI_HEAD']['SA_CONFIG']['NPOINTS'] = [128, 32]
    model['ROI_HEAD']['USE_BN'] = True
    settings['CLASS_NAMES'] = ['Car', 'Pedestrian']
    with pytest.raises(ConfigError) as error:
        read_config(write(tmp_path, settings))
    for part in (
        'GT_EXTRA_WIDTH is [0.2, 0.1, 0.2], supported is the same along all axes',
        'POOL_EXTRA_WIDTH is [1.0, 1.0, 1.0]',
        'NPOINTS does not end with -1',
        'USE_BN is True, supported is False',
        'mean_size has 3 sizes, supported is one per class',
    ):
        assert part in str(error.value)


def test_missing_settings_are_listed(settings, tmp_path):
    del settings['MODEL']['ROI_HEAD']['XYZ_UP_LAYER']
    del settings['MODEL']['POINT_HEAD']['TARGET_CONFIG']
    with pytest.raises(ConfigError, match=r'lacks MODEL\.ROI_HEAD\.XYZ_UP_LAYER') as error:
        read_config(write(tmp_path, settings))
    assert 'lacks MODEL.POINT_HEAD.TARGET_CONFIG.GT_EXTRA_WIDTH' in str(error.value)
