# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The detection loss."""

from __future__ import annotations

import math

import pytest
import torch

from pointdistiller_core.config import LossConfig
from pointdistiller_core.models.boxes.losses import (
    box_loss,
    detection_losses,
    focal_loss,
    velocity_loss,
)
from pointdistiller_core.models.boxes.targets import AnchorTargets
from pointdistiller_core.models.stages.anchor_head import AnchorOutput

LN2 = math.log(2)
BETA = 1 / 9


def focal(logits, labels, gamma=2.0):
    return focal_loss(torch.tensor(logits), torch.tensor(labels), alpha=0.25, gamma=gamma)


@pytest.mark.parametrize(
    ('label', 'expected'),
    [
        (0, 0.25 * 0.25 * LN2 + 0.75 * 0.25 * LN2),  # its own class, and not the other
        (2, 2 * 0.75 * 0.25 * LN2),  # background: neither class
        (-1, 0.0),
    ],
)
def test_focal_loss_of_an_undecided_anchor(label, expected):
    torch.testing.assert_close(focal([[0.0, 0.0]], [label]), torch.tensor(expected))


def test_focal_loss_by_hand():
    probability = 1 / (1 + math.exp(-1.5))
    expected = -0.25 * (1 - probability) ** 2 * math.log(probability)
    expected += -0.75 * (1 - probability) ** 2 * math.log(probability)  # the other is at -1.5
    torch.testing.assert_close(focal([[1.5, -1.5]], [0]), torch.tensor(expected))


def test_without_focus_it_is_weighted_cross_entropy():
    logits, labels = [[0.3], [-2.0], [1.0]], [0, 1, 0]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits),
        torch.tensor([[1.0], [0.0], [1.0]]),
        weight=torch.tensor([[0.25], [0.75], [0.25]]),
        reduction='sum',
    )
    torch.testing.assert_close(focal(logits, labels, gamma=0.0), expected)


def test_focal_loss_of_extreme_logits_is_finite():
    logits = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1, 0]), alpha=0.25, gamma=2.0)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(200.0))  # 0.75 * 200 + 0.25 * 200
    assert logits.grad.isfinite().all()


def one_residual(index: int, value: float) -> torch.Tensor:
    return torch.zeros(1, 7).index_fill(1, torch.tensor([index]), value)


@pytest.mark.parametrize(
    ('index', 'difference', 'expected'),
    [
        (0, 0.05, 0.5 * 0.05**2 / BETA),
        (3, -1.0, 1.0 - BETA / 2),
        (6, 0.05, 0.5 * math.sin(0.05) ** 2 / BETA),
        (6, math.pi / 2, 1.0 - BETA / 2),
        (6, math.pi, 0.0),
    ],
)
def test_box_loss_by_hand(index, difference, expected):
    loss = box_loss(one_residual(index, difference + 0.3), one_residual(index, 0.3), beta=BETA)
    torch.testing.assert_close(loss, torch.tensor(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('yaw', [0.0, 0.3, 1.2, -2.5])
def test_equal_yaw_costs_nothing(yaw):
    residuals = one_residual(6, yaw)
    assert box_loss(residuals, residuals, beta=BETA) == 0
    assert residuals[0, 6] == torch.tensor(yaw)


ANCHORS = torch.tensor([[0.0, 0, 0, 3, 4, 2, 0], [9.0, 0, 0, 3, 4, 2, 0]])


def output_of(num_frames: int) -> AnchorOutput:
    """Two anchors that are undecided about everything."""
    return AnchorOutput(
        torch.zeros(num_frames, 2, 1, requires_grad=True),
        torch.zeros(num_frames, 2, 7, requires_grad=True),
        torch.zeros(num_frames, 2, 2, requires_grad=True),
        ANCHORS,
    )


BOTH = AnchorTargets(  # both anchors positive, one of them 5 m (a diagonal) off in x
    torch.tensor([0, 0]),
    torch.tensor([0, 1]),
    ANCHORS + torch.tensor([[0.0], [1]]) * ANCHORS.new_tensor([5, 0, 0, 0, 0, 0, 0]),
)
NONE = AnchorTargets(torch.tensor([1, -1]), torch.zeros(0, dtype=torch.long), torch.zeros(0, 7))


def losses(output, targets, **weights):
    return detection_losses(output, targets, LossConfig(**weights), direction_offset=0.78539)


def test_terms_are_per_positive_anchor():
    found = losses(output_of(1), [BOTH], classification=3.0, box=2.0, direction=0.2)
    expected = {
        'classification': 3.0 * 0.25 * 0.25 * LN2,
        'box': 2.0 * (1.0 - BETA / 2) / 2,
        'direction': 0.2 * LN2,
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)


def test_frames_are_averaged():
    one, other = losses(output_of(1), [BOTH]), losses(output_of(1), [NONE])
    both = losses(output_of(2), [BOTH, NONE])
    for name, value in both.items():
        torch.testing.assert_close(value, (one[name] + other[name]) / 2)


def test_without_ground_truth_only_the_background_counts_and_gradients_are_finite():
    output = output_of(1)
    found = losses(output, [NONE])
    sum(found.values()).backward()
    torch.testing.assert_close(found['classification'], torch.tensor(0.75 * 0.25 * LN2))
    assert found['box'] == found['direction'] == 0
    for tensor in (output.class_logits, output.box_residuals, output.direction_logits):
        assert tensor.grad.isfinite().all()
    assert output.class_logits.grad[0, 1] == 0  # the ignored anchor


def test_direction_says_in_which_half_turn_the_box_looks():
    boxes = ANCHORS.clone()
    boxes[:, 6] = torch.tensor([1.0, -2.0])  # first and second half turn from 0.785
    targets = AnchorTargets(torch.tensor([0, 0]), torch.tensor([0, 1]), boxes)
    right = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])
    output = output_of(1)
    sure = AnchorOutput(output.class_logits, output.box_residuals, right, ANCHORS)
    wrong = AnchorOutput(output.class_logits, output.box_residuals, -right, ANCHORS)
    assert losses(sure, [targets])['direction'] < 1e-6
    assert losses(wrong, [targets])['direction'].item() == pytest.approx(0.2 * 18)


def test_velocities_that_are_not_known_cost_nothing():
    velocities = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    targets = torch.tensor([[1.5, math.nan], [math.nan, math.nan]])
    loss = velocity_loss(velocities, targets, beta=BETA)
    torch.testing.assert_close(loss, torch.tensor(0.5 - BETA / 2))
    loss.backward()
    assert velocities.grad.tolist() == [[-1, 0], [0, 0]]
    nothing = velocity_loss(velocities, None, beta=BETA)
    assert nothing == 0
    nothing.backward()


def test_velocities_are_a_term_of_their_own():
    output = AnchorOutput(
        torch.zeros(1, 2, 1),
        torch.zeros(1, 2, 7),
        torch.zeros(1, 2, 2),
        torch.ones(2, 7),
        torch.tensor([[[5.0, 0.0], [0.0, 0.0]]]),
    )
    labels, positives = torch.tensor([0, 1]), torch.tensor([0])
    target = AnchorTargets(labels, positives, torch.ones(1, 7), torch.tensor([[4.0, 0.0]]))
    losses = detection_losses(output, [target], LossConfig(velocity=0.5), direction_offset=0.0)
    torch.testing.assert_close(losses['velocity'], torch.tensor(0.5 * (1 - BETA / 2)))
    assert losses['box'] == 0
