# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import math
from typing import get_args

from changed_config import changed
import pytest
import torch
from toy_detector import ToyConfig, ToyDetector

from pointdistiller_core.config import DistillationConfig, GraphContrastConfig, LocalGraphConfig
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.distiller import build_terms
from pointdistiller_core.distill.importance import (
    IMPORTANCE,
    IMPORTANCE_OF_OUTPUTS,
    SampleWarning,
    importance_weights,
    sample_top_and_random,
    scale_to_one,
    score_rows,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import BoxPredictions, PointPillars

FEATURES = torch.tensor([[1.0, -5.0], [2.0, 0.0]])
NUM_POINTS = torch.tensor([7, 32])


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('num_points', [7.0, 32.0]),
        ('channel_max', [1.0, 2.0]),
        ('abs_mean', [3.0, 1.0]),
        ('uniform', [0.0, 0.0]),
    ],
)
def test_scores_by_hand(name, expected):
    assert IMPORTANCE[name](FEATURES, NUM_POINTS).tolist() == expected


def test_every_configurable_importance_exists():
    names = get_args(LocalGraphConfig.model_fields['importance'].annotation)
    assert {*names, 'uniform'} == IMPORTANCE.keys() | IMPORTANCE_OF_OUTPUTS.keys()


def distilled(tiny_model, batch, importance, *, taps=('neck',), seed=0):
    """The lesson that a term saw, and the rows of its first tap."""
    torch.manual_seed(seed)
    term = GraphContrastConfig(
        taps=taps, importance=importance, num_samples=10, num_neighbors=4, channels=4
    )
    student = PointPillars(tiny_model.model_copy(update={'width': 0.5}))
    distiller = Distiller(PointPillars(tiny_model), student, DistillationConfig(terms=(term,)))
    seen = []
    (built,) = distiller.terms.values()
    built.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    losses = distiller(batch)
    return distiller, losses, seen[0]


def test_confidence_of_a_cell_is_its_best_score(tiny_model, make_batch):
    _, _, lesson = distilled(tiny_model, make_batch(400, 300), 'confidence')
    rows, output = lesson.teacher.rows['neck'], lesson.teacher.output
    scores = score_rows('confidence', lesson, 'neck', rows, rows.features)
    per_cell = output.class_logits.sigmoid().reshape(len(rows), -1)
    torch.testing.assert_close(scores, per_cell.amax(dim=1))


def test_confidence_of_a_pillar_is_that_of_its_cell(tiny_model, make_batch):
    model = changed(tiny_model, backbone={'strides': (2, 2)}, neck={'strides': (1, 2)})
    _, _, lesson = distilled(model, make_batch(400), 'confidence', taps=('voxels',))
    pillars = lesson.teacher.rows['voxels']
    scores = score_rows('confidence', lesson, 'voxels', pillars, pillars.features)
    height, width = model.grid.strided_bev_shape(2)
    cells = lesson.teacher.output.class_logits.sigmoid().reshape(height, width, -1).amax(dim=2)
    expected = [cells[row // 2, column // 2] for _, row, column in pillars.cells]
    torch.testing.assert_close(scores, torch.stack(expected))


def test_a_cell_of_a_coarser_map_has_the_best_score_in_it(tiny_model, make_batch):
    _, _, lesson = distilled(tiny_model, make_batch(400), 'confidence', taps=('backbone.1',))
    rows = lesson.teacher.rows['backbone.1']
    scores = score_rows('confidence', lesson, 'backbone.1', rows, rows.features)
    height, width = tiny_model.grid.bev_shape
    cells = lesson.teacher.output.class_logits.sigmoid().reshape(height, width, -1).amax(dim=2)
    blocks = cells.reshape(height // 2, 2, width // 2, 2).amax(dim=(1, 3))
    torch.testing.assert_close(scores, blocks.flatten())


def test_disagreement_is_the_largest_difference_of_a_class(tiny_model, make_batch):
    _, _, lesson = distilled(tiny_model, make_batch(400), 'disagreement')
    rows, kinds = lesson.teacher.rows['neck'], len(tiny_model.class_names)
    best = [
        view.output.class_logits.sigmoid().reshape(len(rows), -1, kinds).amax(dim=1)
        for view in (lesson.student, lesson.teacher)
    ]
    scores = score_rows('disagreement', lesson, 'neck', rows, rows.features)
    torch.testing.assert_close(scores, (best[1] - best[0]).abs().amax(dim=1))


def test_a_network_does_not_disagree_with_itself(tiny_model, make_batch):
    _, _, lesson = distilled(tiny_model, make_batch(400), 'disagreement')
    rows = lesson.teacher.rows['neck']
    alike = replace(lesson, student=lesson.teacher)
    assert not score_rows('disagreement', alike, 'neck', rows, rows.features).any()


@pytest.mark.parametrize('tap', ['voxels', 'backbone.0', 'neck'])
def test_gradient_is_the_length_of_that_of_the_detection_loss(tiny_model, make_batch, tap):
    batch = make_batch(400, 300)
    distiller, losses, lesson = distilled(tiny_model, batch, 'gradient', taps=(tap,))
    rows = lesson.student.rows[tap]
    scores = score_rows('gradient', lesson, tap, rows, lesson.teacher.rows[tap].features)
    assert scores.shape == (len(rows),)
    assert scores.max() > 0
    # By hand: the student again, with a layer whose output has its gradient kept.
    student, kept = distiller.student, []
    student.load_state_dict(distiller.student.state_dict())
    module = student.layers()[tap].module
    handle = module.register_forward_hook(lambda _m, _a, out: kept.append(out))
    output = student(lesson.prepared)
    handle.remove()
    tensor = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    detection = sum(student.losses(output, batch).values())
    (gradient,) = torch.autograd.grad(detection, tensor)
    expected = gradient.norm(dim=1).flatten()
    torch.testing.assert_close(scores, expected)
    assert set(losses) == {'classification', 'box', 'direction', 'graph_contrast'}


def test_gradient_leaves_those_of_the_training_as_they_are(tiny_model, make_batch):
    batch, found = make_batch(400, 300), []
    for name in ('gradient', 'uniform'):
        distiller, losses, _ = distilled(tiny_model, batch, name)
        sum(loss for key, loss in losses.items() if key != 'graph_contrast').backward()
        found.append([parameter.grad for parameter in distiller.student.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize('term', [GraphContrastConfig, LocalGraphConfig])
def test_there_is_no_gradient_before_a_relu(tiny_model, term):
    config = DistillationConfig(terms=(term(importance='gradient', taps=('backbone.0.norm',)),))
    with pytest.raises(ConfigError, match=r"gradient: there is none of \['backbone.0.norm'\]"):
        build_terms(config, *[PointPillars(tiny_model)] * 2)


@pytest.mark.parametrize('importance', sorted(IMPORTANCE_OF_OUTPUTS))
@pytest.mark.parametrize('taps', [('voxels',), ('backbone.1', 'neck')])
def test_local_graphs_have_the_same_importances(tiny_model, make_batch, importance, taps):
    term = LocalGraphConfig(num_samples=20, num_neighbors=4, importance=importance, taps=taps)
    student = PointPillars(tiny_model.model_copy(update={'width': 0.5}))
    distiller = Distiller(PointPillars(tiny_model), student, DistillationConfig(terms=(term,)))
    loss = distiller(make_batch(0, 300))['local_graph']
    assert torch.isfinite(loss)
    assert loss > 0


def test_other_families_are_sure_where_they_detect(make_batch):
    model = ToyDetector(ToyConfig()).eval()
    batch = make_batch(400, 0)
    voxels = model.prepare(batch.points)
    with torch.no_grad():
        output = model(voxels)
    rows = model.layers()['voxels'].to_rows(model.features(torch.rand(len(voxels), 4)), voxels)
    box = torch.tensor([[10.0, 0.0, 5.0, 8.0, 6.0, 2.0, 0.0]])
    found = [
        BoxPredictions(box.repeat(2, 1), torch.tensor([0.75, 0.5]), torch.zeros(2).long()),
        BoxPredictions(box[:0], torch.zeros(0), torch.zeros(0).long()),
    ]
    model.detect = lambda _output: found
    scores = model.confidences(output, rows)
    x, y, _ = rows.positions.T
    inside = ((x - 10).abs() <= 4) & (y.abs() <= 3)
    assert 0 < inside.sum() < len(rows)
    torch.testing.assert_close(scores, 0.75 * inside[:, None].float())


# --- samples ---------------------------------------------------------------------------------


def test_top_rows_and_as_many_of_the_others():
    importance = torch.arange(20.0)
    for _ in range(5):
        rows = sample_top_and_random(importance, 6)
        assert rows[:6].tolist() == [19, 18, 17, 16, 15, 14]
        assert len(set(rows.tolist())) == 12
    assert sorted(sample_top_and_random(importance, 15).tolist()) == list(range(20))
    assert sample_top_and_random(importance[:0], 15).shape == (0,)


def test_equal_rows_are_drawn_at_random():
    drawn = {tuple(sorted(sample_top_and_random(torch.zeros(30), 3).tolist())) for _ in range(9)}
    assert len(drawn) > 1


def test_scores_are_scaled_to_one():
    assert scale_to_one(torch.tensor([3.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]
    assert scale_to_one(torch.tensor([3.0, 3.0])).tolist() == [0.0, 0.0]
    assert scale_to_one(torch.zeros(0)).shape == (0,)


def test_samples_that_are_nearly_all_rows_are_said_once(caplog):
    warn = SampleWarning('terms.x.num_samples')
    warn(89, [100, 100])
    assert not caplog.messages
    for _ in range(2):
        warn(6000, [6150, 5000, 0])
    (message,) = caplog.messages
    assert message.startswith('terms.x.num_samples: 6000 samples of a frame are nearly all')
    assert '(3717 on average)' in message


@pytest.mark.parametrize('name', ['local_graph', 'graph_contrast'])
def test_terms_say_that_they_sample_nearly_all(tiny_model, make_batch, caplog, name):
    terms = [{'name': name, 'num_samples': 400}]
    config = DistillationConfig.model_validate({'terms': terms})
    distiller = Distiller(PointPillars(tiny_model), PointPillars(tiny_model), config)
    for _ in range(2):
        distiller(make_batch(200))
    assert [f'terms.{name}.num_samples: ' in message for message in caplog.messages] == [True]


def test_weights_by_hand():
    # softmax of (0, ln 3) is (1/4, 3/4); the mean of the weights is 1
    weights = importance_weights(torch.tensor([0.0, 2 * math.log(3)]), temperature=2.0)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5]))


def test_the_authors_temperature_keeps_only_the_fullest_pillars():
    weights = importance_weights(torch.tensor([32.0, 32.0, 31.0, 1.0]), temperature=0.01)
    torch.testing.assert_close(weights, torch.tensor([2.0, 2.0, 0.0, 0.0]))


def test_weights_of_no_pillars():
    assert importance_weights(torch.zeros(0), temperature=1.0).shape == (0,)
