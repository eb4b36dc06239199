# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Returns of scenes that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.datasets.simulated import surfaces
from pointdistiller_core.datasets.simulated.meshes import Material, block, merge
from pointdistiller_core.datasets.simulated.rays import beam_elevations, draw_rays
from pointdistiller_core.datasets.simulated.road_users import car
from pointdistiller_core.datasets.simulated.sensor import scan
from pointdistiller_core.datasets.simulated.surfaces import REFLECTIVITY

CLEAN = SensorConfig(range_noise=0.0, dropout=0.0, num_columns=720)
FAR_AWAY = block((-900, -900, -900), (-899, -899, -899), Material.CONCRETE)
GROUND = block((-80, -80, -3), (80, 80, -1.73), Material.ASPHALT)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def box_at(x: float, *, half_width: float = 1.0, material: Material = Material.PAINT):
    return block((x, -half_width, -1.0), (x + 0.5, half_width, 1.0), material)


def test_default_sensor_is_the_hdl_64e():
    degrees = np.degrees(beam_elevations(SensorConfig()))
    assert len(degrees) == 64
    assert degrees[[0, 31, 32, 63]] == pytest.approx([2.0, -8.33, -8.83, -24.33])
    assert np.diff(degrees[:32]) == pytest.approx(-1 / 3, abs=1e-3)
    assert np.diff(degrees[32:]) == pytest.approx(-0.5)
    assert len(draw_rays(SensorConfig()).directions) == 120_000


def test_rays_are_unit_vectors_all_around():
    rays = draw_rays(CLEAN).directions
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rays.mean(axis=0)[:2], 0, atol=1e-6)


def test_flat_ground_is_hit_where_each_beam_meets_it():
    points = scan(GROUND, [], CLEAN, rng()).points
    np.testing.assert_allclose(points[:, 2], -1.73, atol=1e-4)
    expected = 1.73 / np.tan(-beam_elevations(CLEAN))
    expected = expected[expected > 0]
    found = np.hypot(points[:, 0], points[:, 1])
    assert np.abs(found[:, None] - expected).min(axis=1).max() < 1e-2


def test_points_know_their_object():
    objects = [box_at(10), box_at(-20)]
    returns = scan(GROUND, objects, CLEAN, rng())
    assert set(returns.object_ids.tolist()) == {-1, 0, 1}
    assert (returns.points[returns.object_ids == 0, 0] >= 9.99).all()
    assert (returns.points[returns.object_ids == 1, 0] <= -19.49).all()
    assert returns.occlusions.tolist() == [0, 0]


def test_what_stands_behind_something_is_occluded():
    returns = scan(FAR_AWAY, [box_at(20), box_at(10)], CLEAN, rng())
    assert returns.occlusions.tolist() == [1, 0]
    assert set(returns.object_ids.tolist()) == {1}


def test_half_an_object_is_half_occluded():
    screen = block((10, 0, -3), (10.1, 5, 3), Material.CONCRETE)
    returns = scan(screen, [box_at(20)], CLEAN, rng())
    assert returns.occlusions[0] == pytest.approx(0.5, abs=0.05)


def test_an_object_that_no_beam_reaches_is_wholly_occluded():
    above = block((10, -1, 30), (11, 1, 31), Material.PAINT)
    assert scan(FAR_AWAY, [above], CLEAN, rng()).occlusions.tolist() == [1]


def test_some_rays_pass_a_window_some_come_back_and_most_are_lost():
    rays_at = SensorConfig(range_noise=0.0, dropout=0.0, num_columns=7200)
    pane = block((10, -3, -1), (10.001, 3, 1), Material.GLASS)  # thinner than a step behind it
    behind = box_at(15, material=Material.CLOTH)
    through, alone = (
        (scan(static, [behind], rays_at, rng()).object_ids == 0).sum()
        for static in (pane, FAR_AWAY)
    )
    assert through / alone == pytest.approx(0.4, abs=0.03)
    from_pane, from_wall = (
        len(scan(static, [], rays_at, rng()).points)
        for static in (pane, box_at(10, half_width=3, material=Material.CLOTH))
    )
    assert from_pane / from_wall == pytest.approx(0.1, abs=0.03)


def test_a_car_does_not_occlude_itself_with_its_windows():
    alone = car('estate').filling((4.2, 1.7, 1.5)).placed((12, 3, -1.73), 0.5)
    assert scan(GROUND, [alone], CLEAN, rng()).occlusions.tolist() == [0]
    screened = block((6, -5, -1.73), (6.1, 5, 0.5), Material.CONCRETE)
    assert scan(merge([GROUND, screened]), [alone], CLEAN, rng()).occlusions.tolist() == [1]


def test_intensity_of_a_matt_wall_by_hand(monkeypatch):
    reflectivity = {**REFLECTIVITY, Material.CLOTH: (0.4, 0.0, 1.0)}
    monkeypatch.setattr(surfaces, 'REFLECTIVITY', reflectivity)
    wall = block((10, -40, -3), (11, 40, 3), Material.CLOTH)
    points = scan(wall, [], CLEAN, rng()).points
    heard = points[points[:, 3] > 0]
    for bearing in (0.0, 1.0):  # [rad]; on the ray's level, nearly
        near = np.abs(np.arctan2(heard[:, 1], heard[:, 0]) - bearing) < 0.03
        assert heard[near, 3].mean() == pytest.approx(0.4 * np.cos(bearing), rel=0.05)
    assert (points[:, 3] == 0).mean() == pytest.approx(0.07, abs=0.01)
    np.testing.assert_allclose(points[:, 3] * 100, np.round(points[:, 3] * 100), atol=1e-4)


def test_grazing_and_distant_rays_are_lost_more_often():
    def kept(x: float, bearing: float) -> float:
        rays = draw_rays(CLEAN).directions
        wall = block((x, -400, -0.5), (x + 1, 400, 0.5), Material.ASPHALT)
        found = scan(wall, [], CLEAN, rng()).points
        sector = (np.abs(np.arctan2(v[:, 1], v[:, 0]) - bearing) < 0.05 for v in (found, rays))
        hit = np.abs(rays[:, 2] / rays[:, 0] * x) < 0.5
        in_found, in_rays = sector
        return float(in_found.sum() / (in_rays & hit & (rays[:, 0] > 0)).sum())

    near, far, grazing = kept(10, 0.0), kept(70, 0.0), kept(10, 1.4)
    assert near > 0.98
    assert far < near - 0.03
    assert grazing < near - 0.1


def test_noise_moves_points_along_their_rays():
    noisy = SensorConfig(range_noise=0.05, dropout=0.0, num_columns=720)
    wall = block((10, -40, -20), (11, 40, 20), Material.CONCRETE)
    clean, moved = (scan(wall, [], config, rng()).points for config in (CLEAN, noisy))
    ahead = np.abs(moved[:, 1]) < 1
    assert clean[:, 0] == pytest.approx(10, abs=1e-3)
    assert moved[ahead, 0].std() == pytest.approx(0.05, rel=0.15)


def test_dropout_loses_its_part_of_the_points():
    lossy = CLEAN.model_copy(update={'dropout': 0.3})
    kept, all_points = (len(scan(GROUND, [], c, rng()).points) for c in (lossy, CLEAN))
    assert kept == pytest.approx(0.7 * all_points, rel=0.02)


def test_range_limits():
    limited = CLEAN.model_copy(update={'max_range': 15.0, 'min_range': 5.0})
    points = scan(GROUND, [], limited, rng()).points
    distances = np.linalg.norm(points[:, :3], axis=1)
    assert 5 < distances.min() < distances.max() < 15


def test_intensity_depends_on_the_material():
    def mean(material: Material) -> float:
        wall = block((10, -5, -3), (11, 5, 3), material)
        return float(scan(wall, [], CLEAN, rng()).points[:, 3].mean())

    assert 0 < mean(Material.RUBBER) < mean(Material.SKIN) < mean(Material.PLATE) <= 1


def test_nothing_to_see():
    returns = scan(FAR_AWAY, [], CLEAN, rng())
    assert returns.points.shape == (0, 4)
    assert returns.points.dtype == np.float32
