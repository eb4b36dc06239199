# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings on a GPU: every precision, loaders, stops, averages, repeatability of pillars."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pointdistiller_core.config import ExperimentConfig, KittiConfig, TrainingConfig
from pointdistiller_core.deploy.bundle import load_bundle, load_detector_model
from pointdistiller_core.errors import TrainingStopped
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.evaluate import evaluate
from pointdistiller_core.training import fit as module
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.objective import DetectionObjective

pytestmark = pytest.mark.cuda


class Clock(Listener):
    def __init__(self, monkeypatch):
        self.now, self.losses = 0, []
        monkeypatch.setattr(module, 'monotonic', lambda: self.now)

    def on_step(self, progress):
        self.now += 1
        self.losses.append(progress.losses['total'])


@pytest.fixture
def train(tiny_model, tiny_dataset, monkeypatch, gpu):
    def run(folder, *, stop_at=None, validation=None, device=gpu, **training):
        values = {'epochs': 4, 'batch_size': 2, 'num_workers': 0} | training
        config = ExperimentConfig(
            model=tiny_model,
            dataset=KittiConfig(root=Path('data')),
            training=TrainingConfig(**values),
        )
        torch.manual_seed(0)
        clock = Clock(monkeypatch)
        bundle = fit(
            DetectionObjective(build_detector(tiny_model)),
            tiny_dataset(6),
            config,
            folder,
            resume=folder.exists(),
            listener=clock,
            stop_at=stop_at,
            validation=validation,
            device=device,
        )
        return bundle, clock.losses

    return run


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed', '16-mixed'])
@pytest.mark.parametrize('num_workers', [0, 2])
def test_every_precision_trains(tmp_path, train, gpu, precision, num_workers):
    if precision == '16-mixed' and not gpu.startswith('cuda'):
        pytest.skip('float16 is for GPUs')
    bundle, losses = train(
        tmp_path / 'run',
        precision=precision,
        num_workers=num_workers,
        epochs=20,
        learning_rate=0.02,
        ema_decay=0.5,
    )
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    assert all(tensor.isfinite().all() for tensor in load_bundle(bundle)[1].values())


def test_the_first_steps_are_those_of_the_cpu(tmp_path, train):
    _, here = train(tmp_path / 'cpu', device='cpu')
    _, there = train(tmp_path / 'gpu')
    assert there[:3] == pytest.approx(here[:3], rel=1e-3)


def test_stopped_at_every_step_it_goes_on(tmp_path, train):
    settings = {'deterministic': True, 'epochs': 2}
    try:
        whole, losses = train(tmp_path / 'whole', **settings)
        assert len(losses) == 6
        for _ in losses:
            with pytest.raises(TrainingStopped):
                train(tmp_path / 'stopped', stop_at=1, **settings)
        stopped, losses = train(tmp_path / 'stopped', **settings)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not losses  # all steps were done
    expected, found = load_bundle(whole)[1], load_bundle(stopped)[1]
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_validation_there_finds_what_it_finds_here(tmp_path, train, tiny_dataset, gpu):
    frames = tiny_dataset(4)
    bundle, _ = train(tmp_path / 'run', validation=frames, epochs=30, learning_rate=0.02)
    results = [
        evaluate(load_detector_model(bundle, device), frames).scores.details
        for device in ('cpu', gpu)
    ]
    for metric, classes in results[0].items():
        for name, values in classes.items():
            assert results[1][metric][name]['ap40'] == pytest.approx(values['ap40'], abs=2.0)


def test_pillars_are_the_same_to_the_last_bit(tiny_model, tiny_dataset, gpu):
    detector = build_detector(tiny_model)
    clouds = [torch.from_numpy(frame.points) for frame in tiny_dataset(3)]
    here = detector.prepare(clouds)
    there = detector.to(gpu).prepare([points.to(gpu) for points in clouds])
    for name in ('points', 'coords', 'num_points'):
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name)), name
    for ours, theirs in zip(there.owners, here.owners, strict=True):
        assert torch.equal(ours.cpu(), theirs)
    assert there.cuts == here.cuts
