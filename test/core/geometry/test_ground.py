# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from pointdistiller_core.geometry.ground import Ground, GroundFollower, fit_ground, join_grounds
from pointdistiller_core.geometry.transforms import rotation_from_angles, transform_points


def street(height, *, roll=0.0, pitch=0.0, noise=0.02):
    """Points of a road, walls and a roof, seen by a sensor that may be tilted."""
    rng = np.random.default_rng(0)
    road = np.column_stack([rng.uniform(-25, 25, (4000, 2)), rng.normal(0, noise, 4000)])
    walls = np.column_stack(
        [rng.uniform(-25, 25, 1500), rng.choice([-8, 8], 1500), rng.uniform(0, 5, 1500)]
    )
    roof = np.column_stack([rng.uniform(3, 7, (800, 2)), np.full(800, 1.5)])
    sensor_from_ground = np.eye(4)
    sensor_from_ground[:3, :3] = rotation_from_angles(roll, pitch, 0).T
    sensor_from_ground[:3, 3] = sensor_from_ground[:3, :3] @ [0, 0, -height]
    return transform_points(sensor_from_ground, np.concatenate([road, walls, roof]))


@pytest.mark.parametrize('height', [0.5, 1.73, 3.2])
def test_the_height_above_a_road_is_found(height):
    ground = fit_ground(street(height))
    assert ground.height == pytest.approx(height, abs=0.01)
    assert ground.tilt < math.radians(0.2)


def test_a_tilted_sensor_is_levelled():
    ground = fit_ground(street(2.0, roll=0.1, pitch=-0.2))
    pose = ground.ground_from_sensor
    assert ground.height == pytest.approx(2.0, abs=0.02)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    points = transform_points(pose, street(2.0, roll=0.1, pitch=-0.2, noise=0))[:4000]
    assert abs(points[:, 2]).max() < 0.05
    assert pose[0, 0] > 0.9  # x stays ahead


def test_points_may_be_in_a_frame_on_the_ground():
    ground = fit_ground(street(1.73) + np.array([0, 0, 1.73]), eye=(0, 0, 1.73))
    assert ground.height == pytest.approx(0, abs=0.01)
    assert fit_ground(street(1.73) + np.array([0, 0, 1.73])) is None


def test_what_is_no_ground_is_none():
    rng = np.random.default_rng(1)
    assert fit_ground(rng.uniform(-20, 20, (5000, 3))) is None
    assert fit_ground(np.zeros((0, 4))) is None
    assert fit_ground(np.full((500, 3), np.nan)) is None


def test_points_below_a_plane_speak_against_it():
    points = street(2.0)
    pit = points[:4000] - [0, 0, 3]
    found = fit_ground(np.concatenate([points, pit]))
    assert found is None or found.height == pytest.approx(5.0, abs=0.05)


def test_the_same_points_give_the_same_plane():
    assert fit_ground(street(1.7)) == fit_ground(street(1.7))


def test_grounds_are_joined_by_their_middle():
    joined = join_grounds([Ground(h, (0.0, 0.0, 1.0), 0.5) for h in (1.7, 1.8, 9.0)])
    assert (joined.height, joined.normal, joined.part) == (1.8, (0, 0, 1), 0.5)


def test_the_ground_is_followed_from_sweep_to_sweep():
    follower = GroundFollower(memory=3)
    assert follower.follow(np.zeros((0, 4))) is None
    for pitch in (0.0, 0.01, 0.02, 0.03):
        found = follower.follow(street(1.73, pitch=pitch))
    assert found.height == pytest.approx(1.73, abs=0.02)
    assert found.tilt == pytest.approx(0.02, abs=0.002)  # the median of the last three
    assert follower.follow(np.full((500, 3), np.nan)) == found


def test_a_ground_that_jumps_is_searched_for_anew():
    follower = GroundFollower(memory=1)
    follower.follow(street(1.73))
    assert follower.follow(street(0.8)).height == pytest.approx(0.8, abs=0.02)
    assert follower.follow(street(2.5, roll=0.1)).tilt == pytest.approx(0.1, abs=0.005)
