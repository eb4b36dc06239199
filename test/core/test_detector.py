# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import re

import numpy as np
import pytest
import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.deploy.bundle import (
    BundleInfo,
    load_detector_model,
    read_info,
    save_bundle,
)
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CloudError
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.evaluate import detect
from pointdistiller_core.records import Cut

STAGES = {'prepare', 'network', 'decode', 'total'}
NO_POINTS = np.zeros((0, 4), np.float32)


@pytest.fixture
def bundle(tiny_model, tmp_path):
    """Random weights that find something everywhere."""
    torch.manual_seed(0)
    config = tiny_model.model_copy(
        update={'detection': tiny_model.detection.model_copy(update={'score_threshold': 0.0})}
    )
    save_bundle(tmp_path / 'bundle', build_detector(config), BundleInfo(model=config))
    return tmp_path / 'bundle'


@pytest.fixture
def detector(bundle):
    return Detector.load(bundle)


@pytest.fixture
def points(tiny_dataset):
    return tiny_dataset(1)[0].points


def assert_same(first, second):
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.labels, second.labels)


def assert_same_up_to_rounding(first, second):
    """For scores of more or fewer anchors: torch treats the rest of a vector otherwise."""
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_allclose(first.scores, second.scores, rtol=1e-6)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_detections_are_those_of_the_network(detector, points):
    found = detector(points)
    with torch.inference_mode():
        pillars = detector.model.prepare([torch.from_numpy(points)])
        (expected,) = detector.model.detect(detector.model(pillars))
    assert len(found) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes.numpy())
    np.testing.assert_array_equal(found.scores, expected.scores.numpy())
    np.testing.assert_array_equal(found.labels, expected.labels.numpy())
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    assert (np.diff(found.scores) <= 0).all()
    assert detector.class_names == ('Car',)
    assert detector.info.intensity_range == (0.0, 1.0)


def test_times_of_the_stages(detector, points):
    times = detector(points).latency_ms
    assert set(times) == STAGES
    assert all(value > 0 for value in times.values())
    assert times['total'] >= times['prepare'] + times['network'] + times['decode']


def test_counts_by_hand(detector):
    points = np.array(
        [
            *[[1.0, 1.0, 0.0, 0.5]] * 10,  # one pillar, two more than it may hold
            [5.0, 5.0, 0.0, 1.5],  # another pillar; intensity out of range
            [-1.0, 0.0, 0.0, 0.5],  # behind the range
            [1.0, 1.0, 2.0, -0.5],  # above the range
            [1.0, np.nan, 0.0, 0.5],
            [1.0, 1.0, 0.0, np.inf],
            *[[0.0, 0.0, 0.0, 9.0]] * 3,  # no return
            [0.0, 0.0, 1e-9, 0.5],  # the third pillar
        ],
        np.float32,
    )
    found = detector(points)
    assert found.counts == {
        'points': 19,
        'points_not_finite': 2,
        'points_without_return': 3,
        'intensity_outside': 2,
        'points_beyond_1_km': 0,
        'points_in_range': 12,
        'boxes_refused': 0,
    }
    assert found.cuts == {'points': Cut(10, 2), 'voxels': Cut(3, 0)}


def test_importance_by_hand(detector):
    points = np.array(
        [
            [0.1, 0.1, 0.0, 0],
            [5.0, 5.0, 0.5, 0],
            [0.3, 0.1, 0.0, 0],
            [np.nan, 0.0, 0.0, 0],
            [0.2, 0.7, -1.5, 0],
            [0.2, 0.3, -0.5, 0],
            [99.0, 0.0, 0.0, 0],
            [0.0, 0.0, 0.0, 0],
        ],
        np.float32,
    )
    importance = detector(points, importance=True).importance
    np.testing.assert_allclose(importance.scores, [1.0, 0.25])
    np.testing.assert_allclose(importance.centers, [[0.2, 0.3, -0.5], [5.0, 5.0, 0.5]], atol=1e-6)
    np.testing.assert_allclose(importance.point_scores, [1, 0.25, 1, 0, 1, 1, 0, 0])
    assert importance.point_scores.dtype == np.float32


def test_importance_only_when_asked_for(detector, points):
    assert detector(points).importance is None
    assert_same(detector(points), detector(points, importance=True))


def test_confidence_of_a_pillar_is_the_best_score_of_its_cell(detector, points):
    importance = detector(points, importance='confidence').importance
    model = detector.model
    with torch.no_grad():
        voxels = model.prepare([torch.from_numpy(points)])
        logits = model(voxels).class_logits[0]
    height, width = model.config.head_shapes[0]
    cells = logits.sigmoid().reshape(height, width, -1).amax(dim=2)
    step = model.config.grid.bev_shape[0] // height
    rows, columns = (voxels.coords[:, 2:] // step).T
    np.testing.assert_allclose(importance.scores, cells[rows, columns].numpy(), atol=1e-6)
    owners = voxels.owners[0].numpy()
    own = np.where(owners >= 0, importance.scores[owners], 0)
    np.testing.assert_allclose(importance.point_scores, own, atol=1e-6)
    assert_same(detector(points), detector(points, importance='confidence'))


def test_cloud_in_millimeters(detector, points):
    counts = detector(points * np.float32([1000, 1000, 1000, 1])).counts
    assert counts['points_beyond_1_km'] > 0.9 * counts['points']
    assert detector(points).counts['points_beyond_1_km'] == 0


@pytest.mark.parametrize(
    'points',
    [NO_POINTS, np.full((3, 4), np.nan, np.float32), np.full((2, 4), 1e6, np.float32)],
    ids=['empty', 'not finite', 'out of range'],
)
def test_nothing_seen_nothing_found(detector, points):
    found = detector(points, importance=True)
    assert len(found) == 0
    assert found.boxes.shape == (0, 7)
    assert found.importance.scores.shape == (0,)
    assert found.importance.centers.shape == (0, 3)
    assert found.importance.point_scores.tolist() == [0] * len(points)
    assert found.counts['points'] == len(points)
    assert set(found.latency_ms) == STAGES
    sure = detector(points, importance='confidence').importance
    assert sure.scores.shape == (0,)
    assert sure.point_scores.tolist() == [0] * len(points)


def test_one_point(detector):
    found = detector(np.array([[5, 0, -1, 0.5]], np.float32), importance=True)
    assert found.cuts['voxels'].kept == 1
    assert found.importance.point_scores.tolist() == [1.0]


def test_two_million_points(detector):
    rng = np.random.default_rng(0)
    points = rng.uniform((0, -12, -3, 0), (25, 12, 1, 1), (2_000_000, 4)).astype(np.float32)
    found = detector(points)
    assert found.counts['points'] == found.counts['points_in_range'] == 2_000_000
    kept = 32 * 30  # of 32 columns and 32 rows, the outer rows stay empty
    assert found.cuts == {'points': (8 * kept, 2_000_000 - 8 * kept), 'voxels': (kept, 0)}


def test_points_that_are_not_finite_change_nothing(detector, points):
    spoiled = np.insert(points, [0, 10, len(points)], np.nan, axis=0)
    spoiled[0] = [1, 1, 1, -np.inf]
    assert_same(detector(spoiled), detector(points))
    assert detector(spoiled).counts['points_not_finite'] == 3


@pytest.mark.parametrize(
    'convert',
    [
        lambda points: points.astype(np.float64),
        lambda points: points.astype('>f4'),
        np.asfortranarray,
        lambda points: np.concatenate([points, points], axis=1)[:, :4],
        lambda points: np.frombuffer(points.tobytes(), np.float32).reshape(-1, 4),  # read-only
    ],
    ids=['float64', 'big-endian', 'column-major', 'strided', 'read-only'],
)
def test_layouts_of_the_input(detector, points, convert, recwarn):
    assert_same(detector(convert(points)), detector(points))
    assert not recwarn.list


def test_float64_beyond_float32_is_not_finite(detector, recwarn):
    found = detector(np.array([[1e300, 0, 0, 0]]))
    assert found.counts['points_not_finite'] == 1
    assert not recwarn.list


def test_input_is_left_alone(detector, points):
    before = points.copy()
    detector(points, importance=True)
    np.testing.assert_array_equal(points, before)


@pytest.mark.parametrize('shape', [(4,), (10, 3), (10, 5), (2, 10, 4), ()])
def test_wrong_shape_is_named(detector, shape):
    with pytest.raises(CloudError, match=re.escape(f'got shape {shape}')):
        detector(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ('points', 'named'),
    [
        (np.zeros((2, 4), np.int32), 'int32'),
        (np.zeros((2, 4), np.complex64), 'complex64'),
        ([[0.0, 0.0, 0.0, 0.0]], 'list'),
        (torch.zeros(2, 4), 'torch.float32'),
    ],
)
def test_wrong_type_is_named(detector, points, named):
    with pytest.raises(CloudError, match=rf'floating type .*not {named}'):
        detector(points)


def test_callers_in_several_threads(detector, tiny_dataset):
    clouds = [tiny_dataset(4)[index].points for index in range(4)] * 5
    expected = [detector(points, importance=True) for points in clouds]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda points: detector(points, importance=True), clouds))
    for first, second in zip(found, expected, strict=True):
        assert_same(first, second)
        np.testing.assert_array_equal(
            first.importance.point_scores, second.importance.point_scores
        )
        assert first.counts == second.counts


def test_number_of_threads(bundle):
    before = torch.get_num_threads()
    try:
        Detector.load(bundle, num_threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.cuda
def test_cuda_agrees_with_the_cpu(bundle, detector, points, gpu):
    found = Detector.load(bundle, device=gpu)(points, importance=True)
    expected = detector(points, importance=True)
    np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-4)
    np.testing.assert_allclose(found.importance.scores, expected.importance.scores)
    assert found.counts == expected.counts


def test_thresholds_and_caps_of_one_sweep(detector, points):
    everything = detector(points)
    detection = DetectionConfig(
        score_threshold=float(everything.scores[5]), nms_iou_threshold=0.01, max_detections=3
    )
    found = detector(points, detection=detection)
    assert_same_up_to_rounding(found, everything[np.arange(3)])
    detection = DetectionConfig(score_threshold=1.0, score_thresholds=(0.0,), max_detections=4)
    found = detector(points, detection=detection)
    assert_same_up_to_rounding(found, everything[np.arange(4)])
    assert_same(detector(points), everything)  # the next sweep has the bundle's again


def test_thresholds_for_other_classes(detector, points):
    with pytest.raises(ValueError, match='2 score_thresholds for 1 classes'):
        detector(points, detection=DetectionConfig(score_thresholds=(0.1, 0.2)))


def test_intensity_range(detector):
    points = np.float32([[1, 1, 0, 0.25], [9e9, 0, 0, 7.0], [1, 2, 0, -1], [1, 1, np.nan, 99]])
    found = detector(points)
    assert found.intensity_range == (-1.0, 7.0)
    assert found.counts['intensity_outside'] == 2
    assert detector(NO_POINTS).intensity_range is None


@pytest.mark.parametrize('outlier', [255, 5000, 1e30, -1])
def test_one_bright_point_spoils_nothing(detector, points, outlier):
    """An intensity out of range is taken for the nearest that there was in training."""
    spoiled, clipped = points.copy(), points.copy()
    spoiled[3, 3], clipped[3, 3] = outlier, min(max(outlier, 0), 1)
    before = spoiled.copy()
    found = detector(spoiled)
    assert_same(found, detector(clipped))
    assert found.counts['intensity_outside'] == 1
    np.testing.assert_array_equal(spoiled, before)


def test_bounds_of_the_bundle_hold_for_every_sweep(bundle, points, tmp_path):
    model, info = load_detector_model(bundle), read_info(bundle)
    bounds = (((3.9, 0.8, 0.7), (7.8, 3.2, 3.2)),)  # untrained, about half of them are longer
    detection = info.model.detection.model_copy(update={'size_bounds': bounds})
    model_config = info.model.model_copy(update={'detection': detection})
    save_bundle(tmp_path / 'bounded', model, BundleInfo(model=model_config))
    free, bounded = Detector.load(bundle), Detector.load(tmp_path / 'bounded')
    everything = DetectionConfig(score_threshold=0.0, nms_iou_threshold=1.0, max_detections=5000)
    expected, found = free(points, detection=everything), bounded(points, detection=everything)
    assert found.counts['boxes_refused'] == len(expected) - len(found) > 0
    (least, largest), sizes = np.float32(bounds[0]), found.boxes[:, 3:6]
    assert len(found) > 0
    assert ((sizes >= least) & (sizes <= largest)).all()
    assert expected.counts['boxes_refused'] == 0


def away_from_borders(points, grid):
    """Points that rounding moves into no other cell, nor over the edge."""
    low, size = np.array(grid.point_cloud_range[:3]), np.array(grid.voxel_size)
    cells = (points[:, :3].astype(np.float64) - low) / size
    return points[(abs(cells - cells.round()) > 1e-3).all(axis=1)]


@pytest.mark.parametrize(
    'pose',
    [
        {'height': 2.5, 'roll': 0.0, 'pitch': 0.0, 'yaw': 0.0},
        {'height': 1.0, 'roll': 0.0, 'pitch': 0.0, 'yaw': 2.0},
        {'height': 3.0, 'roll': -0.1, 'pitch': 0.3, 'yaw': -1.0},
    ],
)
@pytest.mark.parametrize('frame', ['made', '000008'])
def test_mounted_sensor_sees_the_same_boxes_moved(detector, points, pose, frame, request):
    if frame != 'made':
        folder = request.getfixturevalue('kitti_mini')
        (file,) = folder.rglob(f'velodyne*/{frame}.bin')
        points = np.fromfile(file, np.float32).reshape(-1, 4)
    points = away_from_borders(points, detector.info.model.grid)
    expected = detector(points, importance=True)
    mounting = Mounting.from_angles(detector.info.sensor_height, **pose)
    seen = points.copy()
    seen[:, :3] = mounting.points_to_sensor(points[:, :3])
    found = detector(seen, importance=True, mounting=mounting)
    assert found.counts == expected.counts
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    boxes, orientations = mounting.boxes_to_sensor(expected.boxes[:5])
    np.testing.assert_allclose(found.boxes[:5], boxes, atol=1e-3)
    if orientations is None:
        assert found.orientations is None
    else:
        np.testing.assert_allclose(found.orientations[:5], orientations, atol=1e-3)
    centers = mounting.points_to_sensor(expected.importance.centers)
    np.testing.assert_allclose(found.importance.centers, centers, atol=1e-4)
    np.testing.assert_array_equal(found.importance.scores, expected.importance.scores)


def test_a_detector_of_levelled_clouds_finds_the_ground_itself(
    tiny_model, tiny_dataset, tmp_path, caplog
):
    torch.manual_seed(0)
    config = tiny_model.model_copy(
        update={
            'levelled': True,
            'detection': tiny_model.detection.model_copy(update={'score_threshold': 0.0}),
        }
    )
    info = BundleInfo(model=config, sensor_height=1.6)
    network = build_detector(config)
    save_bundle(tmp_path / 'bundle', network, info)
    detector = Detector.load(tmp_path / 'bundle', backend='torch')
    frame = tiny_dataset(1)[0]
    mounting = Mounting.found_in(frame.points, 1.6)
    expected = detector(frame.points, mounting=mounting)
    found = detector(frame.points)
    assert_same(found, expected)
    assert (found.counts['no_ground'], 'no_ground' in expected.counts) == (0, False)
    (found,) = detect(network, [frame], [0], info=info)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-5)
    for wrong in (np.zeros(7, np.float32), np.zeros((5, 2), np.float32), [[1, 2, 3, 4]]):
        with pytest.raises(CloudError, match='must be'):
            detector(wrong)
    nothing = np.full((500, 4), np.nan, np.float32)
    assert len(detector(nothing)) == 0
    assert detector(nothing).counts['no_ground'] == 1
    caplog.clear()
    for level in (False, True):  # counted once, whoever looks
        detect(detector, [frame, replace(frame, points=nothing)], [0, 1], level=level)
    assert [record.getMessage()[:31] for record in caplog.records] == [
        'no ground found in 1 of 2 cloud'
    ] * 2
    as_it_is = detector(frame.points, mounting=Mounting(np.eye(4)))
    assert len(as_it_is) == 0 or not np.allclose(as_it_is.boxes[0], expected.boxes[0], atol=1e-3)
