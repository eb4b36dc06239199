# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors with a pyramid and velocities in every backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointdistiller_core.config import POINT_FEATURES
from pointdistiller_core.deploy.backends import BACKENDS
from pointdistiller_core.deploy.backends.onnx_graph import check_onnx
from pointdistiller_core.deploy.bundle import save_bundle
from pointdistiller_core.deploy.bundle_format import BundleInfo, add_files
from pointdistiller_core.deploy.export.bev_network import build_network
from pointdistiller_core.deploy.export.equalization import equalize
from pointdistiller_core.deploy.export.exporters import EXPORTERS, export_detector
from pointdistiller_core.deploy.export.split import make_canvas
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.models import AnchorDetector, build_detector


@pytest.fixture(scope='module')
def model(tiny_pyramid) -> AnchorDetector:
    """Random weights whose maps are alike in size, and scores that differ."""
    torch.manual_seed(0)
    detector = build_detector(tiny_pyramid).eval()
    assert isinstance(detector, AnchorDetector)
    for name, tensor in detector.state_dict().items():
        if name.endswith(('norm.weight', '1.weight')):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(('norm.bias', '1.bias', 'running_mean')):
            tensor.normal_(std=0.2)
    torch.nn.init.normal_(detector.head.conv.weight, std=0.1)
    torch.nn.init.zeros_(detector.head.conv.bias)
    return detector


@pytest.fixture(scope='module')
def clouds(tiny_dataset) -> list[np.ndarray]:
    return [frame.points for frame in tiny_dataset(4).frames]


@pytest.fixture(scope='module')
def bundle(model, clouds, tmp_path_factory):
    """With the files of every backend."""
    folder = tmp_path_factory.mktemp('pyramid') / 'bundle'
    save_bundle(folder, model, BundleInfo(model=model.config))
    for target in EXPORTERS:
        add_files(folder, export_detector(model, target, clouds))
    return folder


@pytest.mark.parametrize('backend', [name for name in BACKENDS if name in EXPORTERS])
def test_every_backend_finds_what_torch_finds(bundle, clouds, backend):
    expected = Detector.load(bundle, backend='torch')(clouds[0], importance='confidence')
    found = Detector.load(bundle, backend=backend, num_threads=1)(
        clouds[0], importance='confidence'
    )
    assert len(expected) > 30
    close = 0.05 if backend.endswith('int8') else 1e-4
    assert len(found) == pytest.approx(len(expected), rel=close)
    best = min(len(found), len(expected), 20)
    np.testing.assert_allclose(found.scores[:best], expected.scores[:best], atol=close)
    assert found.velocities.shape == (len(found), 2)
    if close < 1e-3:
        np.testing.assert_allclose(found.velocities[:best], expected.velocities[:best], atol=1e-3)
        np.testing.assert_allclose(found.boxes[:best], expected.boxes[:best], atol=1e-3)
        np.testing.assert_allclose(found.importance.scores, expected.importance.scores, atol=1e-4)


def test_equal_channels_give_the_same_outputs(model, clouds):
    network = build_network(model)
    canvas = make_canvas(model, clouds[0])
    with torch.inference_mode():
        before = network(torch.from_numpy(canvas))
    scale = equalize(network, [make_canvas(model, cloud) for cloud in clouds])
    with torch.inference_mode():
        after = network(torch.from_numpy(canvas / scale))
    assert len(before) == 2 * len(model.config.head_strides)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)


def test_a_map_that_is_enlarged_without_measure_is_refused(model):
    onnx = pytest.importorskip('onnx')
    content = export_detector(model, 'onnx')['network.onnx']
    check_onnx(content)
    crafted = onnx.load_from_string(content)
    scales = onnx.numpy_helper.from_array(np.float32([1, 1, 1000, 1000]), 'large')
    crafted.graph.initializer.append(scales)
    (resize,) = (node for node in crafted.graph.node if node.op_type == 'Resize')
    resize.input[2] = 'large'
    with pytest.raises(CheckpointError, match='enlarges a map'):
        check_onnx(crafted.SerializeToString())
    resize.input[2] = 'unknown'
    with pytest.raises(CheckpointError, match='enlarges a map'):
        check_onnx(crafted.SerializeToString())


def test_columns_that_the_encoder_skips_change_nothing(bundle, clouds):
    detector = Detector.load(bundle, backend='onnx', num_threads=1)
    other = clouds[0].copy()
    other[:, POINT_FEATURES.index('intensity')] = 0.7
    np.testing.assert_array_equal(detector(other).boxes, detector(clouds[0]).boxes)
