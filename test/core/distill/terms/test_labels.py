# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pointdistiller_core.config import DistillationConfig, LabelsConfig
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.distiller import build_terms
from pointdistiller_core.distill.terms.labels import LabelsTerm, append_labels, new_labels
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import BoxPredictions, PointPillars
from pointdistiller_core.records import IGNORE_LABEL


def boxes_at(*xs: float):
    """Boxes of 4 x 2 m in a row along x: shifted by d, two have an IoU of (4 - d) / (4 + d)."""
    return torch.tensor([[x, 0, -1, 4, 2, 1.5, 0] for x in xs]).reshape(-1, 7)


def found(*xs: float, scores=None, labels=None) -> BoxPredictions:
    scores, labels = scores or [0.9] * len(xs), labels or [0] * len(xs)
    return BoxPredictions(
        boxes_at(*xs), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64)
    )


def added(detections, xs, labels, *, thresholds=(0.6, 0.5), max_overlap=0.1):
    new = new_labels(
        detections,
        boxes_at(*xs),
        torch.tensor(labels, dtype=torch.int64),
        score_thresholds=torch.tensor(thresholds),
        max_overlap=max_overlap,
    )
    return new.boxes[:, 0].tolist()


def test_scores_are_held_against_their_class():
    detections = found(10, 20, 30, 40, scores=[0.61, 0.59, 0.51, 0.49], labels=[0, 0, 1, 1])
    assert added(detections, [], []) == [10, 30]


def test_what_is_labelled_already_is_left_out():
    # 3 m apart: IoU 0.14; 3.5 m: 0.07
    detections = found(10, 20, 30)
    assert added(detections, [13, 23.5], [0, 0]) == [20, 30]
    assert added(detections, [13, 23.5], [0, 0], max_overlap=0.2) == [10, 20, 30]


def test_another_class_may_be_there_but_nothing_ignored():
    detections = found(10, 20)
    assert added(detections, [10, 20], [1, 1]) == [10, 20]
    assert added(detections, [10, 20], [1, IGNORE_LABEL]) == [10]


def test_nothing_detected():
    assert added(found(), [10], [0]) == []


def test_boxes_are_appended_and_the_batch_is_left_alone(make_batch):
    batch = make_batch(5, 5)
    new = append_labels(batch, [found(), found(10, 20, labels=[0, 2])])
    assert [labels.tolist() for labels in new.labels] == [[0], [0, 0, 2]]
    assert new.boxes[1][:, 0].tolist() == [8, 10, 20]
    assert new.boxes[1].dtype == torch.float32
    assert [len(boxes) for boxes in batch.boxes] == [1, 1]


@pytest.fixture
def distiller(tiny_model) -> Distiller:
    torch.manual_seed(0)
    student = tiny_model.model_copy(update={'width': 0.5})
    config = DistillationConfig(terms=(LabelsConfig(),))
    return Distiller(PointPillars(tiny_model), PointPillars(student), config)


@pytest.fixture
def seen(distiller, monkeypatch):
    """Detections of the teacher are the returned list; batches that the student learns from."""
    batches, losses = [], distiller.student.losses
    monkeypatch.setattr(
        distiller.student,
        'losses',
        lambda output, batch: batches.append(batch) or losses(output, batch),
    )
    monkeypatch.setattr(
        distiller.teacher, 'detect', lambda output: [found(8.0, 20.0)] * len(output.class_logits)
    )
    return batches


def test_the_detection_loss_sees_the_teachers_boxes(distiller, seen, make_batch):
    losses = distiller(make_batch(300))
    assert set(losses) == {'classification', 'box', 'direction'}
    assert seen[0].boxes[0][:, 0].tolist() == [8, 20]  # the first is labelled already


def test_the_student_runs_behind_the_teacher_with_its_labels(distiller, seen, make_batch):
    """A second stage samples by the labels of the batch that it is given."""
    ran = []
    for name, model in (('teacher', distiller.teacher), ('student', distiller.student)):
        model.register_forward_pre_hook(lambda _model, args, name=name: ran.append((name, args)))
    distiller(make_batch(300))
    assert [name for name, _ in ran] == ['teacher', 'student']
    assert ran[0][1][1] is None  # a teacher sees no labels
    assert ran[1][1][1] is seen[0]


def test_a_frame_without_labels_gets_the_teachers(distiller, seen, make_batch):
    batch = make_batch(300)
    bare = replace(batch, boxes=(batch.boxes[0][:0],), labels=(batch.labels[0][:0],))
    losses = distiller(bare)
    assert seen[0].boxes[0][:, 0].tolist() == [8, 20]
    assert seen[0].labels[0].tolist() == [0, 0]
    assert losses['box'] > 0
    losses['box'].backward()
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())


def test_thresholds_of_classes():
    config = LabelsConfig(score_threshold=0.6, class_score_thresholds={'Cyclist': 0.5})
    assert LabelsTerm(config)._thresholds(('Car', 'Cyclist')) == {'Car': 0.6, 'Cyclist': 0.5}


def test_an_unknown_class_is_named_before_training(tiny_model):
    term = LabelsConfig(class_score_thresholds={'Tram': 0.5})
    with pytest.raises(ConfigError, match=r"\['Tram'\] are no classes.*they have \['Car'\]"):
        build_terms(DistillationConfig(terms=(term,)), *[PointPillars(tiny_model)] * 2)


def test_a_threshold_that_the_teacher_does_not_reach_down_to(tiny_model):
    message = r"thresholds \{'Car': 0.05\} are below those of the teacher, \{'Car': 0.1\}"
    with pytest.raises(ConfigError, match=message):
        build_terms(
            DistillationConfig(terms=(LabelsConfig(score_threshold=0.05),)),
            *[PointPillars(tiny_model)] * 2,
        )


def test_thresholds_of_the_teachers_classes_come_before_its_common_one(tiny_model):
    def teacher(**thresholds):
        detection = tiny_model.detection.model_copy(update=thresholds)
        return PointPillars(tiny_model.model_copy(update={'detection': detection}))

    config = DistillationConfig(terms=(LabelsConfig(score_threshold=0.6),))
    student = PointPillars(tiny_model)
    build_terms(config, teacher(score_threshold=0.9, score_thresholds=(0.5,)), student)
    with pytest.raises(ConfigError, match=r"of the teacher, \{'Car': 0.7\}"):
        build_terms(config, teacher(score_thresholds=(0.7,)), student)
