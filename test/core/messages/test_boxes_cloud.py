# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes as clouds and back."""

from __future__ import annotations

from dataclasses import replace
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from pointdistiller_core.errors import CloudError
from pointdistiller_core.messages.boxes_cloud import (
    detections_from_boxes_cloud,
    to_box_columns,
    truth_from_boxes_cloud,
)
from pointdistiller_core.messages.point_cloud2 import cloud_layout
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth

FLOAT32, INT32 = 7, 5
CAR = (1.0, -2.0, 0.5, 4.0, 1.5, 1.25, -0.75)


def found(*labels, box=CAR):
    boxes = np.array([box] * len(labels), np.float32).reshape(-1, 7)
    scores = np.linspace(0.75, 0.25, len(labels), dtype=np.float32)
    return Detections(boxes, scores, np.array(labels, np.int64))


def message(points, columns=None):
    layout = cloud_layout(points, columns)
    fields = [SimpleNamespace(**field) for field in layout.pop('fields')]
    return SimpleNamespace(header=SimpleNamespace(frame_id='lidar'), fields=fields, **layout)


def test_layout_by_hand():
    cloud = message(*to_box_columns(found(3)))
    names = ('x', 'y', 'z', 'dx', 'dy', 'dz', 'yaw', 'score', 'label')
    assert [(field.name, field.offset, field.datatype, field.count) for field in cloud.fields] == [
        (name, 4 * index, INT32 if name == 'label' else FLOAT32, 1)
        for index, name in enumerate(names)
    ]
    assert bytes(cloud.data) == struct.pack('<8fi', *CAR, 0.75, 3)


def test_velocities_follow_the_other_columns():
    moving = replace(found(3), velocities=np.array([[2.5, np.nan]], np.float32))
    cloud = message(*to_box_columns(moving))
    assert [(field.name, field.offset) for field in cloud.fields[9:]] == [('vx', 36), ('vy', 40)]
    assert bytes(cloud.data)[:36] == struct.pack('<8fi', *CAR, 0.75, 3)
    read = detections_from_boxes_cloud(cloud)
    np.testing.assert_array_equal(read.velocities, moving.velocities)
    np.testing.assert_array_equal(truth_from_boxes_cloud(cloud).velocities, moving.velocities)


def test_tracks_stand_before_velocities():
    velocities = np.array([[2.5, 1.5], [np.nan, np.nan]], np.float32)
    tracked = replace(found(3, 1), tracks=np.array([7, -1]), velocities=velocities)
    cloud = message(*to_box_columns(tracked))
    assert [(field.name, field.offset, field.datatype) for field in cloud.fields[9:]] == [
        *(('track', 36, INT32), ('vx', 40, FLOAT32), ('vy', 44, FLOAT32)),
    ]
    assert bytes(cloud.data)[:48] == struct.pack('<8fii2f', *CAR, 0.75, 3, 7, 2.5, 1.5)
    read = detections_from_boxes_cloud(cloud)
    assert read.tracks.tolist() == [7, -1]
    np.testing.assert_array_equal(read.velocities, velocities)
    assert detections_from_boxes_cloud(message(*to_box_columns(found(3)))).tracks is None


@pytest.mark.parametrize('labels', [(), (1,), (0, IGNORE_LABEL, 0)])
def test_what_is_written_is_read(labels):
    boxes = found(*labels)
    read = detections_from_boxes_cloud(message(*to_box_columns(boxes)))
    for name in ('boxes', 'scores', 'labels'):
        np.testing.assert_array_equal(getattr(read, name), getattr(boxes, name))
        assert getattr(read, name).dtype == getattr(boxes, name).dtype
    assert read.velocities is None


def test_labelled_boxes_are_sure():
    truth = GroundTruth(found(1, IGNORE_LABEL).boxes, np.array([1, IGNORE_LABEL]))
    cloud = message(*to_box_columns(truth))
    assert detections_from_boxes_cloud(cloud).scores.tolist() == [1.0, 1.0]
    read = truth_from_boxes_cloud(cloud)
    np.testing.assert_array_equal(read.boxes, truth.boxes)
    assert read.labels.tolist() == [1, IGNORE_LABEL]


def test_columns_come_in_any_order_and_type():
    sizes = dict(zip(('yaw', 'dz', 'dy', 'dx'), reversed(CAR[3:]), strict=True))
    extra = {name: np.array([value]) for name, value in {**sizes, 'score': 0.5}.items()}
    extra |= {'speed': np.zeros(1, np.float32), 'label': np.array([2], np.uint8)}
    points = np.array([CAR[:3]], np.float32)
    read = detections_from_boxes_cloud(message(points, extra))
    assert (read.boxes.tolist(), read.labels.tolist()) == ([list(CAR)], [2])


def test_other_clouds_are_no_boxes():
    with pytest.raises(CloudError, match=r"lacks fields \['dx'"):
        detections_from_boxes_cloud(message(np.zeros((1, 4), np.float32)))


def test_truth_that_is_not_finite_is_refused():
    boxes = found(0, box=(*CAR[:3], np.inf, *CAR[4:]))
    with pytest.raises(CloudError, match='not finite'):
        truth_from_boxes_cloud(message(*to_box_columns(boxes)))
