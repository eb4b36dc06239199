# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A detector for nuScenes, trained, exported, evaluated and run on the command line."""

from __future__ import annotations

import json

from backend_parameters import backends
from nuscenes_folder import write_experiment
import pytest

from pointdistiller_core.cli import export
from pointdistiller_core.config import dump_config


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tiny_dataset, tiny_pyramid):
    """A folder with the tables of four key frames and a file of the training on them."""
    root = tmp_path_factory.mktemp('drives')
    experiment = write_experiment(root, tiny_dataset(4).frames, tiny_pyramid, epochs=40)
    (root / 'experiment.yaml').write_text(dump_config(experiment), encoding='utf-8')
    return root


@pytest.fixture
def bundle(run, trained):
    folder = trained / 'run'
    if not folder.exists():
        code, _, err = run('train', trained / 'experiment.yaml', '-o', folder, '--device', 'cpu')
        assert code == 0, err
    return folder


@pytest.mark.parametrize('name', backends('openvino', 'onnx', 'openvino-int8'))
def test_exported_evaluated_and_run(
    run, trained, bundle, name, tmp_path, monkeypatch, tiny_dataset
):
    monkeypatch.setattr(export, 'SIMULATED_FRAMES', 1)
    drives = ['--split', 'mine', '--json', tmp_path / 'values.json']
    code, _, err = run('export', bundle, '--to', name, '--calibration', trained, *drives)
    assert code == 0, err
    assert ('4 clouds of up to 2 merged sweeps' in err) == (name == 'openvino-int8')
    checks = json.loads((tmp_path / 'values.json').read_text())['checks']
    assert checks[0]['agreement']['num_boxes'] >= 6
    for backend in ('torch', name):
        options = ['--dataset', trained, '--backend', backend, '--results', tmp_path / backend]
        code, _, err = run('evaluate', bundle, *options, *drives)
        assert code == 0, err
        assert json.loads((tmp_path / 'values.json').read_text())['mAP'] > 0.8
    submission = ['--predictions', tmp_path / name / 'results_nusc.json', '--labels', trained]
    code, _, err = run('evaluate', *submission, *drives)
    assert code == 0, err
    classes = json.loads((tmp_path / 'values.json').read_text())['classes']
    assert classes['car']['AP'] > 0.8  # among ten classes, as the devkit has it
    tiny_dataset(1)[0].points.tofile(tmp_path / 'sweep.bin')
    code, out, err = run('detect', bundle, tmp_path / 'sweep.bin', '--backend', name)
    assert code == 0, err
    assert out.count(' car ') >= 1
