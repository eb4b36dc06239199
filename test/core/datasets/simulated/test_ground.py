# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The ground of a street, and its bend."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.datasets.simulated.ground import Bend, StreetGround

STILL = np.zeros((1, 4))


def ground_of(curvature: float = 0.0, **changes) -> StreetGround:
    values = {
        'slope': np.zeros(2),
        'waves': STILL,
        'crest': 0.0,
        'stations': np.array([-5.0, -4.9, 4.9, 5.0]),
        'levels': np.array([0.15, 0.0, 0.0, 0.1]),
        **changes,
    }
    return StreetGround(bend=Bend(curvature), **values)


@pytest.mark.parametrize('curvature', [0.0, 0.005, -0.006])
def test_a_bend_can_be_undone(curvature):
    along, across = np.meshgrid(np.linspace(-100, 100, 9), np.linspace(-80, 80, 7))
    back = Bend(curvature).to_street(*Bend(curvature).to_world(along, across))
    np.testing.assert_allclose(back, [along, across], atol=1e-9)


def test_a_bend_by_hand():
    quarter = math.pi / 2 * 100
    x, y = Bend(0.01).to_world(np.array([quarter, 0]), np.array([10.0, 10.0]))
    np.testing.assert_allclose([x, y], [[90, 0], [100, 10]], atol=1e-9)


def test_the_cross_section_has_kerbs():
    heights = ground_of().height(np.zeros(5), np.array([-9.0, -4.95, 0, 4.0, 6]))
    np.testing.assert_allclose(heights, [0.15, 0.075, 0, 0, 0.1])


def test_a_crest_falls_off_to_both_sides():
    heights = ground_of(crest=-0.001).height(np.array([-20.0, 0, 20]), np.zeros(3))
    np.testing.assert_allclose(heights, [-0.2, 0, -0.2])


def test_height_in_the_world_is_that_of_the_street():
    ground = ground_of(0.005, slope=np.array([0.01, 0.0]))
    x, y = ground.bend.to_world(np.array([50.0]), np.array([7.0]))
    assert ground.height(x, y)[0] == pytest.approx(0.5 + 0.1)


def test_the_mesh_lies_on_the_ground():
    ground = ground_of(slope=np.array([0.01, 0.02]))
    mesh = ground.street_mesh((-20, 20), 20, lambda along, _: np.zeros(len(along), np.int32))
    along, across, up = mesh.vertices.astype(np.float64).T
    np.testing.assert_allclose(up, ground.street_height(along, across), atol=1e-5)
    assert {-4.9, 4.9, 5.0} <= set(across.round(3))
