# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Every verb that reads points judges their intensity, and scales it where that is asked for."""

from __future__ import annotations

import json
import re

from backend_parameters import backends
import numpy as np
import pytest

from pointdistiller_core.deploy.bundle import read_info
from pointdistiller_core.messages.bags import CloudBagWriter, read_clouds
from pointdistiller_core.messages.point_cloud2 import points_from_cloud

LIKELY = 'likely scale 1/255 (--intensity-scale auto or 0.00392157)'
SCALED = 'scaled by 1/255 (0.00392157)'


@pytest.fixture
def bright(dataset):
    """The dataset on a scale of 0 to 255; the split `train` is `val`."""
    for file in (dataset / 'training' / 'velodyne').iterdir():
        points = np.fromfile(file, np.float32).reshape(-1, 4)
        points[:, 3] *= 255
        points.tofile(file)
    splits = dataset / 'ImageSets'
    (splits / 'train.txt').write_bytes((splits / 'val.txt').read_bytes())
    return dataset


@pytest.fixture
def experiment(tmp_path, bright, tiny_model):
    values = {
        'model': tiny_model.model_dump(mode='json'),
        'dataset': {'root': str(bright)},
        'training': {'epochs': 1, 'batch_size': 2, 'num_workers': 0},
    }
    file = tmp_path / 'experiment.yaml'
    file.write_text(json.dumps(values), encoding='utf-8')
    return file


def sweep(dataset, name='000000'):
    return dataset / 'training' / 'velodyne' / f'{name}.bin'


def test_detect_says_and_scales(run, bundle, bright):
    code, first, notes = run('detect', bundle, sweep(bright), '--json', '-')
    assert code == 0
    assert 'intensity reaches 2' in notes
    assert f'the bundle was trained on 0 to 1 (assumed): {LIKELY}' in notes
    assert 'clipped to the range of the training clouds: the intensity of 4' in notes
    _, scaled, notes = run(
        'detect', bundle, sweep(bright), '--json', '-', '--intensity-scale', 'auto'
    )
    assert SCALED in notes
    _, given, notes = run(
        'detect', bundle, sweep(bright), '--json', '-', '--intensity-scale', '1/255'
    )
    assert notes == '' or 'intensity' not in notes
    boxes = [json.loads(text)[0]['boxes'] for text in (first, scaled, given)]
    assert boxes[0] != boxes[1] == boxes[2]
    assert json.loads(scaled)[0]['counts']['intensity_outside'] == 0


def test_auto_decides_once_for_all_clouds(run, bundle, bright, tmp_path):
    clouds = [tmp_path / f'{index}.bin' for index in range(12)]
    for index, path in enumerate(clouds):  # most are bright; two, and the last ones, are not
        points = np.fromfile(sweep(bright), np.float32).reshape(-1, 4)
        if index in {0, 5, 10, 11}:
            points[:, 3] /= 255
        points.tofile(path)
    options = ['--json', '-', '--intensity-scale', 'auto']
    _, output, notes = run('detect', bundle, *clouds, *options)
    assert notes.count(SCALED) == 1
    assert re.findall(r'warning: (\S+) is unlike other clouds', notes) == ['0.bin', '5.bin']
    found = json.loads(output)
    assert found[1]['boxes'] == found[2]['boxes'] == found[9]['boxes']
    assert found[0]['boxes'] == found[5]['boxes'] == found[10]['boxes'] != found[1]['boxes']


def test_constant_intensity_is_said(run, bundle, bright):
    points = np.fromfile(sweep(bright), np.float32).reshape(-1, 4)
    points[:, 3] = 0
    points.tofile(sweep(bright))
    for option in ([], ['--intensity-scale', 'auto']):
        _, _, notes = run('detect', bundle, sweep(bright), *option)
        assert '000000.bin: intensity is 0 throughout, the bundle was trained on 0 to 1' in notes


@pytest.mark.parametrize('wrong', ['x', '0', '-1', '1/0'])
def test_a_scale_that_is_none(run, bundle, bright, wrong):
    code, _, notes = run('detect', bundle, sweep(bright), f'--intensity-scale={wrong}')
    assert code == 2
    assert f"intensity scale '{wrong}': expected auto, or a positive factor" in notes


@pytest.mark.parametrize('verb', ['evaluate', 'compare-at-recall', 'compare-features'])
def test_verbs_of_datasets(run, make_bundle, bright, verb):
    bundles = [make_bundle('first'), make_bundle('second', seed=1)]
    words = [verb, *bundles[: 1 if verb == 'evaluate' else 2], '--dataset', bright]
    code, _, notes = run(*words)
    assert code == 0
    assert notes.count(LIKELY) == (1 if verb == 'evaluate' else 2)
    code, table, notes = run(*words, '--intensity-scale', 'auto')
    assert code == 0
    assert notes.count(SCALED) == 1
    assert 'clipped' not in notes
    assert run(*words, '--intensity-scale', '1/255')[1] == table


def test_result_files_have_no_intensity(run, bright):
    labels = bright / 'training' / 'label_2'
    words = ['evaluate', '--predictions', labels, '--labels', labels]
    code, _, notes = run(*words, '--intensity-scale', 'auto')
    assert code == 2
    assert 'leave out --intensity-scale' in notes


def test_train_measures_what_it_was_given(run, experiment, tmp_path):
    code, _, notes = run('train', experiment, '-o', tmp_path / 'bright')
    assert code == 0
    assert f'usual is 0 to 1: {LIKELY}' in notes
    assert read_info(tmp_path / 'bright' / 'bundle').intensity_range == (0, 255)
    code, _, notes = run(
        'train', experiment, '-o', tmp_path / 'scaled', '--intensity-scale', 'auto'
    )
    assert code == 0
    assert SCALED in notes
    assert read_info(tmp_path / 'scaled' / 'bundle').intensity_range == (0, 1)
    again = ['train', experiment, '-o', tmp_path / 'scaled', '--resume']
    assert run(*again, '--intensity-scale', 'auto')[0] == 0  # decides as before
    code, _, notes = run(*again)
    assert code == 2
    assert 'dataset.intensity_scale' in notes


def test_distill_judges_by_the_teacher(run, bundle, experiment, tmp_path):
    words = ['distill', experiment, '--teacher', bundle, '--set', 'distillation.terms=[]']
    code, _, notes = run(*words, '-o', tmp_path / 'run')
    assert code == 0, notes
    assert f'the teacher was trained on 0 to 1 (assumed): {LIKELY}' in notes
    code, _, notes = run(*words, '-o', tmp_path / 'scaled', '--intensity-scale', 'auto')
    assert code == 0
    assert SCALED in notes


def test_train_judges_by_the_detector_that_it_begins_with(run, bundle, experiment, tmp_path):
    bright, tuned = tmp_path / 'bright', ['train', experiment, '-o', tmp_path / 'tuned', '--from']
    code, _, notes = run(*tuned, bundle)
    assert code == 0
    assert f'the source was trained on 0 to 1 (assumed): {LIKELY}' in notes
    run('train', experiment, '-o', bright)
    tuned[3] = tmp_path / 'again'
    code, _, notes = run(*tuned, bright, '--intensity-scale', 'auto')
    assert code == 0
    assert 'nothing to scale, the source was trained on 0 to 255' in notes


@pytest.mark.parametrize('kind', ['dataset', 'bag'])
@pytest.mark.parametrize('name', backends('onnx'))
def test_export_scales_what_it_compares_on(run, bundle, bright, tmp_path, kind, name):
    source = bright
    if kind == 'bag':
        source = tmp_path / 'bag'
        points = np.fromfile(sweep(bright), np.float32).reshape(-1, 4)
        with CloudBagWriter(source) as writer:
            writer.write('/points', 10**9, 'lidar', points)
    words = ['export', bundle, '--to', name, '--check', source]
    assert LIKELY in run(*words)[2]
    assert SCALED in run(*words, '--intensity-scale', 'auto')[2]


def test_make_bag_scales(run, bright, tmp_path):
    code, _, notes = run('make-bag', bright, tmp_path / 'plain')
    assert code == 0
    assert f'usual is 0 to 1: {LIKELY}' in notes
    code, _, notes = run('make-bag', bright, tmp_path / 'bag', '--intensity-scale', 'auto')
    assert code == 0
    assert SCALED in notes
    highest = {
        name: max(
            points_from_cloud(cloud.message)[:, 3].max() for cloud in read_clouds(tmp_path / name)
        )
        for name in ('plain', 'bag')
    }
    assert highest['plain'] > 250
    assert highest['bag'] == pytest.approx(highest['plain'] / 255)


def test_check_dataset_tells_of_the_scale(run, bright):
    _, lines, _ = run('check-dataset', bright)
    assert 'likely scale 1/255' in ' '.join(lines.split())
