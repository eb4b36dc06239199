# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller detect` on files of every form."""

from __future__ import annotations

import json

from clouds import flat_ground
import numpy as np

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.pipelines.make_bag import write_kitti_bag

CLOUD = flat_ground()


def test_forms_of_one_cloud_give_the_same_boxes(run, bundle, tmp_path):
    np.save(tmp_path / 'a.npy', CLOUD)
    CLOUD.tofile(tmp_path / 'a.bin')
    CLOUD.astype(float).tofile(tmp_path / 'wide.bin')
    files = [tmp_path / name for name in ('a.npy', 'a.bin', 'wide.bin')]
    code, out, _ = run('detect', bundle, *files, '--json', '-')
    assert code == 0
    first, *others = json.loads(out)
    assert len(first['boxes']) == 20
    assert all(other['boxes'] == first['boxes'] for other in others)


def test_a_bag_or_a_dataset_is_told_its_verbs(run, bundle, dataset, tmp_path):
    write_kitti_bag(dataset, tmp_path / 'bag')
    for path in (tmp_path / 'bag', dataset):
        code, _, error = run('detect', bundle, path)
        assert code == 2
        assert f'pointdistiller evaluate {bundle} --dataset {path}' in error
    assert f'run detect {bundle} --bag' in run('detect', bundle, tmp_path / 'bag')[2]


def test_clouds_without_intensities(run, bundle, tmp_path):
    np.save(tmp_path / 'a.npy', CLOUD[:, :3])
    code, _, err = run('detect', bundle, tmp_path / 'a.npy')
    assert code == 2
    assert '--missing-intensity zero' in err
    code, out, _ = run(
        'detect', bundle, tmp_path / 'a.npy', '--missing-intensity', 'zero', '--json', '-'
    )
    assert code == 0
    assert len(json.loads(out)[0]['boxes']) == 20


def test_a_broken_cloud_costs_none_of_those_before_it(run, bundle, tmp_path):
    CLOUD.tofile(tmp_path / 'a.bin')
    code, out, err = run('detect', bundle, tmp_path / 'a.bin', tmp_path, '--json', '-')
    assert code == 2
    assert [found['cloud'] for found in json.loads(out)] == [str(tmp_path / 'a.bin')]
    assert f'error: {tmp_path}: is a folder; name the files in it' in err


def test_a_lower_score_threshold_than_the_bundle_has_finds_more(run, make_bundle, tmp_path):
    CLOUD.tofile(tmp_path / 'a.bin')
    detection = DetectionConfig(score_threshold=1.0, max_detections=20)
    words = [
        'detect',
        make_bundle('blind', detection=detection),
        tmp_path / 'a.bin',
        '--json',
        '-',
    ]
    numbers = [
        len(json.loads(run(*words, *more)[1])[0]['boxes'])
        for more in ([], ['--score-threshold', '0'], ['--score-threshold', '1'])
    ]
    assert numbers == [0, 20, 0]
