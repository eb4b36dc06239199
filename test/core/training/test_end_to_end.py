# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny PointPillars learns four frames; its bundle detects what the trained module detects."""

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
    KittiConfig,
    LocalGraphConfig,
    TrainingConfig,
)
from pointdistiller_core.detector import Detector
from pointdistiller_core.distill import Distiller
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.evaluate import detect_frames, evaluate
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.objective import DetectionObjective
from pointdistiller_core.training.run import read_ratios


def make_config(model, **training):
    values = {'epochs': 150, 'batch_size': 2, 'num_workers': 0, 'checkpoint_every': 100}
    return ExperimentConfig(
        model=model,
        dataset=KittiConfig(root=Path('tiny')),
        augmentation=AugmentationConfig(rotation=(-0.1, 0.1), flip_probability=0),
        training=TrainingConfig(**(values | {'learning_rate': 0.02} | training)),
    )


@pytest.fixture(scope='module')
def trained(tiny_model, tiny_dataset, tmp_path_factory):
    """(objective, bundle, dataset) after a short training."""
    torch.manual_seed(0)
    run, dataset = tmp_path_factory.mktemp('runs') / 'run', tiny_dataset(4)
    objective = DetectionObjective(build_detector(tiny_model))
    bundle = fit(objective, dataset, make_config(tiny_model), run, validation=dataset)
    return objective, bundle, dataset


def test_loss_falls(trained):
    _, bundle, _ = trained
    lines = (bundle.parent / 'metrics.jsonl').read_text().splitlines()
    losses = [json.loads(line)['losses'] for line in lines]
    assert set(losses[0]) == {'classification', 'box', 'direction', 'total'}
    assert losses[-1]['total'] < 0.3 * losses[0]['total']


def test_bundle_detects_what_the_module_detects(trained):
    objective, bundle, dataset = trained
    detector = Detector.load(bundle)
    for index, expected in enumerate(detect_frames(objective.detector, dataset.frames)):
        found = detector(dataset[index].points)
        # One frame at a time or several: rounding of the convolutions may differ.
        np.testing.assert_allclose(found.boxes, expected.boxes.numpy(), atol=1e-4)
        np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-5)
        np.testing.assert_array_equal(found.labels, expected.labels.numpy())


def test_cars_are_found(trained):
    _, bundle, dataset = trained
    detector = Detector.load(bundle)
    for frame in dataset.frames:
        found = detector(frame.points)[np.arange(2)]
        distances = frame.ground_truth.boxes[:, None, :2] - found.boxes[:, :2]
        assert (np.linalg.norm(distances, axis=-1).min(axis=1) < 1.5).all()


def test_metrics_of_the_run(trained):
    objective, bundle, dataset = trained
    heard = []
    scores, found = evaluate(
        objective.detector, dataset, on_frame=lambda *done: heard.append(done)
    )
    metrics = json.loads((bundle.parent / 'metrics.json').read_text())
    assert metrics['last_epoch']['epoch'] == 150
    for metric, classes in scores.details.items():
        assert set(classes) == {'Car'}
        for kind, values in classes['Car'].items():
            assert metrics['validation'][metric]['Car'][kind] == pytest.approx(values, abs=1e-3)
    # With eight cars only eight of the forty recalls can be reached: at most 20 %.
    assert 0 < scores.by_class['Car']['BEV AP'] <= 20
    assert heard == [(4, 4)]
    assert [set(each.labels) <= {0} for each in found] == [True] * 4


@pytest.mark.parametrize('training', [True, False])
def test_evaluation_keeps_the_mode(tiny_model, tiny_dataset, training):
    detector = build_detector(tiny_model).train(training)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    evaluate(detector, tiny_dataset(1))
    assert detector.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())


def test_resumed_distillation_is_the_uninterrupted_one(tiny_model, tiny_dataset, tmp_path):
    class Stop(Listener):
        def on_epoch(self, record):
            if record['epoch'] == 1:
                raise KeyboardInterrupt

    def make_objective():
        torch.manual_seed(1)
        return Distiller(build_detector(tiny_model), build_detector(student), distillation)

    student = tiny_model.model_copy(update={'width': 0.5})
    distillation = DistillationConfig(terms=(LocalGraphConfig(num_samples=1024),))
    dataset = tiny_dataset(4)
    config = make_config(student, epochs=2, checkpoint_every=1)
    config = config.model_copy(update={'distillation': distillation})
    whole, resumed = make_objective(), make_objective()
    fit(whole, dataset, config, tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        fit(make_objective(), dataset, config, tmp_path / 'run', listener=Stop())
    bundle = fit(resumed, dataset, config, tmp_path / 'run', resume=True)

    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    info = Detector.load(bundle).info
    assert info.model.width == 0.5
    # Each epoch says how hard the term pulled, the resumed ones with the same numbers.
    ratios = read_ratios(tmp_path / 'whole')
    assert [list(of_epoch) for of_epoch in ratios] == [['local_graph']] * 2
    assert all(of_epoch['local_graph']['encoder'] > 0 for of_epoch in ratios)
    assert read_ratios(tmp_path / 'run') == ratios
    assert info.training['distillation'] == ['local_graph']
    saved = torch.load(
        tmp_path / 'run' / 'checkpoints' / 'epoch_000002' / 'training.pt', weights_only=True
    )
    assert list(saved['companions']) == ['terms']
