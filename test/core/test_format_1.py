# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles and runs that were saved in format 1 are used as before: see fixtures/format_1."""

from __future__ import annotations

import json
from pathlib import Path
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from pointdistiller_core.config import StackNeckConfig, VoxelConfig, load_experiment
from pointdistiller_core.datasets.point_files import read_points
from pointdistiller_core.deploy.bundle_format import add_files, read_info
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CheckpointError
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


def test_keys_that_a_bundle_may_lack(tmp_path):
    values = json.loads((FIXTURE / 'teacher' / 'bundle.json').read_text(encoding='utf-8'))
    expected = read_info(FIXTURE / 'teacher')
    optional = ('point_features', 'intensity_range', 'intensity_assumed', 'sensor_height')
    for name in ('info_sha256', 'training', 'package_version', 'sha256', *optional):
        del values[name]
    for part in ('pillars', 'neck_channels', 'backbone_layers', 'norm_momentum', 'loss'):
        del values['model'][part]
    values['model'] |= {'backbone_strides': [1, 2, 2], 'neck_strides': [1, 2, 4]}
    values['model']['backbone_channels'] = [8, 16, 16]
    (tmp_path / 'bundle.json').write_text(json.dumps(values), encoding='utf-8')
    found = read_info(tmp_path)
    assert (found.format_version, expected.format_version) == (2, 2)
    assert found.model.encoder == expected.model.encoder
    assert (found.model.voxels, found.model.backbone.layers) == (VoxelConfig(), (3, 5, 5))
    assert found.model.neck == StackNeckConfig(strides=(1, 2, 4))
    assert found.model.point_features == ('x', 'y', 'z', 'intensity')


@pytest.mark.parametrize('columns', [['x', 'y', 'z'], ['x', 'y', 'z', 'intensity', 'ring']])
def test_columns_that_nothing_reads(tmp_path, columns):
    values = json.loads((FIXTURE / 'teacher' / 'bundle.json').read_text(encoding='utf-8'))
    del values['info_sha256']
    values['point_features'] = columns
    (tmp_path / 'bundle.json').write_text(json.dumps(values), encoding='utf-8')
    with pytest.raises(
        CheckpointError, match=re.escape(f'model: Value error, point_features {columns}')
    ):
        read_info(tmp_path)


def test_files_that_are_added_bring_it_to_the_present_format(tmp_path):
    bundle = tmp_path / 'teacher'
    shutil.copytree(FIXTURE / 'teacher', bundle)
    before = read_info(bundle)
    add_files(bundle, {'more.bin': b'more'})
    values = json.loads((bundle / 'bundle.json').read_text(encoding='utf-8'))
    assert (values['format_version'], values['model']['encoder']['channels']) == (2, 8)
    assert read_info(bundle).model == before.model


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
