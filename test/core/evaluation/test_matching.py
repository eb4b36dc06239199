# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from pointdistiller_core.evaluation.matching import match_detections
from pointdistiller_core.geometry.iou import rotated_iou_3d
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth


def box(x: float, length: float = 4.0) -> list[float]:
    return [x, 0.0, 0.0, length, 2.0, 1.5, 0.0]


def truth_at(*xs: float, labels: list[int] | None = None) -> GroundTruth:
    boxes = np.array([box(x) for x in xs], np.float32).reshape(-1, 7)
    return GroundTruth(boxes, np.array(labels or [0] * len(xs), np.int64))


def detections_at(*xs: float, scores: list[float], labels: list[int] | None = None) -> Detections:
    boxes = np.array([box(x) for x in xs], np.float32).reshape(-1, 7)
    return Detections(boxes, np.array(scores, np.float32), np.array(labels or [0] * len(xs)))


def test_found_false_and_missed():
    # 1 m apart, boxes of 4 m share 3 m: IoU 3 / 5
    matches = match_detections(
        detections_at(1.0, 30.0, scores=[0.9, 0.8]), truth_at(0.0, 20.0), [0.6]
    )
    assert matches.truth_index.tolist() == [0, -1]
    assert matches.true_positives.tolist() == [True, False]
    assert matches.false_positives.tolist() == [False, True]
    assert matches.missed.tolist() == [False, True]


def test_the_higher_score_takes_the_box_even_if_it_overlaps_less():
    matches = match_detections(detections_at(0.0, 1.0, scores=[0.5, 0.9]), truth_at(0.0), [0.5])
    assert matches.truth_index.tolist() == [-1, 0]
    assert matches.false_positives.tolist() == [True, False]


def test_the_best_free_box_is_taken():
    matches = match_detections(
        detections_at(0.9, 0.9, scores=[0.9, 0.8]), truth_at(0.0, 1.0), [0.5]
    )
    assert matches.truth_index.tolist() == [1, 0]


def test_each_class_has_its_threshold_and_its_boxes():
    detections = detections_at(1.0, 1.0, 1.0, scores=[0.9, 0.8, 0.7], labels=[0, 1, 2])
    matches = match_detections(detections, truth_at(0.0, 0.0, labels=[0, 1]), [0.7, 0.5, 0.5])
    assert matches.truth_index.tolist() == [-1, 1, -1]
    assert matches.missed.tolist() == [True, False]


def test_ignored_truth_counts_neither_way():
    truth = truth_at(0.0, 20.0, labels=[IGNORE_LABEL, 0])
    matches = match_detections(detections_at(0.0, 20.0, scores=[0.9, 0.8]), truth, [0.5])
    assert matches.truth_index.tolist() == [-1, 1]
    assert matches.ignored.tolist() == [True, False]
    assert not matches.false_positives.any()
    assert not matches.missed.any()


def test_what_shares_nothing_matches_and_excuses_nothing_at_a_threshold_of_0():
    truth = truth_at(0.0, 20.0, labels=[IGNORE_LABEL, 0])
    matches = match_detections(detections_at(3.0, 60.0, scores=[0.9, 0.8]), truth, [0.0])
    assert matches.ignored.tolist() == [True, False]
    assert matches.false_positives.tolist() == [False, True]


def test_another_overlap_can_decide():
    found, truth = detections_at(0.0, scores=[0.9]), truth_at(0.0)
    found.boxes[:, 2] = 0.75  # half of the height: 1 / 3 in 3D
    assert match_detections(found, truth, [0.5]).true_positives.all()
    for least, hit in ((0.3, True), (0.5, False)):
        matches = match_detections(found, truth, [least], overlap=rotated_iou_3d)
        assert matches.true_positives.tolist() == [hit]


@pytest.mark.parametrize(
    ('detections', 'truth'),
    [
        (Detections.empty(), GroundTruth.empty()),
        (Detections.empty(), truth_at(0.0)),
        (detections_at(0.0, scores=[0.5]), GroundTruth.empty()),
    ],
)
def test_nothing_to_match(detections, truth):
    matches = match_detections(detections, truth, [0.5])
    assert matches.false_positives.tolist() == [True] * len(detections)
    assert matches.missed.tolist() == [True] * len(truth)


def test_a_label_without_a_threshold_is_named():
    with pytest.raises(ValueError, match='label 2 has no IoU threshold; 1 are given'):
        match_detections(detections_at(0.0, scores=[0.5], labels=[2]), truth_at(0.0), [0.5])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 30), min_size=1, max_size=8),
    st.lists(st.floats(0, 30), max_size=8),
)
def test_no_box_is_found_twice_and_all_are_accounted_for(found, labelled):
    detections = detections_at(*found, scores=list(np.linspace(0.9, 0.1, len(found))))
    truth = truth_at(*labelled)
    boxes = detections.boxes.copy()
    matches = match_detections(detections, truth, [0.5])
    taken = matches.truth_index[matches.true_positives].tolist()
    assert len(set(taken)) == len(taken)
    assert len(taken) + matches.missed.sum() == len(truth)
    assert (detections.boxes == boxes).all()
