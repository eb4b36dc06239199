# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""OpenPCDet's PointRCNN: its settings, and the names of its weights."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any

_SAMPLE = 'DATA_CONFIG.DATA_PROCESSOR.sample_points.NUM_POINTS'
_LEVELS = 'MODEL.BACKBONE_3D.SA_CONFIG'
_HEAD = 'MODEL.POINT_HEAD'
_SIZES = f'{_HEAD}.TARGET_CONFIG.BOX_CODER_CONFIG'
_MARGIN = f'{_HEAD}.TARGET_CONFIG.GT_EXTRA_WIDTH'
_STAGE = 'MODEL.ROI_HEAD'
_NMS = f'{_STAGE}.NMS_CONFIG'
_ROIS = f'{_STAGE}.TARGET_CONFIG'
_DETECTION = 'MODEL.POST_PROCESSING'

# Our keys, and OpenPCDet's.
KEYS = {
    'class_names': 'CLASS_NAMES',
    'sample.point_cloud_range': 'DATA_CONFIG.POINT_CLOUD_RANGE',
    'sample.num_points': f'{_SAMPLE}.test',
    'backbone.num_points': f'{_LEVELS}.NPOINTS',
    'backbone.radii': f'{_LEVELS}.RADIUS',
    'backbone.num_neighbors': f'{_LEVELS}.NSAMPLE',
    'backbone.channels': f'{_LEVELS}.MLPS',
    'backbone.propagation': 'MODEL.BACKBONE_3D.FP_MLPS',
    'head.class_channels': f'{_HEAD}.CLS_FC',
    'head.box_channels': f'{_HEAD}.REG_FC',
    'proposals.max_candidates': f'{_NMS}.TEST.NMS_PRE_MAXSIZE',
    'proposals.nms_iou_threshold': f'{_NMS}.TEST.NMS_THRESH',
    'proposals.max_proposals': f'{_NMS}.TEST.NMS_POST_MAXSIZE',
    'proposals.nms_iou_threshold_training': f'{_NMS}.TRAIN.NMS_THRESH',
    'proposals.max_proposals_training': f'{_NMS}.TRAIN.NMS_POST_MAXSIZE',
    'refinement.pooled_points': f'{_STAGE}.ROI_POINT_POOL.NUM_SAMPLED_POINTS',
    'refinement.depth_scale': f'{_STAGE}.ROI_POINT_POOL.DEPTH_NORMALIZER',
    'refinement.point_channels': f'{_STAGE}.XYZ_UP_LAYER',
    'refinement.num_points': f'{_STAGE}.SA_CONFIG.NPOINTS',
    'refinement.radii': f'{_STAGE}.SA_CONFIG.RADIUS',
    'refinement.num_neighbors': f'{_STAGE}.SA_CONFIG.NSAMPLE',
    'refinement.channels': f'{_STAGE}.SA_CONFIG.MLPS',
    'refinement.class_channels': f'{_STAGE}.CLS_FC',
    'refinement.box_channels': f'{_STAGE}.REG_FC',
    'targets.num_proposals': f'{_ROIS}.ROI_PER_IMAGE',
    'targets.foreground_share': f'{_ROIS}.FG_RATIO',
    'targets.easy_iou': f'{_ROIS}.CLS_BG_THRESH_LO',
    'targets.hard_share': f'{_ROIS}.HARD_BG_RATIO',
    'targets.box_iou': f'{_ROIS}.REG_FG_THRESH',
    'loss.point_class': f'{_HEAD}.LOSS_CONFIG.LOSS_WEIGHTS.point_cls_weight',
    'loss.point_box': f'{_HEAD}.LOSS_CONFIG.LOSS_WEIGHTS.point_box_weight',
    'loss.classification': f'{_STAGE}.LOSS_CONFIG.LOSS_WEIGHTS.rcnn_cls_weight',
    'loss.box': f'{_STAGE}.LOSS_CONFIG.LOSS_WEIGHTS.rcnn_reg_weight',
    'loss.corner': f'{_STAGE}.LOSS_CONFIG.LOSS_WEIGHTS.rcnn_corner_weight',
    'detection.score_threshold': f'{_DETECTION}.SCORE_THRESH',
    'detection.class_wise_nms': f'{_DETECTION}.NMS_CONFIG.MULTI_CLASSES_NMS',
    'detection.nms_iou_threshold': f'{_DETECTION}.NMS_CONFIG.NMS_THRESH',
    'detection.max_candidates': f'{_DETECTION}.NMS_CONFIG.NMS_PRE_MAXSIZE',
    'detection.max_detections': f'{_DETECTION}.NMS_CONFIG.NMS_POST_MAXSIZE',
}
NEEDED = (f'{_SIZES}.mean_size', _MARGIN, f'{_ROIS}.CLS_BG_THRESH', f'{_ROIS}.CLS_FG_THRESH')
# Settings that change the network and have only one value here, and OpenPCDet's defaults.
ONLY = {
    'DATA_CONFIG.POINT_FEATURE_ENCODING.used_feature_list': ['x', 'y', 'z', 'intensity'],
    'MODEL.BACKBONE_3D.NAME': 'PointNet2MSG',
    f'{_LEVELS}.USE_XYZ': True,
    f'{_HEAD}.NAME': 'PointHeadBox',
    f'{_HEAD}.CLASS_AGNOSTIC': False,
    f'{_HEAD}.USE_POINT_FEATURES_BEFORE_FUSION': False,
    f'{_HEAD}.TARGET_CONFIG.BOX_CODER': 'PointResidualCoder',
    f'{_SIZES}.use_mean_size': True,
    f'{_STAGE}.NAME': 'PointRCNNHead',
    f'{_STAGE}.CLASS_AGNOSTIC': True,
    f'{_STAGE}.ROI_POINT_POOL.POOL_EXTRA_WIDTH': [0.0, 0.0, 0.0],
    f'{_STAGE}.DP_RATIO': 0.0,
    f'{_STAGE}.USE_BN': False,
    f'{_STAGE}.SA_CONFIG.USE_XYZ': True,
    f'{_NMS}.TRAIN.MULTI_CLASSES_NMS': False,
    f'{_NMS}.TEST.MULTI_CLASSES_NMS': False,
    f'{_ROIS}.BOX_CODER': 'ResidualCoder',
    f'{_ROIS}.SAMPLE_ROI_BY_EACH_CLASS': True,
    f'{_ROIS}.CLS_SCORE_TYPE': 'cls',
}


def unsupported(settings: Mapping[str, Any]) -> list[str]:
    """A line for each setting that cannot be had here."""
    margins, sizes = settings[_MARGIN], settings[f'{_SIZES}.mean_size']
    problems = []
    if len(set(margins)) != 1:
        problems.append(f'{_MARGIN} is {margins!r}, supported is the same along all axes')
    if len(sizes) != len(settings['CLASS_NAMES']):
        problems.append(f'{_SIZES}.mean_size has {len(sizes)} sizes, supported is one per class')
    if settings[f'{_STAGE}.SA_CONFIG.NPOINTS'][-1:] != [-1]:
        problems.append(f'{_STAGE}.SA_CONFIG.NPOINTS does not end with -1 (all points)')
    return problems


def our_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Our values of what is not simply one of OpenPCDet's."""
    sizes = zip(settings['CLASS_NAMES'], settings[f'{_SIZES}.mean_size'], strict=True)
    levels = ('num_points', 'radii', 'num_neighbors')
    return {
        'head': {'mean_sizes': dict(sizes), 'label_margin': settings[_MARGIN][0]},
        'targets': {
            'class_iou': [settings[f'{_ROIS}.CLS_{kind}_THRESH'] for kind in ('BG', 'FG')]
        },
        # the last level is of all points
        'refinement': {name: settings[KEYS[f'refinement.{name}']][:-1] for name in levels},
    }


def our_name(name: str) -> str:
    """Our name of a weight; an unknown name stays as it is."""
    for theirs, ours in _NAMES.items():
        if match := re.match(theirs, name):
            *numbers, position, rest = match.groups()
            return f'{ours.format(*numbers)}.{_part(int(position), ours)}.{rest}'
    if match := re.match(r'^roi_head\.xyz_up_layer\.(\d+)\.(.+)$', name):
        return f'refinement.point_layers.{int(match[1]) // 2}.0.{match[2]}'
    return re.sub(r'^roi_head\.merge_down_layer\.', 'refinement.merge.', name)


def _part(position: int, ours: str) -> str:
    """Layer and part of it; a layer is a product, a norm and a ReLU."""
    if ours.startswith('refinement.') and 'levels' not in ours and position > 2:
        position -= 1  # a dropout behind the first layer
    layer, part = divmod(position, 3)
    return f'{layer}.{"norm" if part == 1 else "linear"}'


_NAMES = {
    r'^backbone_3d\.SA_modules\.(\d+)\.mlps\.(\d+)\.(\d+)\.(.+)$': 'backbone.levels.{}.scales.{}',
    r'^backbone_3d\.FP_modules\.(\d+)\.mlp\.(\d+)\.(.+)$': 'backbone.propagation.{}.layers',
    r'^point_head\.cls_layers\.(\d+)\.(.+)$': 'classifier',
    r'^point_head\.box_layers\.(\d+)\.(.+)$': 'regressor',
    r'^roi_head\.SA_modules\.(\d+)\.mlps\.(\d+)\.(\d+)\.(.+)$': 'refinement.levels.{}.scales.{}',
    r'^roi_head\.cls_layers\.(\d+)\.(.+)$': 'refinement.classifier',
    r'^roi_head\.reg_layers\.(\d+)\.(.+)$': 'refinement.regressor',
}
