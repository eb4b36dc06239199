# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pointdistiller_core.distill.term import Lesson, View
from pointdistiller_core.models import PointPillars
from pointdistiller_core.models.layer import Rows, read_layers
from pointdistiller_core.records import Batch


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Clouds of random points in the range of `tiny_model`, each with a car in it."""

    def make(*num_points: int, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        low, size = torch.tensor([0, -12.8, -3, 0]), torch.tensor([25.6, 25.6, 4, 1])
        clouds = [torch.rand(n, 4, generator=generator) * size + low for n in num_points]
        car = torch.tensor([[8.0, 0.0, -1.0, 3.9, 1.6, 1.56, 0.0]])
        return Batch(
            points=tuple(clouds),
            boxes=tuple(car for _ in clouds),
            labels=tuple(torch.zeros(1, dtype=torch.int64) for _ in clouds),
            frame_ids=tuple(f'{i:06d}' for i in range(len(clouds))),
        )

    return make


def as_leaf(rows: Rows) -> Rows:
    if rows.features.requires_grad:
        return rows
    return replace(rows, features=rows.features.clone().requires_grad_())


@pytest.fixture
def make_lesson(tiny_model, make_batch) -> Callable[..., Lesson]:
    """What a teacher and a student of half its width made of random clouds.

    All features are leaves that ask for gradients, the teacher's, too; keywords, e.g.
    `teacher={'neck': maps}`, give further outputs of layers.
    """

    def make(*num_points: int, **further: dict[str, Tensor]) -> Lesson:
        torch.manual_seed(0)
        batch = make_batch(*num_points)
        student = tiny_model.model_copy(update={'width': 0.5})
        models = {'teacher': PointPillars(tiny_model).eval(), 'student': PointPillars(student)}
        voxels = models['student'].prepare(batch.points)
        views = {}
        for side, model in models.items():
            layers = model.layers()
            with read_layers(layers) as outputs, torch.no_grad():
                output = model(voxels)
            outputs |= further.get(side, {})
            rows = {name: layers[name].to_rows(own, voxels) for name, own in outputs.items()}
            views[side] = View(model, {name: as_leaf(own) for name, own in rows.items()}, output)
        return Lesson(batch, voxels, **views)

    return make
