# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import AugmentationConfig, TrainingConfig
from pointdistiller_core.datasets.levelling import Levelling, describe_levelling, level
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.records import Frame, GroundTruth
from pointdistiller_core.training.data import load_batches

NOSE_DOWN = Mounting.from_angles(1.73, height=1.1, roll=0.02, pitch=0.05, yaw=0.0)
CAR = np.float32([[20, 3, -1.73 + 0.8, 4, 1.6, 1.6, 0.5]])


def build_frame(mounting=NOSE_DOWN, num_points=4000):
    """A road with a car that moves along its heading, seen by a sensor that is mounted so."""
    rng = np.random.default_rng(0)
    road = np.float32([[*rng.uniform(-20, 20, 2), -1.73, 1.0] for _ in range(num_points)])
    heading = np.float32([[2 * np.cos(0.5), 2 * np.sin(0.5)]])
    road[:, :3] = mounting.points_to_sensor(road[:, :3])
    boxes, _ = mounting.boxes_to_sensor(CAR)
    speeds = mounting.velocities_to_sensor(heading)
    truth = GroundTruth(boxes, np.zeros(1, np.int64), velocities=speeds)
    return Frame(road, '0', truth)


def test_points_and_boxes_become_those_of_a_level_sensor():
    frame = build_frame()
    assert abs(frame.ground_truth.boxes[0, 2] - CAR[0, 2]) > 0.3
    found = level(frame, 1.73)
    np.testing.assert_allclose(found.points[:, 2], -1.73, atol=1e-3)
    np.testing.assert_allclose(found.ground_truth.boxes, CAR, atol=0.02)
    speed = found.ground_truth.velocities[0]
    np.testing.assert_allclose(speed, [2 * np.cos(0.5), 2 * np.sin(0.5)], atol=0.01)
    assert level(frame, 1.0).points[:, 2].mean() == pytest.approx(-1.0, abs=1e-3)


def test_a_frame_without_ground_stays_as_it_is_and_is_counted():
    frames = [build_frame(), build_frame(num_points=20)]
    assert level(frames[1], 1.73) is frames[1]
    assert level(frames[0], None) is frames[0]
    assert describe_levelling(frames).endswith(
        '(tried on 2; in 1 there is none, and such frames stay as they are)'
    )
    assert describe_levelling(frames[:1]).endswith('(tried on 1)')


def test_the_ground_of_a_frame_is_looked_for_once(monkeypatch):
    frames = [build_frame(), build_frame(num_points=20)]
    looked = []
    found_in = Mounting.found_in
    monkeypatch.setattr(
        Mounting, 'found_in', lambda *of: (looked.append(len(of[0])), found_in(*of))[1]
    )
    levelling = Levelling(1.73)
    for _ in range(3):
        for index, frame in enumerate(frames):
            found, expected = levelling(frame, index), level(frame, 1.73)
            np.testing.assert_array_equal(found.points, expected.points)
            np.testing.assert_array_equal(found.ground_truth.boxes, expected.ground_truth.boxes)
    assert looked == [4000, 4000, 20, 20] + [4000, 20] * 2  # `level` looks each time
    assert Levelling(None)(frames[0], 0) is frames[0]


def test_batches_of_a_training_are_level():
    still = AugmentationConfig(flip_probability=0, rotation=(0, 0), scaling=(1, 1))
    training = TrainingConfig(epochs=1, batch_size=1, num_workers=0)
    frames, bare = [build_frame()], [build_frame()]
    for height in (1.73, 1.5):
        batches = load_batches(frames, still, training, unlabelled=bare, level_at=height)
        for batch in batches:
            assert batch.points[0][:, 2].numpy() == pytest.approx(-height, abs=1e-3)
            assert batch.unlabelled or batch.boxes[0][0, 2] == pytest.approx(
                0.8 - height, abs=0.02
            )
