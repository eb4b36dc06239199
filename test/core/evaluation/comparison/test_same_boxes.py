# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.evaluation.comparison.same_boxes import compare_detections
from pointdistiller_core.records import Detections


def detections(*rows):
    """Boxes of 4 x 2 m from (x, score, label)."""
    boxes = np.array([(x, 0, 0, 4, 2, 1.5, 0) for x, *_ in rows], np.float32).reshape(-1, 7)
    scores = np.array([row[1] for row in rows], np.float32)
    return Detections(boxes, scores, np.array([row[2] for row in rows], np.int64))


def test_by_hand():
    first = detections((0, 0.9, 0), (10, 0.8, 0), (20, 0.4, 1), (30, 0.2, 0))
    second = detections((0.1, 0.7, 0), (20, 0.6, 0), (40, 0.5, 0), (50, 0.1, 0))
    found = compare_detections([first], [second], min_iou=0.7)
    # one of three that count is there; of the other's three one is
    assert (found.num_boxes, found.num_found) == (3, 1)
    assert (found.num_other_boxes, found.num_other_found) == (3, 1)
    assert found.fraction == pytest.approx(1 / 3)
    assert found.mean_score_difference == pytest.approx(0.2)


def test_the_overlap_must_be_exceeded():
    # 0.5 m apart: 3.5 of 4.5 m
    pair = [detections((0, 0.9, 0))], [detections((0.5, 0.9, 0))]
    assert compare_detections(*pair, min_iou=0.77).fraction == 1
    assert compare_detections(*pair, min_iou=0.78).fraction == 0


def test_a_box_that_falls_below_the_score_is_still_the_same_box():
    pair = [detections((0, 0.31, 0))], [detections((0, 0.29, 0))]
    assert compare_detections(*pair, min_iou=0.9).fraction == 1
    assert compare_detections(*pair[::-1], min_iou=0.9).num_boxes == 0


def test_nothing_found():
    none = detections()
    assert compare_detections([none], [none], min_iou=0.5).fraction == 1
    one = detections((0, 0.9, 0))
    assert compare_detections([one], [none], min_iou=0.5).fraction == 0
    assert compare_detections([none], [one], min_iou=0.5).fraction == 0


def test_clouds_are_compared_one_by_one():
    one, none = detections((0, 0.9, 0)), detections()
    assert compare_detections([one, none], [none, one], min_iou=0.5).fraction == 0
