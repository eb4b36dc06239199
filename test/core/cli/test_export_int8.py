# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The limits that an export to int8 must keep, with a network that has learned something."""

from __future__ import annotations

from dataclasses import asdict
import json
from pathlib import Path
import shutil

from backend_parameters import backends
import pytest
import torch

from pointdistiller_core.cli import export
from pointdistiller_core.config import (
    AugmentationConfig,
    ExperimentConfig,
    KittiConfig,
    TrainingConfig,
)
from pointdistiller_core.deploy.backends.dense_backend import INPUT_SCALE
from pointdistiller_core.deploy.export import exporters
from pointdistiller_core.detector import Detector
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.verify_export import EIGHT_BITS
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.objective import DetectionObjective

FRAMES = 24


@pytest.fixture(scope='module')
def trained(tiny_model, tiny_dataset, tmp_path_factory):
    """A bundle that finds cars, and a bag of the clouds that it learned them in."""
    torch.manual_seed(0)
    folder, dataset = tmp_path_factory.mktemp('trained'), tiny_dataset(FRAMES)
    config = ExperimentConfig(
        model=tiny_model,
        dataset=KittiConfig(root=Path('tiny')),
        augmentation=AugmentationConfig(rotation=(0, 0), flip_probability=0),
        training=TrainingConfig(epochs=60, batch_size=4, num_workers=0, learning_rate=0.02),
    )
    bundle = fit(DetectionObjective(build_detector(tiny_model)), dataset, config, folder / 'run')
    with CloudBagWriter(folder / 'bag') as writer:
        for index, frame in enumerate(dataset.frames):
            writer.write('/points', index * 10**8, 'lidar', frame.points)
    return bundle, folder / 'bag'


@pytest.fixture
def bundle(trained, tmp_path):
    """A copy of it to export."""
    return shutil.copytree(trained[0], tmp_path / 'bundle')


@pytest.fixture
def export_int8(run, bundle, trained, monkeypatch):
    """Calibrates with half of the clouds, and is checked on the others."""
    monkeypatch.setattr(export, 'SIMULATED_FRAMES', 1)
    options = ('--calibration', trained[1], '--frames', FRAMES // 2, '--json', '-')
    return lambda: run('export', bundle, '--to', 'openvino-int8', *options)


def scale_input(monkeypatch, factor):
    """As if the levels of the input had another value than the network was quantized for."""
    honest = exporters._openvino_files

    def files(model, target):
        scale = model.get_rt_info(INPUT_SCALE).astype(str).split()
        model.set_rt_info(' '.join(str(float(each) * factor) for each in scale), INPUT_SCALE)
        return honest(model, target)

    monkeypatch.setattr(exporters, '_openvino_files', files)


@pytest.mark.parametrize('name', backends('openvino-int8'))
def test_honest_export_is_accepted(export_int8, bundle, name):
    code, out, err = export_int8()
    assert code == 0, err
    assert 'nncf' not in err.lower()
    assert 'Statistics collection' not in out + err
    held_out = json.loads(out)['checks'][0]
    assert held_out['clouds'].endswith('/bag, held out from calibration')
    assert held_out['num_clouds'] == FRAMES // 2
    assert held_out['agreement']['num_boxes'] > 10
    assert held_out['limits'] == asdict(EIGHT_BITS)
    assert Detector.load(bundle).backend == name


@pytest.mark.parametrize('name', backends('openvino-int8'))
@pytest.mark.parametrize('factor', [0.5, 2.0])
def test_spoiled_export_is_refused(export_int8, bundle, name, factor, monkeypatch):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    scale_input(monkeypatch, factor)
    code, _, err = export_int8()
    assert code == 2
    assert f'is left as it was, for {name} disagrees with torch' in err
    assert 'scores differ by' in err
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
