# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import torch

from pointdistiller_core.config import FitNetsConfig
from pointdistiller_core.distill.terms.fitnets import FitNetsTerm


def make_term(regressor: str) -> FitNetsTerm:
    config = FitNetsConfig(taps=('voxels',), regressor=regressor)
    return FitNetsTerm(config, teacher={'voxels': 8}, student={'voxels': 4})


def test_a_linear_teacher_is_learned_exactly(make_lesson):
    lesson, term = make_lesson(400), make_term('linear')
    rows = lesson.student.rows['voxels']
    weight, bias = torch.randn(8, 4), torch.randn(8)
    features = rows.features.detach() @ weight.T + bias
    lesson.teacher.rows['voxels'] = replace(rows, features=features)
    assert term(lesson) > 0.01
    term.regressors[0][0].load_state_dict({'weight': weight, 'bias': bias})
    assert term(lesson) < 1e-10


def test_a_rectified_regressor_is_never_negative(make_lesson):
    lesson, term = make_lesson(400), make_term('norm_relu')
    rows = lesson.teacher.rows['voxels']
    lesson.teacher.rows['voxels'] = replace(rows, features=torch.full((len(rows), 8), -2.0))
    assert term(lesson) >= term.config.weight * 4.0
