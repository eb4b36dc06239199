# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Outputs of PointRCNN's two stages, taught point by point and proposal by proposal."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pointdistiller_core.config import DistillationConfig, LogitsConfig, PointHeadConfig
from pointdistiller_core.distill.distiller import Distiller, check_distillation
from pointdistiller_core.distill.term import View
from pointdistiller_core.distill.terms.point_logits import point_logits_loss
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import build_detector

CONFIG = LogitsConfig(mask='all', score_threshold=0.0)


@pytest.fixture
def teacher(tiny_pointrcnn):
    torch.manual_seed(0)
    return build_detector(tiny_pointrcnn).eval()


def view(model, batch):
    return View(model, {}, model(model.prepare(batch.points)), {})


def test_nothing_is_to_be_learned_from_itself(teacher, make_batch):
    own = view(teacher, make_batch(900, 400))
    assert point_logits_loss(own, own, CONFIG) == 0


def test_first_stage_by_hand(teacher, make_batch):
    own = view(teacher, make_batch(900, 400))
    output = own.output
    logits, codes = output.point_logits.clone(), output.point_codes.clone()
    logits[0] += 1.0
    codes[1, :, 0] += 2.0
    moved = replace(output, point_logits=logits, point_codes=codes)
    # the second stage would see other scores
    teacher.refine = lambda *_: (output.logits, output.residuals)
    loss = point_logits_loss(own, View(teacher, {}, moved, {}), CONFIG)
    scores = (logits[0].sigmoid() - output.point_logits[0].sigmoid()).square().mean()
    boxes = CONFIG.box_weight * (2.0 - teacher.smooth_l1_beta / 2)
    torch.testing.assert_close(loss, (scores + boxes) / 2)


def test_second_stage_sees_the_proposals_of_the_teacher(teacher, tiny_pointrcnn, make_batch):
    own = view(teacher, make_batch(900, 400))
    student = build_detector(tiny_pointrcnn.model_copy(update={'width': 0.5})).train()
    batch = make_batch(900, 400)
    theirs = View(student, {}, student(own.output.points, batch), {})
    loss = point_logits_loss(own, theirs, CONFIG)
    loss.backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
    assert student.refinement.regressor[0].linear.weight.grad.any()
    assert student.backbone.levels[0].scales[0][0].linear.weight.grad.any()


def test_frames_without_points_count_as_nothing(teacher, make_batch):
    alone = view(teacher, make_batch(900))
    among = view(teacher, make_batch(900, 0))
    moved = replace(alone.output, point_codes=alone.output.point_codes + 1)
    loss = point_logits_loss(alone, View(teacher, {}, moved, {}), CONFIG)
    moved = replace(among.output, point_codes=among.output.point_codes + 1)
    half = point_logits_loss(among, View(teacher, {}, moved, {}), CONFIG)
    assert loss > 0
    torch.testing.assert_close(half, loss / 2)
    nothing = view(teacher, make_batch(0))
    assert point_logits_loss(nothing, nothing, CONFIG) == 0


def test_it_is_a_term_of_a_distillation(teacher, tiny_pointrcnn, make_batch):

    student = build_detector(tiny_pointrcnn.model_copy(update={'width': 0.5}))
    distiller = Distiller(teacher, student, DistillationConfig(terms=(LogitsConfig(),))).train()
    with torch.autocast('cpu', torch.bfloat16):
        losses = distiller(make_batch(900, 400))
    assert losses['logits'].isfinite()
    assert losses['logits'].dtype == torch.float32


def test_other_mean_sizes_are_named(tiny_pointrcnn):

    head = PointHeadConfig(mean_sizes={'Car': (4.5, 1.8, 1.6)})
    other = tiny_pointrcnn.model_copy(update={'head': head})
    distillation = DistillationConfig(terms=(LogitsConfig(),))
    with pytest.raises(ConfigError, match=r'head\.mean_sizes\.Car: teacher has'):
        check_distillation(distillation, tiny_pointrcnn, other)


def test_detectors_of_other_families_have_no_such_points(tiny_pointrcnn, tiny_model):

    distillation = DistillationConfig(terms=(LogitsConfig(),))
    with pytest.raises(ConfigError, match='agree on what they see'):
        check_distillation(distillation, tiny_pointrcnn, tiny_model)
