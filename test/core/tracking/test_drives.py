# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Whole drives: tracks both ways, joined and smoothed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.config import TrackingConfig
from pointdistiller_core.geometry.headings import common_heading
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.drives import (
    join_tracks,
    track_drive,
    weighted_median,
)
from pointdistiller_core.tracking.filter import smooth

CONFIG = TrackingConfig()


def frame(*rows) -> Detections:
    """Rows x, y, yaw, score, and perhaps a label."""
    boxes = np.array([[x, y, 0, 4, 2, 1.5, yaw] for x, y, yaw, *_ in rows], np.float32)
    return Detections(
        boxes.reshape(-1, 7),
        np.array([row[3] for row in rows], np.float32),
        np.array([row[4] if len(row) > 4 else 0 for row in rows], np.int64),
    )


def track(frames, poses=None):
    stamps = [100_000_000 * index for index in range(len(frames))]
    return track_drive(frames, stamps, poses or [np.eye(4)] * len(frames), CONFIG)


def test_what_stands_has_one_box():
    rng = np.random.default_rng(0)
    frames = [frame((10 + x, 5 + y, 0.3, 0.8)) for x, y in rng.normal(0, 0.1, (21, 2))]
    (found,) = track(frames)
    assert found.static
    assert len(np.unique(found.boxes, axis=0)) == 1
    np.testing.assert_allclose(found.boxes[0, :2], [10, 5], atol=0.1)
    assert not found.velocities.any()


def test_what_stands_is_one_place_of_the_world_for_a_sensor_that_moves():
    poses = [np.eye(4) for _ in range(20)]
    for index, pose in enumerate(poses):
        pose[0, 3] = index
    frames = [frame((30 - index, 5, 0, 0.8)) for index in range(20)]
    (found,) = track(frames, poses)
    assert found.static
    np.testing.assert_allclose(found.boxes[:, :2], [[30, 5]] * 20, atol=1e-5)


def test_what_drives_is_smoothed_and_its_gaps_are_filled():
    rng = np.random.default_rng(1)
    frames = [
        frame((index, 0.5 * index + rng.normal(0, 0.2), 0.0, 0.8)) if index % 7 != 3 else frame()
        for index in range(40)
    ]
    (found,) = track(frames)
    assert not found.static
    assert found.frames.tolist() == list(range(40))
    assert found.detected.tolist() == [index % 7 != 3 for index in range(40)]
    error = np.hypot(*(found.boxes[:, :2] - [(i, i / 2) for i in range(40)]).T)
    assert error[5:-5].max() < 0.2
    np.testing.assert_allclose(found.velocities[10:30], [[10, 5]] * 20, atol=1.0)
    np.testing.assert_allclose(found.boxes[10:30, 6], math.atan2(1, 2), atol=0.1)


def test_the_way_back_finds_what_was_unsure_at_first():
    frames = [frame((10 + index, 0, 0, 0.2 if index < 6 else 0.9)) for index in range(20)]
    (found,) = track(frames)
    assert found.frames.tolist() == list(range(20))


def test_the_way_back_joins_and_completes_what_the_way_there_lost():
    forwards = [np.array(ids) for ids in ([0], [0], [-1], [1, 2], [1, 2])]
    backwards = [np.array(ids) for ids in ([5], [5], [5], [5, 6], [5, 6])]
    assert join_tracks(forwards, backwards) == [
        {0: 0, 1: 0, 2: 0, 3: 0, 4: 0},
        {3: 1, 4: 1},
    ]
    apart = [np.array(ids) for ids in ([0, 1], [0, 1])]  # both in each frame: never one
    mixed = [np.array(ids) for ids in ([5, 6], [6, 5])]
    assert join_tracks(apart, mixed) == [{0: 0, 1: 0}, {0: 1, 1: 1}]


def test_a_gap_that_is_too_long_leaves_two():
    first = [frame((index, 0, 0, 0.9)) for index in range(10)]
    unsure = [frame() for _ in range(7)]
    rest = [frame((17 + index, 0, 0, 0.9)) for index in range(10)]
    apart = track([*first, *unsure, *rest])
    assert sorted(len(each) for each in apart) == [10, 10]


def test_two_objects_are_never_one():
    frames = [frame((index, 0, 0, 0.9), (index, 3, 0, 0.9, 1)) for index in range(10)]
    found = track(frames)
    assert sorted(each.label for each in found) == [0, 1]
    assert [len(each) for each in found] == [10, 10]


def test_a_wrong_front_is_outvoted():
    frames = [frame((10, 0, math.pi - 0.01 if index % 3 else -0.01, 0.9)) for index in range(9)]
    (found,) = track(frames)
    np.testing.assert_allclose(found.boxes[:, 6], math.pi - 0.01, atol=1e-6)


def test_an_empty_drive():
    assert track([frame(), frame()]) == []
    assert track([]) == []


def test_stamps_must_ascend():
    with pytest.raises(ValueError, match='must ascend'):
        track_drive([frame(), frame()], [5, 5], [np.eye(4)] * 2, CONFIG)


def test_smoothing_is_the_least_squares_solution():
    """Without acceleration the smoother is a straight line through all sights."""
    config = TrackingConfig(acceleration=1e-9, initial_speed=1e6)
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.uniform(0.05, 0.2, 12))
    places = np.stack([3 * times, 1 - times], 1) + rng.normal(0, 0.3, (12, 2))
    places[4] = np.nan
    positions, velocities = smooth(places, times, config)
    known = np.isfinite(places[:, 0])
    lines = np.polyfit(times[known], places[known], 1)
    np.testing.assert_allclose(velocities, np.tile(lines[0], (12, 1)), rtol=1e-4)
    np.testing.assert_allclose(positions, lines[1] + times[:, None] * lines[0], rtol=1e-4)


def test_medians_and_headings_by_hand():
    assert weighted_median(np.array([5.0, 1, 3]), np.array([1.0, 1, 1])) == 3
    assert weighted_median(np.array([5.0, 1, 3]), np.array([9.0, 1, 1])) == 5
    yaws = np.array([3.1, -3.1, 0.0])
    assert abs(common_heading(yaws, np.ones(3))) == pytest.approx(math.pi, abs=1e-6)
    assert common_heading(yaws, np.array([1.0, 1, 5])) == pytest.approx(0, abs=1e-6)
