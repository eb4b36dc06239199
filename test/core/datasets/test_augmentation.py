# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_folder import points_in
import numpy as np
import pytest

from pointdistiller_core.config import (
    AugmentationConfig,
    GroundTruthSamplingConfig,
    ObjectNoiseConfig,
    SampledClassConfig,
)
from pointdistiller_core.datasets.augmentation import (
    augment,
    crop,
    flip_x,
    flip_y,
    rotate_z,
    scale,
)
from pointdistiller_core.datasets.ground_truth_database import GroundTruthDatabase
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.records import Frame, GroundTruth

STILL = AugmentationConfig(
    flip_probability=0, rotation=(0, 0), scaling=(1, 1), shuffle_points=False
)


def frame_of(points, boxes=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 7)
    truth = GroundTruth(boxes, np.arange(len(boxes)))
    return Frame(np.array(points, np.float32), 'a', truth, stamp_ns=7)


# One car whose only point is at its center.
DATABASE = GroundTruthDatabase(
    ('Car',),
    ('easy',),
    GroundTruth(
        np.array([[20, 5, 0, 4, 2, 1.5, 0]], np.float32),
        np.zeros(1, np.int64),
        levels=np.zeros(1, np.int64),
    ),
    points=np.array([[20, 5, 0, 0.9]], np.float32),
    starts=np.array([0, 1]),
)
SAMPLING = GroundTruthSamplingConfig(classes={'Car': SampledClassConfig(count=5)})


ONE = frame_of([[2, 1, 0.5, 0.25]], [[2, 1, 0, 4, 2, 1.5, 0.5]])


def test_velocities_turn_and_levels_stay():
    truth = replace(ONE.ground_truth, velocities=np.float32([[3, 1]]), levels=np.array([1]))
    frame = replace(ONE, ground_truth=truth)
    assert flip_y(frame).ground_truth.velocities.tolist() == [[3, -1]]
    turned = rotate_z(frame, math.pi / 2).ground_truth
    np.testing.assert_allclose(turned.velocities, [[-1, 3]], atol=1e-6)
    assert turned.levels.tolist() == [1]


def test_flip_of_ahead_and_behind_by_hand():
    flipped = flip_x(ONE)
    np.testing.assert_allclose(flipped.points, ONE.points * [-1, 1, 1, 1])
    before, after = ONE.ground_truth.boxes[0], flipped.ground_truth.boxes[0]
    np.testing.assert_allclose(after[:6], before[:6] * [-1, 1, 1, 1, 1, 1])
    assert math.cos(after[6]) == pytest.approx(-math.cos(before[6]))
    assert math.sin(after[6]) == pytest.approx(math.sin(before[6]))
    both = flip_y(flip_x(ONE))  # is half a turn
    turned = rotate_z(ONE, math.pi)
    np.testing.assert_allclose(both.points, turned.points, atol=1e-5)
    np.testing.assert_allclose(both.ground_truth.boxes, turned.ground_truth.boxes, atol=1e-5)
    config = STILL.model_copy(update={'flip_x_probability': 1.0})
    found = augment(ONE, config, np.random.default_rng(0))
    np.testing.assert_allclose(found.points, flipped.points)


def test_flip_by_hand():
    flipped = flip_y(ONE)
    assert flipped.points.tolist() == [[2, -1, 0.5, 0.25]]
    assert flipped.ground_truth.boxes.tolist() == [[2, -1, 0, 4, 2, 1.5, -0.5]]


def test_quarter_turn_by_hand():
    turned = rotate_z(ONE, math.pi / 2)
    np.testing.assert_allclose(turned.points, [[-1, 2, 0.5, 0.25]], atol=1e-6)
    expected = [[-1, 2, 0, 4, 2, 1.5, 0.5 + math.pi / 2]]
    np.testing.assert_allclose(turned.ground_truth.boxes, expected, atol=1e-6)


def test_yaw_stays_in_its_interval():
    turned = rotate_z(frame_of([[0, 0, 0, 0]], [[0, 0, 0, 1, 1, 1, 3.0]]), 1.0)
    np.testing.assert_allclose(turned.ground_truth.boxes[0, 6], 4.0 - 2 * math.pi, atol=1e-6)


def test_scale_by_hand():
    grown = scale(ONE, 2.0)
    assert grown.points.tolist() == [[4, 2, 1, 0.25]]
    assert grown.ground_truth.boxes.tolist() == [[4, 2, 0, 8, 4, 3, 0.5]]


def test_crop_by_hand():
    low, high = (0, -10, -3), (20, 10, 1)
    points = [[*low, 0.1], [*high, 0.2], [-0.01, 0, 0, 0.3], [5, 10.01, 0, 0.4], [5, 0, 1.01, 0.5]]
    size = (4, 2, 1.5, 0.5)
    boxes = [[0, 10, 9, *size], [20.01, 0, 0, *size], [5, -10.01, 0, *size], [5, 0, -9, *size]]
    cropped = crop(frame_of(points, boxes), (*low, *high))
    assert cropped.points[:, 3].tolist() == np.float32([0.1, 0.2]).tolist()
    assert cropped.ground_truth.labels.tolist() == [0, 3]  # whatever their height
    assert cropped.ground_truth.boxes[:, :3].tolist() == [[0, 10, 9], [5, 0, -9]]


def test_crop_of_a_frame_without_labels():
    cropped = crop(Frame(np.ones((3, 4), np.float32)), (0, 0, 0, 2, 2, 0.5))
    assert cropped.points.shape == (0, 4)
    assert cropped.ground_truth is None


def test_the_range_is_of_what_is_trained_on():
    """It is cropped to after everything has moved."""
    config = STILL.model_copy(update={'flip_probability': 1.0})
    frame = frame_of([[2, 1, 0, 0.25], [2, -1, 0, 0.5]], [[2, 1, 0, 4, 2, 1.5, 0.5]])
    half = (0, 0, -3, 10, 10, 3)
    moved = augment(frame, config, np.random.default_rng(0), point_cloud_range=half)
    assert moved.points.tolist() == [[2, 1, 0, 0.5]]
    assert len(moved.ground_truth) == 0


def test_pasted_objects_are_augmented_too():
    config = STILL.model_copy(
        update={'ground_truth_sampling': SAMPLING, 'flip_probability': 1.0, 'scaling': (2, 2)}
    )
    moved = augment(ONE, config, np.random.default_rng(0), database=DATABASE)
    assert moved.points.tolist() == [[40, -10, 0, np.float32(0.9)], [4, -2, 1, 0.25]]
    assert moved.ground_truth.boxes[:, :2].tolist() == [[4, -2], [40, -10]]


def test_objects_are_pasted_before_any_is_moved():
    """A moved object would make room for a pasted one, or take its place."""
    noise = ObjectNoiseConfig(translation=(0, 0, 5), rotation=(0, 0))
    config = STILL.model_copy(update={'ground_truth_sampling': SAMPLING, 'object_noise': noise})
    moved = augment(ONE, config, np.random.default_rng(0), database=DATABASE)
    assert moved.ground_truth.boxes[:, :2].tolist() == [[2, 1], [20, 5]]
    assert (np.abs(moved.ground_truth.boxes[:, 2]) > 0.01).all()
    assert points_in_boxes(moved.points, moved.ground_truth.boxes).sum() == 2


def test_sampling_without_a_database_is_an_error():
    config = AugmentationConfig(ground_truth_sampling=SAMPLING)
    with pytest.raises(ValueError, match='ground_truth_sampling needs a database'):
        augment(ONE, config, np.random.default_rng(0))


def test_nothing_asked_nothing_done():
    same = augment(ONE, STILL, np.random.default_rng(0))
    np.testing.assert_array_equal(same.points, ONE.points)
    np.testing.assert_array_equal(same.ground_truth.boxes, ONE.ground_truth.boxes)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 4))
def test_points_stay_in_their_boxes(seed, count):
    rng = np.random.default_rng(seed)
    low, high = (-50, -50, -3, 0.5, 0.5, 0.5, -3.1), (50, 50, 1, 6, 3, 3, 3.1)
    boxes = rng.uniform(low, high, (count, 7))
    # Points well inside, and one far from everything.
    inside = points_in(boxes, 20, rng, reach=0.4)[..., :3].reshape(-1, 3)
    xyz = np.concatenate([inside, [[500, 0, 0]]])
    points = np.concatenate([xyz, np.arange(len(xyz))[:, None]], axis=1)  # named by intensity
    frame = frame_of(points, boxes)

    moved = augment(frame, AugmentationConfig(), rng)

    order = np.argsort(moved.points[:, 3])
    own = np.arange(count).repeat(20)
    inside_after = points_in_boxes(moved.points, moved.ground_truth.boxes)[order]
    assert inside_after[np.arange(len(own)), own].all()
    assert not inside_after[-1].any()
    assert (np.abs(moved.ground_truth.boxes[:, 6]) <= np.float32(math.pi)).all()
    np.testing.assert_array_equal(moved.ground_truth.labels, frame.ground_truth.labels)


def test_equal_generators_give_equal_frames():
    frame = frame_of(np.random.default_rng(3).normal(size=(50, 4)), [[1, 2, 0, 4, 2, 1, 0]])
    first, second, other = (
        augment(frame, AugmentationConfig(), np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.ground_truth.boxes, second.ground_truth.boxes)
    assert not np.array_equal(first.points, other.points)


def test_types_names_and_arguments_are_kept():
    frame = frame_of([[2, 1, 0.5, 0.25], [3, 1, 0, 1]], [[2, 1, 0, 4, 2, 1.5, 0.5]])
    points, boxes = frame.points.copy(), frame.ground_truth.boxes.copy()
    config = AugmentationConfig(ground_truth_sampling=SAMPLING, object_noise=ObjectNoiseConfig())
    everywhere = (-99, -99, -99, 99, 99, 99)
    moved = augment(
        frame,
        config,
        np.random.default_rng(1),
        database=DATABASE,
        point_cloud_range=everywhere,
    )
    assert (moved.points.dtype, moved.ground_truth.boxes.dtype) == (np.float32, np.float32)
    assert (moved.frame_id, moved.stamp_ns) == ('a', 7)
    np.testing.assert_array_equal(frame.points, points)
    np.testing.assert_array_equal(frame.ground_truth.boxes, boxes)


@pytest.mark.parametrize(
    'change',
    [
        {'flip_probability': 1.0},
        {'rotation': (0.1, 0.2)},
        {'scaling': (1.1, 1.2)},
        {'shuffle_points': True},
        {'ground_truth_sampling': SAMPLING},
        {'object_noise': ObjectNoiseConfig()},
    ],
)
def test_every_setting_is_used(change):
    points = np.random.default_rng(3).normal(size=(50, 4))
    frame = frame_of(points, [[0, 0, 0, 2, 2, 2, 0]])
    config = STILL.model_copy(update=change)
    moved = augment(frame, config, np.random.default_rng(0), database=DATABASE)
    assert not np.array_equal(moved.points, frame.points)


def test_without_points_or_labels():
    bare = augment(
        Frame(np.zeros((0, 4), np.float32)), AugmentationConfig(), np.random.default_rng(0)
    )
    assert bare.points.shape == (0, 4)
    assert bare.ground_truth is None
