# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest
import torch

from pointdistiller_core.config import ConsistencyConfig, DistillationConfig
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.term import Lesson, View
from pointdistiller_core.distill.terms.consistency import (
    ConsistencyTerm,
    consistency_loss,
    match_boxes,
)
from pointdistiller_core.models import AnchorOutput, BoxPredictions, PointPillars


def cars(*xs: float, scores=None, labels=None) -> BoxPredictions:
    """Cars of 4 x 2 m in a row along x: shifted by d, two have an IoU of (4 - d) / (4 + d)."""
    boxes = torch.tensor([[x, 0, -1, 4, 2, 1.5, 0] for x in xs]).reshape(-1, 7)
    return BoxPredictions(
        boxes,
        torch.tensor(scores or [0.5] * len(xs)),
        torch.tensor(labels or [0] * len(xs), dtype=torch.int64),
    )


def test_matches_by_hand():
    # 0.2 m apart: IoU 0.905, 0.6 m: 0.739, 1 m: 0.6
    rows, partners = match_boxes(cars(10.0, 21.0, 30.6, 40.0), cars(30.0, 20.0, 10.2, 10.6), 0.7)
    assert rows.tolist() == [0, 2]
    assert partners.tolist() == [2, 0]


def test_a_box_of_the_teacher_may_have_several_partners():
    rows, partners = match_boxes(cars(10.0, 10.3), cars(10.1), 0.7)
    assert rows.tolist() == [0, 1]
    assert partners.tolist() == [0, 0]


def test_only_boxes_of_one_class_match():
    rows, partners = match_boxes(cars(10.0), cars(10.0, 10.2, labels=[1, 0]), 0.7)
    assert rows.tolist() == [0]
    assert partners.tolist() == [1]


@pytest.mark.parametrize('pair', [(cars(), cars(1.0)), (cars(1.0), cars()), (cars(), cars())])
def test_matches_of_nothing(pair):
    assert [index.tolist() for index in match_boxes(*pair, 0.7)] == [[], []]


def test_loss_by_hand():
    # x differs by 0.5, smooth L1 with beta 1: 0.125; the score by 0.4: 0.08; pair two agrees
    student, teacher = (
        cars(10.5, 20.0, scores=[0.5, 0.6]),
        cars(10.0, 20.0, scores=[0.9, 0.6]),
    )
    loss = consistency_loss(student, teacher, beta=1.0)
    assert loss.item() == pytest.approx((0.125 / 7 + 0.08) / 2)


@given(yaw=st.floats(-3, 3), turn=st.sampled_from([0.0, math.pi, -math.pi]))
def test_the_opposite_heading_costs_nothing(yaw, turn):
    student, teacher = cars(10.0), cars(10.0)
    student.boxes[:, 6], teacher.boxes[:, 6] = yaw + turn, yaw
    assert consistency_loss(student, teacher, beta=1.0).item() == pytest.approx(0, abs=1e-9)


def test_loss_of_nothing():
    assert consistency_loss(cars(), cars(), beta=1.0).item() == 0


@pytest.fixture
def lesson_of(tiny_model, make_batch):
    """`lesson_of(teacher, student)` of two outputs."""
    model = PointPillars(tiny_model)

    def make(teacher: AnchorOutput, student: AnchorOutput) -> Lesson:
        batch = make_batch(*[10] * len(student.class_logits))
        views = [View(model, {}, output) for output in (teacher, student)]
        return Lesson(batch, model.prepare(batch.points), *views)

    return make


def output_of(scores, shift: float, anchors) -> AnchorOutput:
    """Boxes at the anchors but for x, which is off by `shift` of their diagonal."""
    residuals = torch.zeros(*scores.shape, 7)
    residuals[..., 0] = shift
    logits, directions = scores.logit()[..., None], torch.zeros(*scores.shape, 2)
    return AnchorOutput(logits, residuals.requires_grad_(), directions, anchors)


def test_term_by_hand(lesson_of):
    anchors = cars(10.0, 20.0, 30.0).boxes
    shift = 0.4 / math.hypot(4, 2)  # 0.4 m: IoU 0.818
    # Of the first frame one pair is confident in both, of the second none.
    teacher = output_of(torch.tensor([[0.8, 0.8, 0.1], [0.1, 0.1, 0.1]]), 0.0, anchors)
    student = output_of(torch.tensor([[0.6, 0.1, 0.6], [0.9, 0.9, 0.9]]), shift, anchors)
    loss = ConsistencyTerm(ConsistencyConfig(weight=3.0))(lesson_of(teacher, student))
    of_pair = (0.4 - 1 / 18) / 7 + 0.5 * 0.2**2  # smooth L1 with beta 1/9, and with beta 1
    assert loss.item() == pytest.approx(3 * of_pair / 2, rel=1e-5)
    loss.backward()
    assert student.box_residuals.grad[0, 0, 0] > 0  # the box moves back
    assert student.box_residuals.grad.count_nonzero() == 1


@pytest.mark.parametrize('values', [{'score_threshold': 0.7}, {'matched_iou': 0.9}])
def test_thresholds_are_used(lesson_of, values):
    anchors = cars(10.0).boxes
    teacher = output_of(torch.tensor([[0.8]]), 0.0, anchors)
    student = output_of(torch.tensor([[0.6]]), 0.4 / math.hypot(4, 2), anchors)
    lesson = lesson_of(teacher, student)
    assert ConsistencyTerm(ConsistencyConfig())(lesson) > 0
    assert ConsistencyTerm(ConsistencyConfig(**values))(lesson) == 0


def test_thresholds_of_the_models_classes_do_not_count(lesson_of, monkeypatch):
    anchors = cars(10.0).boxes
    teacher = output_of(torch.tensor([[0.8]]), 0.0, anchors)
    student = output_of(torch.tensor([[0.6]]), 0.4 / math.hypot(4, 2), anchors)
    lesson = lesson_of(teacher, student)
    model = lesson.teacher.model
    loss = ConsistencyTerm(ConsistencyConfig())(lesson)
    detection = model.config.detection.model_copy(update={'score_thresholds': (0.9,)})
    config = model.config.model_copy(update={'detection': detection})
    monkeypatch.setattr(model, 'config', config)
    assert ConsistencyTerm(ConsistencyConfig())(lesson) == loss > 0


def test_a_student_equal_to_the_teacher_costs_nothing(tiny_model, make_batch):
    torch.manual_seed(0)
    teacher, student = PointPillars(tiny_model), PointPillars(tiny_model)
    student.load_state_dict(teacher.state_dict())
    term = ConsistencyConfig(score_threshold=0.0)
    distiller = Distiller(teacher, student, DistillationConfig(terms=(term,)))
    loss = distiller.eval()(make_batch(300, 0))['consistency']
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert distiller.train()(make_batch(300, 0))['consistency'] > 0
