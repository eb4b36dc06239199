# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detections as Autoware's objects, read again as labels are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.messages.autoware_objects import (
    OBJECTS_TYPE,
    _types,
    format_detected_objects,
    to_autoware_label,
)
from pointdistiller_core.messages.detections import READERS
from pointdistiller_core.records import Detections

BOXES = np.array([[10, 2, -1, 4, 1.8, 1.5, 0.5], [5, -3, -1, 0.8, 0.6, 1.7, -2.0]], np.float32)


def read(cdr):
    content = _types().deserialize_cdr(cdr, OBJECTS_TYPE)
    return content, [box for _, box in READERS[OBJECTS_TYPE](content)]


def test_boxes_come_back():
    velocities = np.array([[3.0, 1.0], [np.nan, np.nan]], np.float32)
    found = Detections(
        BOXES, np.array([0.75, 0.5], np.float32), np.array([0, 1]), velocities=velocities
    )
    cdr = format_detected_objects(found, 12 * 10**9 + 34, 'lidar', ('Car', 'Cyclist'))
    content, (car, cyclist) = read(cdr)
    assert (content.header.frame_id, content.header.stamp.sec) == ('lidar', 12)
    assert content.header.stamp.nanosec == 34
    np.testing.assert_allclose(car.box, BOXES[0], atol=1e-6)
    np.testing.assert_allclose(cyclist.box, BOXES[1], atol=1e-6)
    assert [(each.name, each.score) for each in (car, cyclist)] == [
        *(('CAR', 0.75), ('BICYCLE', 0.5)),
    ]
    np.testing.assert_allclose(car.velocity[:2], [3, 1], atol=1e-6)
    assert math.isnan(cyclist.velocity[0])
    assert [item.kinematics.has_twist for item in content.objects] == [True, False]


def test_no_objects():
    content, found = read(format_detected_objects(Detections.empty(), 0, 'lidar', ('Car',)))
    assert len(content.objects) == len(found) == 0


@pytest.mark.parametrize(
    ('name', 'label'), [('car', 1), ('Van', 1), ('Pedestrian', 7), ('motorcycle', 5), ('Tram', 0)]
)
def test_numbers_of_classes(name, label):
    assert to_autoware_label(name) == label
