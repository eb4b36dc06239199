# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Import of mmdetection3d's PointPillars checkpoints for nuScenes; the numbers stay the same.

Only this module knows mmdetection3d's keys, names and layouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
import re
from typing import Any

import torch
from torch import Tensor

from pointdistiller_core.config import PointPillarsConfig, parse_config
from pointdistiller_core.deploy.bundle import build_with_weights
from pointdistiller_core.deploy.importers.checkpoints import Imported, load_checkpoint
from pointdistiller_core.errors import CheckpointError, ConfigError

SWEEPS = 11  # of its nuScenes pipeline: the key frame and ten before it
COLUMNS = {4: ('x', 'y', 'z', 'age'), 5: ('x', 'y', 'z', 'intensity', 'age')}
BOX_CODE = 9  # center, sizes and heading, then a velocity along x and y

_GENERATOR = 'model.pts_bbox_head.anchor_generator'
_ASSIGNER = 'model.train_cfg.pts.assigner'
_TEST = 'model.test_cfg.pts'
# Where newer releases keep what older ones kept elsewhere.
_MOVED = {'model.data_preprocessor.voxel_layer': 'model.pts_voxel_layer'}
# Our keys, and mmdetection3d's.
_KEYS = {
    'grid.point_cloud_range': 'model.pts_voxel_layer.point_cloud_range',
    'grid.voxel_size': 'model.pts_voxel_layer.voxel_size',
    'voxels.max_points': 'model.pts_voxel_layer.max_num_points',
    'backbone.layers': 'model.pts_backbone.layer_nums',
    'backbone.strides': 'model.pts_backbone.layer_strides',
    'backbone.channels': 'model.pts_backbone.out_channels',
    'neck.channels': 'model.pts_neck.out_channels',
    'head.scales': f'{_GENERATOR}.scales',
    'head.direction_offset': 'model.pts_bbox_head.dir_offset',
    'loss.classification': 'model.pts_bbox_head.loss_cls.loss_weight',
    'loss.focal_alpha': 'model.pts_bbox_head.loss_cls.alpha',
    'loss.focal_gamma': 'model.pts_bbox_head.loss_cls.gamma',
    'loss.smooth_l1_beta': 'model.pts_bbox_head.loss_bbox.beta',
    'loss.direction': 'model.pts_bbox_head.loss_dir.loss_weight',
    'detection.score_threshold': f'{_TEST}.score_thr',
    'detection.nms_iou_threshold': f'{_TEST}.nms_thr',
    'detection.max_candidates': f'{_TEST}.nms_pre',
    'detection.max_detections': f'{_TEST}.max_num',
}
_READ = (
    'model.pts_voxel_layer.max_voxels',
    'model.pts_voxel_encoder.in_channels',
    'model.pts_voxel_encoder.feat_channels',
    'model.pts_bbox_head.num_classes',
    'model.pts_bbox_head.loss_bbox.loss_weight',
    f'{_GENERATOR}.ranges',
    f'{_GENERATOR}.sizes',
    f'{_GENERATOR}.rotations',
    f'{_ASSIGNER}.pos_iou_thr',
    f'{_ASSIGNER}.neg_iou_thr',
    f'{_ASSIGNER}.min_pos_iou',
    'model.train_cfg.pts.code_weight',
)
# Settings that change the network and have only one value here; the others' defaults.
_ONLY = {
    'model.type': 'MVXFasterRCNN',
    'model.pts_voxel_encoder.type': 'HardVFE',
    'model.pts_voxel_encoder.with_distance': False,
    'model.pts_voxel_encoder.with_cluster_center': True,
    'model.pts_voxel_encoder.with_voxel_center': True,
    'model.pts_voxel_encoder.norm_cfg.eps': 1e-3,
    'model.pts_backbone.type': 'SECOND',
    'model.pts_backbone.norm_cfg.eps': 1e-3,
    'model.pts_neck.norm_cfg.eps': 1e-3,
    'model.pts_neck.act_cfg.type': 'ReLU',
    'model.pts_neck.start_level': 0,
    'model.pts_bbox_head.type': 'Anchor3DHead',
    'model.pts_bbox_head.use_direction_classifier': True,
    'model.pts_bbox_head.assigner_per_size': False,
    'model.pts_bbox_head.assign_per_class': False,
    'model.pts_bbox_head.diff_rad_by_sin': True,
    'model.pts_bbox_head.dir_limit_offset': 0,
    'model.pts_bbox_head.bbox_coder.type': 'DeltaXYZWLHRBBoxCoder',
    'model.pts_bbox_head.bbox_coder.code_size': BOX_CODE,
    f'{_GENERATOR}.type': 'AlignedAnchor3DRangeGenerator',
    f'{_GENERATOR}.align_corner': False,
    f'{_GENERATOR}.size_per_range': True,
    f'{_GENERATOR}.custom_values': [0, 0],
    f'{_TEST}.use_rotate_nms': True,
    f'{_TEST}.nms_across_levels': False,
    f'{_TEST}.min_bbox_size': 0,
}


def is_mmdetection3d(settings: Any) -> bool:
    """Whether settings are those of mmdetection3d, by the keys of its multi-modal detectors."""
    model = settings.get('model') if isinstance(settings, Mapping) else None
    return isinstance(model, Mapping) and 'pts_bbox_head' in model


def import_mmdetection3d(checkpoint: Path, settings: Any, config_file: Path) -> Imported:
    """Read a checkpoint of release 1.0 or later and the settings that it was trained with.

    Args:
        checkpoint: `.pth`, read as data: nothing in it is executed.
        settings: of the configuration file, with all that its bases say.
        config_file: where they come from, for messages.

    Raises:
        ConfigError: the settings lack a key or ask for what does not exist here; lists them.
        CheckpointError: missing, damaged, of an older release, or weights that do not fit the
            settings; lists their names.
    """
    flat = dict(_flatten(settings))
    for new, old in _MOVED.items():
        moved = {name: value for name, value in flat.items() if name.startswith(f'{new}.')}
        flat |= {name.replace(new, old): value for name, value in moved.items()}
    content = load_checkpoint(checkpoint)
    state, meta = _parts(content, checkpoint)
    _check_release(meta, flat, checkpoint)
    if problems := _missing(flat) or _unsupported(flat):
        raise ConfigError('\n  '.join([f'{config_file}: cannot be imported:', *problems]))
    names = _class_names(meta, settings, flat, config_file)
    values = _our_values(flat, names, _center_axes(state, flat, checkpoint))
    config = parse_config(PointPillarsConfig, values, where=str(config_file))
    ours = _join_head({our_name(name): tensor for name, tensor in state.items()})
    build_with_weights(config, ours, where=str(checkpoint))
    notes = (
        f'it reads x, y, z and age of {SWEEPS} merged sweeps, as its nuScenes pipeline gives them',
        "its x and y are the LiDAR's own, x to the right and y ahead on nuScenes: give "
        'dataset.axes: sensor where it is evaluated or trained on',
    )
    return Imported(config, ours, notes)


def our_name(name: str) -> str:
    """Our name of one of mmdetection3d's weights; an unknown name stays as it is."""
    name = re.sub(r'^pts_voxel_encoder\.vfe_layers\.0\.', 'encoder.hidden.', name)
    name = re.sub(r'^pts_voxel_encoder\.vfe_layers\.1\.', 'encoder.', name)
    if match := re.match(r'^pts_neck\.(lateral|fpn)_convs\.(\d+)\.(conv|bn)\.(.+)$', name):
        kind, level, part, rest = match.groups()
        ours = 'laterals' if kind == 'lateral' else 'outputs'
        return f'neck.{ours}.{level}.{0 if part == "conv" else 1}.{rest}'
    if match := re.match(r'^pts_backbone\.blocks\.(\d+)\.(\d+)\.(.+)$', name):
        stage, position, rest = match.groups()
        layer, part_number = divmod(int(position), 3)  # convolution, norm, ReLU
        return f'backbone.stages.{stage}.{layer}.{part_number}.{rest}'
    return name


def _parts(content: Any, checkpoint: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The weights of a checkpoint, and what it says about itself."""
    state = content.get('state_dict') if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise CheckpointError(f"{checkpoint}: no weights under state_dict; is it mmdetection3d's?")
    meta = content.get('meta')
    return dict(state), meta if isinstance(meta, Mapping) else {}


def _check_release(meta: Mapping[str, Any], flat: Mapping[str, Any], checkpoint: Path) -> None:
    """Check that boxes are length, width, height with a counter-clockwise heading."""
    version = str(meta.get('mmdet3d_version', ''))
    reason = ''
    if re.match(r'0\.', version):
        reason = f'it was written by mmdetection3d {version}'
    elif not version and any(size[0] < size[1] for size in flat.get(f'{_GENERATOR}.sizes', ())):
        reason = 'its anchors are wider than long, as before mmdetection3d 1.0'
    if reason:
        raise CheckpointError(
            f'{checkpoint}: {reason}, where boxes are width, length, height and headings '
            'clockwise; its numbers mean something else here, so it is not imported: take a '
            'checkpoint of release 1.0 or later'
        )


def _missing(flat: Mapping[str, Any]) -> list[str]:
    return [f'lacks {path}' for path in (*_KEYS.values(), *_READ) if path not in flat]


def _unsupported(flat: Mapping[str, Any]) -> list[str]:
    problems = [
        f'{path} is {flat[path]!r}, supported is {value!r}'
        for path, value in _ONLY.items()
        if flat.get(path, value) != value
    ]
    if (kind := flat.get('model.pts_neck.type', 'FPN')) not in ('FPN', 'mmdet.FPN'):
        problems.append(f"model.pts_neck.type is {kind!r}, supported is 'FPN'")
    levels = len(flat['model.pts_backbone.layer_nums'])
    expected = {
        'model.pts_neck.num_outs': levels,
        f'{_ASSIGNER}.min_pos_iou': flat[f'{_ASSIGNER}.neg_iou_thr'],
        'model.pts_bbox_head.feat_channels': flat['model.pts_neck.out_channels'],
    }
    problems += [
        f'{path} is {flat[path]!r}, supported is here {value!r}'
        for path, value in expected.items()
        if flat.get(path, value) != value
    ]
    weights = flat['model.train_cfg.pts.code_weight']
    if len(weights) != BOX_CODE or len(set(weights[:7])) != 1 or len(set(weights[7:])) != 1:
        problems.append(f'code_weight is {weights}, supported is one value for seven, one for two')
    if len(flat[f'{_GENERATOR}.ranges']) != 1 or len(flat[f'{_GENERATOR}.ranges'][0]) != 6:
        problems.append(f'{_GENERATOR}.ranges has not one entry of six numbers')
    elif not _same_area(flat[f'{_GENERATOR}.ranges'][0], flat[_KEYS['grid.point_cloud_range']]):
        problems.append(f'{_GENERATOR}.ranges is not the point_cloud_range')
    if flat['model.pts_voxel_encoder.in_channels'] not in COLUMNS:
        problems.append(f'model.pts_voxel_encoder.in_channels is none of {[*COLUMNS]}')
    if len(flat['model.pts_voxel_encoder.feat_channels']) != 2:
        problems.append('model.pts_voxel_encoder.feat_channels has not two entries')
    return problems


def _same_area(first: list[float], second: list[float]) -> bool:
    return [first[i] for i in (0, 1, 3, 4)] == [second[i] for i in (0, 1, 3, 4)]


def _class_names(
    meta: Mapping[str, Any], settings: Any, flat: Mapping[str, Any], config_file: Path
) -> list[str]:
    """The names of the classes, from the checkpoint or the settings."""
    about = meta.get('dataset_meta')
    about = about if isinstance(about, Mapping) else {}
    named = (
        *(meta.get('CLASSES'), about.get('classes'), about.get('CLASSES')),
        settings.get('class_names'),
    )
    names = next((list(each) for each in named if each), None)
    count = flat['model.pts_bbox_head.num_classes']
    if names is None:
        raise ConfigError(
            f'{config_file}: neither it (class_names) nor the checkpoint names the {count} classes'
        )
    if len(names) != count:
        raise ConfigError(f'{config_file}: {count} classes, but their names are {names}')
    return names


def _center_axes(state: Mapping[str, Tensor], flat: Mapping[str, Any], checkpoint: Path) -> str:
    """Whether points are given from the center of their cell in x and y, or also in z.

    Older releases leave z out, with the same settings; the weights tell.
    """
    columns = flat['model.pts_voxel_encoder.in_channels']
    weight = state.get('pts_voxel_encoder.vfe_layers.0.linear.weight')
    if weight is None or weight.dim() != 2:
        raise CheckpointError(f'{checkpoint}: no weights of pts_voxel_encoder.vfe_layers.0')
    from_center = weight.shape[1] - columns - 3
    if from_center not in (2, 3):
        raise CheckpointError(
            f'{checkpoint}: its encoder reads {weight.shape[1]} numbers of a point; with '
            f'{columns} columns, {columns + 5} or {columns + 6} are known'
        )
    return 'xyz'[:from_center]


def _our_values(
    flat: Mapping[str, Any], class_names: list[str], center_axes: str
) -> dict[str, Any]:
    training, inference = flat['model.pts_voxel_layer.max_voxels']
    hidden, channels = flat['model.pts_voxel_encoder.feat_channels']
    code_weights = flat['model.train_cfg.pts.code_weight']
    box_weight = flat['model.pts_bbox_head.loss_bbox.loss_weight']
    columns = COLUMNS[flat['model.pts_voxel_encoder.in_channels']]
    values: dict[str, Any] = {
        'class_names': class_names,
        'point_features': ['x', 'y', 'z', 'intensity', 'age'],
        'sweeps': SWEEPS,
        'voxels': {'max_voxels': inference, 'max_voxels_training': training},
        'encoder': {
            **{'hidden': hidden, 'channels': channels},
            **{'columns': list(columns), 'center_axes': center_axes},
        },
        'neck': {'kind': 'fpn'},
        'head': {
            'anchors': _our_anchors(flat),
            **{'assignment': 'shared', 'centers': 'cells', 'velocities': True},
        },
        'loss': {'box': box_weight * code_weights[0], 'velocity': box_weight * code_weights[7]},
        'detection': {'labels_per_box': 'all'},
    }
    for ours, theirs in _KEYS.items():
        section, _, key = ours.rpartition('.')
        values.setdefault(section, {})[key] = flat[theirs]
    return values


def _our_anchors(flat: Mapping[str, Any]) -> dict[str, Any]:
    common = {
        'bottom': flat[f'{_GENERATOR}.ranges'][0][2],
        'yaws': flat[f'{_GENERATOR}.rotations'],
        'matched_iou': flat[f'{_ASSIGNER}.pos_iou_thr'],
        'unmatched_iou': flat[f'{_ASSIGNER}.neg_iou_thr'],
    }
    sizes = flat[f'{_GENERATOR}.sizes']
    return {f'size_{number}': {'size': size, **common} for number, size in enumerate(sizes)}


def _join_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the head into one convolution; parts that do not fit stay, to be reported."""
    joined = dict(state)
    for kind in ('weight', 'bias'):
        names = [f'pts_bbox_head.conv_{part}.{kind}' for part in ('cls', 'reg', 'dir_cls')]
        parts = [state.get(name) for name in names]
        logits, codes, directions = parts
        if logits is None or codes is None or directions is None or len(codes) % BOX_CODE:
            continue
        by_anchor = codes.reshape(-1, BOX_CODE, *codes.shape[1:])
        boxes, velocities = by_anchor[:, :7].flatten(0, 1), by_anchor[:, 7:].flatten(0, 1)
        if len({part.shape[1:] for part in (logits, boxes, directions)}) == 1:
            joined[f'head.conv.{kind}'] = torch.cat([logits, boxes, directions, velocities])
            for name in names:
                del joined[name]
    return joined


def _flatten(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted paths and their values; tuples as lists."""
    if not isinstance(node, Mapping):
        yield path, _listed(node)
        return
    for key, value in node.items():
        yield from _flatten(value, f'{path}.{key}' if path else str(key))


def _listed(value: Any) -> Any:
    return [*map(_listed, value)] if isinstance(value, (list, tuple)) else value
