# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sensors that are not where the training sensor was."""

from __future__ import annotations

from math import pi

from hypothesis import given, strategies
import numpy as np
import pytest

from pointdistiller_core.geometry.boxes import box_corners
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.geometry.transforms import rotation_from_quaternion

LEVEL = {'roll': 0.0, 'pitch': 0.0, 'yaw': 0.0}
BOX = np.array([[10.0, 2, -1, 4, 2, 1.5, 0.3]], np.float32)
angles = strategies.floats(-pi, pi)
tilts = strategies.floats(-0.5, 0.5)


def test_higher_sensor_sees_the_ground_lower():
    mounting = Mounting.from_angles(1.75, height=3.0, **LEVEL)
    ground = np.array([[5.0, 1.0, -3.0, 0.5]], np.float32)
    np.testing.assert_array_equal(mounting.points_to_training(ground), [[5, 1, -1.75, 0.5]])
    boxes, orientations = mounting.boxes_to_sensor(BOX)
    np.testing.assert_array_equal(boxes, BOX - np.float32([0, 0, 1.25, 0, 0, 0, 0]))
    assert orientations is None
    assert boxes.dtype == np.float32


def test_sensor_that_looks_down_sees_the_ground_rise():
    mounting = Mounting.from_angles(1.0, height=1.0, roll=0.0, pitch=pi / 6, yaw=0.0)
    ahead = np.array([[2.0, 0.0, 0.0, 0.7]], np.float32)  # along the sensor's x
    moved = mounting.points_to_training(ahead)
    np.testing.assert_allclose(moved, [[2 * np.cos(pi / 6), 0, -1, 0.7]], atol=1e-6)


def test_sensor_that_looks_left():
    mounting = Mounting.from_angles(1.0, height=1.0, roll=0.0, pitch=0.0, yaw=pi / 2)
    moved = mounting.points_to_training(np.array([[2.0, 0.0, 0.0, 0.7]], np.float32))
    np.testing.assert_allclose(moved, [[0, 2, 0, 0.7]], atol=1e-6)
    boxes, orientations = mounting.boxes_to_sensor(np.float32([[0, 2, 0, 4, 2, 1, 2.0]]))
    np.testing.assert_allclose(boxes, [[2, 0, 0, 4, 2, 1, 2.0 - pi / 2]], atol=1e-6)
    assert orientations is None


def test_pose_counts_without_its_place_in_the_plane():
    pose = np.eye(4)
    pose[:3, 3] = 7.0, -3.0, 2.5
    moved = Mounting.above_ground(pose, 2.0).training_from_sensor
    np.testing.assert_array_equal(moved[:3, 3], [0.0, 0.0, 0.5])


@given(angles, tilts, tilts, strategies.floats(0.1, 5.0), angles)
def test_orientation_turns_a_box_as_the_mounting_does(mount_yaw, pitch, roll, height, yaw):
    mounting = Mounting.from_angles(1.73, height=height, roll=roll, pitch=pitch, yaw=mount_yaw)
    box = BOX.copy()
    box[0, 6] = yaw
    expected = mounting.points_to_sensor(box_corners(box)[0])
    moved, orientations = mounting.boxes_to_sensor(box)
    at_origin = np.array([[0, 0, 0, 4, 2, 1.5, 0]], np.float32)
    rotation = np.eye(3)
    if orientations is not None:
        rotation = rotation_from_quaternion(orientations[0].astype(np.float64))
        heading = rotation[:, 0]
        assert np.cos(moved[0, 6] - np.arctan2(heading[1], heading[0])) > 1 - 1e-6
    else:
        at_origin[0, 6] = moved[0, 6]
    corners = box_corners(at_origin)[0] @ rotation.T + moved[0, :3]
    np.testing.assert_allclose(corners, expected, atol=1e-4)


@given(angles, tilts, tilts, strategies.floats(0.1, 5.0))
def test_there_and_back(yaw, pitch, roll, height):
    mounting = Mounting.from_angles(1.73, height=height, roll=roll, pitch=pitch, yaw=yaw)
    points = np.float32([[30, -20, 1, 0.25], [0, 0, 0, 1]])
    before = points.copy()
    moved = mounting.points_to_training(points)
    np.testing.assert_allclose(mounting.points_to_sensor(moved[:, :3]), points[:, :3], atol=1e-4)
    np.testing.assert_array_equal(moved[:, 3], points[:, 3])
    np.testing.assert_array_equal(points, before)


@given(angles, tilts, strategies.sampled_from([0.0, 0.4, pi - 0.4, pi]), angles)
def test_boxes_there_and_back(mount_yaw, pitch, roll, yaw):
    mounting = Mounting.from_angles(1.73, height=2.5, roll=roll, pitch=pitch, yaw=mount_yaw)
    box = BOX.copy()
    box[0, 6] = yaw
    seen, _ = mounting.boxes_to_sensor(box)
    before = seen.copy()
    moved = mounting.boxes_to_training(seen)
    np.testing.assert_allclose(moved[:, :6], box[:, :6], atol=1e-5)
    assert np.cos(moved[0, 6] - yaw) > 1 - 1e-6
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(seen, before)


@pytest.mark.filterwarnings('error')
def test_what_is_not_finite_stays_so():
    mounting = Mounting.from_angles(1.7, height=2.0, roll=0.1, pitch=0.2, yaw=0.8)
    odd = np.float32([[np.nan, 0, 0, 0], [0, np.inf, 0, 0], [3e38, 3e38, 0, 0], [0, 0, 0, np.nan]])
    assert not np.isfinite(mounting.points_to_training(odd)).all(axis=1).any()


def test_nothing_is_moved_to_nothing():
    mounting = Mounting.from_angles(1.7, height=2.0, roll=0.1, pitch=0.2, yaw=0.8)
    boxes, orientations = mounting.boxes_to_sensor(np.zeros((0, 7), np.float32))
    assert (boxes.shape, orientations.shape) == ((0, 7), (0, 4))
    assert mounting.boxes_to_training(boxes).shape == (0, 7)
    assert mounting.points_to_training(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_velocities_turn_with_the_sensor():
    mounting = Mounting.from_angles(1.75, height=3.0, roll=0.0, pitch=0.0, yaw=pi / 2)
    velocities = np.float32([[2, 0], [0, 3], [np.nan, np.nan]])  # ahead, left, not known
    seen = mounting.velocities_to_sensor(velocities)
    np.testing.assert_allclose(seen, [[0, -2], [3, 0], [np.nan, np.nan]], atol=1e-6)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(mounting.velocities_to_training(seen), velocities, atol=1e-6)


def test_a_sweep_tells_how_its_sensor_is_mounted():
    rng = np.random.default_rng(0)
    road = np.column_stack([rng.uniform(-20, 20, (4000, 2)), np.zeros(4000), np.ones(4000)])
    given = Mounting.from_angles(1.73, height=1.1, roll=0.03, pitch=-0.05, yaw=0.0)
    seen = road.astype(np.float32) - np.float32([0, 0, 1.73, 0])
    seen[:, :3] = given.points_to_sensor(seen[:, :3])
    found = Mounting.found_in(seen, 1.73)
    assert found is not None
    np.testing.assert_allclose(found.points_to_training(seen)[:, 2], -1.73, atol=1e-3)
    assert Mounting.found_in(seen[:50], 1.73) is None
