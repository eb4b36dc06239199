# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The folded encoder and the anchors in NumPy are those of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointdistiller_core.deploy.backends.array_model import pack_arrays, unpack_arrays
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.export.exporters import export_detector, make_canvas, model_arrays
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import build_detector
from pointdistiller_core.pointcloud.voxel_arrays import group_points


@pytest.fixture
def model(tiny_model):
    torch.manual_seed(0)
    model = build_detector(tiny_model).eval()
    norm = model.encoder.norm
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(tensor)  # of either sign: an unused slot may be the maximum
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return model


@pytest.mark.parametrize('max_points', [1, 2, 8])
def test_canvas_is_that_of_torch(model, tiny_dataset, max_points):
    points, grid = tiny_dataset(1)[0].points, model.config.grid
    caps = model.config.voxels.model_copy(update={'max_points': max_points})
    model.config = model.config.model_copy(update={'voxels': caps})
    pillars = group_points(points, grid, max_points=max_points, max_voxels=1024)
    full = pillars.num_points == max_points
    assert full.any()
    canvas, expected = Canvas(canvas_shape(model)), make_canvas(model, points)
    canvas.fill(model_arrays(model).encode(pillars, grid), pillars.cells)
    assert canvas.array.dtype == np.float32
    np.testing.assert_allclose(canvas.array, expected, atol=2e-5)


def canvas_shape(model):
    return 1, *model.config.grid.bev_shape, len(model.encoder.linear.weight)


def test_canvas_forgets_the_cloud_before():
    rng = np.random.default_rng(0)
    full, some = rng.permutation(20), np.array([3, 7])
    canvas, fresh = Canvas((1, 4, 5, 3)), Canvas((1, 4, 5, 3))
    canvas.fill(rng.random((20, 3), np.float32), full)
    features = rng.random((2, 3), np.float32)
    for each in (canvas, fresh):
        each.fill(features, some)
    np.testing.assert_array_equal(canvas.array, fresh.array)
    np.testing.assert_array_equal(canvas.array.reshape(20, 3)[some], features)
    canvas.fill(np.zeros((0, 3), np.float32), full[:0])
    assert not canvas.array.any()


def test_canvas_of_eight_bits():
    canvas = Canvas((1, 1, 4, 2), np.array([0.5, 0.001], np.float32))
    features = np.array([[1.2, 0.0016], [1e9, np.inf], [0, 0.2]], np.float32)
    canvas.fill(features, np.array([2, 0, 1]))
    assert canvas.array.dtype == np.uint8
    expected = [[255, 255], [0, 200], [2, 2], [0, 0]]
    np.testing.assert_array_equal(canvas.array[0, 0], expected)


def test_anchors_are_those_of_the_head(model):
    arrays, expected = model_arrays(model), model.head.anchors.numpy()
    assert arrays.num_anchors == len(expected)
    some = np.random.default_rng(0).permutation(len(expected))[:100]
    np.testing.assert_array_equal(arrays.anchors_at(some), expected[some])


def test_arrays_survive_the_file(model):
    arrays = model_arrays(model)
    read = unpack_arrays(pack_arrays(arrays), model.config, where='file')
    for name, array in vars(arrays).items():
        np.testing.assert_array_equal(getattr(read, name), array)
    with pytest.raises(CheckpointError, match='file: not safetensors'):
        unpack_arrays(b'junk', model.config, where='file')


def test_unknown_target(model):
    with pytest.raises(ConfigError, match="'coreml' cannot be exported; choose from"):
        export_detector(model, 'coreml')
