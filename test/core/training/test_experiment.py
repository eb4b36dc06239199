# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From a configuration, a dataset on disk and a teacher's bundle to a student's."""

from __future__ import annotations

import json
from pathlib import Path

from kitti_folder import points_in, write_frame, write_splits
import numpy as np
import pytest
import torch

from pointdistiller_core.config import (
    DistillationConfig,
    ExperimentConfig,
    KittiConfig,
    LabelsConfig,
    LogitsConfig,
    TrainingConfig,
)
from pointdistiller_core.deploy.bundle import BundleInfo, read_info, save_bundle
from pointdistiller_core.distill.initialization import slice_weights
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointPillars
from pointdistiller_core.training.experiment import build_objective, run_experiment

CAR = [10, 0, -1, 3.9, 1.6, 1.56, 0]


@pytest.fixture
def teacher(tiny_model, tmp_path: Path) -> Path:
    """The bundle of an untrained teacher, which is sure of nothing."""
    torch.manual_seed(5)
    bundle = tmp_path / 'teacher'
    save_bundle(bundle, PointPillars(tiny_model), BundleInfo(model=tiny_model))
    return bundle


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three frames; the last one without labels."""
    root, rng = tmp_path / 'data', np.random.default_rng(0)
    for name in ('000000', '000001', '000002'):
        write_frame(root, name, points_in([CAR], 50, rng)[0], [CAR], ['Car'])
    (root / 'training' / 'label_2' / '000002.txt').unlink()
    write_splits(root, {'train': ['000000', '000001'], 'rest': ['000002']})
    return root


def make_config(tiny_model, root, *, width=0.5, **distillation) -> ExperimentConfig:
    terms = {'terms': (LogitsConfig(mask='rank', num_anchors=10), LabelsConfig())}
    return ExperimentConfig(
        model=tiny_model.model_copy(update={'width': width}),
        dataset=KittiConfig(root=root),
        training=TrainingConfig(epochs=1, batch_size=3, num_workers=0),
        distillation=DistillationConfig(**(terms | distillation)),
    )


def test_frames_without_labels_are_learned_from(tiny_model, teacher, frames, tmp_path):
    config = make_config(tiny_model, frames, unlabelled=KittiConfig(root=frames, split='rest'))
    bundle = run_experiment(config, tmp_path / 'run', teacher=teacher, device='cpu')
    facts = read_info(bundle).training
    assert facts['frames'] == 2
    assert facts['unlabelled_frames'] == 1
    assert facts['distillation'] == ['logits', 'labels']


@pytest.mark.parametrize('method', ['slice', 'slice_norm'])
def test_a_student_starts_as_the_teachers_slice(tiny_model, teacher, method):
    config = make_config(tiny_model, Path('data'), initialization=method)
    distiller = build_objective(config, teacher)
    expected = slice_weights(distiller.teacher, distiller.student, method)
    for name, tensor in distiller.detector.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_first_weights_are_random_by_default(tiny_model, teacher):
    distiller = build_objective(make_config(tiny_model, Path('data'), width=1.0), teacher)
    weights = (m.encoder.linear.weight for m in (distiller.teacher, distiller.student))
    assert not torch.equal(*weights)


def test_a_teacher_of_another_height_is_told(tiny_model, teacher, caplog):
    config = make_config(tiny_model, Path('data'))
    build_objective(config, teacher)
    assert not caplog.messages
    dataset = config.dataset.model_copy(update={'sensor_height': 2.5})
    build_objective(config.model_copy(update={'dataset': dataset}), teacher)
    (message,) = caplog.messages
    assert 'trained 1.73 m above the ground, but dataset.sensor_height is 2.50 m' in message


def test_a_student_that_is_no_slice_is_refused(tiny_model, teacher):
    config = make_config(tiny_model, Path('data'), width=2.0, initialization='slice')
    message = r'encoder\.channels: teacher has only \(8,\), student has \(16,\)'
    with pytest.raises(ConfigError, match=message):
        build_objective(config, teacher)


def test_features_are_compared_after_a_distillation(tiny_model, teacher, frames, tmp_path):
    config = make_config(tiny_model, frames)
    run = tmp_path / 'run'
    run_experiment(config, run, teacher=teacher)
    assert not (run / 'features.json').exists()  # nothing to measure on
    config = config.model_copy(update={'validation': config.dataset})
    run_experiment(config, tmp_path / 'validated', teacher=teacher)
    file = tmp_path / 'validated' / 'features.json'
    values = json.loads(file.read_text(encoding='utf-8'))
    taps = ['voxels', 'backbone.0', 'backbone.1', 'neck']
    assert list(values) == ['student', 'untrained']
    assert list(values['student']) == taps
    assert values['student'] != values['untrained']
    file.unlink()  # as if the process had been killed before
    run_experiment(config, tmp_path / 'validated', teacher=teacher, resume=True)
    assert json.loads(file.read_text(encoding='utf-8')) == values


def test_a_copy_of_the_teacher_has_its_features(tiny_model, teacher, frames, tmp_path):
    slow = TrainingConfig(epochs=1, batch_size=3, num_workers=0, learning_rate=1e-12)
    config = make_config(tiny_model, frames, width=1.0, initialization='slice')
    config = config.model_copy(update={'validation': config.dataset, 'training': slow})
    run_experiment(config, tmp_path / 'run', teacher=teacher)
    values = json.loads((tmp_path / 'run' / 'features.json').read_text(encoding='utf-8'))
    assert values['student']['voxels']['cka'] > 0.98 > values['untrained']['neck']['cka']
