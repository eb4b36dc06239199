# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What surfaces do to beams beside returning them."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.config.simulation import RoofConfig, SurfacesConfig
from pointdistiller_core.datasets.simulated.meshes import Material, block, quad
from pointdistiller_core.datasets.simulated.rays import beam_elevations
from pointdistiller_core.datasets.simulated.sensor import Effects, scan
from pointdistiller_core.datasets.simulated.surfaces import REFLECTIVITY
from pointdistiller_core.datasets.simulated.variants import (
    NUM_VARIANTS,
    detailed_car,
    detailed_pedestrian,
    detailed_truck,
    detailed_van,
    trailer,
)

CLEAN = SensorConfig(range_noise=0.0, dropout=0.0, num_columns=1440)
GROUND = block((-80, -80, -3), (80, 80, -1.73), Material.ASPHALT)
FAR_AWAY = block((-900, -900, -900), (-899, -899, -899), Material.CONCRETE)
CAR = block((8, -1, -1.7), (12, 1, -0.2), Material.LACQUER)


def returns(static, objects=(), sensor=CLEAN, **surfaces):
    effects = Effects(surfaces=SurfacesConfig(**surfaces), lacquered=tuple(True for _ in objects))
    return scan(static, objects, sensor, np.random.default_rng(0), effects)


def test_beams_see_into_leaves_and_through_them():
    hedge = quad([(10, -9, -9), (10, 9, -9), (10, 9, 9), (10, -9, 9)], Material.FOLIAGE)
    x = returns(hedge).points[:, 0]
    assert len(x) > 1000
    assert x.min() > 9.99
    assert 0.1 < np.median(x) - 10 < 0.5
    behind = block((12, -9, -9), (13, 9, 9), Material.CONCRETE)
    alone = len(returns(behind).points)
    through = (scan_of_both := returns(hedge, [behind])).object_ids == 0
    assert through.sum() / alone == pytest.approx(0.4, abs=0.1)
    assert scan_of_both.occlusions[0] == pytest.approx(0.6, abs=0.1)


def test_grass_is_seen_above_the_ground():
    meadow = block((-80, -80, -3), (80, 80, -1.73), Material.MEADOW)
    heights = returns(meadow).points[:, 2] + 1.73
    assert heights.min() > -1e-4
    assert np.median(heights) == pytest.approx(0.035 * np.log(2), rel=0.1)


def test_holes_roofs_and_sills():
    whole = returns(FAR_AWAY, [CAR]).points
    low, high = whole[:, 2].min(), whole[:, 2].max()
    assert len(returns(FAR_AWAY, [CAR], holes=(5, 5)).points) < 0.95 * len(whole)
    sills = returns(FAR_AWAY, [CAR], lost_sills=1.0).points[:, 2]
    assert np.quantile(sills, 0.02) > low + 0.2
    roofs = returns(FAR_AWAY, [CAR], lost_roofs=1.0).points[:, 2]
    assert (roofs > high - 0.1).sum() < 0.3 * (whole[:, 2] > high - 0.1).sum()
    wall = block((8, -1, -1.7), (12, 1, -0.2), Material.CONCRETE)
    static = scan(wall, [], CLEAN, np.random.default_rng(0), Effects(SurfacesConfig(holes=(5, 5))))
    assert len(static.points) == len(returns(wall).points)


def test_dark_cars_are_silent():
    bright, dark = (returns(FAR_AWAY, [CAR], dark=part).points[:, 3] for part in (0.0, 1.0))
    assert (dark == 0).mean() > (bright == 0).mean() + 0.2


def test_rain_takes_its_part_and_spray_comes_from_nearby():
    dry = len(returns(GROUND).points)
    assert len(returns(GROUND, rain=(0.2, 0.2)).points) == pytest.approx(0.8 * dry, rel=0.02)
    points = returns(GROUND, spray=(0.1, 0.1)).points
    in_air = points[points[:, 2] > -1.6]
    assert len(in_air) > 0.05 * len(points)
    assert np.linalg.norm(in_air[:, :3], axis=1).max() < 8


def test_the_own_roof_hides_what_is_below_it():
    roof = RoofConfig(ahead=2.0, behind=2.0, half_width=0.7, below=0.3)
    points = returns(GROUND, sensor=CLEAN.model_copy(update={'roof': roof})).points
    # The edge ahead is seen 8.53 degrees below the horizon.
    ahead = points[np.abs(points[:, 1]) < 0.5]
    assert np.abs(ahead[:, 0]).min() == pytest.approx(1.73 * 2.0 / 0.3, abs=0.6)
    aside = points[np.abs(points[:, 0]) < 0.5]
    assert np.abs(aside[:, 1]).min() < 5


def test_far_echoes_are_silent_and_faint(monkeypatch):
    gray = {**REFLECTIVITY, Material.CONCRETE: (0.37, 0.0, 0.0)}
    monkeypatch.setattr('pointdistiller_core.datasets.simulated.surfaces.REFLECTIVITY', gray)
    deaf = CLEAN.model_copy(update={'silent_range': 40.0})
    wall = block((40, -90, -20), (41, 90, 20), Material.CONCRETE)
    heard, all_heard = (returns(wall, sensor=sensor).points for sensor in (deaf, CLEAN))
    at_40_m = np.hypot(heard[:, 0], heard[:, 1]) < 42
    assert (heard[at_40_m, 3] == 0).mean() == pytest.approx(0.5, abs=0.12)
    assert (all_heard[:, 3] == 0).mean() < 0.15
    assert heard[heard[:, 3] > 0, 3].mean() < 0.8 * all_heard[all_heard[:, 3] > 0, 3].mean()


def test_beams_differ_in_their_gain():
    def spread(sensor) -> float:
        points = returns(GROUND, sensor=sensor).points
        rings = np.round(np.hypot(points[:, 0], points[:, 1]), 1)
        near = [r for r in np.unique(rings) if r < 15 and (rings == r).sum() > 400]
        return float(np.std([points[rings == r, 3].mean() for r in near]))

    assert len(beam_elevations(CLEAN)) == 64
    assert spread(CLEAN.model_copy(update={'ring_gain': 0.2})) > 3 * spread(CLEAN)


@pytest.mark.parametrize(
    'build',
    [detailed_car, detailed_van, detailed_truck, trailer, lambda v: detailed_pedestrian(v, 0.5)],
)
def test_every_variant_fills_its_box(build):
    for variant in range(0, NUM_VARIANTS, 5):
        mesh = build(variant).filling((4.2, 1.7, 1.5))
        np.testing.assert_allclose(mesh.vertices.min(axis=0), [-2.1, -0.85, 0.0], atol=1e-5)
        np.testing.assert_allclose(mesh.vertices.max(axis=0), [2.1, 0.85, 1.5], atol=1e-5)
