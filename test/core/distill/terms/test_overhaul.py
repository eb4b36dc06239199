# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
import pytest
import torch

from pointdistiller_core.config import OverhaulConfig
from pointdistiller_core.distill.taps import tap_channels
from pointdistiller_core.distill.terms.overhaul import (
    OverhaulTerm,
    margins,
    partial_distance,
    teacher_norm,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointPillars


@given(mean=st.floats(-3, 3), deviation=st.floats(0.1, 3))
def test_margin_is_the_mean_of_what_is_negative(mean, deviation):
    values = torch.linspace(mean - 9 * deviation, mean + 9 * deviation, 20001, dtype=torch.float64)
    density = (-((values - mean) / deviation).square() / 2).exp() * (values < 0)
    assume(density.sum() * 18 / 20000 / 2.5066 > 2e-3)  # below 1e-3 it is another rule
    expected = (values * density).sum() / density.sum()
    margin = margins(torch.tensor(mean), torch.tensor(deviation))
    torch.testing.assert_close(margin.double(), expected, rtol=0.01, atol=0.01)


def test_margin_by_hand():
    mean, deviation = torch.tensor([0.0, 5.0, -2.0, 2.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    expected = torch.tensor([-((2 / torch.pi) ** 0.5), -3.0, -2.0, 0.0])
    torch.testing.assert_close(margins(mean, deviation), expected, rtol=1e-5, atol=1e-5)


def test_partial_distance_by_hand():
    """Only the third entry, negative in both and lower in the student, is as good as right."""
    student = torch.tensor([1.0, -1.0, -3.0, 0.0])
    target = torch.tensor([3.0, 2.0, -1.0, -0.5])
    assert partial_distance(student, target) == 4 + 9 + 0.25


def test_pillars_have_the_encoders_norm(tiny_model):
    teacher = PointPillars(tiny_model)
    with torch.no_grad():
        teacher.encoder.norm.weight.fill_(-2.0)
        teacher.backbone.stages[1][-1][1].bias.fill_(0.5)
    assert teacher_norm(teacher, 'pillars')[1].tolist() == [2.0] * 8
    assert teacher_norm(teacher, 'backbone.1.norm')[0].tolist() == [0.5] * 16


def test_levels_count_half_of_the_next(make_lesson):
    lesson = make_lesson(200)
    channels = {
        side: tap_channels(getattr(lesson, side).model.config) for side in ('teacher', 'student')
    }
    torch.manual_seed(0)
    term = OverhaulTerm(OverhaulConfig(), **channels)
    assert term.taps == ('backbone.0.norm', 'backbone.1.norm')
    weighted = term(lesson)
    single = []
    for level in (0, 1):
        alone = OverhaulTerm(OverhaulConfig(taps=term.taps[level : level + 1]), **channels)
        alone.adapters[0].load_state_dict(term.adapters[level].state_dict())
        single.append(alone(lesson))
    torch.testing.assert_close(weighted, single[0] / 2 + single[1])


def test_a_frame_twice_costs_what_it_costs_once(make_lesson):
    lesson = make_lesson(200)
    term = OverhaulTerm(
        OverhaulConfig(taps=('backbone.1.norm',)),
        teacher={'backbone.1.norm': 16},
        student={'backbone.1.norm': 8},
    )
    once = term(lesson)
    for view in (lesson.teacher, lesson.student):
        view.features['backbone.1.norm'] = view.features['backbone.1.norm'].repeat(2, 1, 1, 1)
    torch.testing.assert_close(term(lesson), once)


def test_taps_behind_a_relu_are_refused(tiny_model):
    channels = tap_channels(tiny_model)
    with pytest.raises(ConfigError) as error:
        OverhaulTerm(OverhaulConfig(taps=('neck',)), teacher=channels, student=channels)
    message = str(error.value)
    assert "overhaul.taps: ['neck'] are not before a ReLU" in message
    assert "choose from ['pillars', 'backbone.0.norm', 'backbone.1.norm']" in message
