# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds that a sensor should not send, in every backend; what is cut is counted by all alike."""

from __future__ import annotations

import json

from backend_parameters import backends, installed
import numpy as np
import pytest
import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle
from pointdistiller_core.deploy.bundle_format import add_files
from pointdistiller_core.deploy.export.exporters import EXPORTERS, export_detector
from pointdistiller_core.detector import Detector
from pointdistiller_core.evaluation.comparison.same_boxes import compare_detections
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.verify_export import LIMITS
from pointdistiller_core.records import Cut

BOUNDS = (3.5, 1.2, 1.2), (6.0, 2.4, 2.4)
LOW, HIGH = (0, -12.8, -3, 0), (25.6, 12.8, 1, 1)  # of the tiny model


def uniform(num_points):
    rng = np.random.default_rng(0)
    return rng.uniform(LOW, HIGH, (num_points, 4)).astype(np.float32)


def spoiled():
    points = uniform(100)
    for index, value in enumerate([np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e10, 1e-40]):
        points[index * 4 + np.arange(4), np.arange(4)] = value
    return points


def rim():
    axes = [
        (low, np.nextafter(low, -99), high, np.nextafter(high, -99))
        for low, high in zip(LOW[:3], HIGH[:3], strict=True)
    ]
    positions = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3)
    return np.concatenate([positions, np.ones((len(positions), 1))], 1).astype(np.float32)


CLOUDS = {
    'no point': np.zeros((0, 4), np.float32),
    'one point': np.array([[5, 0, -1, 0.5]], np.float32),
    'ten points': uniform(10),
    'all in one cell': np.tile(np.array([[5, 0, -1, 0.5]], np.float32), (1000, 1)),
    'all out of range': uniform(10) + 1000,
    'not finite or huge': spoiled(),
    'at the edge of the range': rim(),
    'intensity of 255': uniform(50) * np.array([1, 1, 1, 255], np.float32),
}


@pytest.fixture(scope='module')
def reference(full_bundle):
    return Detector.load(full_bundle, backend='torch')


@pytest.mark.parametrize('name', backends())
@pytest.mark.parametrize('kind', CLOUDS)
def test_odd_clouds(full_bundle, reference, name, kind, recwarn):
    points = CLOUDS[kind]
    before = points.copy()
    found = Detector.load(full_bundle, backend=name)(points, importance=True)
    expected = reference(points, importance=True)
    assert found.counts == expected.counts
    assert found.counts['points'] == len(points)
    assert bool(len(found)) == bool(found.cuts['voxels'].kept)
    for array in (found.boxes, found.scores, found.importance.centers):
        assert np.isfinite(array).all()
    np.testing.assert_allclose(
        found.importance.point_scores, expected.importance.point_scores, atol=1e-6
    )
    np.testing.assert_array_equal(points, before)
    assert not [warning for warning in recwarn.list if 'RuntimeWarning' in str(warning.category)]


def bits():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**32, (20_000, 4), dtype=np.uint32).view(np.float32)


def with_intensity(*values):
    points = uniform(300)
    points[: len(values), 3] = values
    return points


EXTREMES = {
    'random bits': bits(),
    'random bits as intensity': np.concatenate([uniform(20_000)[:, :3], bits()[:, 3:]], axis=1),
    'one intensity of 1e30': with_intensity(1e30),
    'intensities of any size': with_intensity(*[1e30, -1e30, 3.4e38, -3.4e38, 1e-40, -255] * 40),
    'all of 1e30': with_intensity(*[1e30] * 300),
}


@pytest.fixture(scope='module')
def bounded_bundle(tiny_model, tiny_dataset, tmp_path_factory):
    """All of its features are alive, and its bounds refuse some of its boxes."""
    torch.manual_seed(0)
    bounds = DetectionConfig(size_bounds=((BOUNDS[0], BOUNDS[1]),), max_detections=4096)
    config = tiny_model.model_copy(update={'detection': bounds, 'norm_momentum': 0.5})
    model = build_detector(config)
    torch.nn.init.normal_(model.head.conv.weight, std=0.1)
    torch.nn.init.zeros_(model.head.conv.bias)
    clouds = [frame.points for frame in tiny_dataset(8, seed=9).frames]
    with torch.no_grad():
        for points in clouds:  # so that batch norm knows its means
            model(model.prepare([torch.from_numpy(points)]))
    folder = tmp_path_factory.mktemp('bounded') / 'bundle'
    save_bundle(folder, model, BundleInfo(model=config))
    for name in filter(installed, EXPORTERS):
        add_files(folder, export_detector(load_detector_model(folder), name, clouds))
    return folder


@pytest.mark.parametrize('name', backends())
@pytest.mark.parametrize('kind', EXTREMES)
def test_extreme_clouds(bounded_bundle, name, kind, recwarn):
    """Whatever comes, all backends find the same possible boxes, and refuse the others."""
    points = EXTREMES[kind]
    found, expected = (
        Detector.load(bounded_bundle, backend=backend)(points) for backend in (name, 'torch')
    )
    reach = np.hypot(3.9, 1.6), np.hypot(3.9, 1.6), 1.56
    least = np.float32([*np.subtract(LOW[:3], reach), *BOUNDS[0]])
    largest = np.float32([*np.add(HIGH[:3], reach), *BOUNDS[1]])
    for each in (found, expected):
        assert len(each) > 20
        assert each.counts['boxes_refused'] > 20
        assert ((each.boxes[:, :6] >= least) & (each.boxes[:, :6] <= largest)).all()
    cuts = [dict(each.counts, boxes_refused=0) for each in (found, expected)]
    assert cuts[0] == cuts[1]
    limits = LIMITS.get(name, LIMITS['onnx'])
    agreement = compare_detections([expected], [found], min_iou=limits.min_iou)
    assert agreement.mean_score_difference <= limits.max_score_difference
    if name == 'openvino-int8':  # neighbors of an untrained network are alike: either may win
        refused = expected.counts['boxes_refused']
        assert found.counts['boxes_refused'] == pytest.approx(refused, rel=0.05)
    else:
        assert agreement.fraction >= limits.min_fraction
        assert found.counts == expected.counts
    assert not [warning for warning in recwarn.list if 'RuntimeWarning' in str(warning.category)]


@pytest.mark.parametrize('name', backends())
@pytest.mark.parametrize(
    'convert',
    [
        lambda points: points.astype(np.float64),
        lambda points: points.astype('>f4'),
        lambda points: points.astype('>f8'),
        np.asfortranarray,
        lambda points: np.repeat(points, 2, axis=0)[::2],
        lambda points: np.frombuffer(points.tobytes(), np.float32).reshape(-1, 4),
    ],
    ids=['float64', 'big-endian', 'big-endian float64', 'column-major', 'strided', 'read-only'],
)
def test_arrays_of_other_layouts(full_bundle, name, convert):
    detector, points = Detector.load(full_bundle, backend=name), uniform(500)
    found, expected = detector(convert(points)), detector(points)
    assert len(expected) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.counts == expected.counts


@pytest.mark.parametrize('name', backends())
def test_what_the_caps_cut_is_counted(bundle, name):
    file = bundle / 'bundle.json'
    values = json.loads(file.read_text())
    values['model']['voxels'] |= {'max_points': 2, 'max_voxels': 3}
    del values['info_sha256']  # as if it had been saved like that
    file.write_text(json.dumps(values))
    columns = np.repeat(np.arange(5), [1, 2, 3, 4, 5])  # five cells, 15 points
    points = np.stack([columns + 0.5, 0 * columns, 0 * columns, 0 * columns], 1)
    found = Detector.load(bundle, backend=name)(points.astype(np.float32))
    assert found.counts == {
        'points': 15,
        'points_not_finite': 0,
        'points_without_return': 0,
        'intensity_outside': 0,
        'points_in_range': 15,
        'points_beyond_1_km': 0,
        'boxes_refused': 0,
    }
    # one of the third cell, all of the last two
    assert found.cuts == {'points': Cut(5, 1 + 4 + 5), 'voxels': Cut(3, 2)}


@pytest.mark.parametrize('name', backends())
def test_two_million_points(full_bundle, name):
    rng = np.random.default_rng(0)
    points = rng.uniform((0, -12, -3, 0), (25, 12, 1, 1), (2_000_000, 4)).astype(np.float32)
    found = Detector.load(full_bundle, backend=name)(points)
    assert found.counts['points'] == found.counts['points_in_range'] == 2_000_000
    kept = 8 * found.cuts['voxels'].kept
    assert found.cuts['points'] == (kept, 2_000_000 - kept)
