# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles and runs that were saved in format 1 are used as before: see fixtures/format_1."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from pointdistiller_core.config import load_experiment
from pointdistiller_core.datasets.point_files import read_points
from pointdistiller_core.detector import Detector
from pointdistiller_core.training.experiment import run_experiment

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'format_1'
DETECTIONS = json.loads((FIXTURE / 'teacher_detections.json').read_text(encoding='utf-8'))
# Where processor, threads and torch are those of the fixture, not a bit differs.
CLOSE = {'rtol': 1e-5, 'atol': 1e-5}


@pytest.mark.parametrize('frame', DETECTIONS)
def test_a_bundle_detects_the_same(frame):
    points = read_points(FIXTURE / 'frames' / 'training' / 'velodyne' / f'{frame}.bin')
    found, expected = (
        Detector.load(FIXTURE / 'teacher', backend='torch')(points),
        DETECTIONS[frame],
    )
    assert len(found) >= 2
    np.testing.assert_array_equal(found.labels, expected['labels'])
    np.testing.assert_allclose(found.scores, np.float32(expected['scores']), **CLOSE)
    np.testing.assert_allclose(found.boxes, np.float32(expected['boxes']), **CLOSE)


def test_a_run_resumes_to_the_same_weights(tmp_path, monkeypatch):
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment(Path('student.yaml'))
    run_experiment(experiment, Path('student'), teacher=Path('teacher'), resume=True)
    found = load_file(tmp_path / 'student' / 'bundle' / 'model.safetensors')
    expected = load_file(FIXTURE / 'student_after_epoch_2.safetensors')
    start = load_file(FIXTURE / 'student/checkpoints/epoch_000001/model.safetensors')
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name, **CLOSE)
    assert any(np.abs(start[name] - found[name]).max() > 0.01 for name in found)
    epochs = (tmp_path / 'student' / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()
    assert [json.loads(epoch)['epoch'] for epoch in epochs] == [1, 2]
