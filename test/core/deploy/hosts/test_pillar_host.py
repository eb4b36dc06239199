# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What surrounds the dense network: the host before it, its canvas, the anchors behind it."""

from __future__ import annotations

from changed_config import changed
import numpy as np
import pytest
import torch

from pointdistiller_core.compiled import numba_works
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.export.split import make_canvas, split_detector
from pointdistiller_core.deploy.hosts import HOSTS, pillar_host
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


ENGINES = ['numpy', 'numba']


@pytest.fixture
def two_layers(tiny_pyramid):
    """A configuration, and a function to the host's features in an engine."""

    def features_of(points, engine, arrays, config, num_threads=1):
        with pytest.MonkeyPatch.context() as patch:
            if engine == 'numpy':
                patch.setattr(pillar_host, 'numba_works', lambda: False)
            host = HOSTS['pointpillars'](config, arrays, num_threads)
        assert host.engine == engine
        features, cells = host.encode(host.prepare(points))
        assert features.dtype == np.float32
        assert features.flags.c_contiguous
        return features, cells

    return tiny_pyramid, features_of


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('max_points', [1, 2, 8])
@pytest.mark.parametrize('width', [1.0, 0.7])
def test_two_layers_are_those_of_torch(two_layers, tiny_dataset, engine, max_points, width):
    config, features_of = two_layers
    if engine == 'numba' and not numba_works():
        pytest.skip('no numba')
    torch.manual_seed(0)
    model = build_detector(changed(config, width=width, voxels={'max_points': max_points})).eval()
    for name, tensor in model.encoder.state_dict().items():
        if name.endswith(('norm.weight', 'norm.bias', 'running_mean')):
            torch.nn.init.normal_(tensor)  # of either sign: an unused slot may be the maximum
    points = sweeps_of(tiny_dataset, config)
    arrays, expected = split_detector(model).arrays, make_canvas(model, points)
    features, cells = features_of(points, engine, arrays, model.config)
    canvas = Canvas(expected.shape)
    canvas.fill(features, cells)
    assert expected.max() > 0.1
    np.testing.assert_allclose(canvas.array, expected, atol=2e-5)


def sweeps_of(tiny_dataset, config):
    points = tiny_dataset(1)[0].points
    with_age = 'age' in config.point_features
    return merge_sweeps(points, [PastSweep(to_past(points), 0.1, np.eye(4))], with_age=with_age)


def test_engines_and_threads_agree(two_layers, tiny_dataset, monkeypatch):
    pytest.importorskip('numba')
    config, features_of = two_layers
    monkeypatch.setattr('pointdistiller_core.deploy.hosts.compiled_pillars.POINTS', 50)
    monkeypatch.setattr(pillar_host, 'BLOCK_POINTS', 50)
    torch.manual_seed(0)
    arrays = split_detector(build_detector(config).eval()).arrays
    points = sweeps_of(tiny_dataset, config)
    expected, cells = features_of(points, 'numpy', arrays, config)
    one, _ = features_of(points, 'numba', arrays, config)
    np.testing.assert_allclose(one, expected, atol=1e-5 * expected.max())
    assert one.max() > 0.1
    for num_threads in (2, 3):
        found, found_cells = features_of(points, 'numba', arrays, config, num_threads)
        np.testing.assert_array_equal(found, one)
        np.testing.assert_array_equal(found_cells, cells)


@pytest.mark.filterwarnings('ignore:invalid value', 'ignore:overflow')
def test_what_is_not_finite_stays_so_in_both_engines(two_layers):
    pytest.importorskip('numba')
    config, features_of = two_layers
    torch.manual_seed(0)
    arrays = split_detector(build_detector(config).eval()).arrays
    points = np.float32([[2, 0, 0, 0.5], [2, 0, 0, 10], [3, 1, 0, 0.5]])
    arrays['hidden.offset_weights'] = arrays['hidden.offset_weights'].copy()
    arrays['hidden.offset_weights'][3] = 1e38  # the second point is infinite behind one layer
    expected, found = (features_of(points, engine, arrays, config)[0] for engine in ENGINES)
    assert np.isnan(expected[0]).any()
    assert np.isfinite(expected[1]).all()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4)
