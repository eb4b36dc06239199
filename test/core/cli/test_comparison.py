# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller compare-features`."""

from __future__ import annotations

import json

import pytest


def test_features_of_a_student(run, make_bundle, dataset, tmp_path):
    teacher, student = make_bundle('teacher', seed=1), make_bundle('student', seed=2, width=0.5)
    arguments = ['compare-features', teacher, student, '--dataset', dataset]
    code, table, _ = run(*arguments, '--json', tmp_path / 'features.json')
    assert code == 0
    assert '(val, 2 frames)' in ' '.join(table.split())
    assert 'backbone.1' in table
    written = json.loads((tmp_path / 'features.json').read_text(encoding='utf-8'))
    assert list(written) == ['pillars', 'backbone.0', 'backbone.1', 'neck']
    for of_tap in written.values():
        assert list(of_tap) == ['student', 'untrained']
        assert of_tap['student'] != of_tap['untrained']
        assert all(-1 < of_tap[name]['cka'] <= 1.001 for name in of_tap)
    code, table, _ = run(*arguments, '--max-frames', 1)
    assert '(val, 1 frames)' in ' '.join(table.split())


def test_a_teacher_is_like_itself(run, make_bundle, dataset):
    teacher = make_bundle('teacher', seed=1)
    code, output, table = run(
        'compare-features', teacher, teacher, '--dataset', dataset, '--json', '-'
    )
    assert code == 0
    assert 'probe R2, untrained' in table
    for of_tap in json.loads(output).values():
        assert of_tap['student']['cka'] == pytest.approx(1.0)


def test_features_of_other_pillars_are_refused(run, make_bundle, dataset, tiny_model):
    pillars = tiny_model.pillars.model_copy(update={'max_points_per_pillar': 20})
    other = make_bundle('other', pillars=pillars)
    teacher = make_bundle('teacher')
    code, output, error = run('compare-features', teacher, other, '--dataset', dataset)
    assert (code, output) == (2, '')
    assert 'teacher and student must agree' in error
