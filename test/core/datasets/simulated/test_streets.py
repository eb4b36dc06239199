# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Streets of all kinds: exact labels, nothing in anything, what the configuration asks for."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest

from pointdistiller_core.config import SceneConfig, SensorConfig, SimulationConfig
from pointdistiller_core.config.simulation import CrowdConfig, SceneKind, StreetsConfig
from pointdistiller_core.datasets.simulated.drive import simulate_drive, simulate_scene
from pointdistiller_core.datasets.simulated.meshes import Material
from pointdistiller_core.datasets.simulated.scene import EGO_PLACE
from pointdistiller_core.datasets.simulated.streets import EGO_LANE, build_scene
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev

KINDS = [kind for kind in get_args(SceneKind) if kind != 'plain']
SLACK = np.array([0, 0, 0, 0.02, 0.02, 0.02, 0])  # [m]
NOBODY = CrowdConfig(chance=0, count=(0, 0))
SENSOR = SensorConfig(num_columns=400, range_noise=0.0)
# Of the plain street of seed 5, frame 3.
NUM_POINTS = 101446
BOX_SUMS = [
    230.07434476,
    -26.53057402,
    -11.28845006,
    53.53706959,
    20.57025267,
    29.18883867,
    9.40832178,
]
POINT_MEANS = [0.13479, 0.2039, -1.49546, 0.25181]


def config_of(kind: str, **streets) -> SceneConfig:
    return SceneConfig(kinds={kind: 1.0}, streets=StreetsConfig(**streets))


def build(config: SceneConfig, seed: int = 0, duration_s: float = 0.0):
    return build_scene(config, np.random.default_rng(seed), duration_s=duration_s)


@pytest.mark.parametrize('kind', KINDS)
def test_an_object_holds_the_points_that_it_returned(kind):
    cars = CrowdConfig(chance=1, count=(6, 9))
    scene = config_of(kind, empty=0, cars=cars, parked=(0.8, 0.9))
    config, counted = SimulationConfig(sensor=SENSOR, scene=scene), 0
    for index in range(3):
        frame = simulate_scene(config, seed=1, index=index)
        boxes = np.array([item.box for item in frame.objects]).reshape(-1, 7)
        inside = points_in_boxes(frame.points, boxes + SLACK).sum(axis=0)
        counts = [item.num_points for item in frame.objects]
        assert (inside >= counts).all()
        counted += sum(counts)
    assert counted > 100


@pytest.mark.parametrize('kind', KINDS)
def test_road_users_do_not_touch_one_another_or_the_sensor(kind):
    for seed in range(3):
        actors = build(config_of(kind, parked=(0.8, 0.9)), seed).actors
        rooms = [(*EGO_PLACE, 0, 4.4, 1.8, 1.5, 0)]
        rooms += [(*actor.position, 0, *actor.size, actor.yaw) for actor in actors]
        # People side by side, and cars in places across the street, stand as close as they do.
        boxes = np.array(rooms) * [1, 1, 1, 0.97, 0.97, 1, 1]
        overlaps = rotated_iou_bev(boxes, boxes)
        assert (overlaps - np.diag(overlaps.diagonal())).max() < 0.02


@pytest.mark.parametrize('kind', KINDS)
def test_what_stands_still_keeps_out_of_road_users(kind):
    for seed in range(3):
        scene = build(config_of(kind, bend=0.0), seed)
        ground = np.isin(
            scene.static.materials, [Material.ASPHALT, Material.MEADOW, Material.FOLIAGE]
        )
        ground |= scene.static.materials == Material.CONCRETE  # a pavement, or a house
        corners = scene.static.vertices[scene.static.faces[~ground]].reshape(-1, 3)
        boxes = [(*actor.position, 0, *actor.size[:2], 2, actor.yaw) for actor in scene.actors]
        boxes = np.array(boxes).reshape(-1, 7) * [1, 1, 1, 0.9, 0.9, 1, 1]
        assert not points_in_boxes(corners, boxes).any()


def test_the_view_is_closed_nearly_all_round():
    scene = simulate_scene(
        SimulationConfig(
            sensor=SensorConfig(beams=((1.0, 1.0, 1),), num_columns=720, dropout=0.0),
            scene=config_of('city'),
        ),
        seed=0,
        index=0,
    )
    assert len(scene.points) > 0.7 * 720


def test_same_seed_same_bytes_and_another_kind_by_its_weight():
    config = SimulationConfig(
        sensor=SENSOR, scene=SceneConfig(kinds={'country': 1.0, 'city': 3.0, 'plain': 1e-9})
    )
    once, again = (simulate_scene(config, seed=1, index=2) for _ in range(2))
    assert once.points.tobytes() == again.points.tobytes()
    assert once.objects == again.objects
    kinds = Counter(build(config.scene, seed).kind for seed in range(24))
    assert set(kinds) == {'country', 'city'}
    assert kinds['city'] > kinds['country']


def test_the_configuration_says_who_is_there():
    crowds = dict.fromkeys(('cars', 'trucks', 'trailers', 'cyclists', 'pedestrians'), NOBODY)
    walkers = CrowdConfig(chance=1, count=(3, 3))
    config = config_of('city', empty=0, parked=(0, 0), **{**crowds, 'pedestrians': walkers})
    for seed in range(4):
        assert [actor.name for actor in build(config, seed).actors] == ['Pedestrian'] * 3
    assert not build(config_of('city', empty=1.0)).actors


def test_a_car_park_holds_rows_across_the_street():
    actors = [
        actor
        for seed in range(4)
        for actor in build(config_of('car_park', parked=(0.9, 0.9), bend=0.0), seed).actors
    ]
    across = sum(abs(np.sin(actor.yaw)) > 0.6 for actor in actors if actor.name == 'Car')
    assert across > 40


def test_the_sensor_keeps_its_lane():
    config = SimulationConfig(sensor=SENSOR, scene=config_of('residential'))
    poses = [simulate_scene(config, seed=0, index=index).world_from_lidar for index in range(3)]
    assert all(EGO_LANE[0] <= pose[1, 3] <= EGO_LANE[1] for pose in poses)


def test_nothing_runs_through_anything_in_a_drive():
    config, duration_s = config_of('junction', parked=(0.8, 0.9)), 6.0
    actors = build(config, 5, duration_s).actors
    assert sum(actor.speed > 0 for actor in actors) >= 2
    for time_s in np.arange(0, duration_s, 0.5):
        ego = (EGO_PLACE[0] + config.ego_speed * time_s, EGO_PLACE[1], 0, 4.4, 1.8, 1.5, 0)
        rooms = [(*actor.position_at(time_s), 0, *actor.size, actor.yaw) for actor in actors]
        boxes = np.array([ego, *rooms]) * [1, 1, 1, 0.97, 0.97, 1, 1]
        overlaps = rotated_iou_bev(boxes, boxes)
        assert (overlaps - np.diag(overlaps.diagonal())).max() < 0.02


def test_a_drive_goes_along_one_street():
    config = SimulationConfig(sensor=SENSOR, scene=config_of('road'))
    frames = list(simulate_drive(config, num_frames=3, seed=0))
    assert [frame.conditions['scene'] for frame in frames] == ['road'] * 3
    steps = np.diff([frame.world_from_lidar[:2, 3] for frame in frames], axis=0)
    np.testing.assert_allclose(steps, [[0.7, 0]] * 2, atol=1e-9)


@pytest.mark.parametrize('extent', [4.0, 20.0])
@pytest.mark.parametrize('kind', KINDS)
def test_short_streets(kind, extent):
    config = SceneConfig(kinds={kind: 1.0}, extent=extent)
    for actor in build(config, 1).actors:
        assert np.hypot(*actor.position) < extent + 45  # a cross street may be 40 m ahead


def test_a_plain_street_stays_what_it_was():
    """Studies, and the demo's table, are made of these: what they draw must not change."""
    frame = simulate_scene(SimulationConfig(), seed=5, index=3)
    boxes = np.array([item.box for item in frame.objects])
    assert len(frame.points) == pytest.approx(NUM_POINTS, abs=5)
    np.testing.assert_allclose(boxes.sum(axis=0), BOX_SUMS, rtol=1e-6)
    np.testing.assert_allclose(frame.points.mean(axis=0), POINT_MEANS, atol=1e-3)
