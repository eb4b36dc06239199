# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller evaluate` of a submission of nuScenes."""

from __future__ import annotations

import json
from pathlib import Path

from archives import unpack
import numpy as np
from nuscenes_folder import write_key_frame, write_scene
import pytest

from pointdistiller_core.cli.scores import print_scores
from pointdistiller_core.config import KITTI_ANCHORS, HeadConfig
from pointdistiller_core.datasets import open_dataset
from pointdistiller_core.evaluation.nuscenes.scores import NuScenesMetric
from pointdistiller_core.evaluation.scores import Scores
from pointdistiller_core.records import Detections

BOXES = [[10, 2, -1, 4, 2, 1.5, 0.5], [20, -5, -1, 4, 2, 1.5, 1]]


@pytest.fixture
def options(tmp_path) -> list[object]:
    """Options that evaluate three samples, in each of which one of two cars is found."""
    names = ['vehicle.car'] * 2
    sweeps = [write_key_frame(tmp_path, i, np.ones((5, 4)), BOXES, names) for i in range(3)]
    write_scene(tmp_path, sweeps, split='mine')
    dataset = open_dataset(tmp_path, split='mine', class_names=('car',))
    found = [
        Detections(truth.boxes, np.full(1, 0.5), truth.labels, velocities=truth.velocities)
        for truth in (dataset.labels(index)[:1] for index in range(3))
    ]
    NuScenesMetric().write_results(tmp_path, dataset, range(3), found)
    files = ['--predictions', tmp_path / 'results_nusc.json', '--labels', tmp_path]
    return [*files, '--split', 'mine']


def test_a_submission(run, options, tmp_path):
    code, table, notes = run('evaluate', *options, '--json', tmp_path / 'scores.json')
    assert code == 0
    assert '(mine, 3 samples)' in ' '.join(table.split())
    scores = json.loads((tmp_path / 'scores.json').read_text(encoding='utf-8'))
    # Half of the recalls are reached, all with precision 1: 40 of the 90 above 0.1.
    assert scores['mAP'] == pytest.approx(40 / 90 / 10)
    # Nine classes without a label have errors of 1; no label has an attribute. The vehicle is
    # tilted, so velocities without a vertical part are not exact.
    expected = (5 * scores['mAP'] + 1 / 10 + 1 / 10 + 1 / 9 + 1 / 8) / 10
    assert scores['NDS'] == pytest.approx(expected, abs=3e-4)
    assert scores['classes']['car']['AP'] == pytest.approx(40 / 90)
    assert scores['classes']['traffic_cone']['vel_err'] is None
    assert 'NDS' in table
    assert '6 of 6 labels count; 0 are out of range' in notes
    code, output, _ = run('evaluate', *options, '--json', '-')
    assert json.loads(output) == scores


@pytest.mark.parametrize(
    ('further', 'error'),
    [
        (['--curves', 'a.png'], 'to evaluate a submission of nuScenes, leave out --curves'),
        (['--min-overlap', 'car=0.5'], 'nuScenes, leave out --min-overlap'),
        (['--metric', 'lidar'], 'by another metric than kitti, give BUNDLE, --dataset'),
        (['--split', 'val'], "has no split 'val'; choose from mine, all"),
        (['--labels', 'nowhere'], 'nowhere: has no tables of nuScenes, such as v1.0-mini/sample'),
        (['--predictions', 'nothing.json'], 'nothing.json: no such file'),
    ],
)
def test_what_does_not_go(run, options, further, error):
    code, output, message = run('evaluate', *options, *further)
    assert (code, output) == (2, '')
    assert error in message


def test_the_split_must_be_named(run, options):
    code, _, message = run('evaluate', *options[:4])
    assert code == 2
    assert 'to evaluate a submission of nuScenes, give --split' in message


def test_equals_the_devkit(run, shared_data, tmp_path):
    folder = shared_data / 'nuscenes_eval'
    for name in ('dataset', 'submissions'):
        unpack(
            folder / f'{name}.tar.xz',
            tmp_path,
            lambda file: 'v1.0-mini' in file.parts or file == Path('submissions/noisy.json'),
        )
    file: Path = tmp_path / 'submissions' / 'noisy.json'
    options = ['--labels', tmp_path / 'nuscenes', '--split', 'mini_val']
    code, _, _ = run('evaluate', '--predictions', file, *options, '--json', tmp_path / 's.json')
    assert code == 0
    scores = json.loads((tmp_path / 's.json').read_text(encoding='utf-8'))
    text = (folder / 'expected' / 'noisy.mini_val.json').read_text(encoding='utf-8')
    summary = json.loads(text)['summary']
    assert scores['mAP'] == pytest.approx(summary['mean_ap'], abs=1e-9)
    assert scores['NDS'] == pytest.approx(summary['nd_score'], abs=1e-9)


def test_the_scores_of_a_training_have_no_details(capsys):
    """Those that a run keeps: the means are in their columns, and NDS has a line."""
    by_class = {'car': {'AP 0.5 m': 10.0, 'AP': 20.0}, 'bus': {'AP 0.5 m': 0.0, 'AP': 40.0}}
    scores = Scores({'mAP': 30.0, 'NDS': 35.5}, by_class, {'car': 4, 'bus': 2})
    print_scores(scores, 'some run', json_target=None)
    table = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip('│').split('│')] for line in table.splitlines()]
    assert ['mean', '', '30.00', ''] in rows
    assert ['bus', '0.00', '40.00', '2'] in rows
    assert 'NDS 35.50 %' in table
    assert 'IoU' not in table


def test_a_bundle_with_labels_and_without(run, make_bundle, tmp_path):
    rng = np.random.default_rng(0)
    data = tmp_path / 'data'
    sweeps = []
    for number in range(2):
        points = np.pad(rng.uniform(-1, 20, (200, 3)), ((0, 0), (0, 1)))
        sweeps.append(write_key_frame(data, number, points, BOXES, ['vehicle.car'] * 2))
    write_scene(data, sweeps, split='mine')
    bundle = make_bundle('own')  # knows a class Car
    options = ['--dataset', data, '--split', 'mine']
    code, _, error = run('evaluate', bundle, *options, '--results', tmp_path / 'results')
    assert code == 2
    assert 'knows no Car, only car, truck' in error
    renamed = make_bundle(
        'nuscenes', class_names=('car',), head=HeadConfig(anchors={'car': KITTI_ANCHORS['Car']})
    )
    results = ['--results', tmp_path / 'results']
    code, table, notes = run('evaluate', renamed, *options, *results)
    assert code == 0
    assert 'NDS' in table
    assert 'wrote the results of 2 frames' in notes
    written = json.loads((tmp_path / 'results' / 'results_nusc.json').read_text(encoding='utf-8'))
    assert sum(map(len, written['results'].values())) > 2
    (data / 'v1.0-simulated' / 'sample_annotation.json').write_text('[]', encoding='utf-8')
    code, table, notes = run('evaluate', renamed, *options, '--results', tmp_path / 'again')
    assert (code, table) == (0, '')
    assert 'without labels, no scores' in notes
    again = json.loads((tmp_path / 'again' / 'results_nusc.json').read_text(encoding='utf-8'))
    assert again == written
    code, _, error = run('evaluate', renamed, *options)
    assert code == 2
    assert 'has no labels' in error
