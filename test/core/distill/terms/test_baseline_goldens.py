# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Number-for-number parity of earlier methods with RepDistiller (shared data: kd_loss)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pointdistiller_core.config import AttentionConfig, FitNetsConfig, SimilarityConfig
from pointdistiller_core.distill import TERMS
from pointdistiller_core.distill.terms.feature_term import FeatureTerm, mean_square

PLAIN = {'weight': 1.0, 'taps': ('neck',)}
CASES = {
    'at_same_size': AttentionConfig(**PLAIN),
    'at_teacher_larger': AttentionConfig(**PLAIN),
    'sp': SimilarityConfig(**PLAIN),
    'fitnet_regressor': FitNetsConfig(**PLAIN),
}
REGRESSOR = {'conv_weight': '0.weight', 'bn_weight': '1.weight', 'bn_bias': '1.bias'}


@pytest.fixture
def load(shared_data: Path):
    def load_arrays(name: str) -> dict[str, Tensor]:
        with np.load(shared_data / 'kd_loss' / f'{name}.npz') as file:
            return {key: torch.from_numpy(value) for key, value in file.items()}

    return load_arrays


def lesson_of(make_lesson, arrays: dict[str, Tensor]):
    """A lesson whose necks put out the golden maps."""
    sides = ('teacher', 'student')
    return make_lesson(100, **{side: {'neck': (arrays[f'{side}_feat'],)} for side in sides})


def build(name: str, arrays: dict[str, Tensor]) -> FeatureTerm:
    sides = {side: {'neck': arrays[f'{side}_feat'].shape[1]} for side in ('teacher', 'student')}
    term = TERMS[CASES[name].name](CASES[name], **sides)
    if name == 'fitnet_regressor':  # the bias of its convolution is lost in the batch norm
        values = {key: arrays[f'reg_{source}'] for source, key in REGRESSOR.items()}
        term.regressors[0].load_state_dict(values)
    return term


def assert_near(actual: Tensor, expected: Tensor) -> None:
    """Within a part of the largest entry, as the reference asks."""
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_all_baselines_are_covered(shared_data):
    cases = json.loads((shared_data / 'kd_loss' / 'cases.json').read_text(encoding='utf-8'))
    baselines = {case['id'] for case in cases['cases'] if case['kind'] != 'graph'}
    assert baselines == {*CASES, 'fitnet_mse'}


@pytest.mark.parametrize('name', CASES)
def test_loss_and_gradients(load, make_lesson, name):
    arrays = load(name)
    arrays['student_feat'].requires_grad_()
    term = build(name, arrays)
    loss = term(lesson_of(make_lesson, arrays))
    assert loss.item() == pytest.approx(arrays['expected_loss'].item(), rel=1e-5)
    loss.backward()
    assert_near(arrays['student_feat'].grad, arrays['expected_grad_student_feat'])
    if name == 'fitnet_regressor':
        for source, key in REGRESSOR.items():
            gradient = term.regressors[0].get_parameter(key).grad
            assert_near(gradient, arrays[f'expected_grad_reg_{source}'].view_as(gradient))


def test_plain_mean_square(load):
    arrays = load('fitnet_mse')
    student = arrays['student_feat'].requires_grad_()
    loss = mean_square(student, arrays['teacher_feat'])
    assert loss.item() == pytest.approx(arrays['expected_loss'].item(), rel=1e-5)
    loss.backward()
    assert_near(student.grad, arrays['expected_grad_student_feat'])
