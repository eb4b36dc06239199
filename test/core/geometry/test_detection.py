# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""NumPy finds the boxes that torch finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
from pointdistiller_core.geometry.arrays import library_of, sigmoid
from pointdistiller_core.geometry.box_coding import encode_boxes
from pointdistiller_core.geometry.detection import (
    RawOutputs,
    best_anchors,
    box_limits,
    detect_frame,
)


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
        detect_frame(RawOutputs(*parts), anchors.__getitem__, config, direction_offset=0.78)
        for *parts, anchors in ([t.numpy() for t in tensors], tensors)
    )
    assert len(expected[0]) > 50 or not num_anchors
    np.testing.assert_allclose(found[0], expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1].numpy(), atol=1e-6)
    np.testing.assert_array_equal(found[2], expected[2].numpy())
    assert [part.dtype for part in found[:3]] == [np.float32, np.float32, np.int64]


def plain_best_anchors(logits, config):
    """The definition: every score, all of them sorted."""
    scores = sigmoid(library_of(logits).amax(logits, 1))
    above = np.flatnonzero(scores >= config.score_threshold)
    scores = np.asarray(scores)
    best = above[np.argsort(-scores[above], kind='stable')][: config.max_candidates]
    return scores[best], best


@given(
    seed=st.integers(0, 2**32 - 1),
    threshold=st.sampled_from([0.0, 1e-7, 1e-6, 0.1, 0.5, 0.75, 1 - 1e-6, 1.0]),
    spread=st.sampled_from([0.0, 1e-6, 1.0, 30.0, 1e4]),
    max_candidates=st.sampled_from([1, 20, 1000]),
    num_anchors=st.integers(0, 100),
)
def test_best_anchors_are_those_of_the_definition(
    seed, threshold, spread, max_candidates, num_anchors
):
    rng = np.random.default_rng(seed)
    limit = np.log(threshold / (1 - threshold)) if 0 < threshold < 1 else 0
    logits = limit + spread * rng.standard_normal((num_anchors, 3))
    logits[::3] = logits[:1]  # equal scores
    logits[rng.random(logits.shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
    logits = logits.astype(np.float32)
    config = DetectionConfig(score_threshold=threshold, max_candidates=max_candidates)
    for found, expected in zip(
        best_anchors(logits, config), plain_best_anchors(logits, config), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    # torch treats the rest of a vector otherwise: the last bit of a score depends on its place,
    # and so does which of two equal anchors comes first, or which ones at the threshold pass
    if spread < 1:
        return
    scores, anchors = best_anchors(torch.from_numpy(logits), config)
    expected_scores, expected_anchors = plain_best_anchors(torch.from_numpy(logits), config)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)
    np.testing.assert_allclose(
        logits.max(1)[anchors.numpy()], logits.max(1)[np.asarray(expected_anchors)], rtol=1e-5
    )


def test_sigmoid_does_not_overflow(recwarn):
    logits = np.array([-1e4, -90, -1, 0, 2, 1e4], np.float32)
    np.testing.assert_allclose(sigmoid(logits), torch.tensor(logits).sigmoid(), atol=1e-7)
    assert sigmoid(logits).dtype == np.float32
    assert not recwarn.list


def test_limits_of_boxes_by_hand():
    config = PointPillarsConfig(class_names=('Cyclist', 'Car'))
    assert box_limits(config, config.detection) is None
    bounds = ((1, 0.5, 1), (2, 1, 2)), ((3, 1, 1), (6, 2, 2))
    limits = box_limits(config, DetectionConfig(size_bounds=bounds))
    reach = np.hypot(3.9, 1.6)
    np.testing.assert_allclose(
        limits[1],
        [
            [-reach, -39.68 - reach, -3 - 1.56, 3, 1, 1],
            [69.12 + reach, 39.68 + reach, 1 + 1.56, 6, 2, 2],
        ],
        rtol=1e-6,
    )
    assert limits[0, :, 3:].tolist() == [[1, 0.5, 1], [2, 1, 2]]
    own = config.model_copy(update={'detection': DetectionConfig(size_bounds=bounds)})
    np.testing.assert_array_equal(box_limits(own, DetectionConfig()), limits)


def test_bounds_of_other_classes():
    with pytest.raises(ValueError, match='1 size_bounds for 3 classes'):
        PointPillarsConfig(detection={'size_bounds': [[[1, 1, 1], [2, 2, 2]]]})
    with pytest.raises(ValueError, match='give the least size first'):
        DetectionConfig(size_bounds=(((1, 3, 1), (2, 2, 2)),))


@pytest.mark.parametrize('array', [np.asarray, torch.tensor])
def test_impossible_boxes_are_refused_and_counted(array):
    """Only the box that is possible, and none that a better impossible one overlaps, is lost."""
    limits = np.float32([[[0, 0, 0, 1, 1, 1], [9, 9, 9, 2, 2, 2]], [[0] * 6, [99] * 6]])
    boxes = np.float32(
        [
            [5, 5, 5, 1.5, 1.5, 1.5, 0],  # possible
            [5, 5, 5, 3, 1.5, 1.5, 0],  # long
            [5, 5, 5, 1.5, 0.9, 1.5, 0],  # narrow
            [9.1, 5, 5, 1.5, 1.5, 1.5, 0],  # out
            [5, -0.1, 5, 1.5, 1.5, 1.5, 0],
            [50, 50, 50, 50, 50, 50, 0],  # of the other class, which may be so large
            [5, 5, 5, np.inf, 1.5, 1.5, 0],
        ]
    )
    anchors = np.ones_like(boxes)
    residuals = encode_boxes(boxes, anchors)
    logits = np.float32([[1, -9], [2, -9], [2, -9], [2, -9], [2, -9], [-9, 1], [2, -9]])
    directions = np.float32([[0, 1]] * 7)
    parts = (array(part) for part in (logits, residuals, directions))
    *found, num_refused, _ = detect_frame(
        RawOutputs(*parts),
        array(anchors).__getitem__,
        DetectionConfig(),
        direction_offset=0.0,
        limits=array(limits),
    )
    np.testing.assert_allclose(np.asarray(found[0])[:, :6], boxes[[0, 5], :6], rtol=1e-6)
    assert found[2].tolist() == [0, 1]
    assert num_refused == 5


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


@pytest.mark.parametrize('array', [np.asarray, torch.tensor])
def test_each_map_has_its_best_anchors(array):
    logits = array(np.float32([[5], [4], [3], [1], [2], [-9]]))
    config = DetectionConfig(score_threshold=0.5, max_candidates=1)
    assert best_anchors(logits, config)[1].tolist() == [0]
    assert best_anchors(logits, config, (3, 3))[1].tolist() == [0, 4]
    assert best_anchors(logits, config, (0, 5, 1))[1].tolist() == [0]


@pytest.mark.parametrize('array', [np.asarray, torch.tensor])
def test_a_box_may_be_of_every_class_that_passes(array):
    boxes = np.float32([[0, 0, 0, 4, 2, 2, 0], [20, 0, 0, 4, 2, 2, 0]])
    scores = np.float32([[0.9, 0.6, 0.1], [0.2, 0.3, 0.7]])
    raw = RawOutputs(
        array(np.log(scores / (1 - scores))),
        array(encode_boxes(boxes, np.ones_like(boxes))),
        array(np.float32([[0, 1]] * 2)),
        array(np.float32([[1, 2], [3, 4]])),
    )
    anchors = array(np.ones_like(boxes))

    def detect(**changes):
        config = DetectionConfig(score_threshold=0.25, labels_per_box='all', **changes)
        return detect_frame(raw, anchors.__getitem__, config, direction_offset=0.0)

    found = detect()
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.6, 0.3], rtol=1e-6)
    assert found.labels.tolist() == [0, 2, 1, 1]
    assert found.velocities.tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]
    own = detect(score_thresholds=(0.95, 0.5, 0.5))
    assert own.labels.tolist() == [2, 1]
    assert own.velocities.tolist() == [[3, 4], [1, 2]]
