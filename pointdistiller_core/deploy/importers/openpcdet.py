# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Import of OpenPCDet's PointPillar checkpoints; the imported network computes the same numbers.

OpenPCDet's keys, names and layouts are known here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
import re
from typing import Any

import torch
from torch import Tensor
import yaml

from pointdistiller_core.config import PointPillarsConfig, parse_config, parse_yaml
from pointdistiller_core.deploy.bundle import build_with_weights
from pointdistiller_core.deploy.torch_files import load_torch_file
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.files import read_text

_VOXELS = 'DATA_CONFIG.DATA_PROCESSOR.transform_points_to_voxels'
_BACKBONE = 'MODEL.BACKBONE_2D'
_HEAD = 'MODEL.DENSE_HEAD'
_ANCHORS = f'{_HEAD}.ANCHOR_GENERATOR_CONFIG'
_WEIGHTS = f'{_HEAD}.LOSS_CONFIG.LOSS_WEIGHTS'
_DETECTION = 'MODEL.POST_PROCESSING'

# Our keys and where OpenPCDet has them.
_KEYS = {
    'class_names': 'CLASS_NAMES',
    'grid.point_cloud_range': 'DATA_CONFIG.POINT_CLOUD_RANGE',
    'grid.voxel_size': f'{_VOXELS}.VOXEL_SIZE',
    'voxels.max_points': f'{_VOXELS}.MAX_POINTS_PER_VOXEL',
    'voxels.max_voxels': f'{_VOXELS}.MAX_NUMBER_OF_VOXELS.test',
    'voxels.max_voxels_training': f'{_VOXELS}.MAX_NUMBER_OF_VOXELS.train',
    'backbone.layers': f'{_BACKBONE}.LAYER_NUMS',
    'backbone.strides': f'{_BACKBONE}.LAYER_STRIDES',
    'backbone.channels': f'{_BACKBONE}.NUM_FILTERS',
    'neck.strides': f'{_BACKBONE}.UPSAMPLE_STRIDES',
    'neck.channels': f'{_BACKBONE}.NUM_UPSAMPLE_FILTERS',
    'head.direction_offset': f'{_HEAD}.DIR_OFFSET',
    'loss.classification': f'{_WEIGHTS}.cls_weight',
    'loss.box': f'{_WEIGHTS}.loc_weight',
    'loss.direction': f'{_WEIGHTS}.dir_weight',
    'detection.score_threshold': f'{_DETECTION}.SCORE_THRESH',
    'detection.class_wise_nms': f'{_DETECTION}.NMS_CONFIG.MULTI_CLASSES_NMS',
    'detection.nms_iou_threshold': f'{_DETECTION}.NMS_CONFIG.NMS_THRESH',
    'detection.max_candidates': f'{_DETECTION}.NMS_CONFIG.NMS_PRE_MAXSIZE',
    'detection.max_detections': f'{_DETECTION}.NMS_CONFIG.NMS_POST_MAXSIZE',
}
# The same for the anchors of one class.
_ANCHOR_KEYS = {
    'yaws': 'anchor_rotations',
    'matched_iou': 'matched_threshold',
    'unmatched_iou': 'unmatched_threshold',
}
_SINGLE = ('anchor_sizes', 'anchor_bottom_heights')  # lists, of one entry here
# What changes the network and exists here in one form only; OpenPCDet's form of an absent key.
_ONLY = {
    'DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list': ['x', 'y', 'z', 'intensity'],
    'MODEL.VFE.WITH_DISTANCE': False,
    'MODEL.VFE.USE_ABSLOTE_XYZ': True,
    'MODEL.VFE.USE_NORM': True,
    f'{_BACKBONE}.USE_CONV_FOR_NO_STRIDE': False,
    f'{_HEAD}.NAME': 'AnchorHeadSingle',
    f'{_HEAD}.CLASS_AGNOSTIC': False,
    f'{_HEAD}.USE_DIRECTION_CLASSIFIER': True,
    f'{_HEAD}.NUM_DIR_BINS': 2,
    f'{_HEAD}.DIR_LIMIT_OFFSET': 0.0,
    f'{_HEAD}.TARGET_ASSIGNER_CONFIG.BOX_CODER': 'ResidualCoder',
}
_HEAD_PARTS = ('conv_cls', 'conv_box', 'conv_dir_cls')  # in the order of `AnchorHead`'s channels


def import_openpcdet(
    checkpoint: Path, config_yaml: Path
) -> tuple[PointPillarsConfig, dict[str, Tensor]]:
    """Read an OpenPCDet PointPillar checkpoint and the YAML file that it was trained with.

    Args:
        checkpoint: `.pth`, read as data: nothing in it is executed.
        config_yaml: complete in itself; the file that `_BASE_CONFIG_` names is not read.

    Returns:
        The configuration, and the weights under our names.

    Raises:
        ConfigError: the YAML file is missing, lacks a key or asks for what does not exist here.
        CheckpointError: missing, damaged, not OpenPCDet's, of another detector, or weights that
            do not fit the configuration; lists their names.
    """
    config = read_config(config_yaml)
    state = _join_head({our_name(name): t for name, t in read_state(checkpoint).items()})
    build_with_weights(config, state, where=str(checkpoint))
    return config, state


def read_state(checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a PointPillar checkpoint under OpenPCDet's names.

    Raises:
        CheckpointError: missing, damaged, not OpenPCDet's, or of another detector.
    """
    content = _load(checkpoint)
    state = content.get('model_state') if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise CheckpointError(f"{checkpoint}: no weights under model_state; is it OpenPCDet's?")
    if any(name.startswith('backbone.3d.') for name in state):
        raise CheckpointError(
            f'{checkpoint}: has a 3D backbone, as SECOND; only PointPillar can be imported so far'
        )
    return {name: tensor for name, tensor in state.items() if name != 'global_step'}


def read_config(config_yaml: Path) -> PointPillarsConfig:
    """Our configuration of the detector that an OpenPCDet YAML file describes.

    Raises:
        ConfigError: missing, not YAML, or lists what it lacks or asks for and does not exist here.
    """
    try:
        values = parse_yaml(read_text(config_yaml, ConfigError))
    except yaml.YAMLError as error:
        raise ConfigError(f'{config_yaml}: not valid YAML: {error}') from error
    settings = dict(_flatten(values))
    if (name := settings.get('MODEL.NAME')) != 'PointPillar':
        raise ConfigError(
            f'{config_yaml}: MODEL.NAME is {name!r}; only PointPillar can be imported so far'
        )
    if problems := _missing(settings) or _unsupported(settings):
        raise ConfigError('\n  '.join([f'{config_yaml}: cannot be imported:', *problems]))
    return parse_config(PointPillarsConfig, _our_values(settings), where=str(config_yaml))


def our_name(name: str) -> str:
    """Our name of an OpenPCDet weight; an unknown name stays as it is."""
    name = re.sub(r'^vfe\.pfn_layers\.0\.', 'encoder.', name)
    name = re.sub(r'^backbone_2d\.deblocks\.', 'neck.upsamplers.', name)
    if not (match := re.match(r'^backbone_2d\.blocks\.(\d+)\.(\d+)\.(.+)$', name)):
        return name
    stage, position, rest = match.groups()
    # a block is a padding without weights, then again and again convolution, norm, ReLU
    layer, part = divmod(int(position) - 1, 3)
    return f'backbone.stages.{stage}.{layer}.{part}.{rest}'


def _load(checkpoint: Path) -> Any:
    try:
        if checkpoint.exists() and not checkpoint.is_file():
            raise CheckpointError(f'{checkpoint}: not a file')
        return load_torch_file(checkpoint.read_bytes(), where=checkpoint)
    except FileNotFoundError as error:
        raise CheckpointError(f'{checkpoint}: no such checkpoint') from error
    except OSError as error:
        raise CheckpointError(f'{checkpoint}: cannot be read: {error.strerror}') from error


def _join_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our head is one convolution. Parts that do not fit together stay, and will be reported."""
    joined = dict(state)
    for kind in ('weight', 'bias'):
        names = [f'dense_head.{part}.{kind}' for part in _HEAD_PARTS]
        if all(name in state for name in names) and len({state[n].shape[1:] for n in names}) == 1:
            joined[f'head.conv.{kind}'] = torch.cat([joined.pop(name) for name in names])
    return joined


def _flatten(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted paths and their values; entries of a list of sections go by their name."""
    if isinstance(node, list) and node and all(isinstance(item, dict) for item in node):
        node = {item.get('NAME', item.get('class_name')): item for item in node}
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from _flatten(value, f'{path}.{key}' if path else str(key))


def _missing(settings: Mapping[str, Any]) -> list[str]:
    needed = [*_KEYS.values(), 'MODEL.VFE.NUM_FILTERS']
    for name in settings.get('CLASS_NAMES', ()):
        needed += [f'{_ANCHORS}.{name}.{key}' for key in (*_SINGLE, *_ANCHOR_KEYS.values())]
    problems = [f'lacks {path}' for path in needed if path not in settings]
    if problems and (base := settings.get('DATA_CONFIG._BASE_CONFIG_')):
        problems.append(f'({base} is not read: copy from it what it has of these)')
    return problems


def _unsupported(settings: Mapping[str, Any]) -> list[str]:
    names = settings['CLASS_NAMES']
    only = {**_ONLY, **{f'{_ANCHORS}.{name}.align_center': False for name in names}}
    problems = [
        f'{path} is {settings[path]!r}, supported is {value!r}'
        for path, value in only.items()
        if settings.get(path, value) != value
    ]
    prefix = f'{_ANCHORS}.'
    anchors = [path.removeprefix(prefix) for path in settings if path.startswith(prefix)]
    order = list(dict.fromkeys(path.partition('.')[0] for path in anchors))
    if order != names:
        problems.append(f'{_ANCHORS} is for {order}, supported is the order of {names}')
    singles = [f'{_ANCHORS}.{name}.{key}' for name in names for key in _SINGLE]
    return problems + [
        f'{path} is {settings[path]!r}, supported is a single entry'
        for path in ('MODEL.VFE.NUM_FILTERS', *singles)
        if len(settings[path]) != 1
    ]


def _our_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {'encoder': {'channels': settings['MODEL.VFE.NUM_FILTERS'][0]}}
    for ours, theirs in _KEYS.items():
        section, _, key = ours.rpartition('.')
        target = values.setdefault(section, {}) if section else values
        target[key] = settings[theirs]
    values['head']['anchors'] = {
        name: _our_anchors(settings, f'{_ANCHORS}.{name}') for name in settings['CLASS_NAMES']
    }
    return values


def _our_anchors(settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {
        'size': settings[f'{path}.anchor_sizes'][0],
        'bottom': settings[f'{path}.anchor_bottom_heights'][0],
        **{ours: settings[f'{path}.{theirs}'] for ours, theirs in _ANCHOR_KEYS.items()},
    }
