# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND against OpenPCDet's own numbers for a real sweep, stage by stage; and its sizes."""

from __future__ import annotations

from golden_numbers import TOLERANCE, assert_same_statistics
import numpy as np
import pytest
import torch

from pointdistiller_core.config import SecondConfig
from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet
from pointdistiller_core.models import build_detector, sketch_detector
from pointdistiller_core.models.layer import read_layers
from pointdistiller_core.models.stages.sparse_backbone import mean_features


@pytest.fixture(scope='module')
def expected(shared_data) -> dict[str, np.ndarray]:
    with np.load(shared_data / 'openpcdet' / 'second_narrow_000008.npz') as numbers:
        return dict(numbers)


@pytest.fixture(scope='module')
def detector(shared_data):
    folder = shared_data / 'openpcdet'
    config, state = import_openpcdet(folder / 'second_narrow.pth', folder / 'second_narrow.yaml')
    detector = build_detector(config).eval()
    detector.load_state_dict(state)
    return detector


@pytest.fixture(scope='module')
def seen(shared_data, detector):
    """Voxels, outputs of the layers by name, and the raw output of the sweep."""
    points = np.load(shared_data / 'openpcdet' / 'frame_000008.npz')['points']
    with torch.inference_mode(), read_layers(detector.layers()) as outputs:
        voxels = detector.prepare([torch.from_numpy(points)])
        return voxels, outputs, detector(voxels)


def assert_close(ours: torch.Tensor, expected: np.ndarray) -> None:
    assert ours.shape == expected.shape
    assert np.abs(ours.numpy() - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_voxels(seen, expected):
    voxels = seen[0]
    assert np.array_equal(voxels.points.numpy(), expected['voxels'])
    assert np.array_equal(voxels.coords.numpy(), expected['voxel_coords'])
    assert np.array_equal(voxels.num_points.numpy(), expected['voxel_num_points'])
    means = mean_features(voxels.points, voxels.num_points)
    assert_close(means[:2000], expected['vfe_features_first2000'])


@pytest.mark.parametrize(
    ('ours', 'theirs'), [(0, 'conv1'), (1, 'conv2'), (2, 'conv3'), (3, 'conv4'), (4, 'conv_out')]
)
def test_sparse_stages(seen, expected, ours, theirs):
    tensor = seen[1][f'middle.{ours}']
    assert len(tensor.sites) == expected[f'backbone_3d.{theirs}.num_sites']
    assert_same_statistics(tensor.features, expected[f'backbone_3d.{theirs}__stats'])


def test_map_and_neck(seen, expected, detector):
    bev = seen[1]['middle.4'].to_map()[0]
    rows, columns = torch.from_numpy(expected['bev_pos_yx']).long().T
    assert_close(bev[:, rows, columns].T, expected['bev_at_pos'])
    neck = seen[1]['neck'][0][0]
    rows, columns = torch.from_numpy(expected['feat2d_pos_yx']).long().T
    assert_close(neck[:, rows, columns].T, expected['feat2d_at_pos'])
    assert_same_statistics(neck, expected['spatial_features_2d__stats'])
    # As for PointPillars, the file's statistics of single stages are those of a map of zeros.
    with torch.inference_mode():
        levels = detector.backbone(torch.zeros_like(bev[None]))
    for stage, level in enumerate(levels):
        assert_same_statistics(level, expected[f'backbone_2d.blocks.{stage}__stats'])


def test_raw_outputs_and_boxes(seen, expected, detector):
    output = seen[2]
    height, width, anchors = expected['head_shape']
    rows, columns = torch.from_numpy(expected['head_pos_yx']).long().T
    for ours, theirs in (
        (output.class_logits, 'cls_preds'),
        (output.box_residuals, 'box_preds'),
        (output.direction_logits, 'dir_cls_preds'),
    ):
        maps = ours[0].view(height, width, anchors, -1)
        assert_close(maps[rows, columns].flatten(1), expected[theirs])
    (found,) = detector.detect(output)
    assert_close(found.scores, expected['final_shapely_scores'])
    assert (found.labels.numpy() + 1 == expected['final_shapely_labels']).all()


@pytest.mark.parametrize(('width', 'parameters'), [(1, 5.33e6), (0.5, 1.34e6), (0.25, 0.34e6)])
def test_parameters_are_the_published_ones(width, parameters):
    model = sketch_detector(SecondConfig(width=width))
    assert sum(own.numel() for own in model.parameters()) == pytest.approx(parameters, rel=0.02)
