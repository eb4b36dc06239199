# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN against OpenPCDet's own numbers for a real sweep, stage by stage; and its sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pointdistiller_core.config import PointRcnnConfig
from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet, our_name
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.geometry.nms import rotated_nms
from pointdistiller_core.models import build_detector, sketch_detector
from pointdistiller_core.models.boxes.pointrcnn_losses import point_losses, proposal_losses
from pointdistiller_core.models.boxes.proposals import (
    Proposals,
    assign_points,
    assign_proposals,
    decode_point_boxes,
    decode_refined,
    encode_point_boxes,
    encode_refined,
    match_proposals,
    propose,
)
from pointdistiller_core.models.stages.refinement import pool_proposals
from pointdistiller_core.pointcloud.sampled_points import SampledPoints
from pointdistiller_core.records import Batch, Cut

TOLERANCE = 1e-4  # relative to the largest number of a stage


def load(path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        numbers = {name: arrays[name] for name in arrays if arrays[name].dtype.kind != 'U'}
    return {name: torch.from_numpy(np.atleast_1d(array)) for name, array in numbers.items()}


@pytest.fixture(scope='module')
def folder(shared_data):
    return shared_data / 'openpcdet_pointrcnn'


@pytest.fixture(scope='module')
def expected(folder):
    return load(folder / 'pointrcnn_narrow_000008.npz')


@pytest.fixture(scope='module')
def learned(folder):
    return load(folder / 'pointrcnn_narrow_000008_train.npz')


@pytest.fixture(scope='module')
def imported(folder):
    return import_openpcdet(folder / 'pointrcnn_narrow.pth', folder / 'pointrcnn_narrow.yaml')


@pytest.fixture
def detector(imported):
    config, state = imported
    detector = build_detector(config).eval()
    detector.load_state_dict(state)
    return detector


@pytest.fixture(scope='module')
def points(expected):
    cloud = expected['points'][None]
    places = torch.arange(cloud.shape[1])
    ones = torch.ones_like(places)[None]
    return SampledPoints(cloud, ones, (0,), 1, (places,), {'points': Cut(cloud.shape[1], 0)})


@pytest.fixture(scope='module')
def seen(imported, points):
    """Outputs of the modules by name, and the raw output of the sweep."""
    config, state = imported
    detector = build_detector(config).eval()
    detector.load_state_dict(state)
    outputs = {}
    for name, module in detector.named_modules():
        module.register_forward_hook(
            lambda _module, _args, output, name=name: outputs.update({name: output})
        )
    with torch.inference_mode():
        return outputs, detector(points)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def assert_same_sums(ours: Tensor, theirs: Tensor) -> None:
    """Sum, sum of absolute values, sum of squares, least and largest."""
    ours = ours.double()
    total, absolute, squares, low, high = theirs
    assert (ours.sum() - total).abs() <= TOLERANCE * absolute
    assert (ours.abs().sum() - absolute).abs() <= TOLERANCE * absolute
    assert (ours.square().sum() - squares).abs() <= TOLERANCE * squares
    assert (ours.min() - low).abs() <= TOLERANCE * max(low.abs(), high.abs())
    assert (ours.max() - high).abs() <= TOLERANCE * max(low.abs(), high.abs())


# --- first stage -----------------------------------------------------------------------------


@pytest.mark.parametrize('level', range(4))
def test_set_abstraction(seen, expected, level):
    _, features = seen[0][f'backbone.levels.{level}']
    position = expected[f'sa{level + 1}.sample_pos'].long()
    assert_close(features[0, position], expected[f'sa{level + 1}.features_at_pos'])
    assert_same_sums(features, expected[f'sa{level + 1}.features__stats'])


@pytest.mark.parametrize('level', range(4))
def test_feature_propagation(seen, expected, level):
    features = seen[0][f'backbone.propagation.{level}']
    position = expected[f'fp{level + 1}.sample_pos'].long()
    assert_close(features[0, position], expected[f'fp{level + 1}.features_at_pos'])
    assert_same_sums(features, expected[f'fp{level + 1}.features__stats'])


def test_head_of_the_points(seen, expected, detector):
    output, position = seen[1], expected['point_pos'].long()
    assert_close(output.point_logits[0, position], expected['point_cls_preds'])
    assert_close(output.point_codes[0, position], expected['point_box_preds'])
    assert_same_sums(output.point_logits, expected['point_cls_preds__stats'])
    labels = output.point_logits[0].argmax(dim=1)
    assert torch.equal(labels[position] + 1, expected['point_labels'].long())
    sizes = torch.tensor([detector.config.usual_size(n) for n in detector.config.class_names])
    boxes = decode_point_boxes(
        output.point_codes[0], output.points.points[0, :, :3], sizes[labels]
    )
    assert_close(boxes[position], expected['point_boxes'])
    assert_same_sums(boxes, expected['point_boxes__stats'])
    assert_same_sums(
        detector.confidences(output, None).amax(dim=1), expected['point_cls_scores__stats']
    )


def test_proposals(seen, expected):
    (proposals,) = seen[1].proposals
    assert_close(proposals.boxes, expected['rois'])
    assert torch.equal(proposals.labels + 1, expected['roi_labels'])
    scores = seen[1].point_logits[0].amax(dim=1)
    assert_close(scores[expected['roi_point_index'].long()], expected['roi_scores'])


# --- second stage ----------------------------------------------------------------------------


@pytest.fixture(scope='module')
def pooled(seen, expected, imported):
    """What the second stage sees of OpenPCDet's proposals, with its local positions."""
    output = seen[1]
    values = pool_proposals(
        output.points.points[0, :, :3],
        output.point_logits[0].amax(dim=1).sigmoid(),
        output.features[0],
        expected['rois'],
        imported[0].refinement,
    )
    stable = expected['roi_second_stage_stable']
    assert (values[..., :3] - expected['roi_local_xyz']).abs().max() < 1e-5
    assert torch.equal((values == 0).all(dim=2).all(dim=1), expected['roi_pool_empty'])
    assert stable.sum() == 50
    return torch.cat([expected['roi_local_xyz'], values[..., 3:]], dim=2)


def test_pooled_points(pooled, expected):
    some = expected['roi_sample'].long()
    assert_close(pooled[some, :48], expected['pooled_features_sample'])
    assert_same_sums(pooled, expected['pooled_features__stats'])


def test_second_stage(pooled, expected, detector):
    some, second = expected['roi_sample'].long(), detector.refinement
    with torch.inference_mode():
        local = second.point_layers(pooled[..., :5])
        assert_close(local[some, :48], expected['rcnn.xyz_up_sample'])
        values = second.merge(torch.cat([local, pooled[..., 5:]], dim=2))
        assert_close(values[some, :48], expected['rcnn.merge_sample'])
        places = pooled[..., :3]
        for level, count in ((0, 48), (1, 72)):
            places, values = second.levels[level](places, values)
            assert_close(values[some], expected[f'rcnn.sa{level + 1}.features_sample'])
            assert values.shape[2] == count
        assert_close(second.levels[2](places, values), expected['rcnn.sa3.features'])
        logits, residuals = second(pooled)
    assert_close(logits[:, None], expected['rcnn_cls'])
    assert_close(residuals, expected['rcnn_reg'])
    assert_close(decode_refined(residuals, expected['rois']), expected['rcnn_boxes'])


def test_second_stage_as_it_runs(seen, expected):
    """Rounding of local positions changes neighbors inside half of the proposals."""
    stable = expected['roi_second_stage_stable']
    assert_close(seen[1].logits[stable], expected['rcnn_cls'][stable, 0])
    assert_close(seen[1].residuals[stable], expected['rcnn_reg'][stable])
    moved = (seen[1].logits - expected['rcnn_cls'][:, 0]).abs() > 1e-3
    assert moved.sum() <= 5


def test_detections(seen, expected, detector):
    (candidates,) = detector.candidates(seen[1], detector.config.detection)
    assert len(candidates) == expected['num_candidates'][0]
    (found,) = detector.detect(seen[1])
    assert torch.equal(found.labels + 1, expected['final_labels'].long())
    assert (found.scores - expected['final_scores']).abs().max() < 1e-3
    theirs = expected['final_boxes']
    assert (found.boxes[:, :6] - theirs[:, :6]).abs().max() < 1e-3
    assert ((found.boxes[:, 6] - theirs[:, 6]).sin()).abs().max() < 1e-3
    assert ((found.boxes[:, 6] >= -np.pi) & (found.boxes[:, 6] < np.pi)).all()


# --- targets and losses ----------------------------------------------------------------------


@pytest.mark.parametrize('suffix', ['', '_mixed'])
def test_targets_and_losses_of_points(seen, learned, imported, suffix):
    truth = learned[f'gt_boxes{suffix}']
    truth = truth[truth[:, 7] > 0]
    config, output = imported[0], seen[1]
    where = output.points.points[0, :, :3]
    targets = assign_points(
        where,
        truth[:, :7],
        truth[:, 7].long() - 1,
        num_classes=3,
        margin=config.head.label_margin,
    )
    ours = torch.where(targets.labels == 3, 0, targets.labels + 1)
    ours = torch.where(targets.labels == -1, -1, ours)
    assert torch.equal(ours, learned[f'point_cls_labels{suffix}'].long())
    assert torch.equal(targets.positives, learned[f'point_fg_index{suffix}'].long())
    sizes = torch.tensor([config.usual_size(name) for name in config.class_names])
    codes = encode_point_boxes(
        targets.boxes, where[targets.positives], sizes[targets.labels[targets.positives]]
    )
    assert_same_sums(codes, learned[f'point_box_labels{suffix}__stats'])
    logits = output.point_logits[0].clone().requires_grad_()
    boxes = output.point_codes[0].clone().requires_grad_()
    losses = point_losses(logits, boxes, where, targets, sizes=sizes, config=config.loss)
    assert_close(torch.stack(losses).double(), learned[f'rpn_loss{suffix}'][:2])
    sum(losses).backward()
    assert_same_sums(logits.grad, learned[f'rpn_grad_cls{suffix}__stats'])
    assert_same_sums(boxes.grad, learned[f'rpn_grad_box{suffix}__stats'])


@pytest.fixture(scope='module')
def sampled(learned, imported):
    """The fixed draw of the fixed proposals, with targets."""
    truth = learned['gt_boxes_mixed'][:9]
    boxes, labels = truth[:, :7], truth[:, 7].long() - 1
    proposals = Proposals(learned['proposals'], learned['proposal_labels'].long() - 1)
    overlaps, owners = match_proposals(proposals, boxes, labels)
    drawn = learned['sampled_index'].long()
    chosen = Proposals(proposals.boxes[drawn], proposals.labels[drawn])
    targets = assign_proposals(
        chosen,
        overlaps[drawn],
        owners[drawn],
        boxes=boxes,
        labels=labels,
        config=imported[0].targets,
    )
    return Proposals(chosen.boxes, chosen.labels, targets), overlaps, owners


def test_targets_of_proposals(sampled, learned):
    proposals, overlaps, owners = sampled
    assert (overlaps - learned['proposal_max_iou']).abs().max() < 0.02  # theirs allows 1 cm
    near = learned['proposal_max_iou'] > 0.01
    assert torch.equal(owners[near], learned['proposal_gt_index'].long()[near])
    targets = proposals.targets
    assert torch.equal(targets.labels, learned['sampled_rcnn_cls_labels'].long())
    learns = learned['sampled_reg_valid_mask'] > 0
    assert torch.equal(targets.learned, learns)
    assert_close(targets.boxes[learns], learned['sampled_gt_of_rois_src'][learns, :7])
    assert_close(
        encode_refined(targets.boxes, proposals.boxes)[learns],
        learned['sampled_reg_targets'][learns],
    )


def test_losses_of_proposals(sampled, learned, imported):
    proposals = sampled[0]
    logits = learned['sampled_rcnn_cls'][:, 0].clone().requires_grad_()
    residuals = learned['sampled_rcnn_reg'].clone().requires_grad_()
    losses = proposal_losses(
        logits, residuals, proposals.boxes, proposals.targets, imported[0].loss
    )
    assert_close(torch.stack(losses).double(), learned['rcnn_loss'][:3])
    sum(losses).backward()
    assert_close(logits.grad[:, None], learned['rcnn_grad_cls'])
    assert_close(residuals.grad, learned['rcnn_grad_reg'])


def test_a_step_of_training(detector, points, sampled, learned, folder, monkeypatch):
    truth = learned['gt_boxes_mixed'][:9]
    batch = Batch((points.points[0],), (truth[:, :7],), (truth[:, 7].long() - 1,), ('000008',))
    detector.train()
    monkeypatch.setattr(detector, '_propose', lambda *_: sampled[0])
    losses = detector.losses(detector(points, batch), batch)
    assert_close(torch.stack([*losses.values()]).double(), learned['train_step_loss'][:5])
    sum(losses.values()).backward()
    with np.load(folder / 'pointrcnn_narrow_000008_train.npz') as arrays:
        names = str(arrays['train_step_param_names']).split('\n')
    parameters = dict(detector.named_parameters())
    assert sorted(parameters) == sorted(our_name(name, 'pointrcnn') for name in names)
    ours = torch.stack(
        [parameters[our_name(name, 'pointrcnn')].grad.norm() for name in names]
    ).double()
    torch.testing.assert_close(ours, learned['train_step_grad_norm'], rtol=0.01, atol=1e-6)
    norm = detector.backbone.levels[0].scales[0][0].norm
    assert_close(norm.running_mean, learned['train_step_running_mean_first_bn'])
    assert_close(norm.running_var, learned['train_step_running_var_first_bn'])


# --- suppression and sizes -------------------------------------------------------------------


def test_suppression(folder):
    cases = load(folder / 'pointnet_ops_unit.npz')
    boxes = cases['iou.boxes']
    torch.testing.assert_close(
        rotated_iou_bev(boxes, boxes).double(), cases['iou.bev_exact'], atol=1e-6, rtol=0
    )
    boxes, scores = cases['nms.boxes'], cases['nms.scores']
    for threshold in (0.1, 0.5, 0.8, 0.85):
        kept = rotated_nms(boxes, scores, threshold)
        assert torch.equal(kept, cases[f'nms.keep_{threshold}'])
        for most in (1, 40, 129, 300):
            assert torch.equal(rotated_nms(boxes, scores, threshold, most=most), kept[:most])


@pytest.mark.parametrize(
    ('width', 'parameters'), [(1, 4_038_819), (1 / 2.8, 516_508), (0.25, 258_471)]
)
def test_sizes_of_the_paper(width, parameters):
    sketch = sketch_detector(PointRcnnConfig(width=width))
    assert sum(parameter.numel() for parameter in sketch.parameters()) == parameters


def test_boxes_that_are_no_numbers_are_not_proposed():
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1, 0], [9, 0, 0, torch.inf, 1, 1, 0]])
    logits = torch.tensor([[1.0, 2], [8, 9]])
    found = propose(boxes, logits, max_candidates=5, iou_threshold=0.5, most=5)
    assert torch.equal(found.boxes, boxes[:1])
    assert found.labels.tolist() == [1]
