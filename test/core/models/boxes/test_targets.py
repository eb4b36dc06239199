# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Matching of anchors with ground truth."""

from __future__ import annotations

import pytest
import torch

from pointdistiller_core.config import AnchorConfig
from pointdistiller_core.models.boxes.targets import (
    Labels,
    assign_shared_targets,
    assign_targets,
    match_anchors,
)
from pointdistiller_core.records import IGNORE_LABEL

CAR = AnchorConfig(size=(4, 2, 1.5), bottom=0, yaws=(0.0,), matched_iou=0.6, unmatched_iou=0.45)
WALKER = AnchorConfig(size=(1, 1, 2), bottom=0, yaws=(0.0,), matched_iou=0.5, unmatched_iou=0.35)


def box(x: float, y: float = 0.0, length: float = 4.0, width: float = 2.0) -> list[float]:
    return [x, y, 0.75, length, width, 1.5, 0.0]


CARS = torch.tensor([box(0.0), box(1.0), box(2.0), box(3.0), box(30.0)])


def test_match_by_hand():
    # shared lengths 3.5, 3.5, 2.5, 1.5, 0 of 4 m: IoU 0.78, 0.78, 0.45, 0.23, 0
    assert match_anchors(CARS, torch.tensor([box(0.5)]), CAR).tolist() == [0, 0, -1, -2, -2]


def test_an_anchor_belongs_to_the_box_it_overlaps_most():
    assert match_anchors(CARS[:2], torch.tensor([box(-0.2), box(1.2)]), CAR).tolist() == [0, 1]


def test_the_best_anchor_of_a_box_is_positive_however_little_it_overlaps():
    # 1 m of 4 m shared in y: IoU at most 0.33; two anchors are equally good
    found = match_anchors(CARS, torch.tensor([box(0.5, y=1.0)]), CAR)
    assert found.tolist() == [0, 0, -2, -2, -2]


def test_a_box_that_no_anchor_overlaps_forces_none():
    assert match_anchors(CARS, torch.tensor([box(15.0)]), CAR).tolist() == [-2] * 5


def test_no_boxes_make_all_anchors_negative():
    assert match_anchors(CARS, torch.zeros(0, 7), CAR).tolist() == [-2] * 5


def two_classes() -> torch.Tensor:
    """Three cells of a car's and a walker's anchor each."""
    cells = [(box(x), box(x, length=1.0, width=1.0)) for x in (0.0, 1.0, 20.0)]
    return torch.tensor([anchor for cell in cells for anchor in cell])


def assign(boxes, labels, anchors=None):
    anchors = two_classes() if anchors is None else anchors
    boxes = torch.tensor(boxes).view(-1, 7)
    return assign_targets(
        anchors, Labels(boxes, torch.tensor(labels).long()), classes=[CAR, WALKER]
    )


def test_classes_are_matched_apart():
    walker, car = box(1.0, length=1.0, width=1.0), box(0.1)
    targets = assign([walker, car], [1, 0])
    # the car's second anchor shares 3.1 of 4 m: IoU 0.63
    assert targets.labels.tolist() == [0, 2, 0, 1, 2, 2]
    assert targets.positives.tolist() == [0, 2, 3]
    torch.testing.assert_close(targets.boxes, torch.tensor([car, car, walker]))


def test_no_boxes():
    targets = assign([], [])
    assert targets.labels.tolist() == [2] * 6
    assert targets.positives.shape == (0,)
    assert targets.boxes.shape == (0, 7)


def test_anchors_on_ignored_boxes_count_neither_way():
    targets = assign([box(0.1)], [IGNORE_LABEL])
    # a walker's anchor covers an eighth of the car: it stays negative
    assert targets.labels.tolist() == [-1, 2, -1, 2, 2, 2]
    assert len(targets.boxes) == 0


def test_a_positive_anchor_stays_positive_on_an_ignored_box():
    targets = assign([box(0.0), box(0.1)], [0, IGNORE_LABEL])
    assert targets.labels.tolist() == [0, 2, 0, 2, 2, 2]
    torch.testing.assert_close(targets.boxes, torch.tensor([box(0.0)] * 2))


@pytest.mark.parametrize('labels', [[1, 0], [0, -1], [-1, -1]])
def test_arguments_are_left_alone(labels):
    anchors, boxes, labels = (
        two_classes(),
        torch.tensor([box(0.0), box(1.0)]),
        torch.tensor(labels),
    )
    before = anchors.clone(), boxes.clone(), labels.clone()
    assign_targets(anchors, Labels(boxes, labels), classes=[CAR, WALKER])
    for now, then in zip((anchors, boxes, labels), before, strict=True):
        assert torch.equal(now, then)


def assign_shared(anchors, boxes, labels, velocities=None):
    truth = Labels(
        torch.tensor(boxes).view(-1, 7),
        torch.tensor(labels).long(),
        None if velocities is None else torch.tensor(velocities),
    )
    return assign_shared_targets(anchors, truth, config=CAR, num_classes=2)


def test_shared_anchors_are_of_any_class():
    anchors = torch.tensor([box(0.0), box(20.0), box(40.0)])
    targets = assign_shared(anchors, [box(20.0), box(0.0)], [1, 0], [[1.0, 2.0], [3.0, 4.0]])
    assert targets.labels.tolist() == [0, 1, 2]
    assert targets.velocities.tolist() == [[3, 4], [1, 2]]


def test_a_shared_anchor_goes_to_the_label_that_has_no_better_one():
    """It overlaps the first label more, but is the best that the second has; the later wins."""
    anchors = torch.tensor([box(0.0), box(30.0)])
    near, far = box(0.1), box(0.8)
    assert assign_shared(anchors, [near, far], [0, 1]).labels.tolist() == [1, 2]
    assert assign_shared(anchors, [far, near], [1, 0]).labels.tolist() == [0, 2]


def test_a_label_that_no_shared_anchor_overlaps_enough_goes_without():
    anchors = torch.tensor([box(0.0), box(30.0)])
    targets = assign_shared(anchors, [box(3.5)], [0])  # an eighth of their union
    assert targets.labels.tolist() == [2, 2]
    assert len(targets.positives) == 0


def test_shared_anchors_on_ignored_boxes_count_neither_way():
    anchors = torch.tensor([box(0.0), box(30.0), box(60.0)])
    targets = assign_shared(anchors, [box(0.1), box(30.0)], [IGNORE_LABEL, 1])
    assert targets.labels.tolist() == [-1, 1, 2]
    assert assign_shared(anchors, [], []).labels.tolist() == [2, 2, 2]
