# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Import of OpenPCDet checkpoints; the numbers are compared in models/test_openpcdet_parity.py."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pointdistiller_core.config import AnchorConfig
from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet, our_name, read_config
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import build_detector


def anchors_of(name: str, size: list[float]) -> dict[str, Any]:
    return {
        'class_name': name,
        'anchor_sizes': [size],
        'anchor_rotations': [0, 1.57],
        'anchor_bottom_heights': [-1.78],
        'align_center': False,
        'feature_map_stride': 1,
        'matched_threshold': 0.6,
        'unmatched_threshold': 0.45,
    }


def openpcdet_settings() -> dict[str, Any]:
    """A small detector in OpenPCDet's words."""
    return {
        'CLASS_NAMES': ['Car', 'Truck'],
        'DATA_CONFIG': {
            'POINT_CLOUD_RANGE': [0, -8, -3, 16, 8, 1],
            'DATA_PROCESSOR': [
                {'NAME': 'mask_points_and_boxes_outside_range', 'REMOVE_OUTSIDE_BOXES': True},
                {
                    'NAME': 'transform_points_to_voxels',
                    'VOXEL_SIZE': [1, 1, 4],
                    'MAX_POINTS_PER_VOXEL': 20,
                    'MAX_NUMBER_OF_VOXELS': {'train': 100, 'test': 200},
                },
            ],
        },
        'MODEL': {
            'NAME': 'PointPillar',
            'VFE': {'NAME': 'PillarVFE', 'NUM_FILTERS': [8]},
            'BACKBONE_2D': {
                'LAYER_NUMS': [1],
                'LAYER_STRIDES': [1],
                'NUM_FILTERS': [6],
                'UPSAMPLE_STRIDES': [1],
                'NUM_UPSAMPLE_FILTERS': [4],
            },
            'DENSE_HEAD': {
                'NAME': 'AnchorHeadSingle',
                'DIR_OFFSET': 0.5,
                'ANCHOR_GENERATOR_CONFIG': [
                    anchors_of('Car', [3.9, 1.6, 1.56]),
                    anchors_of('Truck', [8, 2.5, 3]),
                ],
                'LOSS_CONFIG': {
                    'LOSS_WEIGHTS': {'cls_weight': 1.5, 'loc_weight': 2.5, 'dir_weight': 0.3}
                },
            },
            'POST_PROCESSING': {
                'SCORE_THRESH': 0.2,
                'NMS_CONFIG': {
                    'MULTI_CLASSES_NMS': False,
                    'NMS_THRESH': 0.05,
                    'NMS_PRE_MAXSIZE': 300,
                    'NMS_POST_MAXSIZE': 30,
                },
            },
        },
    }


def openpcdet_weights() -> OrderedDict[str, torch.Tensor]:
    """Random weights of that detector under OpenPCDet's names."""
    shapes = {'vfe.pfn_layers.0.linear.weight': (8, 10)}
    shapes |= norm('vfe.pfn_layers.0.norm', 8)
    shapes |= {'backbone_2d.blocks.0.1.weight': (6, 8, 3, 3)} | norm('backbone_2d.blocks.0.2', 6)
    shapes |= {'backbone_2d.blocks.0.4.weight': (6, 6, 3, 3)} | norm('backbone_2d.blocks.0.5', 6)
    shapes |= {'backbone_2d.deblocks.0.0.weight': (6, 4, 1, 1)}
    shapes |= norm('backbone_2d.deblocks.0.1', 4)
    for part, channels in {'cls': 8, 'box': 28, 'dir_cls': 8}.items():
        shapes[f'dense_head.conv_{part}.weight'] = (channels, 4, 1, 1)
        shapes[f'dense_head.conv_{part}.bias'] = (channels,)
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return OrderedDict(global_step=torch.tensor([7]), **weights)


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ('weight', 'bias', 'running_mean', 'running_var')
    return {f'{name}.{part}': (channels,) for part in parts} | {f'{name}.num_batches_tracked': ()}


@pytest.fixture
def config_yaml(tmp_path) -> Path:
    return write_yaml(tmp_path, openpcdet_settings())


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return write_checkpoint(tmp_path, openpcdet_weights())


def write_yaml(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / 'pointpillar.yaml'
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding='utf-8')
    return path


def write_checkpoint(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    path = folder / 'checkpoint_epoch_80.pth'
    torch.save({'epoch': 80, 'model_state': weights, 'version': 'pcdet+0.6.0'}, path)
    return path


def test_configuration_is_translated(config_yaml):
    config = read_config(config_yaml)
    assert config.class_names == ('Car', 'Truck')
    assert config.grid.point_cloud_range == (0, -8, -3, 16, 8, 1)
    assert config.grid.voxel_size == (1, 1, 4)
    assert config.voxels.model_dump() == {
        'max_points': 20,
        'max_voxels': 200,
        'max_voxels_training': 100,
    }
    assert (config.width, config.encoder.channels) == (1, 8)
    assert (config.backbone.layers, config.backbone.strides) == ((1,), (1,))
    assert (config.backbone.channels, config.neck.strides, config.neck.channels) == (
        (6,),
        (1,),
        (4,),
    )
    assert config.head.anchors['Truck'] == AnchorConfig(
        size=(8, 2.5, 3), bottom=-1.78, yaws=(0, 1.57), matched_iou=0.6, unmatched_iou=0.45
    )
    assert config.head.direction_offset == 0.5
    loss = config.loss
    assert (loss.classification, loss.box, loss.direction) == (1.5, 2.5, 0.3)
    assert config.detection.model_dump() == {
        'score_threshold': 0.2,
        'score_thresholds': (),
        'nms_iou_threshold': 0.05,
        'voting_iou': None,
        'max_candidates': 300,
        'max_detections': 30,
        'class_wise_nms': False,
        'labels_per_box': 'best',
        'size_bounds': (),  # so that its boxes are OpenPCDet's, whatever their size
    }


def test_weights_fit_and_none_is_lost(checkpoint, config_yaml):
    config, state = import_openpcdet(checkpoint, config_yaml)
    build_detector(config).load_state_dict(state)
    given = openpcdet_weights()
    assert torch.equal(state['encoder.norm.weight'], given['vfe.pfn_layers.0.norm.weight'])
    assert torch.equal(
        state['backbone.stages.0.1.0.weight'], given['backbone_2d.blocks.0.4.weight']
    )
    heads = [given[f'dense_head.conv_{part}.bias'] for part in ('cls', 'box', 'dir_cls')]
    assert torch.equal(state['head.conv.bias'], torch.cat(heads))
    numbers = sum(tensor.numel() for tensor in given.values()) - 1  # but global_step
    assert sum(tensor.numel() for tensor in state.values()) == numbers


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('vfe.pfn_layers.0.linear.weight', 'encoder.linear.weight'),
        ('backbone_2d.blocks.2.1.weight', 'backbone.stages.2.0.0.weight'),
        ('backbone_2d.blocks.1.17.bias', 'backbone.stages.1.5.1.bias'),
        ('backbone_2d.deblocks.1.1.running_var', 'neck.upsamplers.1.1.running_var'),
        ('backbone_3d.conv1.weight', 'backbone_3d.conv1.weight'),
    ],
)
def test_names_by_hand(theirs, ours):
    assert our_name(theirs, 'pointpillars') == ours


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('conv_input.0.weight', 'stages.0.0.conv.weight'),
        ('conv_input.1.running_mean', 'stages.0.0.norm.running_mean'),
        ('conv1.0.0.weight', 'stages.0.1.conv.weight'),
        ('conv2.0.0.weight', 'stages.1.0.conv.weight'),
        ('conv4.2.1.bias', 'stages.3.2.norm.bias'),
        ('conv_out.1.weight', 'output.norm.weight'),
    ],
)
def test_names_of_second_by_hand(theirs, ours):
    assert our_name(f'backbone_3d.{theirs}', 'second') == f'encoder.{ours}'


def test_a_checkpoint_of_the_other_detector_is_named(shared_data):
    folder = shared_data / 'openpcdet'
    with pytest.raises(CheckpointError, match='3D backbone, as SECOND; the YAML file is of point'):
        import_openpcdet(folder / 'second_narrow.pth', folder / 'pointpillar_narrow.yaml')
    with pytest.raises(CheckpointError, match='has no 3D backbone; the YAML file is of second'):
        import_openpcdet(folder / 'pointpillar_narrow.pth', folder / 'second_narrow.yaml')


@pytest.mark.parametrize('order', [(1, 2, 3, 4, 0), (1, 2, 3, 0, 4)])  # spconv 1, spconv 2.0
def test_kernels_of_every_spconv(shared_data, tmp_path, order):
    folder = shared_data / 'openpcdet'
    content = torch.load(folder / 'second_narrow.pth', weights_only=True)
    kernels = [name for name, own in content['model_state'].items() if own.dim() == 5]
    for name in kernels:
        content['model_state'][name] = content['model_state'][name].permute(order).contiguous()
    torch.save(content, tmp_path / 'old.pth')
    _, old = import_openpcdet(tmp_path / 'old.pth', folder / 'second_narrow.yaml')
    _, new = import_openpcdet(folder / 'second_narrow.pth', folder / 'second_narrow.yaml')
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_weights_of_another_width_are_listed(tmp_path, config_yaml):
    weights = openpcdet_weights()
    weights['backbone_2d.blocks.0.4.weight'] = torch.zeros(5, 6, 3, 3)
    del weights['backbone_2d.deblocks.0.1.bias']
    weights['dense_head.conv_extra.weight'] = torch.zeros(1)
    with pytest.raises(CheckpointError) as error:
        import_openpcdet(write_checkpoint(tmp_path, weights), config_yaml)
    message = str(error.value)
    assert 'backbone.stages.0.1.0.weight (5, 6, 3, 3), not (6, 6, 3, 3)' in message
    assert 'neck.upsamplers.0.1.bias' in message
    assert 'dense_head.conv_extra.weight' in message


def test_a_head_without_directions_is_reported(tmp_path, config_yaml):
    weights = openpcdet_weights()
    for kind in ('weight', 'bias'):
        del weights[f'dense_head.conv_dir_cls.{kind}']
    with pytest.raises(CheckpointError, match=r'missing \(2\): head.conv.bias, head.conv.weight'):
        import_openpcdet(write_checkpoint(tmp_path, weights), config_yaml)


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(tmp_path, config_yaml):
    victim, path = tmp_path / 'victim', tmp_path / 'evil.pth'
    torch.save({'model_state': Evil(victim)}, path)
    with pytest.raises(CheckpointError, match='more in it than weights'):
        import_openpcdet(path, config_yaml)
    assert not victim.exists()


@pytest.mark.parametrize('keep', [0, 1, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(checkpoint, config_yaml, keep):
    content = checkpoint.read_bytes()
    size = keep if isinstance(keep, int) else int(keep * len(content))
    checkpoint.write_bytes(content[:size])
    with pytest.raises(CheckpointError, match=r'checkpoint_epoch_80.pth: damaged'):
        import_openpcdet(checkpoint, config_yaml)


@pytest.mark.parametrize('content', [{'state_dict': {}}, [1, 2], {'model_state': {'a': 1}}])
def test_other_checkpoints_are_refused(tmp_path, config_yaml, content):
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="no weights under model_state; is it OpenPCDet's"):
        import_openpcdet(path, config_yaml)


def test_missing_files(tmp_path, checkpoint, config_yaml):
    with pytest.raises(CheckpointError, match=r'none.pth: no such checkpoint'):
        import_openpcdet(tmp_path / 'none.pth', config_yaml)
    with pytest.raises(ConfigError, match=r'none.yaml: no such file'):
        import_openpcdet(checkpoint, tmp_path / 'none.yaml')


@pytest.mark.parametrize('text', ['a: [1', 'just text', '', '- 1\n- 2'])
def test_a_file_of_something_else(tmp_path, text):
    path = tmp_path / 'other.yaml'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(ConfigError, match=r'other.yaml: (not valid YAML|MODEL.NAME is None)'):
        read_config(path)


def test_all_missing_keys_are_listed_with_the_base_file(tmp_path):
    settings = openpcdet_settings()
    settings['DATA_CONFIG'] = {'_BASE_CONFIG_': 'kitti_dataset.yaml'}
    del settings['MODEL']['DENSE_HEAD']['ANCHOR_GENERATOR_CONFIG'][1]
    with pytest.raises(ConfigError) as error:
        read_config(write_yaml(tmp_path, settings))
    message = str(error.value)
    assert 'lacks DATA_CONFIG.POINT_CLOUD_RANGE' in message
    assert 'lacks DATA_CONFIG.DATA_PROCESSOR.transform_points_to_voxels.VOXEL_SIZE' in message
    assert 'lacks MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG.Truck.anchor_sizes' in message
    assert 'kitti_dataset.yaml is not read' in message


def test_all_unsupported_settings_are_listed(tmp_path):
    settings = openpcdet_settings()
    settings['MODEL']['VFE'] = {'NUM_FILTERS': [8, 8], 'WITH_DISTANCE': True}
    anchors = settings['MODEL']['DENSE_HEAD']['ANCHOR_GENERATOR_CONFIG']
    anchors[0]['align_center'] = True
    anchors[1]['anchor_sizes'] = [[1, 1, 1], [2, 2, 2]]
    anchors.reverse()
    with pytest.raises(ConfigError) as error:
        read_config(write_yaml(tmp_path, settings))
    message = str(error.value)
    assert 'MODEL.VFE.WITH_DISTANCE is True, supported is False' in message
    assert 'MODEL.VFE.NUM_FILTERS is [8, 8], supported is a single entry' in message
    assert 'Car.align_center is True, supported is False' in message
    assert 'Truck.anchor_sizes is [[1, 1, 1], [2, 2, 2]], supported is a single' in message
    assert "is for ['Truck', 'Car'], supported is the order of ['Car', 'Truck']" in message


def test_a_value_that_is_no_configuration(tmp_path):
    settings = openpcdet_settings()
    settings['MODEL']['POST_PROCESSING']['SCORE_THRESH'] = 3.0
    with pytest.raises(ConfigError, match=r'pointpillar.yaml:\n.*score_threshold.*3.0'):
        read_config(write_yaml(tmp_path, settings))
