# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A box is the mean of its voters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.geometry.detection import choose_boxes
from pointdistiller_core.geometry.voting import vote_boxes

CAR = np.float32([10, 0, -1, 4, 2, 1.5, 0])


def car(**changes: float) -> np.ndarray:
    """A car in which some values differ."""
    names = ('x', 'y', 'z', 'dx', 'dy', 'dz', 'yaw')
    return np.float32([changes.get(name, value) for name, value in zip(names, CAR, strict=True)])


def vote(kept, voters, labels, scores, least_iou=0.5):
    """The kept boxes, which are of class 0, after the vote."""
    arrays = np.stack(kept), np.zeros(len(kept), int), np.stack(voters), np.array(labels)
    scores = np.float32(scores)
    found = vote_boxes(arrays[:2], (*arrays[2:], scores), least_iou)
    boxes, own, others, theirs = map(torch.from_numpy, arrays)
    tensors = vote_boxes((boxes, own), (others, theirs, torch.from_numpy(scores)), least_iou)
    np.testing.assert_allclose(found, tensors.numpy(), atol=1e-6)
    assert found.dtype == np.float32
    return found


def test_the_mean_is_weighted_by_scores():
    voters = [CAR, car(x=10.4, y=0.2, z=-1.2, dx=4.4, dz=1.3, yaw=0.2)]
    (found,) = vote([CAR], voters, [0, 0], [0.9, 0.3])
    expected = 0.75 * voters[0] + 0.25 * voters[1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_others_do_not_vote():
    voters = [CAR, car(x=10.4), car(x=13.5), car(x=30)]  # of another class, too far off, elsewhere
    (found,) = vote([CAR], voters, [0, 1, 0, 0], [0.9, 0.9, 0.9, 0.9])
    np.testing.assert_allclose(found, CAR, atol=1e-6)


@pytest.mark.parametrize('half_turns', [-1, 0, 1])
@pytest.mark.parametrize('yaw', [0.0, 1.5, 3.1, -3.1])
def test_no_minority_turns_a_heading_around(half_turns, yaw):
    kept, other = car(yaw=yaw), car(yaw=yaw + 0.1 + half_turns * math.pi)
    (found,) = vote([kept], [kept, other], [0, 0], [0.5, 0.5])
    difference = (found[6] - yaw - 0.05 + math.pi) % (2 * math.pi) - math.pi
    assert difference == pytest.approx(0, abs=1e-5)
    assert -math.pi <= found[6] < math.pi


@pytest.mark.parametrize('yaw', [0.0, 1.5, 3.1, -3.1])
@pytest.mark.parametrize(('score', 'turned'), [(0.5, False), (0.7, True)])
def test_most_voters_decide_which_end_is_the_front(yaw, score, turned):
    voters = [car(yaw=yaw), car(yaw=yaw + math.pi), car(yaw=yaw + math.pi)]
    (found,) = vote([voters[0]], voters, [0, 0, 0], [1.0, score / 2, score])
    assert math.cos(found[6] - yaw) == pytest.approx(-1 if turned else 1)
    np.testing.assert_allclose(found[:6], CAR[:6], atol=1e-5)


def test_without_votes_a_box_stays():
    (found,) = vote([CAR], [CAR, car(x=10.4)], [0, 0], [0.0, 0.0])
    np.testing.assert_array_equal(found, CAR)
    assert vote([CAR][:1], [CAR], [0], [0.5], least_iou=1.0) == pytest.approx(CAR[None])


def test_candidates_that_are_refused_do_not_vote():
    boxes = np.stack([CAR, car(x=10.4), car(x=10.2, dz=9), car(x=np.inf)])
    scores, labels = np.float32([0.9, 0.9, 0.8, 0.7]), np.zeros(4, int)
    limits = np.float32([[[-99, -99, -9, 1, 1, 1], [99, 99, 9, 9, 9, 4]]])
    for iou, x in ((None, 10.0), (0.5, 10.2)):
        config = DetectionConfig(voting_iou=iou)
        chosen, kept, refused = choose_boxes(boxes, scores, labels, config, limits=limits)
        assert (kept.tolist(), refused) == ([0], 2)
        np.testing.assert_allclose(chosen, [car(x=x)], atol=1e-5)
