# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from pointdistiller_core.evaluation.comparison.pairs import (
    MEASURES,
    Tally,
    band_names,
    compare_cloud,
    pair_measures,
    relabel,
    relabel_truth,
)
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth

CLASSES = ('Car', 'Pedestrian')
OVERLAPS = (0.5, 0.5)


def detections(*rows):
    """Boxes of 4 x 2 x 1.5 m from (x, score, label)."""
    boxes = np.array([(x, 0, 0, 4, 2, 1.5, 0) for x, *_ in rows], np.float32).reshape(-1, 7)
    scores = np.array([row[1] for row in rows], np.float32)
    return Detections(boxes, scores, np.array([row[2] for row in rows], np.int64))


def tally_of(*clouds, distances=(20.0, 40.0)):
    tally = Tally(len(CLASSES), distances)
    for reference, found in clouds:
        tally.add(compare_cloud(reference, found, OVERLAPS))
    return tally


# Four cars of the teacher, at 10, 19, 30 and 50 m, and a pedestrian at 60 m.
TEACHER = detections((10, 0.9, 0), (19, 0.8, 0), (30, 0.7, 0), (50, 0.6, 0), (60, 0.5, 1))
# The student has the first (0.5 m off), the second (beyond 20 m), a car where the pedestrian is,
# and one where nothing is.
STUDENT = detections((10.5, 0.9, 0), (20, 0.8, 0), (60, 0.7, 0), (35, 0.6, 0))


def test_by_hand():
    numbers = tally_of((TEACHER, STUDENT)).numbers()
    assert (numbers.num_reference, numbers.num_found, numbers.num_matched) == (5, 4, 2)
    assert numbers.recall == 2 / 5
    assert numbers.precision == 2 / 4
    assert numbers.f1 == pytest.approx(4 / 9)
    # 3.5 of 4.5 m, and 3 of 5 m
    assert numbers.means['iou_bev'] == pytest.approx((3.5 / 4.5 + 3 / 5) / 2)
    assert numbers.means['iou_3d'] == pytest.approx((3.5 / 4.5 + 3 / 5) / 2)
    assert numbers.means['center_error'] == pytest.approx(0.75)
    assert numbers.means['size_error'] == numbers.means['yaw_error'] == 0
    assert numbers.num_flipped == 0


def test_by_class_and_distance():
    tally = tally_of((TEACHER, STUDENT))

    def counts(label, band):
        numbers = tally.numbers(label, band)
        return numbers.num_reference, numbers.num_found, numbers.num_matched

    # The pair of 19 and 20 m counts where the teacher's box is.
    assert [counts(0, band) for band in range(3)] == [(2, 2, 2), (1, 1, 0), (1, 1, 0)]
    assert [counts(1, band) for band in range(3)] == [(0, 0, 0), (0, 0, 0), (1, 0, 0)]
    assert counts(None, 2) == (2, 1, 0)
    values = tally.to_dict(CLASSES)
    assert list(values['distances']) == ['0-20 m', '20-40 m', '40+ m']
    assert values['classes']['Car']['distances']['0-20 m']['recall'] == 1
    assert values['classes']['Pedestrian']['recall'] == 0
    assert values['recall'] == 2 / 5
    assert {f'mean_{name}' for name in MEASURES} < set(values)


def test_another_class_is_missed_and_extra():
    agreement = compare_cloud(detections((5, 0.9, 0)), detections((5, 0.9, 1)), OVERLAPS)
    assert agreement.missed.labels.tolist() == [0]
    assert agreement.extra.labels.tolist() == [1]
    assert agreement.num_disagreements == 2


def test_one_to_one_by_score():
    twice = detections((5.2, 0.6, 0), (5, 0.9, 0))
    agreement = compare_cloud(detections((5, 0.9, 0)), twice, OVERLAPS)
    reference, found = agreement.pairs
    assert reference.boxes[:, 0].tolist() == found.boxes[:, 0].tolist() == [5]
    assert agreement.extra.scores.tolist() == pytest.approx([0.6])


def test_ignored_labels_count_neither_way():
    truth = GroundTruth(detections((5, 1, 0), (15, 1, 0)).boxes, np.array([IGNORE_LABEL, 0]))
    numbers = tally_of((truth, detections((5, 0.9, 0), (25, 0.8, 0)))).numbers()
    assert (numbers.num_reference, numbers.num_found, numbers.num_matched) == (1, 1, 0)


def test_nothing_to_divide_by():
    numbers = tally_of((detections(), detections())).numbers()
    assert math.isnan(numbers.recall)
    assert math.isnan(numbers.f1)
    assert all(math.isnan(value) for value in numbers.means.values())
    extra = tally_of((detections(), detections((5, 0.9, 0)))).numbers()
    assert math.isnan(extra.recall)
    assert extra.precision == extra.f1 == 0


@pytest.mark.parametrize(
    ('yaw', 'error', 'flipped'),
    [
        (0.3, 0.3, False),
        (-0.3, 0.3, False),
        (math.pi, 0.0, True),
        (math.pi - 0.2, 0.2, True),
        (0.2 - 2 * math.pi, 0.2, False),
    ],
)
def test_flips_are_apart_from_the_error_of_the_axis(yaw, error, flipped):
    first = np.array([[0, 0, 0, 4, 2, 1.5, 0.0]])
    second = first + np.array([0, 0, 0, 0, 0, 0, yaw])
    measures, flips = pair_measures(first, second)
    assert measures[0, MEASURES.index('yaw_error')] == pytest.approx(error, abs=1e-12)
    assert flips.tolist() == [flipped]


def test_errors_by_hand():
    first = np.array([[0, 0, 0, 4, 2, 1.0, 0.0]])
    second = np.array([[2, 0, 0.5, 4, 2.6, 1.0, 0.0]])
    measures, _ = pair_measures(first, second)
    # From above 2 x 2 of 8 + 10.4 - 4 m^2; half of the height is shared: 2 of 8 + 10.4 - 2 m^3.
    expected = [4 / 14.4, 2 / 16.4, math.hypot(2, 0.5), 0.2, 0.0]
    np.testing.assert_allclose(measures, [expected], rtol=1e-12)


def test_histograms_hold_every_pair():
    tally = tally_of((TEACHER, TEACHER), (TEACHER, STUDENT))
    from_above, in_3d = tally.iou_histograms()
    assert from_above.sum() == in_3d.sum() == tally.numbers().num_matched == 7
    assert from_above[-1] == 5  # an IoU of 1 is in the last bin
    assert tally.iou_histograms(1).sum() == 2


def test_names_of_bands():
    assert band_names((20.0, 40.0)) == ['0-20 m', '20-40 m', '40+ m']
    assert band_names(()) == ['0+ m']


def test_relabel_by_name():
    tilted = replace(detections((1, 0.9, 0), (2, 0.8, 1)), orientations=np.eye(4)[:2])
    found = relabel(tilted, ('Car', 'Van'), ('Pedestrian', 'Car'))
    assert found.labels.tolist() == [1]
    assert found.boxes[:, 0].tolist() == [1]
    assert found.orientations.tolist() == [[1, 0, 0, 0]]
    truth = GroundTruth(detections(*[(x, 1, 0) for x in range(4)]).boxes, np.array([0, 1, -1, 7]))
    relabelled = relabel_truth(truth, ('Car', 'Van'), ('Pedestrian', 'Car'))
    assert relabelled.labels.tolist() == [1, IGNORE_LABEL, IGNORE_LABEL, IGNORE_LABEL]


@st.composite
def separate_boxes(draw):
    """Boxes on a grid of 10 m, moved a little: no two of a set overlap."""
    cells = draw(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), unique=True))
    shift = st.floats(-0.5, 0.5, width=32)
    rows = [
        (
            10 * x + draw(shift),
            10 * y + draw(shift),
            0,
            4,
            2,
            1.5,
            draw(st.floats(-3, 3, width=32)),
        )
        for x, y in cells
    ]
    labels = [draw(st.integers(0, 1)) for _ in rows]
    scores = sorted((draw(st.floats(0.25, 1, width=32)) for _ in rows), reverse=True)
    return Detections(
        np.array(rows, np.float32).reshape(-1, 7),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )


@given(separate_boxes())
def test_who_agrees_with_itself_agrees_wholly(boxes):
    numbers = tally_of((boxes, boxes)).numbers()
    assert numbers.num_matched == numbers.num_reference == numbers.num_found == len(boxes)
    if len(boxes):
        assert numbers.recall == numbers.precision == numbers.f1 == 1
        assert numbers.means['iou_3d'] == pytest.approx(1)
        assert numbers.means['center_error'] == numbers.means['yaw_error'] == 0


@given(separate_boxes(), separate_boxes())
def test_exchanging_both_exchanges_recall_and_precision(first, second):
    there, back = tally_of((first, second)).numbers(), tally_of((second, first)).numbers()
    assert there.num_matched == back.num_matched
    assert there.num_reference == back.num_found
    np.testing.assert_equal((there.recall, there.f1), (back.precision, back.f1))
    np.testing.assert_allclose(list(there.means.values()), list(back.means.values()), atol=1e-6)


@given(st.lists(st.tuples(separate_boxes(), separate_boxes()), max_size=3))
def test_cells_add_up_to_the_whole(clouds):
    tally = tally_of(*clouds)
    cells = [tally.numbers(label, band) for label in range(2) for band in range(3)]
    whole = tally.numbers()
    for count in ('num_reference', 'num_found', 'num_matched', 'num_flipped'):
        assert sum(getattr(cell, count) for cell in cells) == getattr(whole, count)
    assert whole.num_reference == sum(len(reference) for reference, _ in clouds)
    assert whole.num_found == sum(len(found) for _, found in clouds)
