# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""NumPy finds the boxes that torch finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.geometry.arrays import sigmoid
from pointdistiller_core.geometry.detection import best_anchors, detect_frame


def raw_outputs(num_anchors: int) -> tuple[torch.Tensor, ...]:
    """Logits, residuals, directions and anchors, many of which overlap."""
    generator = torch.Generator().manual_seed(0)
    anchors = torch.rand(num_anchors, 7, generator=generator) * torch.tensor(
        [30.0, 30, 1, 3, 2, 1, 6]
    ) + torch.tensor([0.0, 0, 0, 1, 1, 1, -3])
    shapes = (num_anchors, 3), (num_anchors, 7), (num_anchors, 2)
    logits, residuals, directions = (torch.randn(s, generator=generator) for s in shapes)
    return logits, residuals * 0.3, directions, anchors


@pytest.mark.parametrize('num_anchors', [0, 500])
@pytest.mark.parametrize('class_wise', [True, False])
def test_arrays_and_tensors_agree(num_anchors, class_wise):
    tensors = raw_outputs(num_anchors)
    config = DetectionConfig(
        score_threshold=0.4, nms_iou_threshold=0.2, class_wise_nms=class_wise, max_candidates=300
    )
    found, expected = (
        detect_frame(*parts, anchors.__getitem__, config, direction_offset=0.78)
        for *parts, anchors in ([t.numpy() for t in tensors], tensors)
    )
    assert len(expected[0]) > 50 or not num_anchors
    np.testing.assert_allclose(found[0], expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1].numpy(), atol=1e-6)
    np.testing.assert_array_equal(found[2], expected[2].numpy())
    assert [part.dtype for part in found] == [np.float32, np.float32, np.int64]


def test_sigmoid_does_not_overflow(recwarn):
    logits = np.array([-1e4, -90, -1, 0, 2, 1e4], np.float32)
    np.testing.assert_allclose(sigmoid(logits), torch.tensor(logits).sigmoid(), atol=1e-7)
    assert sigmoid(logits).dtype == np.float32
    assert not recwarn.list


@pytest.mark.parametrize('array', [np.asarray, torch.tensor])
def test_every_class_has_its_own_threshold(array):
    scores = [[0.6, 0.1, 0.1], [0.1, 0.6, 0.1], [0.1, 0.3, 0.1], [0.1, 0.1, 0.5]]
    logits = array(np.log(np.float32(scores) / (1 - np.float32(scores))))
    config = DetectionConfig(score_threshold=0.9, score_thresholds=(0.7, 0.2, 0.5))
    found, anchors = best_anchors(logits, config)
    np.testing.assert_allclose(found, [0.6, 0.5, 0.3], rtol=1e-6)
    assert anchors.tolist() == [1, 3, 2]


def test_class_below_its_threshold_takes_no_place_of_another():
    logits = torch.tensor([[3.0, -9.0]] * 5 + [[-9.0, 1.0]])
    config = DetectionConfig(score_thresholds=(0.99, 0.1), max_candidates=1)
    _, anchors = best_anchors(logits, config)
    assert anchors.tolist() == [5]
