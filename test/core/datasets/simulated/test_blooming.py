# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Halos around plates and signs."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.config.simulation import SurfacesConfig
from pointdistiller_core.datasets.simulated.blooming import find_halo
from pointdistiller_core.datasets.simulated.meshes import Material, block, merge
from pointdistiller_core.datasets.simulated.sensor import Effects, scan

CLEAN = SensorConfig(range_noise=0.0, dropout=0.0)
WIDTH = 1.0  # [deg]
SIGN = block((10, -0.5, -0.5), (10.1, 0.5, 0.5), Material.SIGN)


def sweep(*static, objects=(), sensor=CLEAN, blooming=(WIDTH, WIDTH), seed=0):
    effects = Effects(surfaces=SurfacesConfig(blooming=blooming))
    return scan(merge(static), objects, sensor, np.random.default_rng(seed), effects)


def beside(points, half=0.5):
    """(N,) angle from the outline of a sign ahead [deg]; 0 on it."""
    out = np.maximum(np.abs(points[:, 1:3]) - half * points[:, :1] / 10, 0)
    return np.degrees(np.arctan(np.hypot(*out.T) / points[:, 0]))


def test_a_sign_returns_points_around_its_outline():
    points = sweep(SIGN).points
    angles = beside(points)
    halo = angles > 0.01
    assert beside(sweep(SIGN, blooming=(0, 0)).points).max() < 0.01
    assert angles.max() < WIDTH
    np.testing.assert_allclose(np.linalg.norm(points[halo, :3], axis=1), 10.04, atol=0.1)
    aside, above = np.abs(points[halo, 1]) > 0.51, np.abs(points[halo, 2]) > 0.51
    assert (aside & ~above).sum() > 20  # neighboring columns
    assert (above & ~aside).sum() > 20  # neighboring rings
    near, far = (angles > 0.01) & (angles < 0.5), angles >= 0.5
    assert near.sum() > 2 * far.sum() > 0
    assert points[near, 3].mean() > 2 * points[far, 3].mean()


def test_only_reflectors_bloom_and_only_where_it_is_asked_for():
    wall = block((10, -0.5, -0.5), (10.1, 0.5, 0.5), Material.CONCRETE)
    assert beside(sweep(wall).points).max() < 0.01
    plain = scan(SIGN, [], CLEAN, np.random.default_rng(0))
    off = sweep(SIGN, blooming=(0.0, 0.0))
    np.testing.assert_array_equal(off.points, plain.points)
    np.testing.assert_array_equal(sweep(SIGN).points, sweep(SIGN).points)
    assert len(sweep(SIGN).points) != len(sweep(SIGN, seed=1).points)


def test_a_halo_covers_what_is_behind_it_and_nothing_before_it():
    def num_there(*others):
        return int((np.abs(sweep(SIGN, *others).points[:, 0] - 10) < 0.1).sum())

    on_it, alone = len(sweep(SIGN, blooming=(0, 0)).points), num_there()
    behind = block((30, -9, -9), (31, 9, 9), Material.CONCRETE)
    assert num_there(behind) == pytest.approx(alone, rel=0.03)
    beside_it = block((6, -9, -9), (6.1, -0.33, 9), Material.CONCRETE)  # 0.3 degrees
    assert on_it < num_there(beside_it) < alone - 20


def test_points_of_a_halo_belong_to_nobody():
    car = merge(
        [
            block((10, -0.9, -1.7), (14, 0.9, -0.2), Material.PAINT),
            block((9.99, -0.26, -1.2), (10, 0.26, -1.0), Material.PLATE),
        ]
    )
    found = sweep(block((90, 90, 90), (91, 91, 91), Material.CONCRETE), objects=[car])
    outside = np.abs(found.points[:, 1]) > 0.95
    assert (found.object_ids[outside] == -1).all()
    assert (found.object_ids[~outside] == 0).mean() > 0.95


def test_far_signs_bloom_less():
    far = block((80, -4, -4), (80.1, 4, 4), Material.SIGN)  # the same solid angle
    sensor = SensorConfig(range_noise=0.0, dropout=0.0, max_range=120.0, weak_range=1e4)
    extra = [
        len(sweep(sign, sensor=sensor).points)
        - len(sweep(sign, sensor=sensor, blooming=(0, 0)).points)
        for sign in (SIGN, far)
    ]
    assert 0 < extra[1] < 0.3 * extra[0]


@pytest.mark.parametrize('pattern', ['spinning', 'rosette'])
def test_the_seam_behind_the_sensor_is_none(pattern):
    behind = block((-10.1, -0.5, -0.5), (-10, 0.5, 0.5), Material.SIGN)
    sensor = CLEAN
    if pattern == 'rosette':
        sensor = SensorConfig(pattern=pattern, beams=((20.0, -20.0, 1),), num_columns=200_000)
    y = sweep(behind, sensor=sensor).points[:, 1]
    left, right = (y > 0.55).sum(), (y < -0.55).sum()
    assert min(left, right) > 5
    assert left == pytest.approx(right, rel=0.5)


def test_halo_by_definition():
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(4000, 3))
    directions = (directions / np.linalg.norm(directions, axis=1)[:, None]).astype(np.float32)
    bright, ranges, width = np.sort(rng.choice(4000, 30, replace=False)), np.full(4000, 5.0), 0.1
    always = np.random.Generator(np.random.PCG64(0))
    halo = find_halo(directions, bright, ranges, width=width, rng=always)
    apart = np.linalg.norm(directions[:, None] - directions[bright], axis=2)
    nearest = bright[apart.argmin(axis=1)]
    strengths = 1 - apart.min(axis=1) / width
    strengths[bright] = 0
    lit = np.random.default_rng(0).random((strengths > 0).sum()) < strengths[strengths > 0]
    expected = np.flatnonzero(strengths > 0)[lit]
    np.testing.assert_array_equal(halo.rays, expected)
    np.testing.assert_array_equal(halo.sources, nearest[expected])
    np.testing.assert_allclose(halo.strengths, strengths[expected], atol=1e-5)
