# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes and drives: exact labels, nothing through one another, the same from the same seed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from pointdistiller_core.config import SceneConfig, SensorConfig, SimulationConfig
from pointdistiller_core.datasets.simulated.drive import simulate_drive, simulate_scene
from pointdistiller_core.datasets.simulated.placement import Placer
from pointdistiller_core.datasets.simulated.plain_street import build_plain_street
from pointdistiller_core.datasets.simulated.scene import EGO_PLACE
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.geometry.transforms import transform_points

SMALL = SimulationConfig(sensor=SensorConfig(num_columns=600, range_noise=0.0))


@pytest.fixture(scope='module')
def frames():
    return [simulate_scene(SMALL, seed=3, index=index) for index in range(4)]


@pytest.fixture(scope='module')
def drive():
    return list(simulate_drive(SMALL, num_frames=4, seed=5))


def boxes_of(frame) -> torch.Tensor:
    return torch.tensor([item.box for item in frame.objects])


def test_an_object_holds_at_least_the_points_that_it_returned(frames):
    for frame in frames:
        grown = boxes_of(frame) + torch.tensor([0, 0, 0, 0.01, 0.01, 0.01, 0])
        inside = points_in_boxes(torch.from_numpy(frame.points), grown).sum(dim=0)
        counts = torch.tensor([item.num_points for item in frame.objects])
        assert (inside >= counts).all()
        assert (counts > 0).sum() >= 5


def test_objects_do_not_overlap(frames):
    for frame in frames:
        overlaps = rotated_iou_bev(boxes_of(frame), boxes_of(frame))
        assert (overlaps - torch.diag(overlaps.diag())).max() == 0


def test_the_wholly_occluded_are_seen_through_windows_at_most(frames):
    items = [item for frame in frames for item in frame.objects]
    assert all(0 <= item.occlusion <= 1 for item in items)
    hidden = [item.num_points for item in items if item.occlusion == 1]
    assert max(hidden) < 20
    assert hidden.count(0) >= len(hidden) / 2


def test_objects_stand_on_the_ground(frames):
    bottoms = [item.box[2] - item.box[5] / 2 for frame in frames for item in frame.objects]
    assert np.mean(bottoms) == pytest.approx(-SMALL.sensor.height, abs=0.4)


def test_same_seed_same_bytes():
    once, again = (simulate_scene(SMALL, seed=1, index=2) for _ in range(2))
    assert once.points.tobytes() == again.points.tobytes()
    assert once.objects == again.objects


def test_other_index_or_seed_is_another_scene(frames):
    others = [*frames, simulate_scene(SMALL, seed=4, index=0)]
    for first, second in combinations(others, 2):
        assert first.points.shape != second.points.shape or (first.points != second.points).any()


def test_numbers_of_things_follow_the_configuration():
    config = SceneConfig(cars=(3, 3), pedestrians=(0, 0), cyclists=(2, 2), trucks=(0, 0))
    names = [actor.name for actor in build_plain_street(config, np.random.default_rng(0)).actors]
    assert len(names) == 5
    assert names.count('Cyclist') == 2
    assert 'Pedestrian' not in names


def test_drive_keeps_time_and_tracks(drive):
    assert np.diff([frame.stamp_ns for frame in drive]).tolist() == [100_000_000] * 3
    tracks = [[item.track_id for item in frame.objects] for frame in drive]
    assert tracks[0] == sorted(set(tracks[0]))
    assert all(ids == tracks[0] for ids in tracks)


def test_sensor_moves_at_its_speed(drive):
    positions = np.array([frame.world_from_lidar[:2, 3] for frame in drive])
    speed = SMALL.scene.ego_speed
    np.testing.assert_allclose(np.diff(positions, axis=0), [[speed / 10, 0]] * 3, atol=1e-9)


def test_objects_move_straight_and_steadily_in_the_world(drive):
    def in_world(frame) -> np.ndarray:
        return transform_points(frame.world_from_lidar, boxes_of(frame)[:, :3].numpy())[:, :2]

    steps = np.diff([in_world(frame) for frame in drive], axis=0)
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-4)
    speeds = np.linalg.norm(steps[0], axis=1) * 10
    assert (speeds < 0.01).any()
    assert ((speeds > 0.5) & (speeds < 12)).any()


def test_nothing_runs_through_anything_in_a_drive():
    config, duration_s = SceneConfig(), 20.0
    scene = build_plain_street(config, np.random.default_rng(0), duration_s=duration_s)
    assert sum(actor.speed > 0 for actor in scene.actors) >= 10
    for time_s in np.arange(0, duration_s, 0.5):
        ego = (EGO_PLACE[0] + config.ego_speed * time_s, EGO_PLACE[1], 0, 4.5, 1.9, 1.5, 0)
        boxes = [
            (*actor.position_at(float(time_s)), 0, *actor.size, actor.yaw)
            for actor in scene.actors
        ]
        overlaps = rotated_iou_bev(*[torch.tensor([ego, *boxes])] * 2)
        assert (overlaps - torch.diag(overlaps.diag())).max() == 0, time_s


@pytest.mark.parametrize('seed', range(5))
def test_road_users_stay_out_of_houses(seed):
    config = SceneConfig(poles=(0, 0), bushes=(0, 0), fences=(0, 0), walls=(25, 25))
    scene = build_plain_street(config, np.random.default_rng(seed))
    num_ground = len(scene.ground.mesh((-100, 100), (-100, 100)).vertices)
    houses = scene.static.vertices[num_ground:].reshape(-1, 8, 3)
    weights = np.random.default_rng(2).dirichlet(np.ones(8), size=500)
    inside = torch.from_numpy((weights @ houses).reshape(-1, 3))
    boxes = torch.tensor(
        [(*actor.position, 0, *actor.size[:2], 100, actor.yaw) for actor in scene.actors]
    )
    assert len(houses) >= 15
    assert not points_in_boxes(inside, boxes).any()


@pytest.mark.parametrize(
    ('place', 'velocity', 'is_free'),
    [
        ((10.0, 0.0), (0.0, 0.0), True),
        ((2.3, 0.0), (0.0, 0.0), False),  # 1 + 1 + 0.4 m apart would do
        ((2.5, 0.0), (0.0, 0.0), True),
        ((10.0, 0.0), (-1.0, 0.0), False),  # meets it after 7.6 s
        ((13.0, 0.0), (-1.0, 0.0), True),  # would after 10.6 s, when the drive is over
        ((10.0, 3.0), (-1.0, 0.0), True),  # passes beside it
    ],
)
def test_a_claimed_way_is_free(place, velocity, is_free):
    placer = Placer(np.random.default_rng(0), x_range=(place[0], place[0]), duration_s=10.0)
    placer._along = lambda: place[0]
    placer.stand((0.0, 0.0), (1.0, 1.0), (0.0, 0.0))
    found = placer.claim(lambda: place[1], (1.0, 1.0), velocity)
    assert found == (place if is_free else None)


def test_drive_is_the_same_however_long_it_is_watched(drive):
    first = next(simulate_drive(SMALL, num_frames=4, seed=5))
    assert first.points.tobytes() == drive[0].points.tobytes()
