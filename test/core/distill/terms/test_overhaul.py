# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st
import pytest
import torch

from pointdistiller_core.config import DistillationConfig, OverhaulConfig
from pointdistiller_core.distill.distiller import build_terms
from pointdistiller_core.distill.terms.overhaul import (
    OverhaulTerm,
    margins,
    partial_distance,
    scale_of,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointPillars

CHANNELS = {'backbone.0.norm': 8, 'backbone.0': 8, 'backbone.1.norm': 16, 'backbone.1': 16}


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


def test_voxels_have_the_encoders_norm(tiny_model):
    teacher = PointPillars(tiny_model)
    with torch.no_grad():
        teacher.encoder.norm.weight.fill_(-2.0)
        teacher.backbone.stages[1][-1][1].bias.fill_(0.5)
    assert scale_of(teacher.layers()['voxels'])[1].tolist() == [2.0] * 8
    assert scale_of(teacher.layers()['backbone.1.norm'])[0].tolist() == [0.5] * 16


def test_levels_count_half_of_the_next(make_lesson):
    lesson = make_lesson(200)
    channels = {'teacher': CHANNELS, 'student': {name: c // 2 for name, c in CHANNELS.items()}}
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
        rows = view.rows['backbone.1.norm']
        features, sizes = rows.features.repeat(2, 1), rows.sizes * 2
        view.rows['backbone.1.norm'] = replace(rows, features=features, sizes=sizes)
    torch.testing.assert_close(term(lesson), once)


def test_taps_behind_a_relu_are_refused(tiny_model):
    config = DistillationConfig(terms=(OverhaulConfig(taps=('neck',)),))
    with pytest.raises(ConfigError) as error:
        build_terms(config, *[PointPillars(tiny_model)] * 2)
    message = str(error.value)
    assert "overhaul.taps: ['neck'] are not before a ReLU" in message
    assert "choose from ['voxels', 'backbone.0.norm', 'backbone.1.norm']" in message
