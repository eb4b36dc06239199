# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from pointdistiller_core.cli.export import verification_rows
from pointdistiller_core.evaluation.comparison.same_boxes import Agreement
from pointdistiller_core.pipelines.evaluate import spread_indices
from pointdistiller_core.pipelines.verify_export import ApLoss, Limits, Verification

LIMITS = Limits(min_iou=0.7, min_fraction=0.9, max_score_difference=0.05, max_ap_loss=0.5)


def verification(*, found=95, difference=0.01, losses=(), same_counts=True, num_boxes=100):
    agreement = Agreement(num_boxes, found, num_boxes, found, difference)
    return Verification(LIMITS, 3, agreement, tuple(losses), same_counts)


def test_good_enough():
    assert verification().problems == []
    assert verification(losses=[ApLoss('3d', 'Car', 1000, 70.0, 69.4)]).problems == []


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'found': 89}, 'only 89.0% of the boxes are in both'),
        ({'difference': 0.06}, 'scores differ by 0.060 on average'),
        ({'losses': [ApLoss('3d', 'Car', 1000, 70.0, 69.2)]}, '3d AP of Car falls by 0.8'),
        ({'same_counts': False}, 'points or voxels are cut off that torch keeps'),
        ({'num_boxes': 0, 'found': 0}, 'torch finds no box of score 0.3 or more in 3 clouds'),
    ],
)
def test_each_reason_to_refuse(changes, problem):
    (found,) = verification(**changes).problems
    assert found.startswith(problem)


def test_few_labels_allow_for_chance():
    few, many = (ApLoss('3d', 'Car', count, 70.0, 65.0) for count in (20, 2000))
    assert few.loss == many.loss == 5.0
    assert (few.allowed(LIMITS), many.allowed(LIMITS)) == (10.5, pytest.approx(0.6))
    assert few.can_fail(LIMITS)
    assert not ApLoss('3d', 'Car', 1, 100.0, 0.0).can_fail(LIMITS)  # 200.5 may be lost


def test_frames_are_spread():
    assert spread_indices(10, 3) == [0, 3, 6]
    assert spread_indices(3, 10) == [0, 1, 2]


def test_without_boxes_there_is_nothing_to_measure():
    losses = [ApLoss('bev', 'Car', 32, 0.0, 0.0), ApLoss('bev', 'Cyclist', 2, 9.0, 8.0)]
    rows = verification_rows(verification(num_boxes=0, found=0, losses=losses), 'onnx')
    assert [row[1] for row in rows[:4]] == ['0', '0', '-', '-']
    assert [row[2] for row in rows[4:]] == ['torch finds none of them', 'too few labels']
