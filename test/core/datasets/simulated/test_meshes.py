# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Meshes fill their boxes and are closed enough to be seen from everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.datasets.simulated.meshes import (
    Material,
    block,
    ellipsoid,
    foliage,
    merge,
    prism,
    tube,
)
from pointdistiller_core.datasets.simulated.road_users import (
    CAR_SHAPES,
    car,
    cyclist,
    pedestrian,
    truck,
    van,
)
from pointdistiller_core.datasets.simulated.sensor import scan

ROAD_USERS = {
    **{shape: car(shape) for shape in CAR_SHAPES},
    'van': van(),
    'truck': truck(),
    'pedestrian': pedestrian(0.7),
    'cyclist': cyclist(-0.4),
}
SOLIDS = {
    'prism': prism([(0, 0), (2, 0), (1, 3)], 0.5, Material.PAINT, top=0.5),
    'block': block((-1, -2, 0), (1, 2, 3), Material.WOOD),
    'tube': tube((0, 0, 0), (1, 1, 1), 0.2, Material.METAL),
    'ellipsoid': ellipsoid((1, 2, 3), (1, 2, 3), Material.LEAVES),
}


@pytest.mark.parametrize('name', ROAD_USERS)
def test_a_filling_mesh_touches_all_six_faces_of_its_box(name):
    mesh = ROAD_USERS[name].filling((4.2, 1.7, 1.5))
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-2.1, -0.85, 0.0], atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [2.1, 0.85, 1.5], atol=1e-6)


@pytest.mark.parametrize('name', SOLIDS)
def test_solids_are_closed(name):
    faces = SOLIDS[name].faces
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses == 2).all()


def test_beams_see_into_foliage():
    rng = np.random.default_rng(0)
    bush = foliage((10, 0, 0), (1, 1, 1), rng, 300)
    assert set(bush.materials.tolist()) == {Material.LEAVES}
    clean = SensorConfig(range_noise=0.0, dropout=0.0, num_columns=7200)
    wall = block((20, -20, -20), (21, 20, 20), Material.CONCRETE)
    depths = scan(wall, [bush], clean, rng).points[:, 0]
    assert ((depths > 8) & (depths < 9.5)).sum() > 100
    assert ((depths > 10) & (depths < 12)).sum() > 100


def test_block_by_hand():
    mesh = block((-1, -2, 0), (1, 2, 3), Material.WOOD)
    assert mesh.vertices.min(axis=0).tolist() == [-1, -2, 0]
    assert mesh.vertices.max(axis=0).tolist() == [1, 2, 3]
    assert len(mesh.faces) == 12
    assert set(mesh.materials.tolist()) == {Material.WOOD}


def test_placing_turns_then_moves():
    mesh = block((0, 0, 0), (2, 1, 1), Material.WOOD).placed((10, 0, 5), math.pi / 2)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [9, 0, 5], atol=1e-5)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [10, 2, 6], atol=1e-5)


def test_a_pitched_mesh_lifts_its_nose():
    mesh = block((0, 0, 0), (2, 1, 0.01), Material.WOOD).placed((0, 0, 0), 0.0, 0.1)
    assert mesh.vertices[mesh.vertices[:, 0].argmax(), 2] == pytest.approx(0.2, abs=0.02)


def test_merging_keeps_faces_and_materials_together():
    first, second = SOLIDS['block'], SOLIDS['tube']
    both = merge([first, second])
    assert len(both.faces) == len(first.faces) + len(second.faces)
    tail = both.vertices[both.faces[len(first.faces) :]]
    np.testing.assert_array_equal(tail, second.vertices[second.faces])
    assert set(both.materials[len(first.faces) :].tolist()) == {Material.METAL}


def test_cars_have_windows_plates_and_wheels():
    materials = set(car('sedan').materials.tolist())
    assert materials == {Material.PAINT, Material.GLASS, Material.PLATE, Material.RUBBER}
