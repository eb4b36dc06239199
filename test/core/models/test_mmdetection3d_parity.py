# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The nuScenes network against mmdetection3d's own numbers, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math
from types import SimpleNamespace

from golden_numbers import TOLERANCE, assert_same_statistics
import numpy as np
import pytest
import torch
from torch import Tensor

from pointdistiller_core.deploy.importers import import_checkpoint
from pointdistiller_core.geometry.box_coding import decode_boxes, direction_bins, encode_boxes
from pointdistiller_core.models import AnchorDetector, build_detector
from pointdistiller_core.models.boxes.targets import Labels, assign_shared_targets
from pointdistiller_core.models.layer import read_layers
from pointdistiller_core.models.stages.pillar_encoder import point_features, scatter_to_bev
from pointdistiller_core.pointcloud.voxels import Voxels
from pointdistiller_core.records import Batch

LEVELS = (0, 1, 2)
ANCHORS = 8  # of a cell


@dataclass(frozen=True)
class Run:
    """mmdetection3d's numbers and ours."""

    expected: dict[str, np.ndarray]
    detector: AnchorDetector
    ours: SimpleNamespace

    def at(self, level: int, maps: Tensor) -> Tensor:
        """(P, C) of the sampled cells of one level."""
        rows, columns = torch.from_numpy(self.expected[f'level{level}.pos_yx']).long().T
        return maps[:, rows, columns].T

    def per_cell(self, level: int, per_anchor: Tensor) -> Tensor:
        """(P, 8, D) of the sampled cells, of one level's part of all anchors."""
        of_level = torch.split(per_anchor, list(self.ours.output.sizes))[level]
        height, width = self.detector.config.head_shapes[level]
        rows, columns = torch.from_numpy(self.expected[f'level{level}.pos_yx']).long().T
        return of_level.view(height, width, ANCHORS, -1)[rows, columns]


@pytest.fixture(scope='module')
def run(shared_data) -> Run:
    folder = shared_data / 'mmdet3d_nuscenes'
    with np.load(folder / 'pointpillars_fpn_nus_narrow_forward.npz') as numbers:
        expected = dict(numbers)
    imported = import_checkpoint(
        folder / 'pointpillars_fpn_nus_narrow.pth', folder / 'pointpillars_fpn_nus_narrow.yaml'
    )
    detector = build_detector(imported.config).eval()
    assert isinstance(detector, AnchorDetector)
    detector.load_state_dict(imported.state)
    with torch.inference_mode():
        return Run(expected, detector, run_stages(detector, expected['points']))


def run_stages(detector: AnchorDetector, points: np.ndarray) -> SimpleNamespace:
    # The encoder skips the intensity, so its values do not matter.
    columns = np.insert(points, 3, 0.5, axis=1)
    pillars = detector.prepare([torch.from_numpy(columns)])
    with read_layers(detector.layers()) as outputs:
        output = detector(pillars)
    levels = detector.backbone(detector.encode(pillars))
    laterals = [
        lateral(level) for lateral, level in zip(detector.neck.laterals, levels, strict=True)
    ]
    (found,) = detector.detect(output)
    return SimpleNamespace(
        pillars=pillars, outputs=outputs, output=output, laterals=laterals, found=found
    )


def assert_close(ours: Tensor, expected: np.ndarray, scale: float | None = None) -> None:
    assert tuple(ours.shape) == expected.shape
    largest = np.abs(expected).max() if scale is None else scale
    assert np.abs(ours.numpy() - expected).max() <= TOLERANCE * largest


def of_slots(pillars: Voxels, used: Tensor, unused: Tensor) -> Tensor:
    """(P, 64, C) of all slots, from those of the used ones."""
    slots = unused.expand(*pillars.points.shape[:2], -1).clone()
    slots[torch.arange(64) < pillars.num_points[:, None]] = used
    return slots


def as_code(boxes: Tensor, velocities: Tensor) -> Tensor:
    """(..., 9) theirs: z of the lower face, and velocities."""
    lowered = boxes.clone()
    lowered[..., 2] -= boxes[..., 5] / 2
    return torch.cat([lowered, velocities], dim=-1)


def test_pillars(run):
    pillars, expected = run.ours.pillars, run.expected
    assert np.array_equal(pillars.coords.numpy(), expected['voxel_coors'])
    assert np.array_equal(pillars.num_points.numpy(), expected['voxel_num_points'])
    points = pillars.points[..., [0, 1, 2, 4]]
    assert np.array_equal(points[:200].numpy(), expected['voxels_first200'])
    assert np.array_equal(points[expected['voxel_sample']].numpy(), expected['voxels_sample'])


def test_two_layer_encoder(run):
    pillars, encoder, expected = run.ours.pillars, run.detector.encoder, run.expected
    sample = torch.from_numpy(expected['voxel_sample']).long()
    with torch.inference_mode():
        points = point_features(pillars, encoder.grid, columns=encoder.columns)
        values, zero, maxima = encoder.hidden(points, pillars)
    inputs = of_slots(pillars, points, torch.zeros(10))
    assert_close(inputs[sample], expected['vfe_input_sample'])
    assert_same_statistics(inputs, expected['vfe_input__stats'])
    first = of_slots(pillars, values, zero)
    first = torch.cat([first, maxima[:, None].expand_as(first)], dim=2)
    assert_close(first[sample], expected['vfe_layer0_sample'])
    assert_same_statistics(first, expected['vfe_layer0__stats'])
    features = run.ours.outputs['voxels']
    assert_close(features[:1000], expected['vfe_features_first1000'])
    assert_same_statistics(features, expected['vfe_features__stats'])


def test_map(run):
    pillars = run.ours.pillars
    features = run.ours.outputs['voxels']
    (bev,) = scatter_to_bev(features, pillars.coords, batch_size=1, bev_shape=(400, 400))
    rows, columns = run.expected['bev_pos_yx'].T
    assert_close(bev[:, rows, columns].T, run.expected['bev_at_pos'])
    assert_same_statistics(bev, run.expected['bev__stats'])


@pytest.mark.parametrize('level', LEVELS)
def test_backbone_and_pyramid(run, level):
    name = f'neck.{level}' if level else 'neck'
    stages = {
        'block': run.ours.outputs[f'backbone.{level}'][0],
        'lateral': run.ours.laterals[level][0],
        'neck': run.ours.outputs[name][0],
    }
    for stage, ours in stages.items():
        sampled = run.expected[f'level{level}.{stage}_at_pos']
        assert_close(run.at(level, ours)[: len(sampled)], sampled)
        assert_same_statistics(ours, run.expected[f'{stage}{level}__stats'])


@pytest.mark.parametrize('level', LEVELS)
def test_head(run, level):
    output = run.ours.output
    codes = torch.cat([output.box_residuals[0], output.velocities[0]], dim=1)
    parts = {'cls': output.class_logits[0], 'reg': codes, 'dir': output.direction_logits[0]}
    for name, ours in parts.items():
        sampled = run.per_cell(level, ours).flatten(1)
        assert_close(sampled, run.expected[f'level{level}.{name}_at_pos'])
        of_level = torch.split(ours, list(output.sizes))[level]
        assert_same_statistics(of_level, run.expected[f'{name}{level}__stats'])


@pytest.mark.parametrize('level', LEVELS)
def test_anchors_and_decoded_boxes(run, level):
    output = run.ours.output
    anchors = as_code(output.anchors, torch.zeros(len(output.anchors), 2))
    boxes = decode_boxes(output.box_residuals[0], output.anchors)
    decoded = as_code(boxes, output.velocities[0])
    for name, ours in {'anchors': anchors, 'decoded': decoded}.items():
        sampled = run.expected[f'level{level}.{name}_at_pos']
        difference = np.abs(run.per_cell(level, ours).numpy() - sampled)
        assert (difference <= TOLERANCE * np.maximum(1, np.abs(sampled))).all()
        of_level = torch.split(ours, list(output.sizes))[level]
        assert_same_statistics(of_level, run.expected[f'{name}{level}__stats'])


@pytest.mark.parametrize('level', LEVELS)
def test_the_best_1000_of_each_level(run, level):
    scores = run.ours.output.class_logits[0].amax(dim=1).sigmoid()
    best = torch.split(scores, list(run.ours.output.sizes))[level].topk(1000)
    assert set(best.indices.tolist()) == set(run.expected[f'level{level}.top_index'].tolist())
    assert_close(best.values, np.sort(run.expected[f'level{level}.top_max_score'])[::-1])


def test_final_boxes(run):
    found, expected = run.ours.found, run.expected
    ours = as_code(found.boxes, found.velocities).numpy()
    assert ours.shape == expected['final_boxes'].shape
    order = by_label_and_place(found.labels.numpy(), ours)
    theirs = by_label_and_place(expected['final_labels'], expected['final_boxes'])
    assert (found.labels.numpy()[order] == expected['final_labels'][theirs]).all()
    assert_close(found.scores[order], expected['final_scores'][theirs])
    difference = ours[order] - expected['final_boxes'][theirs]
    difference[:, 6] = (difference[:, 6] + math.pi) % (2 * math.pi) - math.pi
    assert (np.abs(difference) <= TOLERANCE * np.maximum(1, np.abs(ours[order]))).all()


def by_label_and_place(labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """An order in which nearly equal scores do not matter."""
    return np.lexsort((boxes[:, 1].round(1), boxes[:, 0].round(1), labels))


@pytest.fixture(scope='module')
def truth(shared_data) -> tuple[dict[str, np.ndarray], Labels]:
    file = shared_data / 'mmdet3d_nuscenes' / 'pointpillars_fpn_nus_narrow_train.npz'
    with np.load(file) as numbers:
        expected = dict(numbers)
    boxes = torch.from_numpy(expected['gt_boxes'])
    velocities = boxes[:, 7:]
    boxes = boxes[:, :7].clone()
    boxes[:, 2] += boxes[:, 5] / 2
    return expected, Labels(boxes, torch.from_numpy(expected['gt_labels']).long(), velocities)


def test_targets(run, truth):
    expected, labels = truth
    config, anchors = run.detector.config, run.ours.output.anchors
    targets = assign_shared_targets(
        anchors, labels, config=config.anchor_configs[0], num_classes=10
    )
    assert targets.positives.tolist() == sorted(expected['pos_index'].tolist())
    order = expected['pos_index'].argsort()
    assert (targets.labels[targets.positives].numpy() == expected['pos_labels'][order]).all()
    assert targets.labels.eq(10).sum() == expected['num_neg']
    ignored = (targets.labels == -1).nonzero()[:, 0]
    assert ignored.tolist() == sorted(expected['ignored_index'].tolist())
    residuals = encode_boxes(targets.boxes, anchors[targets.positives])
    codes = torch.cat([residuals, targets.velocities], dim=1)
    assert_close(codes, expected['pos_box_targets'][order])
    bins = direction_bins(targets.boxes[:, 6], config.head.direction_offset)
    assert (bins.numpy() == expected['pos_dir_targets'][order]).all()


def test_losses_and_their_gradients(run, truth):
    expected, labels = truth
    raw = run.ours.output
    names = ('class_logits', 'box_residuals', 'direction_logits', 'velocities')
    leaves = {name: getattr(raw, name).clone().requires_grad_() for name in names}
    batch = Batch(
        (torch.zeros(0, 5),), (labels.boxes,), (labels.classes,), ('a',), (labels.velocities,)
    )
    losses = run.detector.losses(replace(raw, **leaves), batch)
    close = {'rel': TOLERANCE}
    assert losses['classification'].item() == pytest.approx(expected['loss_cls'].sum(), **close)
    box = (losses['box'] + losses['velocity']).item()
    assert box == pytest.approx(expected['loss_bbox'].sum(), **close)
    assert losses['direction'].item() == pytest.approx(expected['loss_dir'].sum(), **close)
    total = sum(losses.values())
    assert total.item() == pytest.approx(float(expected['loss_total']), **close)
    total.backward()
    gradients = {name: leaf.grad[0] for name, leaf in leaves.items()}
    codes = torch.cat([gradients['box_residuals'], gradients['velocities']], dim=1)
    parts = {'cls': gradients['class_logits'], 'reg': codes, 'dir': gradients['direction_logits']}
    for name, ours in parts.items():
        for level, part in enumerate(torch.split(ours, list(raw.sizes))):
            assert_same_statistics(part, expected[f'grad_{name}{level}__stats'])
