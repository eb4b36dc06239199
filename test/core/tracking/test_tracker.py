# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Tracks sweep by sweep, against objects whose motion is known."""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np
import pytest

from pointdistiller_core.config import TrackingConfig
from pointdistiller_core.geometry.transforms import rotation_from_angles
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.tracker import Tracker

STEP_NS = 100_000_000


def seen(*places, scores=None, labels=None, yaw=0.0) -> Detections:
    boxes = np.array([[x, y, 0, 4, 2, 1.5, yaw] for x, y in places], np.float32).reshape(-1, 7)
    count = len(boxes)
    return Detections(
        boxes,
        np.array(scores or [0.9] * count, np.float32),
        np.array(labels or [0] * count, np.int64),
    )


def drive(sweeps, config=None, poses=None):
    tracker = Tracker(config or TrackingConfig())
    poses = poses or [None] * len(sweeps)
    return [
        tracker.update(found, index * STEP_NS, pose)
        for index, (found, pose) in enumerate(zip(sweeps, poses, strict=True))
    ]


def test_an_object_is_shown_when_it_was_seen_often_enough():
    tracks = drive([seen((10, 0))] * 4, TrackingConfig(min_hits=3))
    assert [len(each) for each in tracks] == [0, 0, 1, 1]
    assert [each.track_of.tolist() for each in tracks] == [[0]] * 4
    assert tracks[3].hits.tolist() == [4]


def test_velocity_and_place_of_a_moving_object():
    tracks = drive([seen((0.8 * index, 1.0)) for index in range(15)])[-1]
    np.testing.assert_allclose(tracks.velocities, [[8, 0]], atol=0.1)
    np.testing.assert_allclose(tracks.boxes[:, :2], [[11.2, 1]], atol=0.05)


def test_velocity_is_over_ground_in_the_axes_of_the_sensor():
    """The sensor drives at 5 m/s and turns left; the object stands in the world, then drives."""
    poses, still, moving = [], [], []
    for index in range(20):
        pose = np.eye(4)
        pose[:3, :3] = rotation_from_angles(0, 0, 0.02 * index)
        pose[0, 3] = 0.5 * index
        back = np.linalg.inv(pose)
        poses.append(pose)
        still.append(seen((back @ [20, 3, 0, 1])[:2], yaw=-0.02 * index))
        moving.append(seen((back @ [20, index, 0, 1])[:2]))
    assert np.abs(drive(still, poses=poses)[-1].velocities).max() < 0.1
    turn = 0.02 * 19
    expected = [[10 * math.sin(turn), 10 * math.cos(turn)]]
    np.testing.assert_allclose(drive(moving, poses=poses)[-1].velocities, expected, atol=0.3)


def test_objects_that_pass_each_other_keep_their_numbers():
    sweeps = [seen((index, 0), (20 - index, 2.5)) for index in range(21)]
    tracks = drive(sweeps)
    assert {tuple(each.track_of.tolist()) for each in tracks} == {(0, 1)}


def test_a_gap_is_bridged_and_a_long_one_is_not():
    at = {index: seen((index, 0)) for index in range(20)}
    nothing = seen()
    bridged = drive([at[index] if index not in {8, 9, 10} else nothing for index in at])
    assert bridged[-1].track_of.tolist() == [0]
    assert bridged[9].seen.tolist() == [False]
    np.testing.assert_allclose(bridged[9].boxes[:, 0], [9], atol=0.3)
    lost = drive([at[index] if not 6 <= index < 14 else nothing for index in at])
    assert lost[-1].track_of.tolist() == [1]


def test_unsure_detections_go_on_with_a_track_but_begin_none():
    weak = seen((10, 0), scores=[0.2])
    assert drive([weak] * 5)[-1].track_of.tolist() == [-1]
    assert drive([seen((10, 0)), weak, weak])[-1].track_of.tolist() == [0]
    hopeless = seen((10, 0), scores=[0.05])
    assert drive([seen((10, 0)), hopeless])[-1].track_of.tolist() == [-1]


def test_classes_do_not_mix():
    assert drive([seen((10, 0)), seen((10, 0), labels=[1])])[-1].track_of.tolist() == [1]


def test_a_front_that_was_taken_for_the_rear_turns_nothing():
    sweeps = [seen((10, 0), yaw=0.1 if index != 5 else 0.1 - math.pi) for index in range(8)]
    for tracks in drive(sweeps)[2:]:
        np.testing.assert_allclose(tracks.boxes[:, 6], [0.1], atol=1e-6)
    wrong_at_first = [seen((10, 0), yaw=0.1 - math.pi if index < 2 else 0.1) for index in range(8)]
    np.testing.assert_allclose(drive(wrong_at_first)[-1].boxes[:, 6], [0.1], atol=1e-6)


def test_time_that_goes_backwards_ends_all_tracks():
    tracker = Tracker(TrackingConfig())
    tracker.update(seen((10, 0)), 5 * STEP_NS)
    assert tracker.update(seen((10, 0)), 4 * STEP_NS).track_of.tolist() == [1]
    assert tracker.num_restarts == 1
    assert tracker.update(seen((10, 0)), 5 * STEP_NS).track_of.tolist() == [1]


def test_no_detections_at_all():
    tracks = drive([seen()] * 3)[-1]
    assert len(tracks) == 0
    assert tracks.boxes.shape == (0, 7)
    assert tracks.velocities.shape == (0, 2)


@pytest.mark.parametrize('seed', range(3))
def test_many_noisy_objects_keep_their_numbers(seed):
    """40 objects on a grid, each with a speed of its own; tenth parts are missed."""
    rng = np.random.default_rng(seed)
    start = np.stack(np.meshgrid(np.arange(8) * 12.0, np.arange(5) * 12.0), -1).reshape(-1, 2)
    speed = rng.uniform(-4, 4, start.shape)
    tracker, numbers = Tracker(TrackingConfig()), [set() for _ in start]
    for index in range(30):
        visible = np.flatnonzero(rng.random(len(start)) > 0.1)
        places = start + speed * index * 0.1 + rng.normal(0, 0.1, start.shape)
        tracks = tracker.update(seen(*places[visible]), index * STEP_NS)
        for one, track in zip(visible, tracks.track_of, strict=True):
            numbers[one].add(int(track))
    assert [len(own) for own in numbers] == [1] * len(start)


def test_a_new_track_has_the_velocity_of_its_detection():
    """Over ground, of a sensor that is turned by a quarter; without a pose it is not used."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_angles(0, 0, math.pi / 2)
    found = replace(seen((10, 0), (20, 0)), velocities=np.float32([[6, 0], [np.nan, 0]]))
    config = TrackingConfig(min_hits=1)
    (tracks,) = drive([found], config, [pose])
    np.testing.assert_allclose(tracks.velocities, [[6, 0], [0, 0]], atol=1e-5)
    (alone,) = drive([found], config)
    assert not alone.velocities.any()
    # As fast as it was said to be, it is where it was expected.
    later = drive([found, seen((10.6, 0), (20, 0))], config, [pose, pose])[1]
    np.testing.assert_allclose(later.velocities[0], [6, 0], atol=1e-3)
