# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A family that only a test knows, without a host and a split, runs in torch and says so."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle
from pointdistiller_core.deploy.export.exporters import EXPORTERS, export_detector
from pointdistiller_core.detector import Detector, Mounting
from pointdistiller_core.errors import BackendError, ConfigError
from pointdistiller_core.models import build_detector


@pytest.fixture
def bundle(toy, tmp_path):
    torch.manual_seed(0)
    detection = toy.detection.model_copy(update={'score_threshold': 0.0, 'max_detections': 20})
    toy = toy.model_copy(update={'detection': detection})
    save_bundle(tmp_path / 'toy', build_detector(toy), BundleInfo(model=toy))
    return tmp_path / 'toy'


@pytest.fixture
def points(tiny_dataset):
    return tiny_dataset(1)[0].points


def test_boxes_and_places_are_those_of_the_network(bundle, points):
    detector = Detector.load(bundle)  # auto
    assert detector.backend == 'torch'
    found = detector(points, importance=True)
    model, cloud = load_detector_model(bundle), torch.from_numpy(points)
    with torch.inference_mode():
        prepared = model.prepare([cloud])
        output = model(prepared)
        (expected,), (places,) = model.detect(output), model.places(prepared, output)
    assert 0 < len(found) <= 20
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.cuts == prepared.cuts
    assert found.counts['points_in_range'] == sum(prepared.cuts['points'])
    np.testing.assert_array_equal(found.importance.centers, places.centers)
    np.testing.assert_allclose(found.importance.scores, places.values / places.values.max())


def test_empty_and_mounted_clouds(bundle, points):
    detector = Detector.load(bundle)
    nothing = detector(points[:0], importance=True)
    assert (len(nothing), len(nothing.importance.scores)) == (0, 0)
    mounting = Mounting.from_angles(1.73, height=1.73, roll=0.0, pitch=0.0, yaw=0.5)
    seen = points.copy()
    seen[:, :3] = mounting.points_to_sensor(points[:, :3])
    found, expected = detector(seen, mounting=mounting), detector(points)
    boxes, _ = mounting.boxes_to_sensor(expected.boxes)
    np.testing.assert_allclose(found.boxes[:5, :3], boxes[:5, :3], atol=1e-3)


@pytest.mark.parametrize('name', EXPORTERS)
def test_other_backends_are_refused(bundle, name):
    message = f'backend {name}: it has pointpillars and second alone; toy runs in torch'
    with pytest.raises(BackendError, match=message):
        Detector.load(bundle, backend=name)
    message = 'toy cannot be exported, only pointpillars and second can; it runs in torch as it is'
    with pytest.raises(ConfigError, match=re.escape(message)):
        export_detector(load_detector_model(bundle), name)
