# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What surrounds the dense network: the host before it, its canvas, the anchors behind it."""

from __future__ import annotations

from changed_config import changed
import numpy as np
import pytest
import torch

from pointdistiller_core.deploy.arrays_file import pack_arrays, unpack_arrays
from pointdistiller_core.deploy.backends.anchor_decoder import AnchorDecoder
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.export.exporters import export_detector
from pointdistiller_core.deploy.export.split import make_canvas, split_detector
from pointdistiller_core.deploy.hosts import HOSTS
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import build_detector


@pytest.fixture
def model(tiny_model):
    torch.manual_seed(0)
    model = build_detector(tiny_model).eval()
    norm = model.encoder.norm
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(tensor)  # of either sign: an unused slot may be the maximum
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return model


@pytest.mark.parametrize('max_points_per_pillar', [1, 2, 8])
def test_canvas_is_that_of_torch(model, tiny_dataset, max_points_per_pillar):
    points = tiny_dataset(1)[0].points
    model.config = changed(model.config, voxels={'max_points': max_points_per_pillar})
    arrays, expected = split_detector(model).arrays, make_canvas(model, points)
    host = HOSTS['pointpillars'](model.config, arrays)
    pillars = host.prepare(points)
    assert (pillars.num_points == pillars.max_points).any()
    channels, rows, columns = host.map_shape
    canvas = Canvas((1, rows, columns, channels))
    canvas.fill(*host.encode(pillars))
    assert canvas.array.dtype == np.float32
    np.testing.assert_allclose(canvas.array, expected, atol=2e-5)


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
    expected = model.head.anchors.numpy()
    some = np.random.default_rng(0).permutation(len(expected))[:100]
    decoder = AnchorDecoder(model.config, split_detector(model).arrays)
    np.testing.assert_array_equal(decoder.anchors_at(some), expected[some])


def test_arrays_survive_the_file(model):
    arrays = split_detector(model).arrays
    shapes = HOSTS['pointpillars'].shapes(model.config) | AnchorDecoder.shapes(model.config)
    read = unpack_arrays(pack_arrays(arrays), shapes, where='file')
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    with pytest.raises(CheckpointError, match='file: not safetensors'):
        unpack_arrays(b'junk', shapes, where='file')


def test_unknown_target(model):
    with pytest.raises(ConfigError, match="'coreml' cannot be exported; choose from"):
        export_detector(model, 'coreml')
