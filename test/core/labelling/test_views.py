# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Several looks at one frame, joined."""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np
import pytest

from pointdistiller_core.config import ViewsConfig
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.labelling.views import (
    RecordedTeacher,
    Teacher,
    View,
    detect_by_views,
    join_looks,
    views_of,
)
from pointdistiller_core.records import Detections, Frame

BOX = np.array([[10, 4, 0, 4, 2, 1.5, 0.5]], np.float32)


def look(*rows) -> Detections:
    """Rows x, y, yaw, score, label."""
    return Detections(
        np.array([[x, y, 0, 4, 2, 1.5, yaw] for x, y, yaw, *_ in rows], np.float32).reshape(-1, 7),
        np.array([row[3] for row in rows], np.float32),
        np.array([row[4] for row in rows], np.int64),
    )


@pytest.mark.parametrize('view', views_of(ViewsConfig()))
def test_boxes_come_back_to_where_the_points_are(view):
    points = np.float32([[11.5, 4.9, 0.5, 0.3], [8.3, 3.2, -0.5, 0.3]])
    assert points_in_boxes(points, BOX).all()
    seen = BOX.copy()
    seen[:, :6] *= view.scale
    if view.flip:
        seen[:, 1] *= -1
        seen[:, 6] *= -1
    assert points_in_boxes(view.points(points), seen).all()
    np.testing.assert_allclose(view.boxes(seen), BOX, atol=1e-5)
    assert points[0].tolist() == np.float32([11.5, 4.9, 0.5, 0.3]).tolist()  # not in place


def test_views_are_all_combinations():
    assert views_of(ViewsConfig(flips=False, scales=(1.0,))) == [View(False, 1.0)]
    assert len(views_of(ViewsConfig())) == 6


def test_an_object_that_few_looks_find_has_a_low_score():
    looks = [look((10, 0, 0, 0.9, 0)), look((10.2, 0, 0, 0.6, 0), (30, 0, 0, 0.8, 0)), look()]
    joined = join_looks(looks, np.array([3]), 0.3)
    np.testing.assert_allclose(joined.scores, [1.5 / 3, 0.8 / 3], rtol=1e-6)
    np.testing.assert_allclose(joined.boxes[0, 0], (9 + 0.6 * 10.2) / 1.5, rtol=1e-6)


def test_one_look_that_finds_an_object_twice_counts_once():
    joined = join_looks([look((10, 0, 0, 0.9, 0), (10.1, 0, 0, 0.8, 0))], np.array([1]), 0.3)
    assert joined.scores.tolist() == pytest.approx([0.9])


def test_classes_and_wrong_fronts_are_kept_apart():
    looks = [look((10, 0, 0.1, 0.9, 0)), look((10, 0, 0.1 - math.pi, 0.5, 0), (10, 0, 0, 0.7, 1))]
    joined = join_looks(looks, np.array([2, 2]), 0.3)
    assert joined.labels.tolist() == [0, 1]
    assert joined.boxes[0, 6] == pytest.approx(0.1, abs=1e-6)


def test_nothing_found_by_anybody():
    assert len(join_looks([look(), look()], np.array([2]), 0.3)) == 0


def test_each_teacher_labels_its_own_classes():
    def detect(_points):
        return look((10, 0, 0, 0.8, 0), (20, 0, 0, 0.8, 1))

    once = ViewsConfig(flips=False, scales=(1.0,))
    teachers = [
        Teacher(detect, ('Car', 'Van'), {'Car'}),
        Teacher(detect, ('Pedestrian', 'Car'), {'Pedestrian'}),
    ]
    found = detect_by_views(
        teachers, Frame(np.zeros((0, 4), np.float32)), once, ('Pedestrian', 'Car')
    )
    assert sorted(zip(found.labels.tolist(), found.boxes[:, 0].tolist(), strict=True)) == [
        (0, 10.0),
        (1, 10.0),
    ]
    assert found.scores.tolist() == pytest.approx([0.8, 0.8])  # each by the one trusted with it


def test_recorded_detections_are_one_more_teacher():
    """Alone they keep their scores, in any number of views; beside a detector they count as it."""
    boxes = look((10, 0, 0.25, 0.7, 0), (20, 0, 0, 0.3, 1))
    recorded = RecordedTeacher({'a': boxes}, ('Car', 'Bird'), ('Car',))
    frame = Frame(np.zeros((0, 4), np.float32), 'a')
    alone = detect_by_views([recorded], frame, ViewsConfig(), ('Car',))
    np.testing.assert_array_equal(alone.boxes, boxes.boxes[:1])
    np.testing.assert_array_equal(alone.scores, boxes.scores[:1])
    elsewhere = replace(frame, frame_id='b')
    assert not len(detect_by_views([recorded], elsewhere, ViewsConfig(), ('Car',)))
    other = RecordedTeacher({'b': look()}, ('Car',), ('Car',))  # of another drive
    of_both = detect_by_views([recorded, other], frame, ViewsConfig(), ('Car',))
    np.testing.assert_array_equal(of_both.scores, alone.scores)
    blind = Teacher(lambda _points: look(), ('Car',), ('Car',))
    both = detect_by_views([recorded, blind], frame, ViewsConfig(), ('Car',))
    assert both.scores.tolist() == pytest.approx([0.35])
