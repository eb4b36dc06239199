# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From a configuration, a dataset on disk and a teacher's bundle to a student's."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

from kitti_folder import points_in, write_frame, write_splits
import numpy as np
import pytest
import torch

from pointdistiller_core.config import (
    AugmentationConfig,
    DistillationConfig,
    ExperimentConfig,
    FolderConfig,
    KittiConfig,
    LabelsConfig,
    LogitsConfig,
    TrainingConfig,
)
from pointdistiller_core.deploy.bundle import BundleInfo, read_info, save_bundle
from pointdistiller_core.distill.initialization import slice_weights
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.folder import FolderInfo, FrameRange, FrameRow, Label
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.models import PointPillars
from pointdistiller_core.sparse.array_engines import NUMPY_TRAINING, best_training_engine
from pointdistiller_core.training.experiment import build_objective, run_experiment
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.run import read_losses, read_sessions

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


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A folder with four frames of which the last two have no labels."""
    root, rng = tmp_path / 'drive', np.random.default_rng(0)
    with FolderWriter(root, FolderInfo(class_names=('Car',))) as writer:
        for number in range(4):
            row = FrameRow(f'd_{number}', 'd', 10**9 * (number + 1))
            points = np.array(points_in([CAR], 50, rng)[0], np.float32)
            labels = [Label('Car', tuple(map(float, CAR)))] if number < 2 else None
            writer.add(row, points, labels)
        writer.set_ranges([f'd_{i}' for i in range(4)], {'train': [FrameRange('d_0', 'd_3')]})
    return root


class Notes(Listener):
    def __init__(self):
        self.notes = []

    def on_note(self, note):
        self.notes.append(note)


def on_drive(tiny_model, root, **training):
    config = make_config(tiny_model, root, terms=(LogitsConfig(mask='rank', num_anchors=10),))
    training = config.training.model_copy(update=training)
    return config.model_copy(
        update={'dataset': FolderConfig(root=root, split='train'), 'training': training}
    )


def test_a_partly_labelled_dataset_is_distilled_on(tiny_model, teacher, drive, tmp_path):
    listener = Notes()
    run = tmp_path / 'run'
    config = on_drive(tiny_model, drive)
    facts = read_info(run_experiment(config, run, teacher=teacher, listener=listener)).training
    assert (facts['frames'], facts['unlabelled_frames']) == (2, 2)
    (note,) = listener.notes
    assert note.endswith(
        'train: 2 of 4 frames have no labels: they take part in logits, not in the detection loss'
    )


@pytest.mark.parametrize('without', [False, True])
def test_a_run_tells_what_its_sparse_convolutions_ran_in(
    monkeypatch, tiny_second, frames, tmp_path, without
):
    expected = best_training_engine()
    if without:
        expected = NUMPY_TRAINING
        for module in ('engines', 'convolution'):
            place = f'pointdistiller_core.sparse.{module}.best_training_engine'
            monkeypatch.setattr(place, lambda *_: NUMPY_TRAINING)
    listener, run = Notes(), tmp_path / 'run'
    config = make_config(tiny_second, frames).model_copy(update={'distillation': None})
    run_experiment(config, run, listener=listener, device='cpu')
    assert [each['sparse_engine'] for each in read_sessions(run)] == [expected.name]
    told = [note for note in listener.notes if 'Numba is faster: pip install numba' in note]
    assert len(told) == (expected.name == 'numpy')


def test_of_a_partly_labelled_dataset_a_training_takes_what_is_labelled(
    tiny_model, drive, tmp_path
):
    listener = Notes()
    config = on_drive(tiny_model, drive).model_copy(update={'distillation': None})
    facts = read_info(run_experiment(config, tmp_path / 'run', listener=listener)).training
    assert (facts['frames'], facts['unlabelled_frames']) == (2, 0)
    (note,) = listener.notes
    assert note.endswith('train: 2 of 4 frames have no labels: left out')


def test_frames_without_labels_can_be_refused(tiny_model, teacher, drive, tmp_path):
    config = on_drive(tiny_model, drive, unlabelled='refuse')
    with pytest.raises(DatasetError, match=r'2 of 4 frames have no labels.*`refuse`.*d_2'):
        run_experiment(config, tmp_path / 'run', teacher=teacher)


def test_a_dataset_without_any_label_is_distilled_on_but_not_trained_on(
    tiny_model, teacher, drive, tmp_path
):
    shutil.rmtree(drive / 'labels')
    pasting = AugmentationConfig(ground_truth_sampling={})  # there is nothing to paste
    config = on_drive(tiny_model, drive).model_copy(update={'augmentation': pasting})
    bundle = run_experiment(config, tmp_path / 'run', teacher=teacher)
    info = read_info(bundle)
    assert (info.training['frames'], info.training['unlabelled_frames']) == (0, 4)
    ((low, high),) = info.model.detection.size_bounds  # around the anchor
    assert low[0] < 3.9 < high[0]
    (epoch,) = read_losses(tmp_path / 'run')
    assert epoch['classification'] == epoch['box'] == epoch['direction'] == 0
    assert epoch['logits'] > 0
    plain = config.model_copy(update={'distillation': None})
    with pytest.raises(DatasetError, match='4 of 4 frames have no labels; label some of them'):
        run_experiment(plain, tmp_path / 'plain')


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
