# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Every family that can be exported: host, split and decoder together are its detector."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pointdistiller_core.compiled import numba_works
from pointdistiller_core.deploy.arrays_file import pack_arrays, unpack_arrays
from pointdistiller_core.deploy.backends.anchor_decoder import AnchorDecoder
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.backends.dense_backend import INPUT, DenseBackend, pick_cells
from pointdistiller_core.deploy.export.exporters import export_detector
from pointdistiller_core.deploy.export.split import SPLITS, make_canvas, split_detector
from pointdistiller_core.deploy.hosts import HOSTS
from pointdistiller_core.detector import BundleInfo, Detector
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import DETECTORS, build_detector

CONFIGS = {
    'pointpillars': 'tiny_model',
    'pointpillars-pyramid': 'tiny_pyramid',
    'second': 'tiny_second',
}
"""Fixtures with a small configuration of each family, and of its variants."""


@pytest.fixture(params=CONFIGS)
def model(request):
    """A detector of random weights and statistics that finds something everywhere."""
    torch.manual_seed(0)
    config = request.getfixturevalue(CONFIGS[request.param])
    detection = config.detection.model_copy(update={'score_threshold': 0.0})
    model = build_detector(config.model_copy(update={'detection': detection})).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(('norm.weight', 'norm.bias', 'running_mean')):
            torch.nn.init.normal_(tensor)  # of either sign: an unused slot may be the maximum
        elif name.endswith('running_var'):
            torch.nn.init.uniform_(tensor, 0.5, 2)
    return model


@pytest.fixture
def points(tiny_dataset):
    return tiny_dataset(1)[0].points


@pytest.fixture
def host(model):
    return HOSTS[model.config.name](model.config, split_detector(model).arrays)


def test_hosts_and_splits_are_of_the_same_families():
    assert HOSTS.keys() == SPLITS.keys() <= DETECTORS.keys()
    assert {name.partition('-')[0] for name in CONFIGS} == SPLITS.keys()


def test_arrays_are_those_of_the_host_and_the_decoder(model):
    arrays = split_detector(model).arrays
    expected = HOSTS[model.config.name].shapes(model.config) | AnchorDecoder.shapes(model.config)
    assert {name: array.shape for name, array in arrays.items()} == expected
    read = unpack_arrays(pack_arrays(arrays), expected, where='file')
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    with pytest.raises(CheckpointError, match='file: not safetensors'):
        unpack_arrays(b'junk', expected, where='file')
    for name, array in arrays.items():
        for wrong, message in (
            (np.full_like(array, np.nan), 'NaN, infinite or not float32'),
            (array.astype(np.float64), 'NaN, infinite or not float32'),
            (array[..., :-1], 'arrays of another architecture'),
        ):
            with pytest.raises(CheckpointError, match=message):
                unpack_arrays(pack_arrays(arrays | {name: wrong}), expected, where='file')


def test_a_cloud_is_prepared_as_in_torch(model, host, points):
    prepared, expected = host.prepare(points), model.prepare([torch.from_numpy(points)])
    assert 0 < len(prepared) == len(expected)
    assert prepared.cuts == expected.cuts
    assert sum(prepared.cuts['points']) > 0
    (places,), found = model.places(expected, None), host.places(prepared)
    np.testing.assert_allclose(found.centers, places.centers, atol=1e-5)
    np.testing.assert_array_equal(found.values, places.values, strict=True)
    np.testing.assert_array_equal(found.owners, places.owners, strict=True)
    assert found.centers.dtype == places.centers.dtype == np.float32


def test_the_map_is_that_of_torch(model, host, points):
    features, cells = host.encode(host.prepare(points))
    channels, rows, columns = host.map_shape
    assert (features >= 0).all()
    assert len(np.unique(cells)) == len(cells) == len(features)
    canvas = Canvas((1, rows, columns, channels))
    canvas.fill(features, cells)
    np.testing.assert_allclose(canvas.array, make_canvas(model, points), atol=2e-5)


def test_boxes_are_those_of_the_detector(model, points):
    network, arrays, example = split_detector(model)
    canvas = make_canvas(model, points)
    assert canvas.shape == tuple(example.shape)
    decoder = AnchorDecoder(model.config, arrays)
    with torch.inference_mode():
        outputs = [output.numpy() for output in network(torch.from_numpy(canvas))]
        (expected,) = model.detect(model(model.prepare([torch.from_numpy(points)])))
    assert [output.shape for output in outputs] == list(decoder.output_shapes.values())
    picked = pick_cells(outputs, decoder.select(model.config.detection))  # threshold 0: all
    found = decoder(picked, model.config.detection)
    assert len(found) == len(expected) > 20
    if expected.velocities is not None:
        np.testing.assert_allclose(found.velocities[:5], expected.velocities[:5], atol=1e-3)
    np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-4)
    np.testing.assert_allclose(found.boxes[:5], expected.boxes[:5], atol=1e-3)


def test_a_detector_says_what_its_host_runs_in(model, host):
    decoder = AnchorDecoder(model.config, split_detector(model).arrays)
    channels, rows, columns = host.map_shape
    shapes = {INPUT: (1, rows, columns, channels), **decoder.output_shapes}
    backend = DenseBackend('some', host, SimpleNamespace(shapes=shapes), decoder)
    with Detector(backend, BundleInfo(model=model.config)) as detector:
        engine = 'numba' if numba_works() else 'numpy'
        two_layers = model.config.name == 'second' or model.config.encoder.hidden
        assert detector.host_engine == (engine if two_layers else None)


def test_nothing_to_see(host, points):
    nowhere = points + np.float32([1e4, 0, 0, 0])
    for cloud in (points[:0], nowhere):
        prepared = host.prepare(cloud)
        assert len(prepared) == 0
        assert sum(prepared.cuts['points']) == 0
        places = host.places(prepared)
        assert (places.centers.shape, places.values.shape) == ((0, 3), (0,))
        assert places.owners.tolist() == [-1] * len(cloud)


def test_unknown_target(tiny_model):
    with pytest.raises(ConfigError, match="'coreml' cannot be exported; choose from"):
        export_detector(build_detector(tiny_model), 'coreml')
