# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What surrounds the dense network: the host before it, its canvas, the anchors behind it."""

from __future__ import annotations

from changed_config import changed
import numpy as np
import pytest
import torch

from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.export.split import make_canvas, split_detector
from pointdistiller_core.deploy.hosts import HOSTS
from pointdistiller_core.models import build_detector
from pointdistiller_core.pointcloud.sweeps import PastSweep, merge_sweeps, to_past


@pytest.fixture(params=[False, True], ids=['one sweep', 'sweeps'])
def model(tiny_model, request):
    torch.manual_seed(0)
    if request.param:
        columns = (*tiny_model.point_features, 'age')
        tiny_model = changed(tiny_model, point_features=columns, sweeps=3)
    model = build_detector(tiny_model).eval()
    norm = model.encoder.norm
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(tensor)  # of either sign: an unused slot may be the maximum
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return model


@pytest.mark.parametrize('max_points', [1, 2, 8])
def test_canvas_is_that_of_torch(model, tiny_dataset, max_points):
    points = tiny_dataset(1)[0].points
    if model.config.sweeps > 1:
        points = merge_sweeps(points, [PastSweep(to_past(points), 0.1, np.eye(4))])
    model.config = changed(model.config, voxels={'max_points': max_points})
    arrays, expected = split_detector(model).arrays, make_canvas(model, points)
    host = HOSTS['pointpillars'](model.config, arrays)
    pillars = host.prepare(points)
    assert (pillars.num_points == pillars.max_points).any()
    channels, rows, columns = host.map_shape
    canvas = Canvas((1, rows, columns, channels))
    canvas.fill(*host.encode(pillars))
    assert canvas.array.dtype == np.float32
    np.testing.assert_allclose(canvas.array, expected, atol=2e-5)
