# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from functools import partial
import math

import numpy as np
import pytest

from pointdistiller_core.geometry.poses import (
    Pose,
    PoseTrack,
    TransformError,
    TransformTree,
    interpolate_pose,
)
from pointdistiller_core.geometry.transforms import rotation_from_angles

SECOND = 10**9


def pose(x=0.0, y=0.0, z=0.0, yaw=0.0):
    return Pose.from_values((x, y, z, 0, 0, math.sin(yaw / 2), math.cos(yaw / 2)))


def test_a_pose_and_its_matrix_agree():
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_angles(0.1, -0.2, 2.5)
    matrix[:3, 3] = (1, 2, 3)
    np.testing.assert_allclose(Pose.from_matrix(matrix).matrix, matrix, atol=1e-12)


def test_a_unit_quaternion_keeps_its_bits_and_others_are_normed():
    values = (1.0, 2.0, 3.0, 0.1, 0.2, 0.3, math.sqrt(1 - 0.14))
    assert Pose.from_values(values).values == values
    assert Pose.from_values((0, 0, 0, 0, 0, 0, 2)).values == (0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize('values', [(0,) * 7, (math.nan, 0, 0, 0, 0, 0, 1), (1, 2, 3)])
def test_what_is_no_pose_is_refused(values):
    with pytest.raises(ValueError, match='no pose'):
        Pose.from_values(values)


def test_half_way_is_half_the_turn_and_half_the_way():
    half = interpolate_pose(pose(x=1, yaw=0.2), pose(x=3, yaw=1.0), 0.5)
    np.testing.assert_allclose(half, pose(x=2, yaw=0.6).matrix, atol=1e-12)


def test_a_quaternion_of_the_other_sign_is_the_same_turn():
    start, stop = pose(yaw=0.2), pose(yaw=0.4)
    other = Pose((*stop.values[:3], *(-value for value in stop.values[3:])))
    np.testing.assert_allclose(
        interpolate_pose(start, other, 0.25), pose(yaw=0.25).matrix, atol=1e-12
    )


# --- tracks ----------------------------------------------------------------------------------


def test_a_track_knows_what_lies_between_its_poses():
    track = PoseTrack()
    track.add(2 * SECOND, pose(x=2))
    track.add(SECOND, pose(x=1))  # late
    track.add(2 * SECOND, pose(x=4))  # again
    np.testing.assert_array_equal(track.at(SECOND), pose(x=1).matrix)
    np.testing.assert_array_equal(track.at(2 * SECOND), pose(x=4).matrix)
    np.testing.assert_allclose(track.at(3 * SECOND // 2), pose(x=2.5).matrix)
    for time_ns in (SECOND - 1, 2 * SECOND + 1):
        with pytest.raises(TransformError, match=r'only from 1.000 s to 2.000 s'):
            track.at(time_ns)


def test_a_long_gap_is_not_bridged():
    track = PoseTrack(max_gap_s=0.5)
    track.add(0, pose())
    track.add(SECOND, pose(x=1))
    with pytest.raises(TransformError, match=r'gap of 1.0 s'):
        track.at(SECOND // 2)


def test_old_poses_are_forgotten():
    track = PoseTrack(keep_s=2)
    for second in range(1000):
        track.add(second * SECOND, pose(x=second))
    assert 3 <= len(track) <= 5
    np.testing.assert_array_equal(track.at(997 * SECOND), pose(x=997).matrix)


# --- trees -----------------------------------------------------------------------------------


def tree_of_a_vehicle():
    tree = TransformTree()
    tree.add('odom', 'base_link', pose(x=10, yaw=math.pi / 2), SECOND)
    tree.add('odom', 'base_link', pose(x=12, yaw=math.pi / 2), 2 * SECOND)
    tree.add('base_link', 'lidar', pose(x=1, z=2))
    tree.add('base_link', '/rear', pose(x=-1, yaw=math.pi))
    return tree


def test_transforms_chain_over_static_and_moving_parts():
    tree = tree_of_a_vehicle()
    expected = pose(x=11, y=1, z=2, yaw=math.pi / 2).matrix
    np.testing.assert_allclose(tree.lookup('odom', 'lidar', 3 * SECOND // 2), expected, atol=1e-12)
    back = tree.lookup('lidar', 'odom', 3 * SECOND // 2)
    np.testing.assert_allclose(back @ expected, np.eye(4), atol=1e-12)


def test_static_frames_need_no_time():
    tree = tree_of_a_vehicle()
    lidar_from_rear = tree.lookup('lidar', 'rear')
    np.testing.assert_allclose(lidar_from_rear, pose(x=-2, z=-2, yaw=math.pi).matrix, atol=1e-12)
    np.testing.assert_array_equal(tree.lookup('lidar', 'lidar'), np.eye(4))
    with pytest.raises(TransformError, match='moves'):
        tree.lookup('odom', 'lidar')


def test_what_moves_and_what_is_ready_is_known():
    tree = tree_of_a_vehicle()
    assert tree.is_moving('odom', 'lidar')
    assert not tree.is_moving('rear', 'lidar')
    assert not tree.is_moving('map', 'lidar')
    assert tree.is_ready('odom', 'lidar', 2 * SECOND)
    assert not tree.is_ready('odom', 'lidar', 2 * SECOND + 1)
    assert not tree.is_ready('map', 'lidar', 0)


def test_frames_that_are_not_connected_are_named():
    tree = tree_of_a_vehicle()
    tree.add('map', 'camera', pose())
    with pytest.raises(TransformError, match=r"connects 'map' and 'lidar'; known are .*'rear'"):
        tree.lookup('map', 'lidar')


def test_a_time_that_is_missing_is_named():
    with pytest.raises(TransformError, match=r"'odom' from 'base_link': no pose at 3.000 s"):
        tree_of_a_vehicle().lookup('odom', 'lidar', 3 * SECOND)


def test_a_loop_is_named():
    tree = TransformTree()
    tree.add('a', 'b', pose())
    tree.add('b', 'a', pose())
    with pytest.raises(TransformError, match='loop'):
        tree.lookup('c', 'a')


def test_a_pose_goes_on_a_little_beyond_the_newest():
    track = PoseTrack()
    second = 10**9
    for time_s in (0, 1, 1.1):
        track.add(round(time_s * second), Pose((2 * time_s, 0, 0, 0, 0, 0, 1)))
    near = partial(track.near, goes_on_ns=second // 4, measured_ns=second // 10)
    assert near(round(1.3 * second))[0, 3] == pytest.approx(2.6)
    assert near(round(0.5 * second))[0, 3] == pytest.approx(1.0)
    with pytest.raises(TransformError, match=r'no pose at 1\.400 s'):
        near(round(1.4 * second))
    alone = PoseTrack()
    alone.add(0, Pose((0, 0, 0, 0, 0, 0, 1)))
    with pytest.raises(TransformError):
        alone.near(1, goes_on_ns=10, measured_ns=5)
