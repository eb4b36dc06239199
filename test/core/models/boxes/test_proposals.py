# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Codes, draws and targets of proposals; OpenPCDet's numbers are in test_pointrcnn_parity.py."""

from __future__ import annotations

import math

import pytest
import torch

from pointdistiller_core.config import ProposalTargetConfig
from pointdistiller_core.models.boxes.pointrcnn_losses import corner_loss
from pointdistiller_core.models.boxes.proposals import (
    Proposals,
    assign_points,
    decode_point_boxes,
    decode_refined,
    draw_proposals,
    encode_point_boxes,
    encode_refined,
    sample_proposals,
)
from pointdistiller_core.records import IGNORE_LABEL

CONFIG = ProposalTargetConfig(num_proposals=20)
GENERATOR = torch.Generator().manual_seed(0)
BOX = torch.tensor([[5.0, 3, -1, 4, 1.5, 1.6, 0.4]])


def boxes(count: int):
    values = torch.rand(count, 7, generator=GENERATOR)
    return values * torch.tensor([20.0, 20, 2, 4, 2, 2, 6]) + torch.tensor([0, 0, -1, 1, 1, 1, -3])


def test_codes_of_points_are_inverted():
    truth, points = boxes(9), torch.rand(9, 3)
    sizes = torch.tensor([3.9, 1.6, 1.56]).expand(9, 3)
    decoded = decode_point_boxes(encode_point_boxes(truth, points, sizes), points, sizes)
    torch.testing.assert_close(decoded[:, :6], truth[:, :6])
    assert (decoded[:, 6] - truth[:, 6]).sin().abs().max() < 1e-5


def test_code_of_a_point_by_hand():
    sizes = torch.tensor([[4.0, 3, 2]])  # diagonal of 5 m
    box = torch.tensor([[10.0, 5, 1, 4, 3, 2 * math.e, math.pi / 2]])
    codes = encode_point_boxes(box, torch.zeros(1, 3), sizes)
    expected = torch.tensor([[2, 1, 0.5, 0, 0, 1, 0, 1]])
    torch.testing.assert_close(codes, expected)


def test_refined_boxes_are_inverted_up_to_half_a_turn():
    proposals = boxes(50)
    near = proposals + 0.3 * torch.rand(50, 7, generator=GENERATOR)
    torch.testing.assert_close(
        decode_refined(encode_refined(near, proposals), proposals)[:, :6], near[:, :6]
    )
    turned = near + torch.tensor([0, 0, 0, 0, 0, 0, math.pi])
    torch.testing.assert_close(
        encode_refined(turned, proposals), encode_refined(near, proposals), atol=1e-5, rtol=0
    )


def test_points_inside_near_and_ignored():
    truth = torch.tensor([[0.0, 0, 0, 4, 2, 2, 0], [0, 0, 0, 8, 2, 2, 0], [20, 0, 0, 2, 2, 2, 0]])
    labels = torch.tensor([1, 0, IGNORE_LABEL])
    points = torch.tensor([[1.0, 0, 0], [3, 0, 0], [4.05, 0, 0], [4.2, 0, 0], [20, 0, 0]])
    found = assign_points(points, truth, labels, num_classes=2, margin=0.2)
    assert found.labels.tolist() == [1, 0, IGNORE_LABEL, 2, IGNORE_LABEL]
    assert found.positives.tolist() == [0, 1]
    assert torch.equal(found.boxes, truth[:2])


@pytest.mark.parametrize(
    ('foreground', 'hard', 'easy', 'expected'),
    [
        (30, 30, 30, (10, 8, 2)),
        (3, 30, 30, (3, 13, 4)),
        (3, 2, 30, (3, 2, 15)),
        (0, 30, 0, (0, 20, 0)),
        (4, 0, 1, (4, 0, 16)),
        (4, 0, 0, (20, 0, 0)),
        (0, 0, 0, (0, 0, 0)),
    ],
)
def test_shares_of_the_draw(foreground, hard, easy, expected):
    overlaps = torch.tensor([0.7] * foreground + [0.3] * hard + [0.05] * easy)
    drawn = overlaps[draw_proposals(overlaps, CONFIG, GENERATOR)]
    counts = [int((drawn == value).sum()) for value in torch.tensor([0.7, 0.3, 0.05])]
    assert tuple(counts) == expected


def test_foreground_is_drawn_once_and_the_same_by_the_same_seed():
    overlaps = torch.full((12,), 0.7)
    overlaps[9:] = 0.0
    draws = [draw_proposals(overlaps, CONFIG, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)
    assert sorted(draws[0][:9].tolist()) == list(range(9))


def test_only_boxes_of_its_class_are_for_a_proposal():
    proposals = Proposals(BOX.repeat(4, 1), torch.tensor([0, 1, 0, 1]))
    config = ProposalTargetConfig(num_proposals=8)
    found = sample_proposals(proposals, BOX, torch.tensor([1]), config, generator=GENERATOR)
    assert found.targets is not None
    assert torch.equal(found.targets.labels, found.labels)
    assert torch.equal(found.targets.learned, found.labels == 1)


def test_a_proposal_on_what_is_ignored_teaches_nothing():
    proposals = Proposals(torch.cat([BOX, BOX + 50]), torch.tensor([0, 0]))
    ignored = torch.tensor([IGNORE_LABEL])
    found = sample_proposals(proposals, BOX, ignored, CONFIG, generator=GENERATOR)
    assert found.targets is not None
    on_it = (found.boxes == BOX).all(dim=1)
    assert on_it.any()
    assert torch.equal(found.targets.labels == IGNORE_LABEL, on_it)
    assert not found.targets.learned.any()


def test_without_labels_all_are_background():
    proposals = Proposals(boxes(5), torch.zeros(5, dtype=torch.int64))
    none = torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64)
    found = sample_proposals(proposals, *none, CONFIG, generator=GENERATOR)
    assert found.targets is not None
    assert (found.targets.labels == 0).all()
    assert len(found) == 20


def test_corners_by_hand():
    moved = BOX + torch.tensor([0.5, 0, 0, 0, 0, 0, 0])
    assert corner_loss(BOX, BOX) == 0
    torch.testing.assert_close(corner_loss(moved, BOX), torch.tensor(0.125))
    half_a_turn = BOX + torch.tensor([0, 0, 0, 0, 0, 0, math.pi])
    assert corner_loss(half_a_turn, BOX) < 1e-6
    far = BOX + torch.tensor([0, 0, 3.0, 0, 0, 0, 0])
    torch.testing.assert_close(corner_loss(far, BOX), torch.tensor(2.5))
