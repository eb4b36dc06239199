# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Angles and rigid transforms."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from pointdistiller_core.geometry.transforms import (
    invert_rigid,
    quaternion_from_rotation,
    rotation_from_angles,
    rotation_from_quaternion,
    transform_points,
    wrap_angle,
)

# A quarter turn to the left, then one metre forward and two up.
QUARTER = np.array([[0.0, -1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ('yaw', 'wrapped'),
    [
        (0.0, 0.0),
        (math.pi, -math.pi),
        (-math.pi, -math.pi),
        (7.0, 7.0 - 2 * math.pi),
        (-4.0, 2 * math.pi - 4),
    ],
)
def test_wrap_angle_by_hand(yaw: float, wrapped: float):
    assert wrap_angle(yaw) == pytest.approx(wrapped, abs=1e-15)
    assert wrap_angle(np.array([yaw]))[0] == pytest.approx(wrapped, abs=1e-15)
    assert wrap_angle(torch.tensor([yaw]))[0].item() == pytest.approx(wrapped, abs=1e-6)


@settings(deadline=None)
@given(st.floats(-100, 100))
def test_wrap_angle_stays_in_range_and_keeps_the_direction(yaw: float):
    wrapped = wrap_angle(yaw)
    assert -math.pi - 1e-14 <= wrapped <= math.pi
    assert math.cos(wrapped - yaw) == pytest.approx(1)


@settings(deadline=None)
@given(st.floats(-math.pi, math.pi, exclude_max=True))
@example(math.nextafter(math.pi, 0))
def test_wrap_angle_keeps_every_bit_of_angles_inside(yaw: float):
    assert wrap_angle(yaw) == yaw
    assert wrap_angle(np.array([yaw]))[0] == yaw
    assert wrap_angle(torch.tensor([yaw], dtype=torch.float64))[0] == yaw


def test_wrap_angle_in_single_precision():
    largest = np.nextafter(np.float32(np.pi), np.float32(0))
    for yaw in (largest, -largest, np.float32(-np.pi)):
        assert wrap_angle(np.array([yaw]))[0] == yaw
        assert wrap_angle(torch.tensor([yaw]))[0] == yaw
    assert wrap_angle(np.array([np.pi], np.float32))[0] == np.float32(-np.pi)


def test_transform_points_by_hand():
    points = np.array([[1.0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(transform_points(QUARTER, points), [[1, 1, 2], [0, 0, 2]])


def test_transform_points_of_nothing():
    assert transform_points(QUARTER, np.zeros((0, 3))).shape == (0, 3)


def test_invert_rigid_undoes_the_transform():
    np.testing.assert_allclose(invert_rigid(QUARTER) @ QUARTER, np.eye(4), atol=1e-15)
    assert QUARTER[0, 3] == 1


@pytest.mark.parametrize(
    ('angles', 'of_x', 'of_y'),
    [
        ((math.pi / 2, 0, 0), [1, 0, 0], [0, 0, 1]),
        ((0, math.pi / 2, 0), [0, 0, -1], [0, 1, 0]),
        ((0, 0, math.pi / 2), [0, 1, 0], [-1, 0, 0]),
        ((math.pi / 2, 0, math.pi / 2), [0, 1, 0], [0, 0, 1]),  # about x first
    ],
)
def test_rotation_by_hand(angles, of_x, of_y):
    rotation = rotation_from_angles(*angles)
    np.testing.assert_allclose(rotation[:, 0], of_x, atol=1e-15)
    np.testing.assert_allclose(rotation[:, 1], of_y, atol=1e-15)


def test_quaternion_by_hand():
    half = math.sqrt(0.5)
    quarter = rotation_from_angles(0, 0, math.pi / 2)
    np.testing.assert_allclose(quaternion_from_rotation(quarter), [0, 0, half, half], atol=1e-15)
    rotation = rotation_from_quaternion(np.array([0.0, 0, 3, 3]))
    np.testing.assert_allclose(rotation, quarter, atol=1e-15)


@given(st.floats(-4, 4), st.floats(-4, 4), st.floats(-4, 4))
@example(math.pi, 0, 0)
@example(0, math.pi, 0)
@example(0, 0, math.pi)
def test_quaternion_is_the_rotation(roll, pitch, yaw):
    rotation = rotation_from_angles(roll, pitch, yaw)
    quaternion = quaternion_from_rotation(rotation)
    assert quaternion[3] >= 0
    np.testing.assert_allclose(rotation_from_quaternion(quaternion), rotation, atol=1e-12)
