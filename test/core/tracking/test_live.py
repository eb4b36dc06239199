# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Tracks as a node shows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pointdistiller_core.config import TrackingConfig
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.live import TRAIL_SWEEPS, LiveTracker

STEP_NS = 100_000_000
STANDING = (0, 0, 0, 0, 0, 0, 1)


def seen(*places, score=0.9) -> Detections:
    boxes = np.array([[x, y, 0, 4, 2, 1.5, 0] for x, y in places], np.float32).reshape(-1, 7)
    return Detections(boxes, np.full(len(boxes), score, np.float32), np.zeros(len(boxes), int))


def update(tracker, index, found, frame='lidar', poses=(), classes=('Car',), **config):
    options = {'config': TrackingConfig(**config), 'frame': frame, 'class_names': classes}
    return tracker.update(found, (index + 1) * STEP_NS, poses=poses, **options)


def at(index, *values):
    return [((index + 1) * STEP_NS, values)]


def test_detections_have_the_track_and_velocity_of_confirmed_objects():
    tracker = LiveTracker()
    for index in range(6):
        late = [(30, -5)] if index > 3 else []
        live = update(tracker, index, seen((index, 0), *late, (0, 90)), min_hits=3)
        if index == 1:
            assert live.detections.tracks.tolist() == [-1, -1]
            assert np.isnan(live.detections.velocities).all()
            assert len(live.objects) == 0
    assert live.detections.tracks.tolist() == [0, -1, 1]
    np.testing.assert_allclose(live.detections.velocities[[0, 2]], [[10, 0], [0, 0]], atol=0.2)
    assert np.isnan(live.detections.velocities[1]).all()
    assert live.objects.tracks.tolist() == [0, 1]
    assert live.seen.tolist() == [True, True]


def test_detections_without_a_track_keep_the_velocity_that_the_detector_gives():
    found = replace(seen((10, 0)), velocities=np.float32([[7, 1]]))
    live = update(LiveTracker(), 0, found, min_hits=3)
    assert live.detections.tracks.tolist() == [-1]
    assert live.detections.velocities.tolist() == [[7, 1]]


def test_objects_come_by_descending_score_and_a_missed_one_is_predicted():
    tracker = LiveTracker()
    both = Detections.empty()
    for index in range(5):
        both = replace(seen((index, 0), (0, 90)), scores=np.array([0.5, 0.9], np.float32))
        live = update(tracker, index, both)
    assert live.objects.tracks.tolist() == [1, 0]
    live = update(tracker, 5, seen((0, 90)))
    assert live.detections.tracks.tolist() == [1]
    assert dict(zip(live.objects.tracks.tolist(), live.seen.tolist(), strict=True)) == {
        **{1: True, 0: False}
    }
    predicted = live.objects.boxes[live.objects.tracks.tolist().index(0)]
    np.testing.assert_allclose(predicted[:2], [5, 0], atol=0.1)


def test_trails_are_seen_from_where_the_sensor_is_now():
    """It drives towards an object that stands, and beside one that keeps its place ahead."""
    tracker = LiveTracker()
    for index in range(15):
        pose = at(index, index, 0, 0, 0, 0, 0, 1)
        live = update(tracker, index, seen((50 - index, 3), (20, -3)), 'odom', pose, min_hits=1)
    standing, beside = live.trails()
    assert len(standing) == len(beside) == TRAIL_SWEEPS
    np.testing.assert_allclose(standing[:, :2], [[36, 3]] * TRAIL_SWEEPS, atol=0.01)
    expected = 20 - np.arange(TRAIL_SWEEPS)[::-1]
    np.testing.assert_allclose(beside[:, 0], expected, atol=0.1)
    np.testing.assert_allclose(live.objects.velocities, [[0, 0], [10, 0]], atol=0.1)


def test_another_frame_or_other_classes_end_all_tracks():
    tracker = LiveTracker()
    for index in range(3):
        live = update(tracker, index, seen((10, 0)))
    assert live.objects.tracks.tolist() == [0]
    live = update(tracker, 3, seen((10, 0)), 'odom', at(3, *STANDING), min_hits=1)
    assert (live.objects.tracks.tolist(), tracker.num_restarts) == ([1], 1)
    assert [len(trail) for trail in live.trails()] == [1]
    live = update(tracker, 4, seen((10, 0)), 'odom', at(4, *STANDING), ('Bus',), min_hits=1)
    assert (live.objects.tracks.tolist(), tracker.num_restarts) == ([2], 2)
    live = update(tracker, 5, seen((10, 0)), 'odom', at(5, *STANDING), ('Bus',), min_hits=2)
    assert (live.objects.tracks.tolist(), tracker.num_restarts) == ([2], 2)  # no config ends any


def test_time_that_goes_backwards_ends_trails_too():
    tracker = LiveTracker()
    for index in range(5):
        update(tracker, index, seen((10, 0)), min_hits=1)
    live = update(tracker, 2, seen((10, 0)), min_hits=1)
    assert (live.objects.tracks.tolist(), tracker.num_restarts) == ([1], 1)
    assert [len(trail) for trail in live.trails()] == [1]


def test_motion_goes_on_where_poses_are_not_known_yet():
    """From 1 m and 0 rad to 2 m and 0.2 rad, so half as much again later."""
    tracker = LiveTracker()
    turned = (2, 0, 0, 0, 0, np.sin(0.1), np.cos(0.1))
    poses = at(0, 1, 0, 0, 0, 0, 0, 1) + at(2, *turned)
    live = update(tracker, 3, seen((10, 0)), 'odom', poses, min_hits=1)
    ((_, places),) = live.past
    np.testing.assert_allclose(places[0], [2.5 + 10 * np.cos(0.3), 10 * np.sin(0.3), 0], atol=1e-5)


def test_a_pose_that_is_none():
    with pytest.raises(ValueError, match='is no pose'):
        update(LiveTracker(), 0, seen((10, 0)), 'odom', at(0, 0, 0, 0, 0, 0, 0, 0))


def test_nothing_at_all():
    live = update(LiveTracker(), 0, seen())
    assert (len(live.detections), len(live.objects), live.trails()) == (0, 0, [])
    assert live.detections.velocities.shape == (0, 2)
