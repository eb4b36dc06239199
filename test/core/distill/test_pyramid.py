# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Every term teaches a detector with a pyramid, two layers of the encoder and velocities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pointdistiller_core.config import LOCAL_GRAPH_PRESETS, DistillationConfig, parse_config
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.distiller import TERMS
from pointdistiller_core.distill.terms.labels import append_labels
from pointdistiller_core.models import BoxPredictions, PointPillars

OWN = {'classification', 'box', 'direction', 'velocity'}
ANY_SCORE = {'score_threshold': 0.0}
SETTINGS = {
    'logits': ANY_SCORE,
    'consistency': ANY_SCORE,
    'labels': {'score_threshold': 0.1},
    'similarity': {'among': 'cells', 'num_samples': 40},
    'local_graph': {'taps': ['neck.1'], 'num_samples': 40, 'num_neighbors': 8},
    'graph_contrast': {'num_samples': 40, 'num_neighbors': 8},
}


@pytest.fixture
def batch(make_batch):
    own = make_batch(900, 500)
    return replace(own, velocities=(torch.tensor([[3.0, 0.0]]), torch.tensor([[torch.nan, 1.0]])))


def distil(tiny_pyramid, distillation) -> Distiller:
    torch.manual_seed(0)
    detection = tiny_pyramid.detection.model_copy(update={'score_threshold': 0.0})
    teacher = PointPillars(tiny_pyramid.model_copy(update={'detection': detection}))
    student = PointPillars(tiny_pyramid.model_copy(update={'width': 0.5}))
    return Distiller(teacher, student, distillation).train()


@pytest.mark.parametrize('name', TERMS)
def test_every_term_is_finite_and_reaches_the_student(tiny_pyramid, batch, name):
    term = {'name': name, **SETTINGS.get(name, {})}
    distillation = parse_config(DistillationConfig, {'terms': [term]}, where='x')
    distiller = distil(tiny_pyramid, distillation)
    losses = distiller(batch)
    assert set(losses) == OWN | ({name} if name != 'labels' else set())
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for parameter in distiller.student.parameters():
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize('tap', ['neck', 'neck.1', 'backbone.1', 'voxels'])
def test_every_level_can_be_tapped(tiny_pyramid, batch, tap):
    terms = {'terms': [{'name': 'fitnets', 'taps': [tap]}]}
    distiller = distil(tiny_pyramid, parse_config(DistillationConfig, terms, where='x'))
    loss = distiller(batch)['fitnets']
    loss.backward()
    assert loss > 0
    encoder = distiller.student.encoder.hidden.linear.weight
    assert encoder.grad.any()


def test_the_authors_preset_compares_the_finest_map(tiny_pyramid, batch):
    preset = LOCAL_GRAPH_PRESETS['authors_nuscenes'].model_copy(update={'num_neighbors': 8})
    distiller = distil(tiny_pyramid, DistillationConfig(terms=(preset,)))
    seen = distiller.student.layers()['neck']
    assert seen.map_shape == tiny_pyramid.head_shapes[0]
    assert distiller(batch)['local_graph'] > 0


def test_velocities_are_taught_with_the_boxes(tiny_pyramid, batch):
    losses = []
    for weight in (0.0, 1.0):
        term = {'name': 'logits', 'velocity_weight': weight, **ANY_SCORE}
        terms = parse_config(DistillationConfig, {'terms': [term]}, where='x')
        losses.append(distil(tiny_pyramid, terms)(batch)['logits'])
    assert losses[1] > losses[0]


def test_appended_labels_keep_the_velocities_in_step(make_batch):
    one = make_batch(5)
    found = BoxPredictions(one.boxes[0], torch.ones(1), one.labels[0])
    moving = replace(found, velocities=torch.tensor([[7.0, 8.0]]))
    before = replace(one, velocities=(torch.tensor([[1.0, 2.0]]),))
    (with_own,) = append_labels(before, [moving]).velocities
    assert with_own.tolist() == [[1, 2], [7, 8]]
    (unknown,) = append_labels(before, [found]).velocities
    assert unknown[0].tolist() == [1, 2]
    assert unknown[1].isnan().all()
    assert append_labels(one, [moving]).velocities is None
