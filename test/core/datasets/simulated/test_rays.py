# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where sensors look, and that nothing they can see is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.datasets.simulated.casting import cast_alone
from pointdistiller_core.datasets.simulated.meshes import Material, block, merge, quad
from pointdistiller_core.datasets.simulated.rays import (
    Motion,
    draw_rays,
    within_reach,
)

CLEAN = SensorConfig(num_columns=720)


def test_a_rosette_looks_everywhere_between_its_limits_and_never_twice():
    rays = draw_rays(SensorConfig.model_validate('Mid-360')).directions
    elevations = np.degrees(np.arcsin(rays[:, 2]))
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-6)
    assert (elevations.min(), elevations.max()) == pytest.approx((-7, 52), abs=0.1)
    counts = np.histogram2d(np.arctan2(rays[:, 1], rays[:, 0]), elevations, (12, 6))[0]
    assert counts.min() > 0.8 * counts.mean()
    assert len(np.unique(rays.round(5), axis=0)) == len(rays)


def test_rays_towards_an_object_are_all_that_meet_it():
    rays = draw_rays(CLEAN)
    generator = np.random.default_rng(0)
    for _ in range(20):
        low = generator.uniform(-15, 15, 3) * [1, 1, 0.15]
        mesh = block(low, low + generator.uniform(0.2, 12, 3), Material.PAINT)
        if (mesh.vertices.min(axis=0) < 0).all() and (mesh.vertices.max(axis=0) > 0).all():
            continue  # around the sensor
        met = np.flatnonzero(cast_alone(mesh, rays.directions).faces >= 0)
        assert np.isin(met, rays.towards(mesh)).all()


def test_faces_out_of_reach_are_left_out_and_nothing_else():
    tower = block((20, -1, -2), (21, 1, 30), Material.STONE)
    far = block((99, -5, -2), (105, 5, 2), Material.STONE)
    cloud = quad([(5, -5, 9), (15, -5, 9), (15, 5, 9), (5, 5, 9)], Material.STONE)
    seen = within_reach(merge([tower, far, cloud]), CLEAN)
    assert len(seen.faces) == len(tower.faces) - 2  # without its top
    directions = draw_rays(CLEAN).directions
    whole = cast_alone(merge([tower, far, cloud]), directions).ranges
    ranges = cast_alone(seen, directions).ranges
    near = whole < CLEAN.max_range
    np.testing.assert_allclose(ranges[near], whole[near])


def test_a_sensor_in_motion_starts_behind_and_ends_ahead():
    motion = Motion(np.array([10.0, 0.0, 0.0]), math.radians(20), 0.1)
    rays = draw_rays(SensorConfig(beams=((0.0, 0.0, 1),), num_columns=4))
    directions, starts = rays.moving(motion)
    np.testing.assert_allclose(np.degrees(rays.azimuths), [180, 90, 0, -90])
    np.testing.assert_allclose(starts[:, 0], [-0.5, -0.25, 0, 0.25], atol=1e-6)
    turned = np.degrees(np.arctan2(directions[:, 1], directions[:, 0]))
    np.testing.assert_allclose(turned, [179, 89.5, 0, -89.5], atol=1e-4)
    np.testing.assert_array_equal(rays.moving(None)[0], rays.directions)
