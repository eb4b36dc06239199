# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What every term that compares features must hold to, on both kinds of taps."""

from __future__ import annotations

from typing import get_args

from changed_config import changed
import pytest
import torch
from torch import Tensor

from pointdistiller_core.config import AnyTermConfig, DistillationConfig, FeatureTermConfig
from pointdistiller_core.distill import TERMS, Distiller
from pointdistiller_core.distill.terms.feature_term import FeatureTerm
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointPillars, sketch_detector

ALL = {cls.model_fields['name'].default: cls for cls in get_args(get_args(AnyTermConfig)[0])}
FEATURE_TERMS = {name: cls for name, cls in ALL.items() if issubclass(cls, FeatureTermConfig)}
SIZES = {
    'contrastive': {'num_samples': 40, 'channels': 8},
    'graph_contrast': {'num_samples': 20, 'num_neighbors': 4, 'channels': 8},
}
CHANGES = {
    'fitnets': {'regressor': 'linear'},
    'attention': {'power': 1.0},
    'similarity': {'among': 'cells'},
    'contrastive': {'num_samples': 20, 'channels': 5, 'temperature': 0.5},
    'graph_contrast': {
        'num_samples': 10,
        'num_neighbors': 2,
        'importance': 'num_points',
        'channels': 5,
        'temperature': 0.5,
        'reweight_temperature': 0.01,
    },
    'overhaul': {},
    'attention_nonlocal': {
        'feature_weight': 1.0,
        'channel_weight': 1.0,
        'spatial_weight': 1.0,
        'nonlocal_weight': 1.0,
        'temperature': 0.01,
        'nonlocal_channels': 3,
        'nonlocal_stride': 1,
    },
    'box_features': {'margin': 2.0, 'norm': 'per_cell'},
}
SHARED = {'weight': 0.5, 'taps': ('voxels',)}


def map_taps(name: str) -> tuple[str, ...]:
    norm = '.norm' if name == 'overhaul' else ''
    return (f'backbone.0{norm}', f'backbone.1{norm}')


def small(name: str, **changes: object) -> FeatureTermConfig:
    return FEATURE_TERMS[name](**{**SIZES.get(name, {}), **changes})


def build(config: FeatureTermConfig, lesson) -> FeatureTerm:
    torch.manual_seed(0)
    channels = {side: channels_of(getattr(lesson, side).model) for side in ('teacher', 'student')}
    return TERMS[config.name](config, **channels)


def channels_of(model) -> dict[str, int]:
    return {name: layer.channels for name, layer in model.layers().items()}


def loss_of(config: FeatureTermConfig, lesson) -> Tensor:
    term = build(config, lesson)
    torch.manual_seed(1)
    return term(lesson)


both_kinds = pytest.mark.parametrize('kind', ['voxels', 'maps'])
every_term = pytest.mark.parametrize('name', FEATURE_TERMS)


def taps_of(kind: str, name: str) -> tuple[str, ...]:
    return ('voxels',) if kind == 'voxels' else map_taps(name)


@every_term
@both_kinds
@pytest.mark.parametrize('num_points', [(400, 300), (0, 300), (0,), (0, 0)])
def test_gradients_reach_the_student_and_not_the_teacher(make_lesson, name, kind, num_points):
    lesson = make_lesson(*num_points)
    term = build(small(name, taps=taps_of(kind, name)), lesson)
    loss = term(lesson)
    assert torch.isfinite(loss)
    loss.backward()
    for tap in term.taps:
        assert lesson.teacher.rows[tap].features.grad is None
        gradient = lesson.student.rows[tap].features.grad
        assert torch.isfinite(gradient).all()
        if all(num_points):
            assert gradient.abs().sum() > 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in term.parameters())


@every_term
def test_default_taps_are_there_with_any_number_of_stages(make_lesson, tiny_model, name):
    config = changed(
        tiny_model,
        backbone={'layers': (1, 1, 1), 'strides': (1, 2, 2), 'channels': (8, 16, 16)},
        neck={'strides': (1, 2, 4), 'channels': (8, 8, 8)},
    )
    for model in (tiny_model, config):
        channels = channels_of(sketch_detector(model))
        term = TERMS[name](small(name), teacher=channels, student=channels)
        assert term.taps
        assert set(term.taps) <= set(channels)
    assert torch.isfinite(loss_of(small(name), make_lesson(300, 200)))


@pytest.mark.parametrize('name', ['attention', 'overhaul'])
def test_levels_that_do_not_match_are_named(name):
    with pytest.raises(ConfigError) as error:
        TERMS[name](
            ALL[name](),
            teacher={'voxels': 8, 'backbone.0': 8, 'backbone.0.norm': 8, 'neck': 8},
            student={'voxels': 8, 'neck': 8},
        )
    message = str(error.value)
    assert f'terms.{name}.taps' in message
    assert "teacher has ['backbone.0'] and the student []; name the taps" in message


def test_a_tap_that_is_not_there_lists_those_that_are(tiny_model):
    config = DistillationConfig.model_validate({'terms': [{'name': 'fitnets', 'taps': ['nek']}]})
    message = (
        r"terms\.fitnets\.taps: the teacher has no \['nek'\]; choose from \['voxels', .*'neck'"
    )
    with pytest.raises(ConfigError, match=message):
        Distiller(PointPillars(tiny_model), PointPillars(tiny_model), config)


def test_every_field_is_covered():
    for name, cls in FEATURE_TERMS.items():
        fields = set(cls.model_fields) - {'name'}
        expected = set(CHANGES[name]) | set(SHARED)
        if name == 'similarity':
            expected |= {'num_samples'}  # see test_similarity.py
        assert fields == expected


@pytest.mark.parametrize(
    ('name', 'field', 'value'),
    [
        (name, field, value)
        for name, changes in CHANGES.items()
        for field, value in {**SHARED, **changes}.items()
    ],
)
def test_every_field_changes_the_loss(make_lesson, name, field, value):
    lesson = make_lesson(400, 300)
    assert loss_of(small(name), lesson) != loss_of(small(name, **{field: value}), lesson)


@every_term
def test_weight_scales_the_loss(make_lesson, name):
    lesson, weight = make_lesson(400, 300), small(name).weight
    expected = 3 * loss_of(small(name), lesson)
    torch.testing.assert_close(loss_of(small(name, weight=3 * weight), lesson), expected)


@pytest.mark.parametrize('name', ['attention', 'similarity'])  # the others have adapters
def test_taps_add_up(make_lesson, name):
    lesson, taps = make_lesson(400, 300), map_taps(name)
    both = loss_of(small(name, taps=taps), lesson)
    single = [loss_of(small(name, taps=(tap,)), lesson) for tap in taps]
    torch.testing.assert_close(both, sum(single))


@every_term
@both_kinds
def test_half_precision_regions_do_not_reach_the_loss(make_lesson, name, kind):
    lesson = make_lesson(300, 200)
    config = small(name, taps=taps_of(kind, name))
    with torch.autocast('cpu', torch.bfloat16):
        inside = loss_of(config, lesson)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss_of(config, lesson))


@every_term
@both_kinds
def test_arguments_stay_as_they_are(make_lesson, name, kind):
    lesson = make_lesson(300, 200)
    views = (lesson.teacher, lesson.student)
    before = [{tap: rows.features.clone() for tap, rows in view.rows.items()} for view in views]
    loss_of(small(name, taps=taps_of(kind, name)), lesson)
    for view, copies in zip(views, before, strict=True):
        assert all(torch.equal(view.rows[tap].features, copy) for tap, copy in copies.items())


@every_term
def test_maps_of_different_resolution_meet_at_the_coarser_one(make_lesson, name):
    lesson = make_lesson(300, 200)
    (tap, _), config = map_taps(name), small(name, taps=map_taps(name)[:1])
    expected, rows = loss_of(config, lesson), lesson.teacher.rows[tap]
    fine = rows.to_map(rows.features).repeat_interleave(2, 2).repeat_interleave(2, 3)
    finer = lesson.teacher.model.layers()[tap].to_rows(fine, lesson.prepared)
    lesson.teacher.rows[tap] = finer
    torch.testing.assert_close(loss_of(config, lesson), expected)


def test_all_terms_together(tiny_model, make_batch):
    """Each with its defaults, named by its name alone; a tiny map has few pillars to sample."""
    others = [name for name in TERMS if name != 'local_graph']
    config = DistillationConfig.model_validate(
        {'terms': [*others, {'name': 'local_graph', 'num_samples': 100}]}
    )
    student = tiny_model.model_copy(update={'width': 0.5})
    distiller = Distiller(PointPillars(tiny_model), PointPillars(student), config)
    losses = distiller(make_batch(0, 300))
    assert set(FEATURE_TERMS) < set(losses)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())


def test_every_term_of_the_configuration_exists():
    assert set(TERMS) == set(ALL)
