# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_folder import points_in
import numpy as np
import pytest

from pointdistiller_core.config import ObjectNoiseConfig
from pointdistiller_core.datasets.object_noise import move_objects
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.records import Frame, GroundTruth


class Scripted:
    """Gives these shifts and turns, of every box and try, instead of random ones."""

    def __init__(self, shifts, turns):
        self.shifts, self.turns = np.array(shifts, float), np.array(turns, float)

    def normal(self, *, scale, size):
        assert self.shifts.shape == size
        return self.shifts * scale

    def uniform(self, low, high, size):
        assert self.turns.shape == size
        return np.clip(self.turns, low, high)


def frame_of(points, boxes) -> Frame:
    boxes = np.array(boxes, np.float32).reshape(-1, 7)
    truth = GroundTruth(boxes, np.arange(len(boxes)) - 1)
    return Frame(np.array(points, np.float32).reshape(-1, 4), 'a', truth, stamp_ns=7)


def noise(num_tries=1, translation=(1, 1, 1), rotation=(-7, 7)) -> ObjectNoiseConfig:
    return ObjectNoiseConfig(translation=translation, rotation=rotation, num_tries=num_tries)


def test_a_quarter_turn_by_hand():
    frame = frame_of([[11, 5, 0, 0.5], [20, 5, 0, 0.6]], [[10, 5, 0, 4, 2, 2, 3.0]])
    moved = move_objects(frame, noise(), Scripted([[[1, 2, 0.5]]], [[math.pi / 2]]))
    # One metre before the center along x; after a quarter turn one metre to the left of it.
    np.testing.assert_allclose(
        moved.points, [[11, 8, 0.5, 0.5], [20, 5, 0, 0.6]], rtol=0, atol=1e-6
    )
    box = [11, 7, 0.5, 4, 2, 2, 3.0 + math.pi / 2 - 2 * math.pi]
    np.testing.assert_allclose(moved.ground_truth.boxes, [box], rtol=0, atol=1e-6)
    assert moved.ground_truth.labels.tolist() == [-1]


def test_a_velocity_turns_with_its_box():
    frame = frame_of([], [[10, 5, 0, 4, 2, 2, 0]])
    truth = replace(frame.ground_truth, velocities=np.float32([[3, 1]]))
    turn = Scripted([[[0, 0, 0]]], [[math.pi / 2]])
    moved = move_objects(replace(frame, ground_truth=truth), noise(), turn)
    np.testing.assert_allclose(moved.ground_truth.velocities, [[-1, 3]], rtol=0, atol=1e-6)


def test_the_first_try_that_is_free_counts():
    boxes = [[0, 0, 0, 4, 2, 2, 0], [10, 0, 0, 4, 2, 2, 0]]
    shifts = [[[9, 0, 0], [7, 0, 0], [3, 0, 0], [2, 0, 0]], [[0, 0, 0]] * 4]
    moved = move_objects(frame_of([], boxes), noise(4), Scripted(shifts, np.zeros((2, 4))))
    assert moved.ground_truth.boxes[:, 0].tolist() == [3, 10]


def test_boxes_make_way_one_after_the_other():
    boxes = [[0, 0, 0, 4, 2, 2, 0], [10, 0, 0, 4, 2, 2, 0]]
    shifts = [[[0, 20, 0]], [[-10, 0, 0]]]  # the second one takes the place of the first
    moved = move_objects(frame_of([], boxes), noise(), Scripted(shifts, np.zeros((2, 1))))
    assert moved.ground_truth.boxes[:, :2].tolist() == [[0, 20], [0, 0]]


def test_without_a_free_place_everything_stays():
    boxes = [[0, 0, 0, 4, 2, 2, 0.5], [10, 0, 0, 40, 40, 2, 0]]
    frame = frame_of([[0, 0, 0, 1]], boxes)
    shifts = [[[3, 0, 0]], [[1, 0, 0]]]
    moved = move_objects(frame, noise(), Scripted(shifts, np.zeros((2, 1))))
    np.testing.assert_array_equal(moved.points, frame.points)
    np.testing.assert_array_equal(moved.ground_truth.boxes, frame.ground_truth.boxes)


def test_a_point_in_two_boxes_goes_with_the_first():
    boxes = [[0, 0, 0, 4, 2, 2, 0], [2, 0, 0, 4, 2, 2, 0]]
    frame = frame_of([[1, 0, 0, 1]], boxes)
    shifts = [[[0, 10, 0]], [[0, -10, 0]]]
    moved = move_objects(frame, noise(), Scripted(shifts, np.zeros((2, 1))))
    assert moved.points.tolist() == [[1, 10, 0, 1]]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 6))
def test_points_stay_in_their_boxes(seed, count):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform((-3, -4, -3, 0.5, 0.5, 0.5, -3.1), (3, 4, 1, 6, 3, 3, 3.1), (count, 7))
    boxes[:, 0] += 12 * np.arange(count)  # apart from one another
    objects = points_in(boxes, 10, rng).reshape(-1, 4)
    frame = frame_of(np.concatenate([objects, [[500, 0, 0, 0]]]), boxes)
    before = frame.points.copy(), frame.ground_truth.boxes.copy()

    moved = move_objects(frame, ObjectNoiseConfig(), np.random.default_rng(seed))

    own = np.arange(count).repeat(10)
    inside = points_in_boxes(moved.points, moved.ground_truth.boxes)
    assert inside[np.arange(len(own)), own].all()
    np.testing.assert_array_equal(moved.points[:, 3], frame.points[:, 3])
    np.testing.assert_array_equal(moved.points[-1], frame.points[-1])
    np.testing.assert_array_equal(moved.ground_truth.boxes[:, 3:6], before[1][:, 3:6])
    np.testing.assert_array_equal(moved.ground_truth.labels, frame.ground_truth.labels)
    assert (np.abs(moved.ground_truth.boxes[:, 6]) <= np.float32(math.pi)).all()
    overlaps = rotated_iou_bev(moved.ground_truth.boxes, moved.ground_truth.boxes)
    assert (overlaps[~np.eye(count, dtype=bool)] == 0).all()
    again = move_objects(frame, ObjectNoiseConfig(), np.random.default_rng(seed))
    np.testing.assert_array_equal(again.points, moved.points)
    np.testing.assert_array_equal(frame.points, before[0])
    np.testing.assert_array_equal(frame.ground_truth.boxes, before[1])


@pytest.mark.parametrize(
    ('change', 'column'),
    [({'translation': (0, 0, 2)}, 2), ({'translation': (2, 0, 0)}, 0), ({'rotation': (1, 2)}, 6)],
)
def test_every_setting_is_used(change, column):
    still = ObjectNoiseConfig(translation=(0, 0, 0), rotation=(0, 0))
    frame = frame_of([], [[10, 5, 0, 4, 2, 2, 0]])
    moved = move_objects(frame, still.model_copy(update=change), np.random.default_rng(0))
    changed = moved.ground_truth.boxes[0] != frame.ground_truth.boxes[0]
    assert np.flatnonzero(changed).tolist() == [column]


def test_types_and_names_are_kept():
    frame = frame_of([[10, 5, 0, 1]], [[10, 5, 0, 4, 2, 2, 0]])
    moved = move_objects(frame, ObjectNoiseConfig(), np.random.default_rng(0))
    assert (moved.points.dtype, moved.ground_truth.boxes.dtype) == (np.float32, np.float32)
    assert (moved.frame_id, moved.stamp_ns) == ('a', 7)


def test_frames_without_labels_or_boxes_stay_as_they_are():
    for frame in (Frame(np.zeros((3, 4), np.float32)), frame_of([[1, 2, 3, 4]], [])):
        assert move_objects(frame, ObjectNoiseConfig(), np.random.default_rng(0)) is frame
