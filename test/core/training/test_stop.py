# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings that stop in time, at any step, and go on as if they never had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pointdistiller_core.config import ExperimentConfig, KittiConfig, TrainingConfig
from pointdistiller_core.errors import TrainingInterrupted, TrainingStopped
from pointdistiller_core.evaluation.scores import Scores
from pointdistiller_core.pipelines.evaluate import Evaluation
from pointdistiller_core.training import fit as module
from pointdistiller_core.training.checkpoint import list_checkpoints
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.requests import ask_to_stop


class Objective(nn.Module):
    """Guesses the frame's first box from its mean point, with torch's own random numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.detector = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 7))

    def forward(self, batch):
        means = torch.stack([points.mean(0) for points in batch.points])
        error = self.detector(means) - torch.stack([boxes[0] for boxes in batch.boxes])
        return {'box': (error + 0.1 * torch.rand(error.shape)).square().mean()}


class Clock(Listener):
    """`time.monotonic` that advances by a second with every step and every validated batch."""

    def __init__(self, monkeypatch) -> None:
        self.now, self.steps = 0.0, []
        monkeypatch.setattr(module, 'monotonic', lambda: self.now)

    def on_step(self, progress):
        self.now += 1
        self.steps.append((progress.step, progress.epoch))

    def on_validation(self, done, total):  # noqa: ARG002
        self.now += 1


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def frames(tiny_dataset):
    return tiny_dataset(8)


@pytest.fixture
def train(tmp_path, frames, tiny_model, clock):
    """Train in a folder, stopping at a moment of the clock; a second time it resumes."""

    def run(name='run', *, objective=None, stop_at=None, validation=None, **training):
        values = {'epochs': 3, 'batch_size': 2, 'num_workers': 0, 'seed': 3} | training
        config = ExperimentConfig(
            model=tiny_model,
            dataset=KittiConfig(root=Path('data/tiny')),
            training=TrainingConfig(**values),
        )
        folder = tmp_path / name
        return fit(
            objective or Objective(),
            frames,
            config,
            folder,
            resume=folder.exists(),
            listener=clock,
            stop_at=stop_at,
            validation=validation,
        )

    return run


def history_of(run):
    lines = (run / 'metrics.jsonl').read_text().splitlines()
    return [(line['epoch'], line['step'], line['losses']) for line in map(json.loads, lines)]


def names_of_checkpoints(run):
    return [path.name for path in list_checkpoints(run)]


@pytest.mark.parametrize(
    'training', [{}, {'accumulate': 2, 'ema_decay': 0.9}, {'num_workers': 2}], ids=str
)
def test_stopped_after_every_step_it_ends_as_if_it_had_not_been(tmp_path, train, clock, training):
    whole, stops = Objective(), 0
    train('whole', objective=whole, **training)
    taken, clock.steps = clock.steps, []
    while True:
        resumed = Objective()
        try:
            train('stopped', objective=resumed, stop_at=clock.now + 1, **training)
            break
        except TrainingStopped:
            stops += 1
            if stops == len(taken):  # all is done but the bundle
                resumed = Objective()
                train('stopped', objective=resumed, **training)
                break
    assert clock.steps == taken
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert history_of(tmp_path / 'stopped') == history_of(tmp_path / 'whole')


def test_it_says_where_it_stopped(tmp_path, train):
    run = tmp_path / 'run'
    with pytest.raises(TrainingStopped, match=r'after 1 of 3 epochs and 2 steps; resume'):
        train(stop_at=6)
    assert names_of_checkpoints(run) == ['epoch_000001', 'epoch_000001_step_000002']
    with pytest.raises(TrainingStopped, match='after 1 of 3 epochs and 2 steps'):  # at once
        train(stop_at=6)
    with pytest.raises(TrainingStopped, match='after 2 of 3 epochs'):
        train(stop_at=8)
    assert names_of_checkpoints(run)[-1] == 'epoch_000002'


def test_before_the_first_step_nothing_is_lost(train, clock):
    with pytest.raises(TrainingStopped, match='after 0 of 3 epochs'):
        train(stop_at=0)
    train()
    assert [step for step, _ in clock.steps] == list(range(1, 13))


def test_an_epoch_is_saved_even_where_none_is_due(tmp_path, train):
    with pytest.raises(TrainingStopped):
        train(stop_at=4, checkpoint_every=3)
    assert names_of_checkpoints(tmp_path / 'run') == ['epoch_000001']


def test_validation_is_stopped_and_repeated(train, frames, clock, monkeypatch):
    def evaluate(_detector, _frames, *, on_frame, **_):
        for done in range(1, 5):
            on_frame(done, 4)
        return Evaluation(Scores({}, {}, {}), [])

    monkeypatch.setattr(module, 'evaluate', evaluate)
    with pytest.raises(TrainingStopped, match='after all epochs and 2 of 4 validated frames'):
        train(validation=frames, stop_at=14)
    assert train(validation=frames).exists()
    assert [step for step, _ in clock.steps] == list(range(1, 13))


def test_a_request_at_the_end_of_the_last_epoch_is_heeded(train, clock, frames, monkeypatch):
    validated = []

    def evaluate(_detector, _dataset, on_frame, info):  # noqa: ARG001
        for number in range(5):
            validated.append(number)
            on_frame(number + 1, 5)
        return Evaluation(Scores({}, {}, {}, {}), [])

    monkeypatch.setattr(module, 'evaluate', evaluate)
    monkeypatch.setattr(
        clock, 'on_epoch', lambda record: record['epoch'] < 3 or ask_to_stop(), raising=False
    )
    with pytest.raises(TrainingInterrupted, match='all epochs and 1 of 5 validated frames'):
        train(validation=frames)
    assert validated == [0]
