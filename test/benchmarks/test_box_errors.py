# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np

from pointdistiller_core.records import Detections, Frame, GroundTruth

FILE = Path(__file__).resolve().parents[2] / 'benchmarks' / 'box_errors.py'
CAR = [10.0, 5.0, -1.0, 4.0, 2.0, 1.5, math.pi / 2]  # heads along y


def load():
    spec = importlib.util.spec_from_file_location('box_errors', FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_errors_are_seen_from_the_labelled_object(capsys):
    points = np.float32([[10, 5, -1, 0]] * 20 + [[30, 5, -1, 0]] * 3)
    far = [30.0, *CAR[1:]]
    truth = GroundTruth(np.float32([CAR, far]), np.zeros(2, np.int64))
    box = [10.1, 4.7, -0.8, 4.4, 2.0, 1.5, -math.pi / 2 + 0.1]  # 0.3 behind, 0.1 to the right
    other = [10.0, *CAR[1:]]
    found = Detections(
        np.float32([box, other]), np.float32([0.9, 0.8]), np.array([0, 1], np.int64)
    )
    module = load()
    errors = module.compare(Frame(points, ground_truth=truth), found, 0, 20)
    assert errors.num_labels == 1  # the other has too few points
    expected = [-0.3, -0.1, 0.2, 0.4, 0, 0, math.degrees(0.1), 1]
    np.testing.assert_allclose(errors.rows, [expected], atol=1e-5)
    module.report(errors)
    assert 'the other end in front: 100.0 %' in capsys.readouterr().out


def test_what_is_not_found_is_counted(capsys):
    points = np.float32([[10, 5, -1, 0]] * 20)
    truth = GroundTruth(np.float32([CAR]), np.zeros(1, np.int64))
    module = load()
    errors = module.compare(Frame(points, ground_truth=truth), Detections.empty(), 0, 20)
    assert (errors.num_labels, errors.rows.shape) == (1, (0, 8))
    module.report(errors)
    assert capsys.readouterr().out == '1 labelled, 0 with a box within 1.5 m\n'
