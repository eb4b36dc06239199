# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The official devkit's numbers on synthetic data in nuScenes' format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archives import unpack
import numpy as np
import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.nuscenes.files import evaluate_on
from pointdistiller_core.evaluation.nuscenes.metric import DISTANCES, ERRORS, NuScenesResult
from pointdistiller_core.formats.nuscenes.index import NuScenesIndex, open_index

SCORED = [
    *(
        'edge.golden_val',
        'edge.mini_val',
        'leading_unknown.golden_val',
        'leading_unknown.mini_val',
    ),
    *('missing_classes.golden_missing_classes', 'noisy.golden_val', 'noisy.mini_val'),
    *('noisy_all.golden_all', 'noisy_all.golden_train', 'noisy_all.golden_val'),
    *('perfect.golden_val', 'perfect.mini_val', 'sparse.golden_val', 'sparse.mini_val'),
    *('ties.golden_val', 'ties.mini_val', 'ties_reversed.golden_val', 'ties_reversed.mini_val'),
    *('truth_with_empty_boxes.golden_val', 'truth_with_empty_boxes.mini_val'),
]
REFUSED = {
    'error_501_boxes': 'has 501 boxes; at most 500 are allowed',
    'error_all_empty': 'has no box in any of 56 samples',
    'error_sample_absent': 'lacks 1 samples of the split',
    'error_unknown_attribute': "attribute_name: 'vehicle.flying' is unknown; one of",
}
STEPS = ('loaded', 'in_range', 'with_points', 'outside_racks')


@pytest.fixture(scope='module')
def folder(shared_data, tmp_path_factory) -> Path:
    """The unpacked tables and submissions, without clouds."""
    path = tmp_path_factory.mktemp('nuscenes')
    for name in ('dataset', 'submissions'):
        archive = shared_data / 'nuscenes_eval' / f'{name}.tar.xz'
        unpack(archive, path, lambda file: file.suffix == '.json')
    return path


@pytest.fixture(scope='module')
def index(folder) -> NuScenesIndex:
    return open_index(folder / 'nuscenes' / 'v1.0-mini', folder / 'cache')


def expected_of(shared_data: Path, case: str) -> tuple[dict[str, Any], Path]:
    """The devkit's numbers and the file of its curves."""
    path = shared_data / 'nuscenes_eval' / 'expected'
    numbers = json.loads((path / f'{case}.json').read_text(encoding='utf-8'))
    return numbers, path / f'{case}.curves.npz'


@pytest.mark.parametrize('case', SCORED)
def test_equals_the_devkit(shared_data, folder, index, case):
    name, split = case.split('.')
    expected, curves = expected_of(shared_data, case)
    result, num_samples = evaluate_on(folder / 'submissions' / f'{name}.json', index, split)
    assert num_samples == len(index.samples(split))
    for values, wanted in compared(result, expected['summary']):
        np.testing.assert_allclose(values, np.array(wanted, np.float64), rtol=0, atol=1e-9)
    with np.load(curves) as arrays:
        np.testing.assert_allclose(result.precision, arrays['precision'], rtol=0, atol=1e-9)
        np.testing.assert_allclose(result.confidence, arrays['confidence'], rtol=0, atol=1e-9)
        at_2_m = np.stack([arrays[error][:, DISTANCES.index(2.0)] for error in ERRORS], axis=1)
    np.testing.assert_allclose(result.error_curves, at_2_m, rtol=0, atol=1e-9)
    for own, theirs in (('truth', 'truth'), ('found', 'predictions')):
        totals = {step: sum(result.counts[own][step].values()) for step in STEPS}
        assert totals == expected['counts'][theirs]['total']
        assert result.counts[own]['outside_racks'] == expected['counts'][theirs]['final']


def compared(result: NuScenesResult, summary: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Pairs of our numbers and the devkit's, whose NaN is None."""
    classes = result.class_names
    aps, errors = summary['label_aps'], summary['label_tp_errors']
    return [
        (result.mean_ap, summary['mean_ap']),
        (result.detection_score, summary['nd_score']),
        (result.average_precision, [[aps[name][str(d)] for d in DISTANCES] for name in classes]),
        (result.errors, [[errors[name][error] for error in ERRORS] for name in classes]),
        (
            [result.mean_errors[error] for error in ERRORS],
            [summary['tp_errors'][error] for error in ERRORS],
        ),
    ]


@pytest.mark.parametrize('split', ['golden_val', 'mini_val'])
@pytest.mark.parametrize('name', REFUSED)
def test_what_the_devkit_refuses_is_refused(shared_data, folder, index, name, split):
    expected, _ = expected_of(shared_data, f'{name}.{split}')
    assert 'error' in expected
    file = folder / 'submissions' / f'{name}.json'
    with pytest.raises(DatasetError, match=rf'{name}\.json: .*{REFUSED[name]}'):
        evaluate_on(file, index, split)


def test_other_samples_are_refused_only_in_a_published_split(shared_data, folder, index):
    expected, _ = expected_of(shared_data, 'noisy_all.mini_val')
    assert 'error' in expected
    with pytest.raises(DatasetError, match='has 44 samples of no such split'):
        evaluate_on(folder / 'submissions' / 'noisy_all.json', index, 'mini_val')


def test_every_case_is_covered(shared_data):
    files = (shared_data / 'nuscenes_eval' / 'expected').glob('*.*.json')
    cases = {file.stem for file in files}
    refused = {f'{name}.{split}' for name in REFUSED for split in ('golden_val', 'mini_val')}
    assert cases == {*SCORED, *refused, 'noisy_all.mini_val'}
