# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A family that only a test knows is trained, distilled and compared like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pointdistiller_core.config import (
    AugmentationConfig,
    DistillationConfig,
    ExperimentConfig,
    FolderConfig,
    TrainingConfig,
    parse_config,
)
from pointdistiller_core.datasets import open_dataset
from pointdistiller_core.datasets.bag import TRUTH_TOPIC
from pointdistiller_core.detector import Detector
from pointdistiller_core.distill import Distiller, check_distillation
from pointdistiller_core.distill.feature_similarity import compare_features, untrained_twin
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.evaluation.metric import LidarMetric
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import to_box_columns
from pointdistiller_core.models import PointPillars, build_detector
from pointdistiller_core.pipelines.evaluate import evaluate
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.objective import DetectionObjective

TERMS = [{'name': 'local_graph', 'num_samples': 20, 'num_neighbors': 5}, 'labels', 'consistency']


@pytest.fixture
def train(tiny_dataset, tmp_path):
    """`train(objective, distillation=None)`: losses of each epoch; what it says is in `run`."""

    def run(objective, distillation=None, epochs=40):
        config = ExperimentConfig(
            model=objective.detector.config,
            dataset=FolderConfig(root=Path('tiny')),
            augmentation=AugmentationConfig(rotation=(-0.1, 0.1), flip_probability=0),
            training=TrainingConfig(
                epochs=epochs, batch_size=2, num_workers=0, learning_rate=0.02
            ),
            distillation=distillation,
        )
        bundle = fit(objective, tiny_dataset(4), config, tmp_path / 'run')
        lines = (bundle.parent / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()
        return [json.loads(line)['losses'] for line in lines]

    return run


def configure(*terms, **values) -> DistillationConfig:
    return parse_config(DistillationConfig, {'terms': list(terms), **values}, where='test')


def build(config, seed):
    torch.manual_seed(seed)
    return build_detector(config)


def test_learns_where_cars_are(toy, train, tiny_dataset):
    model = build(toy, 0)
    losses = train(DetectionObjective(model))
    assert losses[-1]['total'] < 0.6 * losses[0]['total']
    frame = tiny_dataset(4).frames[0]
    points = [torch.from_numpy(frame.points)]
    with torch.no_grad():
        (found,) = model.eval().detect(model(model.prepare(points)))
    assert 2 <= len(found) < 30  # of 110 voxels with points
    centers = torch.from_numpy(frame.ground_truth.boxes[:, :2])
    assert (torch.cdist(centers, found.boxes[:, :2]).amin(dim=1) < 2.5).all()


def test_is_distilled(toy, train):
    teacher, student = build(toy, 0), build(toy.model_copy(update={'width': 0.5}), 1)
    losses = train(Distiller(teacher, student, configure(*TERMS)), configure(*TERMS), epochs=10)
    assert set(losses[0]) == {'classification', 'box', 'local_graph', 'consistency', 'total'}
    assert losses[-1]['local_graph'] < losses[0]['local_graph']


def test_its_features_are_compared(toy, tiny_dataset):
    teacher, student = (build(toy, seed).eval() for seed in (0, 1))
    clouds = [torch.from_numpy(frame.points) for frame in tiny_dataset(3).frames]
    students = {'same': teacher, 'student': student, 'untrained': untrained_twin(student)}
    similarities = compare_features(teacher, students, clouds)
    assert list(similarities) == ['voxels']
    assert similarities['voxels']['same'].cka == pytest.approx(1.0)
    assert similarities['voxels']['student'].cka < 0.999


def test_boxes_that_no_car_can_be_are_refused_and_counted(toy, tiny_dataset):
    model, points = build(toy, 0).eval(), torch.from_numpy(tiny_dataset(1).frames[0].points)
    output = model(model.prepare([points]))
    everything = toy.detection.model_copy(update={'score_threshold': 0.0})
    bounds = {'size_bounds': (((50.0, 50.0, 50.0), (60.0, 60.0, 60.0)),)}
    (found,), (refused,) = (
        model.detect(output, detection)
        for detection in (everything, everything.model_copy(update=bounds))
    )
    assert (len(found) > 0, found.num_refused) == (True, 0)
    assert (len(refused), refused.num_refused) == (0, len(output.boxes))


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'terms': ['logits']}, r'anchor by anchor: teacher \(toy\) and student \(toy\)'),
        ({'terms': [], 'initialization': 'slice'}, 'toy cannot be cut out of toy, only pointpill'),
        ({'terms': ['fitnets']}, r"teacher has no \['neck'\]; choose from \['voxels'\]"),
        ({'terms': [{'name': 'overhaul', 'taps': ['voxels']}]}, r'overhaul.*choose from \[\]'),
        ({'terms': [{'name': 'similarity', 'taps': ['voxels']}]}, 'voxels has no cells of a map'),
        ({'terms': ['attention']}, 'none stands for all levels of the backbone'),
    ],
)
def test_what_it_has_not_is_said_before_any_training(toy, values, message):
    with pytest.raises(ConfigError, match=message):
        check_distillation(configure(**values), toy, toy)


def test_two_families_that_see_the_same_voxels_may_teach_one_another(toy, tiny_model, monkeypatch):
    teacher, student = PointPillars(tiny_model), build(toy, 1)
    with pytest.raises(ConfigError, match='make these equal'):
        Distiller(teacher, student, configure('labels'))
    flat = build(toy.model_copy(update={'grid': tiny_model.grid}), 1)
    monkeypatch.setattr(flat, 'input_facts', teacher.input_facts)
    term = {'name': 'local_graph', 'num_samples': 20, 'num_neighbors': 5}
    distiller = Distiller(teacher, flat, configure(term, 'labels', 'consistency'))
    assert set(distiller.terms) == {'local_graph', 'labels', 'consistency'}


def test_what_it_learned_is_scored_on_a_labelled_bag(train, toy, tiny_dataset, tmp_path):
    train(DetectionObjective(build(toy, 0)))
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for second, frame in enumerate(tiny_dataset(4).frames, start=1):
            writer.write('/points', second * 10**9, 'lidar', frame.points)
            columns = to_box_columns(frame.ground_truth)
            writer.write(TRUTH_TOPIC, second * 10**9, 'lidar', *columns)
    bag = open_dataset(tmp_path / 'bag', class_names=('Car',))
    metric = LidarMetric({'Car': (0.1, 0.1)})
    trained = evaluate(Detector.load(tmp_path / 'run'), bag, metric).scores
    untrained = evaluate(build(toy, 0), bag, metric).scores
    assert trained.num_labels['Car'] == 8
    assert trained.means['BEV mAP'] > untrained.means['BEV mAP'] + 20
