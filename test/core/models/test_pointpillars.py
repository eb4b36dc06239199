# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The composed detector."""

from __future__ import annotations

from changed_config import changed
import pytest
import torch

from pointdistiller_core.config import DetectorConfig, load_config, shipped_configs
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.models import PointPillars, build_detector, sketch_detector
from pointdistiller_core.records import IGNORE_LABEL, Batch


def batch_of(*frames) -> Batch:
    """Frames with their ground truth as a network trains on them."""
    return Batch(
        tuple(torch.from_numpy(frame.points) for frame in frames),
        tuple(torch.from_numpy(frame.ground_truth.boxes) for frame in frames),
        tuple(torch.from_numpy(frame.ground_truth.labels) for frame in frames),
        tuple(frame.frame_id for frame in frames),
    )


def cloud_only(points: torch.Tensor) -> Batch:
    """One frame without ground truth."""
    return Batch((points,), (torch.zeros(0, 7),), (torch.zeros(0, dtype=torch.int64),), ('',))


@pytest.fixture
def detector(tiny_model) -> PointPillars:
    torch.manual_seed(0)
    return build_detector(tiny_model)


def backward(detector: PointPillars, batch: Batch) -> dict[str, torch.Tensor]:
    losses = detector.losses(detector(detector.prepare(batch.points)), batch)
    sum(losses.values()).backward()
    return losses


def test_output_has_one_row_per_anchor(detector, tiny_dataset):
    batch = batch_of(*tiny_dataset(2))
    output = detector(detector.prepare(batch.points))
    num_anchors = 32 * 32 * 2
    assert output.class_logits.shape == (2, num_anchors, 1)
    assert output.box_residuals.shape == (2, num_anchors, 7)
    assert output.direction_logits.shape == (2, num_anchors, 2)
    assert output.anchors.shape == (num_anchors, 7)


def test_training_has_its_own_pillar_cap(tiny_model):
    caps = {'max_voxels': 2, 'max_voxels_training': 1}
    detector = build_detector(changed(tiny_model, voxels=caps))
    points = torch.tensor([[1.0, 0, 0, 0], [2.0, 0, 0, 0], [3.0, 0, 0, 0]])
    assert len(detector.train().prepare([points])) == 1
    assert len(detector.eval().prepare([points])) == 2


def test_every_parameter_learns_from_ground_truth(detector, tiny_dataset):
    backward(detector, batch_of(*tiny_dataset(2)))
    for name, parameter in detector.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    'points',
    [
        torch.zeros(0, 4),
        torch.tensor([[90.0, 0, 0, 0]]),  # out of range
        torch.tensor([[5.0, 0, 0, 0.5]]),  # one pillar
    ],
    ids=['empty', 'out of range', 'one pillar'],
)
@pytest.mark.parametrize('training', [False, True])
def test_poor_clouds_without_ground_truth(detector, points, training):
    losses = backward(detector.train(training), cloud_only(points))
    assert losses['classification'] > 0
    assert losses['box'] == losses['direction'] == 0
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(tensor.isfinite().all() for tensor in detector.state_dict().values())


def test_only_ignored_ground_truth(detector, tiny_dataset):
    batch = batch_of(*tiny_dataset(1))
    ignored = tuple(torch.full_like(labels, IGNORE_LABEL) for labels in batch.labels)
    losses = backward(detector, Batch(batch.points, batch.boxes, ignored, batch.frame_ids))
    assert losses['box'] == 0
    assert losses['classification'].isfinite()


def test_frames_of_a_batch_do_not_see_one_another(detector, tiny_dataset):
    clouds = [torch.from_numpy(frame.points) for frame in tiny_dataset(2)]
    clouds.insert(1, torch.zeros(0, 4))
    detector.eval()
    with torch.inference_mode():
        together = detector(detector.prepare(clouds))
        for i, points in enumerate(clouds):
            alone = detector(detector.prepare([points]))
            for name in ('class_logits', 'box_residuals', 'direction_logits'):
                torch.testing.assert_close(
                    getattr(together, name)[i], getattr(alone, name)[0], rtol=1e-4, atol=1e-5
                )


def test_arguments_are_left_alone(detector, tiny_dataset):
    batch = batch_of(*tiny_dataset(1))
    tensors = (*batch.points, *batch.boxes, *batch.labels)
    before = [tensor.clone() for tensor in tensors]
    pillars = detector.prepare(batch.points)
    pillars_before = pillars.points.clone()
    output = detector(pillars)
    output_before = output.box_residuals.clone()
    detector.losses(output, batch)
    with torch.no_grad():
        detector.detect(output)
    assert torch.equal(pillars.points, pillars_before)
    assert torch.equal(output.box_residuals, output_before)
    assert all(torch.equal(now, then) for now, then in zip(tensors, before, strict=True))


def test_learns_one_frame_by_heart_and_detects_its_boxes(detector, tiny_dataset):
    (frame,) = tiny_dataset(1)
    batch = batch_of(frame)
    optimizer = torch.optim.Adam(detector.parameters(), lr=0.01)
    for norm in detector.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.1  # the statistics must arrive within the few steps
    totals = []
    for _ in range(150):
        optimizer.zero_grad()
        totals.append(sum(backward(detector, batch).values()).item())
        optimizer.step()
    assert totals[-1] < 0.1 * totals[0]

    detector.eval()
    with torch.inference_mode():
        (found,) = detector.detect(detector(detector.prepare(batch.points)))
    truth = batch.boxes[0]
    sure = found[found.scores > 0.5]
    assert len(sure) == len(truth)
    overlap, nearest = rotated_iou_bev(truth, sure.boxes).max(dim=1)
    assert (overlap > 0.7).all()
    turns = (sure.boxes[nearest, 6] - truth[:, 6]).cos()
    assert (turns > 0.9).all()  # and not the opposite heading
    assert (sure.labels == 0).all()


def test_same_seed_same_network(tiny_model, tiny_dataset):
    batch = batch_of(*tiny_dataset(1))
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(backward(build_detector(tiny_model), batch))
    assert losses[0] == losses[1]


@pytest.mark.cuda
def test_cpu_and_gpu_agree(detector, tiny_dataset, gpu):
    batch = batch_of(*tiny_dataset(2))
    detector.eval()
    expected = backward(detector, batch)
    found = backward(detector.to(gpu), batch.to(gpu))
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu(), value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('path', shipped_configs('models'), ids=lambda path: path.stem)
def test_a_sketch_has_the_shapes_and_no_memory(path):
    config = load_config(DetectorConfig, path)
    before = torch.random.get_rng_state()
    sketch = sketch_detector(config)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in sketch.state_dict().values())
    expected = {name: tensor.shape for name, tensor in build_detector(config).state_dict().items()}
    assert {name: tensor.shape for name, tensor in sketch.state_dict().items()} == expected
