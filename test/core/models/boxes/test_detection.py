# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From head outputs to boxes."""

from __future__ import annotations

import math

import pytest
import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.models.boxes.detection import detect_boxes
from pointdistiller_core.models.stages.anchor_head import AnchorOutput

XS = (0.0, 1.0, 20.0, 40.0)  # the first two overlap


def output_of(scores: list[list[float]], bins: list[int] | None = None) -> AnchorOutput:
    """Anchors of 4 x 2 m with the given class scores and direction bins, and no residuals."""
    anchors = torch.tensor([[x, 0.0, -1.0, 4.0, 2.0, 1.5, 0.0] for x in XS[: len(scores)]])
    directions = torch.eye(2)[torch.tensor(bins or [1] * len(scores))]
    return AnchorOutput(
        torch.tensor(scores).logit()[None],
        torch.zeros(1, len(scores), 7),
        directions[None],
        anchors,
    )


def detect(output: AnchorOutput, **config):
    (found,) = detect_boxes(output, DetectionConfig(**config), direction_offset=0.78539)
    return found


SCORES = [[0.3, 0.6], [0.5, 0.2], [0.05, 0.1], [0.01, 0.9]]


def test_score_and_label_are_those_of_the_best_class():
    found = detect(output_of(SCORES), score_threshold=0.2)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6, 0.5]))
    assert found.labels.tolist() == [1, 1, 0]
    torch.testing.assert_close(found.boxes[:, 0], torch.tensor([40.0, 0.0, 1.0]))
    assert len(found) == 3


def test_suppression_within_or_across_classes():
    assert len(detect(output_of(SCORES), score_threshold=0.2, class_wise_nms=False)) == 2
    same_class = [[0.6, 0.1], [0.5, 0.1]]
    assert len(detect(output_of(same_class), class_wise_nms=True)) == 1
    assert len(detect(output_of(same_class), nms_iou_threshold=0.7)) == 2  # their IoU is 0.6


def test_caps_keep_the_best():
    assert detect(output_of(SCORES), max_detections=1).scores.tolist() == pytest.approx([0.9])
    # the second best candidate alone would have been suppressed: it never was a candidate
    assert detect(output_of(SCORES), max_candidates=2, class_wise_nms=False).labels.tolist() == [
        1,
        1,
    ]


def test_boxes_that_are_not_finite_are_dropped():
    output = output_of(SCORES)
    output.box_residuals[0, 3, 3] = 1000.0  # exp(1000) is infinite
    found = detect(output, score_threshold=0.2)
    assert found.boxes.isfinite().all()
    torch.testing.assert_close(found.scores, torch.tensor([0.6, 0.5]))


def test_nothing_above_the_threshold():
    found = detect(output_of(SCORES), score_threshold=0.95)
    assert found.boxes.shape == (0, 7)
    assert found.scores.shape == found.labels.shape == (0,)


def test_headings_are_resolved_and_wrapped():
    # an anchor's yaw of 0 is a half turn from pi, in the first half turn from 0.785
    found = detect(output_of([[0.9], [0.8]], bins=[0, 1]), nms_iou_threshold=1.0)
    torch.testing.assert_close(found.boxes[:, 6].abs(), torch.tensor([math.pi, 0.0]))
    assert (found.boxes[:, 6] < math.pi).all()


def test_residuals_are_decoded():
    output = output_of([[0.9]])
    output.box_residuals[0, 0, 3] = math.log(2)
    assert detect(output).boxes[0, 3].item() == pytest.approx(8.0)


def test_arguments_are_left_alone():
    output = output_of(SCORES)
    parts = output.class_logits, output.box_residuals, output.direction_logits, output.anchors
    before = [part.clone() for part in parts]
    detect(output)
    assert all(torch.equal(now, then) for now, then in zip(parts, before, strict=True))


def test_frames_are_detected_apart():
    one, other = output_of(SCORES), output_of(SCORES[::-1])
    both = AnchorOutput(
        torch.cat([one.class_logits, other.class_logits]),
        one.box_residuals.repeat(2, 1, 1),
        one.direction_logits.repeat(2, 1, 1),
        one.anchors,
    )
    found = detect_boxes(both, DetectionConfig(), direction_offset=0.78539)
    for frame, alone in zip(found, (one, other), strict=True):
        assert torch.equal(frame.boxes, detect(alone).boxes)
