# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The network against OpenPCDet's own numbers for a real sweep, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
import math
from types import SimpleNamespace

from golden_numbers import TOLERANCE, assert_same_statistics
import numpy as np
import pytest
import torch

from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet
from pointdistiller_core.geometry.box_coding import decode_boxes, resolve_headings
from pointdistiller_core.models import build_detector
from pointdistiller_core.models.stages.pillar_encoder import scatter_to_bev

OFFSET = 0.78539


@dataclass(frozen=True)
class Run:
    """OpenPCDet's numbers and ours."""

    expected: dict[str, np.ndarray]
    ours: SimpleNamespace


@pytest.fixture(scope='module')
def run(shared_data) -> Run:
    folder = shared_data / 'openpcdet'
    config, state = import_openpcdet(
        folder / 'pointpillar_narrow.pth', folder / 'pointpillar_narrow.yaml'
    )
    detector = build_detector(config).eval()
    detector.load_state_dict(state)
    points = torch.from_numpy(np.load(folder / 'frame_000008.npz')['points'])
    with torch.inference_mode():
        ours = run_stages(detector, points)
    with np.load(folder / 'pointpillar_narrow_000008.npz') as expected:
        return Run(dict(expected), ours)


def run_stages(detector, points) -> SimpleNamespace:
    pillars = detector.prepare([points])
    features = detector.encoder(pillars)
    bev = scatter_to_bev(
        features, pillars.coords, batch_size=1, bev_shape=detector.config.grid.bev_shape
    )
    neck = detector.neck(detector.backbone(bev))
    output = detector(pillars)
    levels = detector.backbone(torch.zeros_like(bev))
    empty = [
        (level, upsample(level))
        for level, upsample in zip(levels, detector.neck.upsamplers, strict=True)
    ]
    (found,) = detector.detect(output)
    return SimpleNamespace(
        pillars=pillars,
        features=features,
        bev=bev[0],
        neck=neck[0][0],
        output=output,
        found=found,
        empty=empty,
    )


def assert_close(ours: torch.Tensor, expected: np.ndarray) -> None:
    ours = ours.numpy()
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() <= TOLERANCE * np.abs(expected).max()


def assert_same_boxes(ours: torch.Tensor, expected: np.ndarray) -> None:
    """Headings modulo a turn: OpenPCDet does not wrap its own."""
    difference = ours.numpy() - expected
    difference[..., 6] = (difference[..., 6] + math.pi) % (2 * math.pi) - math.pi
    assert (np.abs(difference) <= TOLERANCE * np.maximum(1, np.abs(expected))).all()


def at_positions(run: Run, per_anchor: torch.Tensor) -> torch.Tensor:
    """(P, 6, D) of the sampled positions of the head's map."""
    height, width, anchors = run.expected['head_shape']
    rows, columns = torch.from_numpy(run.expected['head_pos_yx']).long().T
    return per_anchor.view(height, width, anchors, -1)[rows, columns]


def decoded(run: Run) -> torch.Tensor:
    """Boxes of all anchors with resolved headings."""
    output = run.ours.output
    boxes = decode_boxes(output.box_residuals[0], output.anchors)
    bins = output.direction_logits[0].argmax(dim=1)
    boxes[:, 6] = resolve_headings(boxes[:, 6], bins, OFFSET)
    return boxes


def test_pillars(run):
    pillars = run.ours.pillars
    assert np.array_equal(pillars.points.numpy(), run.expected['voxels'])
    assert np.array_equal(pillars.coords.numpy(), run.expected['voxel_coords'])
    assert np.array_equal(pillars.num_points.numpy(), run.expected['voxel_num_points'])


def test_pillar_features(run):
    assert_close(run.ours.features[:2000], run.expected['vfe_features_first2000'])
    assert_same_statistics(run.ours.features, run.expected['vfe_features__stats'])


def test_bev_map(run):
    bev_features = run.ours.bev
    rows, columns = run.expected['bev_pos_yx'].T
    assert bev_features.shape == tuple(run.expected['spatial_features__shape'])
    assert_close(bev_features[:, rows, columns].T, run.expected['bev_at_pos'])
    assert_same_statistics(bev_features, run.expected['spatial_features__stats'])


@pytest.mark.parametrize('stage', [0, 1, 2])
def test_stages_on_an_empty_map(run, stage):
    # Whatever their names say, the file's statistics of single stages are those of a map of
    # zeros: on the sweep its deblocks do not add up to its own input of the head.
    level, upsampled = run.ours.empty[stage]
    assert_same_statistics(level, run.expected[f'backbone_2d.blocks.{stage}__stats'])
    assert_same_statistics(upsampled, run.expected[f'backbone_2d.deblocks.{stage}__stats'])


def test_input_of_the_head(run):
    bev_features = run.ours.neck
    rows, columns = run.expected['feat2d_pos_yx'].T
    assert bev_features.shape == tuple(run.expected['spatial_features_2d__shape'])
    assert_close(bev_features[:, rows, columns].T, run.expected['feat2d_at_pos'])
    assert_same_statistics(bev_features, run.expected['spatial_features_2d__stats'])


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        ('class_logits', 'cls_preds'),
        ('box_residuals', 'box_preds'),
        ('direction_logits', 'dir_cls_preds'),
    ],
)
def test_head(run, ours, theirs):
    (per_anchor,) = getattr(run.ours.output, ours)
    assert_close(at_positions(run, per_anchor).flatten(1), run.expected[theirs])
    assert_same_statistics(per_anchor, run.expected[f'{theirs}__stats'])


def test_anchors(run):
    anchors = run.ours.output.anchors
    height, width, _ = run.expected['head_shape']
    grid = anchors.view(height, width, 6, 7)
    assert_close(at_positions(run, anchors), run.expected['anchors'])
    assert_same_statistics(anchors, run.expected['anchors__stats'])
    assert_close(grid[0, :, 0, 0], run.expected['anchor_x'])
    assert_close(grid[:, 0, 0, 1], run.expected['anchor_y'])


def test_decoded_boxes(run):
    boxes = decoded(run)
    assert_same_boxes(at_positions(run, boxes), run.expected['decoded_boxes'])
    boxes[:, 6] = (boxes[:, 6] - OFFSET).remainder(2 * math.pi) + OFFSET  # OpenPCDet's range
    assert_same_statistics(boxes, run.expected['decoded_boxes__stats'])


def test_scores(run):
    scores = run.ours.output.class_logits[0].amax(dim=1).sigmoid()
    assert_same_statistics(scores, run.expected['scores__stats'])
    assert (scores >= 0.1).sum() == run.expected['num_candidates']


def test_best_500(run):
    scores, labels = run.ours.output.class_logits[0].sigmoid().max(dim=1)
    indices = torch.from_numpy(run.expected['top500_anchor_index']).long()
    assert set(scores.topk(500).indices.tolist()) == set(indices.tolist())
    assert_close(scores[indices], run.expected['top500_scores'])
    assert torch.equal(labels[indices] + 1, torch.from_numpy(run.expected['top500_labels']))
    assert_same_boxes(decoded(run)[indices], run.expected['top500_boxes'])


@pytest.mark.parametrize('iou', ['shapely', 'pcdet_iou'])
def test_final_boxes(run, iou):
    found = run.ours.found
    assert_close(found.scores, run.expected[f'final_{iou}_scores'])
    assert (found.labels.numpy() + 1 == run.expected[f'final_{iou}_labels']).all()
    assert_same_boxes(found.boxes, run.expected[f'final_{iou}_boxes'])
