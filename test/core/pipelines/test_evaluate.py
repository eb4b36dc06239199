# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pointdistiller_core.pipelines.evaluate import detect
from pointdistiller_core.records import Detections


class Noting:
    """Finds nothing, and notes with which mounting it was asked."""

    def __init__(self, level_at=None):
        self.info = SimpleNamespace(sensor_height=1.73, level_at=level_at)
        self.mountings = []

    def __call__(self, points, *, mounting=None, detection=None):  # noqa: ARG002
        self.mountings.append(mounting)
        return Detections.empty()


def test_clouds_are_levelled_by_their_ground_or_taken_as_they_are(caplog):
    rng = np.random.default_rng(0)
    road = np.column_stack([rng.uniform(-20, 20, (2000, 2)), np.full(2000, -1.2), np.ones(2000)])
    frames = [SimpleNamespace(points=road), SimpleNamespace(points=road[:9])]
    detector = Noting()
    assert len(detect(detector, frames, range(2), level=True)) == 2
    first, second = detector.mountings
    assert first.training_from_sensor[2, 3] == pytest.approx(1.2 - 1.73)
    assert second is None
    assert 'no ground found in 1 of 2 clouds' in caplog.text
    detect(detector, frames, range(1))
    assert detector.mountings[2] is None
    levelled = Noting(level_at=1.73)
    for level in (False, True):  # it looks for the ground itself
        detect(levelled, frames, range(1), level=level)
    assert levelled.mountings == [None, None]
