# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistiller_core.geometry.transforms import (
    invert_rigid,
    rotation_from_angles,
    transform_points,
)
from pointdistiller_core.pointcloud.sweeps import SweepBuffer, merge_sweeps

SECOND = 10**9
WALL = np.array([[20.0, 3.0, 1.0], [25.0, -4.0, 0.0], [3.0, 30.0, -1.0]])  # does not move


def pose_at(time_s):
    """A car in a curve, a kilometre from the origin."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_angles(0.01, -0.02, 0.3 * time_s)
    pose[:3, 3] = (1000 + 8 * time_s, 500 - 2 * time_s, 1.5)
    return pose


def sweep_at(time_s):
    """(3, 4) what the sensor sees of the wall; the intensity is the time."""
    wall = WALL + np.array([1000, 500, 0])
    seen = transform_points(invert_rigid(pose_at(time_s)), wall)
    return np.column_stack([seen, np.full(3, time_s)]).astype(np.float32)


def drive(buffer, *times):
    return [buffer.add(sweep_at(t), round(t * SECOND), pose_at(t)) for t in times]


def test_what_stands_is_in_one_place():
    *_, merged = drive(SweepBuffer(4, 10.0, with_age=True), 0.1, 0.3, 0.6, 1.0, 1.5)
    assert merged.shape == (12, 5)
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged[:, :3], np.tile(sweep_at(1.5)[:, :3], (4, 1)), atol=2e-5)
    np.testing.assert_allclose(merged[::3, 3], [1.5, 1.0, 0.6, 0.3])  # newest first
    np.testing.assert_allclose(merged[::3, 4], [0.0, 0.5, 0.9, 1.2], atol=1e-6)


def test_without_age_there_are_four_columns():
    first, second = drive(SweepBuffer(2, 1.0, with_age=False), 0.0, 0.1)
    assert (first.shape, second.shape) == ((3, 4), (6, 4))
    np.testing.assert_allclose(second[3:, :3], sweep_at(0.1)[:, :3], atol=2e-5)


def test_old_sweeps_are_left_out():
    buffer = SweepBuffer(10, 0.25, with_age=True)
    *_, merged = drive(buffer, 0.0, 0.1, 0.2, 0.3, 0.5)
    assert buffer.num_merged == 2
    np.testing.assert_allclose(merged[::3, 4], [0.0, 0.2])


def test_time_that_does_not_go_forward_begins_anew():
    buffer = SweepBuffer(3, 10.0, with_age=True)
    sizes = [len(merged) for merged in drive(buffer, 1.0, 1.1, 0.5, 0.6, 0.6)]
    assert sizes == [3, 6, 3, 6, 3]
    assert buffer.restarts == 2


def test_a_sweep_without_a_pose_is_alone():
    buffer = SweepBuffer(3, 10.0, with_age=True)
    drive(buffer, 0.0)
    alone = buffer.add(sweep_at(0.1), SECOND // 10, None)
    np.testing.assert_array_equal(alone, np.pad(sweep_at(0.1), ((0, 0), (0, 1))))
    assert buffer.num_merged == 1
    (merged,) = drive(buffer, 0.2)
    np.testing.assert_allclose(merged[::3, 4], [0.0, 0.2])


def test_one_sweep_is_passed_on():
    points = sweep_at(0.0)
    buffer = SweepBuffer(1, 1.0, with_age=False)
    assert buffer.add(points, 0, pose_at(0)) is points
    assert buffer.add(points, SECOND, pose_at(0)) is points
    assert merge_sweeps(points, (), with_age=False) is points


@pytest.mark.parametrize('sizes', [(0, 5), (5, 0), (9001, 4097)])
def test_sweeps_of_any_size(sizes):
    rng = np.random.default_rng(0)
    sweeps = [rng.normal(scale=20, size=(size, 4)).astype(np.float32) for size in sizes]
    before = [sweep.copy() for sweep in sweeps]
    buffer = SweepBuffer(2, 1.0, with_age=True)
    for index, sweep in enumerate(sweeps):
        merged = buffer.add(sweep, index, pose_at(index / 10))
    expected = transform_points(invert_rigid(pose_at(0.1)) @ pose_at(0), sweeps[0][:, :3])
    np.testing.assert_array_equal(merged[: sizes[1], :4], sweeps[1])
    np.testing.assert_allclose(merged[sizes[1] :, :3], expected, atol=5e-5)
    np.testing.assert_array_equal(merged[sizes[1] :, 3], sweeps[0][:, 3])
    for sweep, copy in zip(sweeps, before, strict=True):
        np.testing.assert_array_equal(sweep, copy)
