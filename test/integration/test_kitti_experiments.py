# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The experiments for KITTI run on real frames: sampling, training, validation, bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pointdistiller_core.config import ExperimentConfig, dump_config, load_experiment
from pointdistiller_core.training.experiment import run_experiment

EXPERIMENTS = Path(__file__).parents[2] / 'config' / 'experiments'
# The real schedule and architecture, over a smaller range and for one epoch of few frames.
SMALLER = (
    'model.grid={point_cloud_range: [0.0, -20.48, -3.0, 40.96, 20.48, 1.0], '
    'voxel_size: [0.32, 0.32, 4.0]}',
    'training.epochs=1',
    'training.batch_size=3',
    'training.accumulate=2',
    'training.num_workers=0',
    'dataset.split=few',
    'validation.split=few',
)


@pytest.fixture(scope='module')
def root(kitti_mini, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('kitti')
    (folder / 'training').symlink_to(kitti_mini / 'training')
    (folder / 'ImageSets').mkdir()
    frames = (kitti_mini / 'ImageSets' / 'train.txt').read_text(encoding='utf-8').split()[:6]
    (folder / 'ImageSets' / 'few.txt').write_text('\n'.join(frames), encoding='utf-8')
    return folder


@pytest.fixture(scope='module')
def experiment(root):
    def load(name: str, *overrides: str) -> ExperimentConfig:
        roots = (f'dataset.root={root}', f'validation.root={root}')
        return load_experiment(EXPERIMENTS / f'{name}.yaml', (*roots, *SMALLER, *overrides))

    return load


@pytest.fixture(scope='module')
def teacher(experiment, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp('runs') / 'teacher'
    config = experiment('kitti_pointpillars').model_copy(update={'distillation': None})
    return run_experiment(config, run, device='cpu')


def test_teacher(teacher, root):
    losses = json.loads((teacher.parent / 'metrics.jsonl').read_text(encoding='utf-8'))['losses']
    assert 0 < losses['box'] < losses['total'] < 100
    assert list((root / '.cache' / 'ground_truth').glob('*.safetensors'))


@pytest.mark.parametrize('name', ['kitti_pointpillars_4x', 'kitti_pointpillars_16x'])
def test_student(experiment, teacher, tmp_path, name):
    config = experiment(name)
    assert config.distillation is not None, dump_config(config)
    bundle = run_experiment(config, tmp_path / 'run', teacher=teacher, device='cpu')
    record = json.loads((tmp_path / 'run' / 'metrics.jsonl').read_text(encoding='utf-8'))
    assert record['losses']['local_graph'] > 0
    assert bundle.is_dir()
