# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np

from pointdistiller_core.geometry.transforms import rotation_from_angles, transform_points
from pointdistiller_core.pointcloud.sensors import (
    CloudSets,
    EgoBox,
    join_points,
    move_points,
    usable_points,
)


def put_together(clouds, sensors=('a', 'b'), tolerance_ns=10):
    sets = CloudSets(sensors, tolerance_ns)
    found = [
        (item.stamp_ns, item.clouds)
        for sensor, stamp_ns in clouds
        for item in sets.add(sensor, stamp_ns, f'{sensor}{stamp_ns}')
    ]
    return found, [(item.stamp_ns, item.clouds) for item in sets.rest()], sets.unused


def test_one_sensor_needs_nobody():
    found, rest, _ = put_together([('a', 1), ('a', 2)], sensors=('a',))
    assert (found, rest) == ([(1, ('a1',)), (2, ('a2',))], [])


def test_the_nearest_cloud_belongs_to_it_whichever_comes_first():
    clouds = [('b', 99), ('a', 100), ('b', 103), ('b', 198), ('a', 200), ('b', 300), ('a', 305)]
    found, rest, unused = put_together(clouds)
    assert found == [(100, ('a100', 'b99')), (200, ('a200', 'b198'))]
    assert rest == [(305, ('a305', 'b300'))]
    assert unused == 1


def test_what_is_out_of_tolerance_is_missing():
    found, rest, unused = put_together([('a', 100), ('b', 111), ('a', 200), ('b', 195)])
    assert found == [(100, ('a100', None))]
    assert rest == [(200, ('a200', 'b195'))]  # a nearer one might have followed
    assert unused == 1


def test_a_sensor_that_fell_silent_holds_nothing_up():
    step = 100_000_000
    found, rest, _ = put_together([('a', step * i) for i in range(1, 9)])
    assert [stamp for stamp, _ in found] == [step, 2 * step]
    assert len(rest) == 6
    assert all(clouds[1] is None for _, clouds in found + rest)


def test_a_set_knows_whether_it_is_complete():
    sets = CloudSets(('a', 'b'), 10)
    assert not list(sets.add('a', 100, 1))
    (whole,) = sets.add('b', 100, 2)
    assert whole.complete
    assert not list(sets.add('a', 200, 1))
    (half,) = sets.rest()
    assert not half.complete


def test_an_ego_box_drops_what_is_inside_or_on_it():
    points = np.array([[0, 0, 0, 1], [1, 1, 1, 2], [1.01, 0, 0, 3], [0, -2, 0, 4]], np.float32)
    box = EgoBox((-1, -1, -1), (1, 1, 1))
    np.testing.assert_array_equal(box.outside(points)[:, 3], [3, 4])
    assert box.outside(points[2:]) is not None
    far = points[2:]
    assert np.shares_memory(box.outside(far), far)


def test_points_move_with_their_other_columns():
    target_from_sensor = np.eye(4)
    target_from_sensor[:3, :3] = rotation_from_angles(0.1, 0.2, 2.0)
    target_from_sensor[:3, 3] = (1, -2, 3)
    points = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    before = points.copy()
    moved = move_points(target_from_sensor, points)
    expected = transform_points(target_from_sensor, points[:, :3])
    np.testing.assert_allclose(moved[:, :3], expected, atol=1e-5)
    np.testing.assert_array_equal(moved[:, 3:], points[:, 3:])
    np.testing.assert_array_equal(points, before)
    assert move_points(np.eye(4), points) is points


def test_many_points_are_moved_block_by_block():
    target_from_sensor = np.eye(4)
    target_from_sensor[:3, :3] = rotation_from_angles(0.0, 0.1, -0.7)
    target_from_sensor[:3, 3] = (10, 0.5, -1)
    points = np.random.default_rng(1).normal(scale=30, size=(9001, 4)).astype(np.float32)
    moved = move_points(target_from_sensor, points)
    expected = transform_points(target_from_sensor, points[:, :3])
    np.testing.assert_allclose(moved[:, :3], expected, atol=2e-5)
    np.testing.assert_array_equal(moved[:, 3], points[:, 3])
    rows = np.concatenate([move_points(target_from_sensor, row[None]) for row in points[:20]])
    np.testing.assert_allclose(rows, moved[:20], atol=1e-5)


def test_sensors_are_joined_in_one_frame():
    here, there = np.zeros((2, 4), np.float32), np.ones((3, 4), np.float32)
    shift = np.eye(4)
    shift[:3, 3] = (1, 2, 3)
    joined = join_points([(np.eye(4), here), (shift, there)])
    np.testing.assert_array_equal(joined, [[0, 0, 0, 0]] * 2 + [[2, 3, 4, 1]] * 3)
    assert join_points([(np.eye(4), here)]) is here


def test_what_cannot_be_moved_is_left_out():
    points = np.array([[1, 2, 3, 0.5], [0, 0, 0, 0.7], [0, np.nan, 1, 0]], np.float32)
    kept, dropped = usable_points(points)
    np.testing.assert_array_equal(kept, points[:1])
    assert dropped == {'points_without_return': 1, 'points_not_finite': 1}
    kept, dropped = usable_points(kept)
    assert len(kept) == 1
    assert not any(dropped.values())
