# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Submission files: written, read again, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes.submission import (
    GlobalBoxes,
    format_submission,
    read_submission,
    submitted_samples,
)

SAMPLES = ['a', 'b', 'c']


def box_of(token: str = 'a', **changes: Any) -> dict[str, Any]:
    return {
        'sample_token': token,
        'translation': [1, 2, 3],
        'size': [2, 4, 1.5],
        'rotation': [1, 0, 0, 0],
        'velocity': [0.5, 0],
        'detection_name': 'car',
        'detection_score': 0.5,
        'attribute_name': 'vehicle.moving',
        **changes,
    }


def write(path: Path, results: Any, **further: Any) -> Path:
    file = path / 'results.json'
    file.write_text(json.dumps({'meta': {}, 'results': results, **further}), encoding='utf-8')
    return file


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    boxes = GlobalBoxes(
        samples=np.array([2, 0, 2]),
        translation=rng.normal(0, 1000, (3, 3)),
        size=rng.uniform(1, 5, (3, 3)),
        rotation=rng.normal(size=(3, 4)),
        velocity=np.array([[1, 2], [np.nan, np.nan], [0, -1]]),
        labels=np.array([0, 9, 5]),
        attributes=np.array([5, -1, 2]),
        scores=np.array([0.25, 0.5, 0.75]),
        num_points=np.full(3, -1),
    )
    file = tmp_path / 'results.json'
    file.write_bytes(format_submission(boxes, SAMPLES))
    content = json.loads(file.read_text(encoding='utf-8'))
    assert list(content['results']) == SAMPLES
    assert content['results']['b'] == []
    assert content['meta']['use_lidar'] is True
    assert set(content['results']['a'][0]) == set(box_of())
    again, order = read_submission(file, SAMPLES, exactly=True)
    assert order == SAMPLES
    expected = boxes[np.array([1, 2, 0])]  # by sample, then by score
    for name, column in vars(expected).items():
        np.testing.assert_array_equal(getattr(again, name), column)
    assert submitted_samples(file) == set(SAMPLES)


def test_samples_beside_those_of_the_split(tmp_path):
    file = write(tmp_path, {'d': [box_of('d')], 'c': [], 'b': [box_of('b')], 'a': []})
    found, order = read_submission(file, SAMPLES, exactly=False)
    assert order == SAMPLES
    assert found.samples.tolist() == [1]
    with pytest.raises(DatasetError, match=r'has 1 samples of no such split, e\.g\. d; it must'):
        read_submission(file, SAMPLES, exactly=True)
    found, order = read_submission(file, [*SAMPLES, 'd'], exactly=True)
    assert order == ['d', 'c', 'b', 'a']  # that of the file, as the devkit has it
    assert found.samples.tolist() == [0, 2]
    with pytest.raises(DatasetError, match=r'lacks 2 samples of the split, e\.g\. e; has 1'):
        read_submission(file, ['a', 'b', 'c', 'e', 'f'], exactly=True)


def test_points_that_a_submission_claims(tmp_path):
    file = write(tmp_path, {'a': [box_of(num_pts=0), box_of()], 'b': [], 'c': []})
    assert read_submission(file, SAMPLES, exactly=True)[0].num_points.tolist() == [0, -1]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'detection_name': 'tram'}, "detection_name: 'tram' is unknown; one of car, truck"),
        ({'detection_name': ['car']}, r"detection_name: \['car'\] is unknown"),
        ({'attribute_name': 'flying'}, "attribute_name: 'flying' is unknown; .* or empty"),
        ({'attribute_name': None}, 'attribute_name: None is unknown'),
        ({'translation': [0, 0, float('nan')]}, 'translation: box 1 has .* which is not finite'),
        ({'size': [1, float('nan'), 1]}, 'size: box 1 has .* which is not finite'),
        ({'rotation': [1, 0, 0]}, 'rotation: expected 4 numbers in each box'),
        ({'rotation': 'up'}, 'rotation: expected 4 numbers in each box'),
        ({'velocity': [float('inf'), 0]}, 'velocity: box 1 has .* which is not finite'),
        ({'detection_score': float('nan')}, 'detection_score: box 1 has nan, which is not finite'),
        ({'detection_score': -0.1}, 'detection_score: box 1 has -0.1; scores must be positive'),
        ({'detection_score': [1]}, 'detection_score: expected a number in each box'),
        ({'sample_token': 'b'}, "the sample_token of 1 of its boxes is another, e.g. 'b'"),
        ({'num_pts': 'many'}, 'num_pts: expected an integer, if any'),
    ],
)
def test_boxes_that_are_refused(tmp_path, changes, message):
    file = write(tmp_path, {'a': [box_of(), box_of(**changes)], 'b': [], 'c': []})
    with pytest.raises(DatasetError, match=rf'results\.json: sample a: {message}'):
        read_submission(file, SAMPLES, exactly=True)


@pytest.mark.parametrize('name', [*box_of()])
def test_every_field_must_be_there(tmp_path, name):
    box = box_of()
    del box[name]
    file = write(tmp_path, {'a': [box_of(), box], 'b': [], 'c': []})
    with pytest.raises(DatasetError, match=rf"sample a: box 1 lacks '{name}'"):
        read_submission(file, SAMPLES, exactly=True)


@pytest.mark.parametrize(
    ('results', 'message'),
    [
        ({'a': [box_of()] * 501, 'b': [], 'c': []}, 'sample a: has 501 boxes; at most 500'),
        ({'a': [], 'b': [], 'c': []}, 'has no box in any of 3 samples'),
        ({'a': {}, 'b': [], 'c': []}, 'sample a: expected a list of boxes'),
        ({'a': [3], 'b': [], 'c': []}, 'sample a: expected a list of boxes'),
        ([], 'malformed at character .*: expected {'),
    ],
)
def test_results_that_are_refused(tmp_path, results, message):
    with pytest.raises(DatasetError, match=message):
        read_submission(write(tmp_path, results), SAMPLES, exactly=True)


def test_files_that_are_refused(tmp_path):
    file = tmp_path / 'results.json'
    with pytest.raises(DatasetError, match=r'results\.json: no such file'):
        read_submission(file, SAMPLES, exactly=True)
    for text, message in (
        ('{"meta": {}}', "lacks 'results'; a submission of nuScenes has both"),
        ('{"results": {"a": [], "b": [], "c": []}}', "lacks 'meta'"),
        ('{}', "lacks 'meta' and 'results'"),
        ('{"results": {"a": [], "a": []}}', 'sample a is there twice'),
        ('{"meta": {}, "results": {"a": [', 'malformed at character'),
    ):
        file.write_text(text, encoding='utf-8')
        with pytest.raises(DatasetError, match=message):
            read_submission(file, SAMPLES, exactly=True)
