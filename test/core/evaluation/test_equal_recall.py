# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.evaluation.equal_recall import (
    ALL_CLASSES,
    RECALLS,
    compare_at_equal_recall,
)
from pointdistiller_core.evaluation.kitti.metric import count_false_positives
from pointdistiller_core.formats.kitti import KittiObjects


def objects(*rows: tuple[str, float, float | None]) -> KittiObjects:
    """Objects of a class, 30 m apart, with a score; labels have none."""
    names, places, scores = zip(*rows, strict=True) if rows else ((), (), ())
    size = len(rows)
    locations = np.array([(30.0 * place, 1.5, 20.0) for place in places]).reshape(-1, 3)
    return KittiObjects(
        names=np.array(names, dtype=str),
        truncated=np.zeros(size),
        occluded=np.zeros(size, np.int64),
        alpha=np.zeros(size),
        boxes_2d=np.tile((100.0, 100.0, 200.0, 150.0), (size, 1)),
        dimensions=np.tile((1.5, 1.6, 4.0), (size, 1)),
        locations=locations,
        rotation_y=np.zeros(size),
        scores=None if None in scores else np.array(scores, float),
    )


TRUTH = [objects(('Car', 0, None), ('Car', 1, None)), objects(('Cyclist', 0, None))]
# Finds everything, with one alarm before the second car.
GOOD = [objects(('Car', 0, 0.9), ('Car', 1, 0.5), ('Car', 5, 0.7)), objects(('Cyclist', 0, 0.9))]
# Finds one car, after two alarms, and the cyclist after one.
BAD = [
    objects(('Car', 0, 0.6), ('Car', 5, 0.8), ('Car', 6, 0.7)),
    objects(('Cyclist', 0, 0.3), ('Cyclist', 5, 0.4)),
]
CLASSES = ['Car', 'Cyclist', 'Pedestrian']


def compare(**detections):
    alarms = {
        name: count_false_positives(TRUTH, found, CLASSES, recalls=RECALLS)
        for name, found in detections.items()
    }
    return compare_at_equal_recall(alarms, len(TRUTH))


def test_false_positives_per_frame_at_recalls_that_both_reach():
    rows = compare(good=GOOD, bad=BAD)
    assert [row.recall for row in rows['Car']] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert rows['Car'][-1].false_positives == {'good': 0.0, 'bad': 1.0}
    assert rows['Car'][-1].score_thresholds == {'good': 0.9, 'bad': 0.6}
    assert len(rows['Cyclist']) == 10
    assert rows['Cyclist'][-1].false_positives == {'good': 0.0, 'bad': 0.5}


def test_all_classes_are_the_sum_of_those_with_labels():
    rows = compare(good=GOOD, bad=BAD)
    assert rows['Pedestrian'] == []
    assert list(rows)[-1] == ALL_CLASSES
    assert [row.recall for row in rows[ALL_CLASSES]] == list(RECALLS[:5])
    assert rows[ALL_CLASSES][-1].false_positives == {'good': 0.0, 'bad': 1.5}


def test_one_detector_alone_goes_as_far_as_it_can():
    rows = compare(good=GOOD)
    assert rows['Car'][-1].recall == 1.0
    assert rows['Car'][-1].false_positives == {'good': 0.5}


def test_a_detector_that_finds_nothing_leaves_nothing_to_compare():
    nothing = [objects(), objects()]
    rows = compare(good=GOOD, nothing=nothing)
    assert all(of_class == [] for of_class in rows.values())


def test_frames_must_correspond():
    with pytest.raises(ValueError, match='2 frames of labels but 1 of detections'):
        compare(good=GOOD[:1])
