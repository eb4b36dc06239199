# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from pointdistiller_core.config import DistillationConfig, LogitsConfig
from pointdistiller_core.distill.distiller import Distiller, build_terms
from pointdistiller_core.distill.term import Lesson, View
from pointdistiller_core.distill.terms.logits import LogitsTerm, direction_loss
from pointdistiller_core.distill.terms.scores import SCORE_LOSSES, masked_mean, score_mask
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnchorOutput, PointPillars

SCORES = torch.tensor([[0.9, 0.2, 0.5, 0.1], [0.1, 0.1, 0.2, 0.1]])


def output_of(scores, residuals=None, directions=None, *, num_classes=1) -> AnchorOutput:
    """Of one class; the rest is 0 where it is not given."""
    scores = torch.as_tensor(scores)
    shape = scores.shape
    logits = scores.logit()[..., None].repeat(1, 1, num_classes)
    return AnchorOutput(
        logits,
        torch.zeros(*shape, 7) if residuals is None else residuals,
        torch.zeros(*shape, 2) if directions is None else directions,
        torch.zeros(shape[1], 7),
    )


@pytest.fixture
def loss_of(tiny_model, make_batch):
    """`loss_of(teacher, student, **config)`: the term's loss of two outputs."""
    model = PointPillars(tiny_model)
    batch = make_batch(10, 10)
    pillars = model.prepare(batch.points)

    def loss(teacher, student, **values):
        views = [View(model, {}, output) for output in (teacher, student)]
        return LogitsTerm(LogitsConfig(**values))(Lesson(batch, pillars, *views))

    return loss


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ({'mask': 'confidence', 'score_threshold': 0.5}, [[1, 0, 1, 0], [0, 0, 0, 0]]),
        ({'mask': 'rank', 'num_anchors': 2}, [[1, 0, 1, 0], [0, 0, 1, 0]]),
        ({'mask': 'rank', 'num_anchors': 9}, [[1] * 4, [1] * 4]),
        ({'mask': 'all'}, [[1] * 4, [1] * 4]),
    ],
)
def test_masks_by_hand(values, expected):
    mask = score_mask(SCORES, LogitsConfig(**values))
    if values.get('num_anchors') == 2:  # the ties of the second frame may go either way
        assert mask.sum(dim=1).tolist() == [2, 2]
        assert mask[1, 2] == 1
        assert mask[0].tolist() == expected[0]
    else:
        assert mask.tolist() == expected


def test_mean_is_per_frame():
    values = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert masked_mean(values, mask).item() == (7 / 2 + 0) / 2


def test_score_losses_by_hand():
    student, teacher = torch.tensor([0.2]).logit(), torch.tensor([0.7]).logit()
    assert SCORE_LOSSES['mse'](student, teacher).item() == pytest.approx(0.25)
    expected = -0.7 * math.log(0.2) - 0.3 * math.log(0.8)
    assert SCORE_LOSSES['bce'](student, teacher).item() == pytest.approx(expected)


def test_direction_loss_by_hand():
    # probabilities (1/2, 1/2) of the student, (1/4, 3/4) of the teacher
    student, teacher = torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, math.log(3)]])
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert direction_loss(student, teacher).item() == pytest.approx(expected)


def test_scores_by_hand(loss_of):
    teacher, student = output_of([[0.9, 0.2], [0.1, 0.4]]), output_of([[0.7, 0.9], [0.6, 0.4]])
    # one confident anchor in each frame; the first is off by 0.2, the second is right
    loss = loss_of(teacher, student, weight=10.0, score_threshold=0.3)
    assert loss.item() == pytest.approx(10 * (0.04 + 0) / 2)


def test_every_class_of_an_anchor_is_taught(loss_of):
    teacher, student = output_of([[0.9]], num_classes=3), output_of([[0.7]], num_classes=3)
    assert loss_of(teacher, student, weight=1.0).item() == pytest.approx(3 * 0.04)


def test_boxes_by_hand(loss_of):
    residuals = torch.zeros(1, 2, 7)
    residuals[0, 0, 0] = 1.0  # smooth L1 with beta 1/9: 1 - 1/18
    residuals[0, 0, 6] = math.pi  # the opposite heading costs nothing
    residuals[0, 1] = 5.0  # the teacher is not confident
    teacher = output_of([[0.9, 0.1]])
    student = output_of([[0.9, 0.1]], residuals)
    for mask in ('confidence', 'all'):
        loss = loss_of(teacher, student, weight=10.0, box_weight=0.2, mask=mask)
        assert loss.item() == pytest.approx(10 * 0.2 * (1 - 1 / 18))
    assert loss_of(teacher, student, box_weight=0.0).item() == pytest.approx(0.0)


def test_directions_by_hand(loss_of):
    directions = torch.tensor([[[0.0, math.log(3)]]])
    teacher, student = output_of([[0.9]], directions=directions), output_of([[0.9]])
    loss = loss_of(teacher, student, weight=2.0, direction_weight=0.5)
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert loss.item() == pytest.approx(2 * 0.5 * expected)


def test_frames_can_be_shared_out(loss_of):
    generator = torch.Generator().manual_seed(0)
    outputs = [
        output_of(
            torch.rand(3, 20, generator=generator),
            torch.randn(3, 20, 7, generator=generator),
            torch.randn(3, 20, 2, generator=generator),
        )
        for _ in range(2)
    ]

    def part(output, rows):
        tensors = [output.class_logits, output.box_residuals, output.direction_logits]
        return AnchorOutput(*(tensor[rows] for tensor in tensors), output.anchors)

    whole = loss_of(*outputs)
    parts = [loss_of(*(part(output, slice(i, i + 1)) for output in outputs)) for i in range(3)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_a_teacher_that_is_sure_of_nothing(loss_of):
    student = output_of([[0.9, 0.9]])
    student.class_logits.requires_grad_()
    loss = loss_of(output_of([[0.1, 0.1]]), student)
    loss.backward()
    assert loss.item() == 0
    assert student.class_logits.grad.tolist() == [[[0.0], [0.0]]]


@pytest.mark.parametrize('loss', SCORE_LOSSES)
def test_the_gradient_goes_towards_the_teacher(loss_of, loss):
    student = output_of([[0.5, 0.5]])
    student.class_logits.requires_grad_()
    loss_of(output_of([[0.9, 0.1]]), student, mask='all', loss=loss).backward()
    first, second = student.class_logits.grad.flatten().tolist()
    assert first < 0 < second


def test_every_configurable_loss_exists():
    assert set(SCORE_LOSSES) == set(LogitsConfig.model_fields['loss'].annotation.__args__)


def test_a_step_of_the_distiller(tiny_model, make_batch):
    torch.manual_seed(0)
    student = PointPillars(tiny_model.model_copy(update={'width': 0.5}))
    config = DistillationConfig(terms=(LogitsConfig(mask='rank', num_anchors=50),))
    distiller = Distiller(PointPillars(tiny_model), student, config)
    loss = distiller(make_batch(300, 0))['logits']
    loss.backward()
    assert loss > 0
    assert student.head.conv.weight.grad.abs().sum() > 0


def test_anchors_that_differ_are_named_with_both_sides(tiny_model):
    car = tiny_model.head.anchors['Car'].model_copy(update={'yaws': (0.0,)})
    head = tiny_model.head.model_copy(update={'anchors': {'Car': car}})
    other = tiny_model.model_copy(update={'head': head})
    with pytest.raises(ConfigError) as error:
        build_terms(
            DistillationConfig(terms=(LogitsConfig(),)),
            PointPillars(tiny_model),
            PointPillars(other),
        )
    message = str(error.value)
    assert 'terms.logits compares both networks anchor by anchor' in message
    assert 'number of anchors: teacher has 2048, student has 1024' in message
    assert 'head.anchors.Car.yaws: teacher has (0.0, 1.57), student has (0.0,)' in message
    assert 'size' not in message
