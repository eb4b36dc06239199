# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The network that other libraries run gives what the detector gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.deploy.export.bev_network import build_network
from pointdistiller_core.deploy.export.equalization import equalize
from pointdistiller_core.models import build_detector

SHAPES = {
    'one stage': {
        'backbone': {'layers': (1,), 'strides': (2,), 'channels': (8,)},
        'neck': {'strides': (1,), 'channels': (4,)},
    },
    'finer than its first stage': {
        'backbone': {'layers': (0, 1), 'strides': (2, 2), 'channels': (8, 16)},
        'neck': {'strides': (2, 4), 'channels': (8, 4)},
    },
    'three stages': {
        'backbone': {'layers': (1, 0, 2), 'strides': (1, 2, 2), 'channels': (8, 16, 8)},
        'neck': {'strides': (1, 2, 4), 'channels': (4, 8, 12)},
    },
}


@pytest.fixture(params=SHAPES)
def detector(request, tiny_model):
    torch.manual_seed(0)
    values = tiny_model.model_dump() | SHAPES[request.param] | {'width': 1.0}
    values['encoder'] = {'channels': 8}
    model = build_detector(PointPillarsConfig(**values)).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(('norm.weight', '1.weight', '1.bias', 'running_mean', 'running_var')):
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return model


def random_canvas(detector, seed=0):
    """Nine of ten cells are empty; some channels are a thousand times larger than others."""
    rng = np.random.default_rng(seed)
    shape = (1, *detector.config.grid.bev_shape, 8)
    values = rng.random(shape) * (rng.random(shape[:3]) < 0.1)[..., None]
    return (values * np.geomspace(0.01, 10, 8)).astype(np.float32)


def outputs_of(network, canvas):
    with torch.inference_mode():
        return network(torch.from_numpy(canvas))


def test_outputs_are_those_of_the_detector(detector):
    canvas = random_canvas(detector)
    logits, others = outputs_of(build_network(detector), canvas)
    with torch.inference_mode():
        expected = detector.head(
            detector.neck(detector.backbone(torch.from_numpy(canvas).permute(0, 3, 1, 2)))
        )
    kinds = len(detector.config.class_names) * 2
    height, width = logits.shape[2:]
    found = logits.permute(0, 2, 3, 1).reshape(1, height * width * kinds, -1)
    torch.testing.assert_close(found, expected.class_logits, rtol=1e-4, atol=1e-4)
    residuals, directions = others.split([7 * kinds, 2 * kinds], dim=3)
    torch.testing.assert_close(
        residuals.reshape(1, -1, 7), expected.box_residuals, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        directions.reshape(1, -1, 2), expected.direction_logits, rtol=1e-4, atol=1e-4
    )


def test_the_detector_keeps_its_weights(detector):
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    equalize(build_network(detector), [random_canvas(detector)])
    for name, tensor in detector.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_equal_channels_give_the_same_outputs(detector):
    canvas = random_canvas(detector, seed=1)
    network = build_network(detector)
    expected = outputs_of(network, canvas)
    calibration = random_canvas(detector)
    scale = equalize(network, [calibration])
    assert scale.dtype == np.float32
    assert scale.max() / scale.min() > 10
    assert (calibration / scale).max() == pytest.approx(1)
    for found, output in zip(outputs_of(network, canvas / scale), expected, strict=True):
        torch.testing.assert_close(found, output, rtol=1e-3, atol=1e-4)


def test_channels_get_nearer_to_each_other(detector):
    network, canvas = build_network(detector), random_canvas(detector)
    ratios = []
    for _ in range(2):
        with torch.inference_mode():
            first = network.stages[0][0](torch.from_numpy(canvas).permute(0, 3, 1, 2))
        peaks = first.clamp(min=0).amax((0, 2, 3))
        ratios.append(peaks.max() / peaks[peaks > 0].min())
        canvas = canvas / equalize(network, [canvas])
    assert ratios[1] < ratios[0]


def test_calibration_that_sees_nothing(detector):
    network = build_network(detector)
    shape = (1, *detector.config.grid.bev_shape, 8)
    scale = equalize(network, [np.zeros(shape, np.float32)])
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
