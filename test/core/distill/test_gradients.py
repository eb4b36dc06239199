# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.config import DistillationConfig
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.gradients import gradient_ratios, parameters_by_module
from pointdistiller_core.models import PointPillars, build_detector


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.neck = nn.Linear(2, 1, bias=False)
        self.head = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.neck.weight)
        nn.init.ones_(self.head.weight)


def test_ratios_by_hand():
    model, inputs = Two(), torch.tensor([[3.0, 4.0]])
    middle = model.neck(inputs)  # 7
    detection = model.head(middle).sum()  # gradients: neck (3, 4), head 7
    terms = {'half': 0.5 * middle.sum(), 'both': 2 * model.head(middle).sum()}
    ratios = gradient_ratios(detection, terms, model)
    assert ratios['half'] == pytest.approx({'neck': 0.5, 'reached': 0.5})
    assert ratios['both'] == pytest.approx({'neck': 2, 'head': 2, 'reached': 2})
    mixed = {'mixed': middle.sum() + 3 * model.head(middle.detach()).sum()}
    found = gradient_ratios(detection, mixed, model)['mixed']
    expected = ((5**2 + 21**2) / (5**2 + 7**2)) ** 0.5
    assert found == pytest.approx({'neck': 1, 'head': 3, 'reached': expected})


def test_terms_that_reach_nothing():
    model = Two()
    detection = model.head(model.neck(torch.ones(1, 2))).sum()
    elsewhere = nn.Linear(1, 1)
    terms = {'constant': torch.zeros(()), 'elsewhere': elsewhere(torch.ones(1)).sum()}
    assert gradient_ratios(detection, terms, model) == {'elsewhere': {}}


def test_modules_are_those_that_one_speaks_of(tiny_model, tiny_second):
    names = ['encoder', 'backbone.0', 'backbone.1', 'neck', 'head']
    for model in (build_detector(tiny_model), build_detector(tiny_second)):
        modules = parameters_by_module(model)
        assert sorted(modules) == sorted(names)
        num_parameters = sum(1 for _ in model.parameters())
        assert sum(map(len, modules.values())) == num_parameters


def test_of_a_distillation(tiny_model, make_batch):
    logits = {'name': 'logits', 'mask': 'rank', 'num_anchors': 50}
    terms = [logits, {'name': 'local_graph', 'num_samples': 40, 'num_neighbors': 4}, 'labels']
    config = DistillationConfig.model_validate({'terms': terms})
    torch.manual_seed(0)
    student = PointPillars(tiny_model.model_copy(update={'width': 0.5}))
    distiller = Distiller(PointPillars(tiny_model), student, config)
    losses = distiller(make_batch(400, 300))
    ratios = distiller.gradient_ratios(losses)
    assert list(ratios) == ['logits', 'local_graph']  # the third only adds labels
    assert list(ratios['local_graph']) == ['encoder', 'reached']
    assert list(ratios['logits']) == [
        'encoder',
        'backbone.0',
        'backbone.1',
        'neck',
        'head',
        'reached',
    ]
    # Twice the weight, twice the ratio; and the losses can still be differentiated.
    doubled = distiller.gradient_ratios({**losses, 'logits': 2 * losses['logits']})
    assert doubled['logits']['neck'] == pytest.approx(2 * ratios['logits']['neck'], rel=1e-5)
    assert all(parameter.grad is None for parameter in student.parameters())
    sum(losses.values()).backward()
