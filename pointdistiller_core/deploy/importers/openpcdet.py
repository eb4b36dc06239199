# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Import of OpenPCDet's checkpoints; the numbers stay the same.

Only this module and `openpcdet_pointrcnn` know OpenPCDet's keys, names and layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any

import torch
from torch import Tensor

from pointdistiller_core.config import (
    AnchorDetectorConfig,
    DetectorConfig,
    PointPillarsConfig,
    PointRcnnConfig,
    SecondConfig,
    parse_config,
)
from pointdistiller_core.deploy.bundle import build_with_weights
from pointdistiller_core.deploy.importers import openpcdet_pointrcnn as pointrcnn
from pointdistiller_core.deploy.importers.checkpoints import load_checkpoint, read_settings
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import build_detector

_VOXELS = 'DATA_CONFIG.DATA_PROCESSOR.transform_points_to_voxels'
_BACKBONE = 'MODEL.BACKBONE_2D'
_HEAD = 'MODEL.DENSE_HEAD'
_ANCHORS = f'{_HEAD}.ANCHOR_GENERATOR_CONFIG'
_WEIGHTS = f'{_HEAD}.LOSS_CONFIG.LOSS_WEIGHTS'
_DETECTION = 'MODEL.POST_PROCESSING'

# Our keys, and OpenPCDet's.
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
_SINGLE = ('anchor_sizes', 'anchor_bottom_heights')  # lists of one entry
# Settings that change the network and have only one value here, and OpenPCDet's defaults.
_ONLY = {
    'DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list': ['x', 'y', 'z', 'intensity'],
    f'{_BACKBONE}.USE_CONV_FOR_NO_STRIDE': False,
    f'{_HEAD}.NAME': 'AnchorHeadSingle',
    f'{_HEAD}.CLASS_AGNOSTIC': False,
    f'{_HEAD}.USE_DIRECTION_CLASSIFIER': True,
    f'{_HEAD}.NUM_DIR_BINS': 2,
    f'{_HEAD}.DIR_LIMIT_OFFSET': 0.0,
    f'{_HEAD}.TARGET_ASSIGNER_CONFIG.BOX_CODER': 'ResidualCoder',
}
_HEAD_PARTS = ('conv_cls', 'conv_box', 'conv_dir_cls')  # in the order of `AnchorHead`'s channels


@dataclass(frozen=True)
class _Family:
    """What is special to a detector of OpenPCDet's.

    Attributes:
        config: our configuration of it.
        needed: keys beside `keys`.
        only: settings that change the network and have only one value here.
        values: our keys that no key of theirs has.
        our_name: our name of a weight, or the same.
        keys: our keys, and theirs.
        unsupported: lines about further settings that cannot be had.
    """

    config: type[DetectorConfig]
    needed: tuple[str, ...]
    only: Mapping[str, Any]
    values: Callable[[Mapping[str, Any]], dict[str, Any]]
    our_name: Callable[[str], str]
    keys: Mapping[str, str]
    unsupported: Callable[[Mapping[str, Any], _Family], list[str]]

    @property
    def has_anchors(self) -> bool:
        """Whether it has a head with anchors."""
        return issubclass(self.config, AnchorDetectorConfig)


def import_openpcdet(
    checkpoint: Path, config_yaml: Path
) -> tuple[DetectorConfig, dict[str, Tensor]]:
    """Read an OpenPCDet checkpoint and the YAML file that it was trained with.

    Args:
        checkpoint: `.pth`, read as data: nothing in it is executed.
        config_yaml: must be complete; the file that `_BASE_CONFIG_` names is not read.

    Returns:
        The configuration, and the weights under our names.

    Raises:
        ConfigError: the YAML file is missing, lacks a key or asks for what does not exist here.
        CheckpointError: missing, damaged, not OpenPCDet's, of another detector, or weights that
            do not fit the configuration; lists their names.
    """
    config = read_config(config_yaml)
    state = read_state(checkpoint)
    _check_family(state, config.name, checkpoint)
    state = _join_head({our_name(name, config.name): t for name, t in state.items()})
    _lay_out(state, config)
    build_with_weights(config, state, where=str(checkpoint))
    return config, state


def read_state(checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint under OpenPCDet's names.

    Raises:
        CheckpointError: missing, damaged or not OpenPCDet's.
    """
    content = load_checkpoint(checkpoint)
    state = content.get('model_state') if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise CheckpointError(f"{checkpoint}: no weights under model_state; is it OpenPCDet's?")
    return {name: tensor for name, tensor in state.items() if name != 'global_step'}


def _check_family(state: Mapping[str, Tensor], name: str, checkpoint: Path) -> None:
    parts = {key.partition('.')[0] for key in state}
    found, has = 'pointpillars', 'has no 3D backbone'
    if 'roi_head' in parts:
        found, has = 'pointrcnn', 'has two stages, as PointRCNN'
    elif 'backbone_3d' in parts:
        found, has = 'second', 'has a 3D backbone, as SECOND'
    if found != name:
        raise CheckpointError(f'{checkpoint}: {has}; the YAML file is of {name}')


def _lay_out(state: dict[str, Tensor], config: DetectorConfig) -> None:
    """Bring weights into our shapes: convolutions over single points are products.

    Sparse kernels as spconv 2.1 keeps them, (outputs, z, y, x, inputs), from older layouts.

    spconv 1 has (z, y, x, inputs, outputs), 2.0 (z, y, x, outputs, inputs). Which one it is, the
    channels of the configuration tell; where inputs and outputs are as many, the other layers do.
    """
    with torch.device('meta'):
        expected = build_detector(config).state_dict()
    for name, own in expected.items():
        if own.dim() == 2 and name in state:
            state[name] = state[name].flatten(1) if state[name].dim() > 2 else state[name]
    kernels = {name for name, own in expected.items() if own.dim() == 5 and name in state}
    orders = [
        order
        for order in _KERNEL_ORDERS
        if all(
            state[name].dim() == 5 and state[name].permute(order).shape == expected[name].shape
            for name in kernels
        )
    ]
    for name in kernels if orders else ():
        state[name] = state[name].permute(orders[0]).contiguous()


def read_config(config_yaml: Path) -> DetectorConfig:
    """Our configuration of the detector that an OpenPCDet YAML file describes.

    Raises:
        ConfigError: missing, not YAML, or lists what it lacks, or what does not exist here.
    """
    settings = dict(_flatten(read_settings(config_yaml)))
    name = settings.get('MODEL.NAME')
    if (ours := _NAMES.get(str(name))) is None:
        raise ConfigError(
            f'{config_yaml}: MODEL.NAME is {name!r}; only {", ".join(_NAMES)} can be imported '
            'so far'
        )
    family = _FAMILIES[ours]
    if problems := _missing(settings, family) or family.unsupported(settings, family):
        raise ConfigError('\n  '.join([f'{config_yaml}: cannot be imported:', *problems]))
    return parse_config(family.config, _our_values(settings, family), where=str(config_yaml))


def our_name(name: str, family: str) -> str:
    """Our name of an OpenPCDet weight of a detector; an unknown name stays as it is."""
    name = _FAMILIES[family].our_name(name)
    name = re.sub(r'^backbone_2d\.deblocks\.', 'neck.upsamplers.', name)
    if not (match := re.match(r'^backbone_2d\.blocks\.(\d+)\.(\d+)\.(.+)$', name)):
        return name
    stage, position, rest = match.groups()
    # a block is a padding without weights, then convolutions, each with norm and ReLU
    layer, part = divmod(int(position) - 1, 3)
    return f'backbone.stages.{stage}.{layer}.{part}.{rest}'


def _join_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the head into one convolution; parts that do not fit stay, to be reported."""
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


def _missing(settings: Mapping[str, Any], family: _Family) -> list[str]:
    needed = [*family.keys.values(), *family.needed]
    for name in settings.get('CLASS_NAMES', ()) if family.has_anchors else ():
        needed += [f'{_ANCHORS}.{name}.{key}' for key in (*_SINGLE, *_ANCHOR_KEYS.values())]
    problems = [f'lacks {path}' for path in needed if path not in settings]
    if problems and (base := settings.get('DATA_CONFIG._BASE_CONFIG_')):
        problems.append(f'({base} is not read: copy from it what it has of these)')
    return problems


def _unsupported_values(settings: Mapping[str, Any], only: Mapping[str, Any]) -> list[str]:
    return [
        f'{path} is {settings[path]!r}, supported is {value!r}'
        for path, value in only.items()
        if settings.get(path, value) != value
    ]


def _unsupported_anchors(settings: Mapping[str, Any], family: _Family) -> list[str]:
    names = settings['CLASS_NAMES']
    centers = {f'{_ANCHORS}.{name}.align_center': False for name in names}
    problems = _unsupported_values(settings, {**_ONLY, **family.only, **centers})
    prefix = f'{_ANCHORS}.'
    anchors = [path.removeprefix(prefix) for path in settings if path.startswith(prefix)]
    order = list(dict.fromkeys(path.partition('.')[0] for path in anchors))
    if order != names:
        problems.append(f'{_ANCHORS} is for {order}, supported is the order of {names}')
    singles = [f'{_ANCHORS}.{name}.{key}' for name in names for key in _SINGLE]
    return problems + [
        f'{path} is {settings[path]!r}, supported is a single entry'
        for path in (*family.needed, *singles)
        if len(settings[path]) != 1
    ]


def _unsupported_points(settings: Mapping[str, Any], family: _Family) -> list[str]:
    return _unsupported_values(settings, family.only) + pointrcnn.unsupported(settings)


def _our_values(settings: Mapping[str, Any], family: _Family) -> dict[str, Any]:
    values = family.values(settings)
    for ours, theirs in family.keys.items():
        section, _, key = ours.rpartition('.')
        target = values.setdefault(section, {}) if section else values
        target.setdefault(key, settings[theirs])
    if family.has_anchors:
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


def _our_pillar_name(name: str) -> str:
    return re.sub(r'^vfe\.pfn_layers\.0\.', 'encoder.', name)


def _our_second_name(name: str) -> str:
    match = re.match(r'^backbone_3d\.(conv_input|conv_out|conv\d)\.(?:(\d)\.)?(\d)\.(.+)$', name)
    if not match:
        return name
    block, layer, part, rest = match.groups()
    kind = 'norm' if part == '1' else 'conv'
    if block == 'conv_out':
        return f'encoder.output.{kind}.{rest}'
    # their first block is a convolution of its own and then one of ours
    stage, place = (0, 0) if block == 'conv_input' else (int(block[4:]) - 1, int(layer or 0))
    if block == 'conv1':
        place += 1
    return f'encoder.stages.{stage}.{place}.{kind}.{rest}'


_NAMES = {'PointPillar': 'pointpillars', 'SECONDNet': 'second', 'PointRCNN': 'pointrcnn'}
_FAMILIES = {
    'pointpillars': _Family(
        PointPillarsConfig,
        ('MODEL.VFE.NUM_FILTERS',),
        {
            'MODEL.VFE.WITH_DISTANCE': False,
            'MODEL.VFE.USE_ABSLOTE_XYZ': True,
            'MODEL.VFE.USE_NORM': True,
        },
        lambda settings: {'encoder': {'channels': settings['MODEL.VFE.NUM_FILTERS'][0]}},
        _our_pillar_name,
        _KEYS,
        _unsupported_anchors,
    ),
    'second': _Family(
        SecondConfig,
        (),
        {'MODEL.VFE.NAME': 'MeanVFE', 'MODEL.BACKBONE_3D.NAME': 'VoxelBackBone8x'},
        lambda _: {},
        _our_second_name,
        _KEYS,
        _unsupported_anchors,
    ),
    'pointrcnn': _Family(
        PointRcnnConfig,
        pointrcnn.NEEDED,
        pointrcnn.ONLY,
        pointrcnn.our_values,
        pointrcnn.our_name,
        pointrcnn.KEYS,
        _unsupported_points,
    ),
}
# To (outputs, z, y, x, inputs): as it is, from spconv 1, from spconv 2.0.
_KERNEL_ORDERS = ((0, 1, 2, 3, 4), (4, 0, 1, 2, 3), (3, 0, 1, 2, 4))
