# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A detector of merged sweeps: trained, exported, and the same in each backend."""

from __future__ import annotations

from changed_config import changed
from kitti_folder import points_in
import numpy as np
import pytest

from pointdistiller_core.config import (
    AugmentationConfig,
    DistillationConfig,
    ExperimentConfig,
    FolderConfig,
    GroundTruthSamplingConfig,
    TrainingConfig,
)
from pointdistiller_core.datasets import build_dataset, divide_by_labels
from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle
from pointdistiller_core.deploy.bundle_format import add_files, read_info
from pointdistiller_core.deploy.export.exporters import export_detector
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CloudError
from pointdistiller_core.formats.folder import FolderInfo, FrameRange, FrameRow, Label
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.geometry.poses import Pose
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.evaluate import evaluate
from pointdistiller_core.training.balance import balance_terms
from pointdistiller_core.training.experiment import run_experiment

NUM_FRAMES = 4


@pytest.fixture
def drive(tmp_path):
    """A sensor that drives towards a car that stands."""
    root, rng = tmp_path / 'drive', np.random.default_rng(0)
    with FolderWriter(root, FolderInfo(class_names=('Car',))) as writer:
        for step in range(NUM_FRAMES):
            box = [12.0 - step, 0.0, -1.0, 3.9, 1.6, 1.56, 0.0]
            points = points_in([box], 60, rng)[0]
            pose = Pose((step, 0, 0, 0, 0, 0, 1))
            row = FrameRow(f'a_{step:06d}', 'a', 10**9 + step * 10**8, pose=pose)
            writer.add(row, points.astype(np.float32), [Label('Car', tuple(box))])
        splits = {'train': [FrameRange('a_000000', f'a_{NUM_FRAMES - 1:06d}')]}
        writer.set_ranges(['a_000000'], splits)
    return root


@pytest.fixture
def model(tiny_model):
    return changed(tiny_model, point_features=(*tiny_model.point_features, 'age'), sweeps=3)


def test_from_a_drive_to_every_backend(drive, model, tmp_path):
    dataset = FolderConfig(root=drive)
    config = ExperimentConfig(
        model=model,
        dataset=dataset,
        validation=dataset,
        augmentation=AugmentationConfig(ground_truth_sampling=GroundTruthSamplingConfig()),
        training=TrainingConfig(epochs=2, batch_size=2, num_workers=0),
    )
    bundle = run_experiment(config, tmp_path / 'run', device='cpu')
    info = read_info(bundle)
    assert (info.model.sweeps, info.model.point_features[-1]) == (3, 'age')
    frames = build_dataset(dataset, info.model.class_names, model=info.model)
    add_files(bundle, export_detector(load_detector_model(bundle), 'openvino', ()))
    everything = changed(info.model.detection, score_threshold=0.0)
    found = {}
    for backend in ('torch', 'openvino'):
        with Detector.load(bundle, backend=backend) as detector:
            evaluate(detector, frames)
            found[backend] = [
                detector(frames[index].points, detection=everything) for index in range(3)
            ]
            with pytest.raises(CloudError, match=r'\(N, 5\).*age'):
                detector(frames[0].points[:, :4])
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert any(len(each) for each in found['torch'])


@pytest.fixture
def partly_labelled(drive, model):
    """The configuration of a training on the drive, of which one frame has no labels."""
    (drive / 'labels' / 'a_000002.json').unlink()
    return ExperimentConfig(
        model=changed(model, width=0.5),
        dataset=FolderConfig(root=drive),
        training=TrainingConfig(epochs=1, batch_size=2, num_workers=0),
    )


def test_a_frame_without_labels_is_left_out_but_remains_a_sweep(partly_labelled, tmp_path):
    config = partly_labelled
    whole = build_dataset(config.dataset, ('Car',), labelled=False, model=config.model)
    frames = build_dataset(config.dataset, ('Car',), model=config.model)
    labelled, bare = divide_by_labels(frames)
    assert bare is not None
    assert list(labelled.frame_ids) == ['a_000000', 'a_000001', 'a_000003']
    assert list(bare.frame_ids) == ['a_000002']
    np.testing.assert_array_equal(labelled[2].points, whole[3].points)  # the bare one is in both
    np.testing.assert_array_equal(bare[0].points, whole[2].points)
    run_experiment(config, tmp_path / 'run', device='cpu')


def test_terms_are_balanced_on_the_frames_of_a_distillation(partly_labelled, model, tmp_path):
    teacher = tmp_path / 'teacher'
    save_bundle(teacher, build_detector(model), BundleInfo(model=model))
    terms = DistillationConfig(terms=({'name': 'fitnets'},))
    config = partly_labelled.model_copy(update={'distillation': terms})
    (found,) = (
        each
        for each in balance_terms(config, teacher, num_batches=1)
        if each.term.name == 'fitnets'
    )
    assert found.weight > 0
