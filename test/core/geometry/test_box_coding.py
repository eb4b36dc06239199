# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes as residuals, headings as bins."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest
import torch

from pointdistiller_core.geometry.box_coding import (
    decode_boxes,
    direction_bins,
    encode_boxes,
    resolve_headings,
)

OFFSET = 0.78539
BOX = torch.tensor([[4.0, 6.0, 1.0, 3.0, 4.0, 2.0, 1.0]])
ANCHOR = torch.tensor([[1.0, 2.0, 0.0, 3.0, 4.0, 2.0, 0.0]])  # diagonal of 3 x 4 m is 5 m


def test_encode_by_hand():
    expected = torch.tensor([[0.6, 0.8, 0.5, 0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(encode_boxes(BOX, ANCHOR), expected)


def test_sizes_are_log_ratios():
    box = ANCHOR * torch.tensor([1, 1, 1, 2.0, 0.5, 1.0, 1])
    expected = torch.tensor([math.log(2), -math.log(2), 0])
    torch.testing.assert_close(encode_boxes(box, ANCHOR)[0, 3:6], expected)


box_strategy = st.tuples(
    *[st.floats(-50, 50)] * 3, *[st.floats(0.1, 10)] * 3, st.floats(-math.pi, math.pi)
)


@given(box_strategy, box_strategy)
def test_decode_inverts_encode(box, anchor):
    boxes = torch.tensor([box], dtype=torch.float64)
    anchors = torch.tensor([anchor], dtype=torch.float64)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes)


def test_a_box_without_size_stays_finite():
    residuals = encode_boxes(torch.zeros(1, 7), ANCHOR)
    assert residuals.isfinite().all()


def test_arguments_are_left_alone():
    box, anchor = BOX.clone(), ANCHOR.clone()
    box[0, 3] = 0.0  # a size that has to be clamped
    before = box.clone()
    decode_boxes(encode_boxes(box, anchor), anchor)
    assert torch.equal(box, before)
    assert torch.equal(anchor, ANCHOR)


@pytest.mark.parametrize(
    ('yaw', 'bin_'),
    [(OFFSET, 0), (1.5, 0), (OFFSET + 3.14, 0), (OFFSET + 3.15, 1), (0.0, 1), (-3.0, 0)],
)
def test_direction_bins_by_hand(yaw, bin_):
    assert direction_bins(torch.tensor([yaw]), OFFSET).tolist() == [bin_]


@given(st.floats(-10, 10))
def test_a_yaw_known_up_to_half_a_turn_is_recovered(yaw):
    yaws = torch.tensor([yaw], dtype=torch.float64)
    bins = direction_bins(yaws, OFFSET)
    for turned in (yaws, yaws + math.pi):
        found = resolve_headings(turned, bins, OFFSET)
        difference = (found - yaws).remainder(2 * math.pi)
        near_edge = abs(math.remainder(yaw - OFFSET, math.pi)) < 1e-9
        assert near_edge or min(difference, 2 * math.pi - difference) < 1e-9
        assert -math.pi <= found < math.pi
