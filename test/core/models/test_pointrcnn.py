# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointRCNN as a whole; test_pointrcnn_parity.py compares it with OpenPCDet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pointdistiller_core.config import (
    AugmentationConfig,
    DistillationConfig,
    ExperimentConfig,
    FolderConfig,
    PointRcnnConfig,
    SampleConfig,
    TrainingConfig,
    parse_config,
)
from pointdistiller_core.detector import Detector
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.feature_similarity import compare_features
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import build_detector
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.objective import DetectionObjective


def build(config, seed=0):
    torch.manual_seed(seed)
    return build_detector(config)


@pytest.fixture
def train(tiny_dataset, tmp_path):
    """`train(objective, ...)`: losses of each epoch; the bundle is in `run`."""

    def run(objective, *, epochs, distillation=None):
        config = ExperimentConfig(
            model=objective.detector.config,
            dataset=FolderConfig(root=Path('tiny')),
            augmentation=AugmentationConfig(rotation=(0, 0), flip_probability=0, scaling=(1, 1)),
            training=TrainingConfig(
                epochs=epochs, batch_size=2, num_workers=0, learning_rate=0.01
            ),
            distillation=distillation,
        )
        bundle = fit(objective, tiny_dataset(4), config, tmp_path / 'run')
        lines = (bundle.parent / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()
        return [json.loads(line)['losses'] for line in lines]

    return run


def test_learns_where_cars_are(tiny_pointrcnn, train, tiny_dataset, tmp_path):
    losses = train(DetectionObjective(build(tiny_pointrcnn)), epochs=15)
    assert losses[-1]['total'] < 0.7 * losses[0]['total']
    frame = tiny_dataset(4).frames[0]
    found = Detector.load(tmp_path / 'run')(frame.points)
    assert len(found)
    distances = np.hypot(*(frame.ground_truth.boxes[:, None, :2] - found.boxes[:, :2]).T)
    assert (distances.min(axis=0) < 1.5).all()


def test_is_distilled_by_points_and_by_both_stages(tiny_pointrcnn, train):
    student = tiny_pointrcnn.model_copy(update={'width': 0.5})
    graphs = {'name': 'local_graph', 'num_samples': 100, 'num_neighbors': 8, 'pool': 'max'}
    values = {'terms': [graphs, 'logits', 'labels', 'consistency']}
    config = parse_config(DistillationConfig, values, where='test').settled_for(student)
    objective = Distiller(build(tiny_pointrcnn), build(student, 1), config)
    losses = train(objective, epochs=3, distillation=config)
    assert {'local_graph', 'logits', 'consistency', 'corner'} < set(losses[0])
    assert losses[-1]['local_graph'] < losses[0]['local_graph']


def test_its_features_are_compared(tiny_pointrcnn, tiny_dataset):
    teacher, student = (build(tiny_pointrcnn, seed).eval() for seed in (0, 1))
    clouds = [torch.from_numpy(frame.points) for frame in tiny_dataset(2).frames]
    found = compare_features(teacher, {'same': teacher, 'student': student}, clouds)
    assert list(found) == ['points']
    assert found['points']['same'].cka == pytest.approx(1.0)
    assert found['points']['student'].cka < 0.9999


def test_the_same_cloud_gives_the_same_boxes_whatever_was_drawn_before(
    tiny_pointrcnn, tiny_dataset
):
    model = build(tiny_pointrcnn).eval()
    points = [torch.from_numpy(np.tile(tiny_dataset(1).frames[0].points, (3, 1)))]
    assert len(points[0]) > tiny_pointrcnn.sample.num_points
    detection = tiny_pointrcnn.detection.model_copy(update={'score_threshold': 0.0})
    with torch.no_grad():
        (first,) = model.detect(model(model.prepare(points)), detection)
        torch.rand(7)
        (second,) = model.detect(model(model.prepare(points)), detection)
    assert len(first)
    assert torch.equal(first.boxes, second.boxes)
    model.train()
    assert not torch.equal(model.prepare(points).points, model.prepare(points).points)


def test_importance_is_the_largest_feature_of_each_point(tiny_pointrcnn, tiny_dataset):
    model = build(tiny_pointrcnn).eval()
    cloud = torch.from_numpy(tiny_dataset(1).frames[0].points)
    prepared = model.prepare([cloud])
    output = model(prepared)
    (places,) = model.places(prepared, output)
    seen = places.owners >= 0
    np.testing.assert_array_equal(places.centers[places.owners[seen]], cloud[seen, :3])
    expected = output.features[0].amax(dim=1).detach().numpy()
    np.testing.assert_array_equal(places.values, expected)
    (none,) = model.places(prepared, None)
    assert not none.values.any()


def test_computes_in_float32_even_under_autocast(tiny_pointrcnn, tiny_dataset):
    model = build(tiny_pointrcnn).eval()
    prepared = model.prepare([torch.from_numpy(tiny_dataset(1).frames[0].points)])
    exact = model(prepared)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = model(prepared)
    assert torch.equal(exact.logits, mixed.logits)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'class_names': ['Car', 'Bus']}, r"head.mean_sizes lacks classes \['Bus'\]"),
        ({'sample': {'num_points': 1000}}, 'a level cannot have more than the one before'),
        ({'backbone': {'num_points': [4096]}}, 'the same number of levels'),
        ({'backbone': {'radii': [[0.1], [0.5, 1], [1, 2], [2, 4]]}}, 'same number of radii'),
        ({'refinement': {'radii': [0.1]}}, 'one level less'),
        (
            {'sample': {'point_cloud_range': [0, 5, -3, 9, -5, 1]}},
            'point_cloud_range.*give the least first',
        ),
    ],
)
def test_what_does_not_fit_together(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(PointRcnnConfig, values, where='model')


def test_students_round_channels_down():
    config = PointRcnnConfig(width=1 / 2.8, sample=SampleConfig(num_points=8192))
    widths = [config.scaled(channels) for channels in (16, 32, 64, 96, 128, 196, 256, 384, 512)]
    assert widths == [5, 11, 22, 34, 45, 70, 91, 137, 182]  # the paper's 8x student
