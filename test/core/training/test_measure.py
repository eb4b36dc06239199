# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a bundle says of its training data, and that training and validation keep to it."""

from __future__ import annotations

import json

from kitti_folder import points_in, write_frame, write_splits
import numpy as np
import pytest
import torch

from pointdistiller_core.config import (
    AugmentationConfig,
    ExperimentConfig,
    KittiConfig,
    PointPillarsConfig,
    TrainingConfig,
)
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.deploy.bundle import BundleInfo, read_info, save_imported_bundle
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.evaluate import detect_frames
from pointdistiller_core.training.data import load_batches
from pointdistiller_core.training.experiment import run_experiment
from pointdistiller_core.training.measure import measure_range, measure_sizes

CAR, LONG = [10, 0, -1, 3.9, 1.6, 1.56, 0], [20, 5, -1, 5.0, 2.0, 1.2, 0]


@pytest.fixture
def root(tmp_path):
    """Four frames with two cars each, on a scale of 0 to 255; one point is far brighter."""
    root, rng = tmp_path / 'data', np.random.default_rng(0)
    for index in range(4):
        points = points_in([CAR, LONG], 600, rng).reshape(-1, 4)
        points[:, 3] *= 255
        points[index, 3] = 1e6
        write_frame(root, f'{index:06}', points, [CAR, LONG], ['Car', 'Car'])
    write_splits(root, {'train': [f'{index:06}' for index in range(4)]})
    return root


def test_sizes_by_hand(root):
    dataset = KittiDataset(KittiConfig(root=root), ('Car', 'Cyclist'))
    car, cyclist = measure_sizes(dataset, PointPillarsConfig(class_names=('Car', 'Cyclist')))
    assert car == ((1.95, 0.8, 0.6), (10.0, 4.0, 3.12))  # a factor of two around the labels
    # of a class without labels, a factor of two, twice, around its anchor
    assert cyclist == ((0.44, 0.15, 0.432), (7.04, 2.4, 6.92))


def test_a_mistaken_label_is_no_size(tmp_path, tiny_model):
    rng = np.random.default_rng(0)
    for index in range(60):
        boxes = [CAR, LONG if index else [20, 5, -1, 500, 2, 1.2, 0]]
        write_frame(tmp_path, f'{index:06}', points_in([CAR], 5, rng)[0], boxes, ['Car', 'Car'])
    write_splits(tmp_path, {'train': [f'{index:06}' for index in range(60)]})
    dataset = KittiDataset(KittiConfig(root=tmp_path), ('Car',))
    ((_, largest),) = measure_sizes(dataset, tiny_model)
    assert largest == (10.0, 4.0, 3.12)


@pytest.mark.parametrize(('scale', 'expected'), [(1.0, 255), (1 / 255, 1)])
def test_range_is_that_of_the_scaled_clouds(root, scale, expected):
    dataset = KittiDataset(KittiConfig(root=root, intensity_scale=scale), ('Car',))
    assert measure_range(dataset) == (0, expected)


def test_the_scale_makes_another_frame(root):
    plain, scaled = (
        KittiDataset(KittiConfig(root=root, intensity_scale=scale), ('Car',)) for scale in (1, 0.5)
    )
    assert plain.fingerprint(0) != scaled.fingerprint(0)
    np.testing.assert_array_equal(scaled[0].points[:, 3], plain[0].points[:, 3] * 0.5)
    np.testing.assert_array_equal(scaled[0].points[:, :3], plain[0].points[:, :3])


def test_training_clouds_are_clipped_as_those_of_the_detector(root):
    dataset = KittiDataset(KittiConfig(root=root), ('Car',))
    config = TrainingConfig(epochs=1, batch_size=4, num_workers=0)
    (free,), (clipped,) = (
        load_batches(dataset, AugmentationConfig(), config, **options)
        for options in ({}, {'intensity_range': (0.0, 255.0)})
    )
    assert max(points[:, 3].max() for points in free.points) == 1e6
    for points, expected in zip(clipped.points, free.points, strict=True):
        assert torch.equal(points[:, 3], expected[:, 3].clip(0, 255))
        assert torch.equal(points[:, :3], expected[:, :3])


def test_a_trained_bundle_says_what_it_was_trained_on(root, tiny_model, tmp_path):
    config = ExperimentConfig(
        model=tiny_model,
        dataset=KittiConfig(root=root),
        validation=KittiConfig(root=root),
        training=TrainingConfig(epochs=1, batch_size=2, num_workers=0),
    )
    bundle = run_experiment(config, tmp_path / 'run', device='cpu')
    info = read_info(bundle)
    assert (info.intensity_range, info.intensity_assumed) == ((0, 255), False)
    assert info.intensity_text == '0 to 255'
    assert info.model.detection.size_bounds == (((1.95, 0.8, 0.6), (10.0, 4.0, 3.12)),)
    assert read_info(next((tmp_path / 'run' / 'checkpoints').iterdir())).model == info.model

    # what is validated is what the bundle does: clipped, and with its bounds
    frames = [KittiDataset(config.dataset, ('Car',))[index] for index in range(4)]
    detector = Detector.load(bundle, backend='torch')
    for frame, found in zip(frames, detect_frames(detector.model, frames, info), strict=True):
        expected = detector(frame.points)
        np.testing.assert_allclose(found.boxes.numpy(), expected.boxes, atol=1e-4)
        assert found.num_refused == expected.counts['boxes_refused']


def test_bounds_that_a_configuration_gives_are_kept(root, tiny_model, tmp_path):
    bounds = (((1.0, 1.0, 1.0), (9.0, 9.0, 9.0)),)
    detection = tiny_model.detection.model_copy(update={'size_bounds': bounds})
    config = ExperimentConfig(
        model=tiny_model.model_copy(update={'detection': detection}),
        dataset=KittiConfig(root=root),
        training=TrainingConfig(epochs=1, batch_size=4, num_workers=0),
    )
    bundle = run_experiment(config, tmp_path / 'run', device='cpu')
    assert read_info(bundle).model.detection.size_bounds == bounds


def test_an_imported_bundle_assumes(tiny_model, tmp_path):
    state = build_detector(tiny_model).state_dict()
    save_imported_bundle(tmp_path / 'a', tiny_model, state, source=tmp_path / 'x.pth')
    info = read_info(tmp_path / 'a')
    assert (info.intensity_range, info.intensity_assumed) == ((0, 1), True)
    assert info.intensity_text == '0 to 1 (assumed)'
    assert info.model.detection.size_bounds == ()
    given = {'source': tmp_path / 'x.pth', 'intensity_range': (0, 255)}
    save_imported_bundle(tmp_path / 'b', tiny_model, state, **given)
    info = read_info(tmp_path / 'b')
    assert (info.intensity_range, info.intensity_assumed) == ((0, 255), False)
    given['intensity_range'] = (1, 0)
    with pytest.raises(ConfigError, match='intensity range 1 to 0'):
        save_imported_bundle(tmp_path / 'c', tiny_model, state, **given)


def test_a_bundle_of_an_earlier_version_assumes(tiny_model, tmp_path):
    state = build_detector(tiny_model).state_dict()
    save_imported_bundle(tmp_path / 'a', tiny_model, state, source=tmp_path / 'x.pth')
    file = tmp_path / 'a' / 'bundle.json'
    values = json.loads(file.read_text(encoding='utf-8'))
    for removed in ('info_sha256', 'intensity_assumed'):
        del values[removed]
    del values['model']['detection']['size_bounds']
    file.write_text(json.dumps(values), encoding='utf-8')
    info = read_info(tmp_path / 'a')
    assert info.intensity_assumed
    assert info == BundleInfo(model=tiny_model, training=info.training, sha256=info.sha256)
