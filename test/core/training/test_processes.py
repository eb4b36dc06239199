# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest
import torch

from pointdistiller_core.config import (
    DatasetConfig,
    DistillationConfig,
    ExperimentConfig,
    LocalGraphConfig,
    TrainingConfig,
    dump_config,
)
from pointdistiller_core.deploy.bundle import load_bundle
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.training.processes import (
    average_gradients,
    check_shares,
    gather_names,
    launch,
)

# The real detector on the CPU, alone or under torchrun; `kind` says what is special about it.
WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
here, config_file, run, kind, num_frames = sys.argv[1:]
sys.path.insert(0, here)
from conftest import TinyDataset
from pointdistiller_core.config import ExperimentConfig, load_config
from pointdistiller_core.distill.distiller import Distiller
from pointdistiller_core.models import build_detector
from pointdistiller_core.training import fit
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.objective import DetectionObjective

class Stop(Listener):
    def on_epoch(self, record):
        if record['epoch'] == 1:
            raise KeyboardInterrupt

class NotANumber(DetectionObjective):
    def forward(self, batch):
        losses = super().forward(batch)
        if '000002' in batch.frame_ids:
            losses['box'] = losses['box'] * float('nan')
        return losses

config = load_config(ExperimentConfig, Path(config_file))
frames = TinyDataset(int(num_frames))
if kind == 'empty':  # no point of these is in range: some processes have no pillars at all
    away = [replace(frame, points=frame.points - 500) for frame in frames.frames[1:4]]
    frames.frames[1:4] = away
torch.manual_seed(0)
student = build_detector(config.model)
objective = (NotANumber if kind == 'nan' else DetectionObjective)(student)
if config.distillation:
    torch.manual_seed(1)
    objective = Distiller(build_detector(config.model), student, config.distillation)
fit.fit(objective, frames, config, Path(run), device='cpu', resume=kind == 'resume',
        listener=Stop() if kind == 'stop' else None)
"""


@pytest.fixture
def train(tmp_path, tiny_model):
    """`train(name, num_processes, kind)`: a run's folder and the finished process."""

    def start(name, num_processes, kind='plain', distillation=None, num_frames=7, **training):
        values = {'epochs': 2, 'batch_size': 4, 'num_workers': 0, 'learning_rate': 1e-3} | training
        config = ExperimentConfig(
            model=tiny_model,
            dataset=DatasetConfig(root=Path('data/tiny')),
            training=TrainingConfig(**values),
            distillation=distillation,
        )
        (tmp_path / 'worker.py').write_text(WORKER)
        (tmp_path / f'{name}.yaml').write_text(dump_config(config))
        launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node']
        alone = [] if num_processes == 1 else [*launcher, str(num_processes)]
        paths = [tmp_path / 'worker.py', Path(__file__).parent.parent]
        paths += [tmp_path / f'{name}.yaml', tmp_path / name]
        done = subprocess.run(
            [sys.executable, *alone, *map(str, paths), kind, str(num_frames)],
            env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        return tmp_path / name, done

    return start


def losses_of(run):
    return [json.loads(line)['losses'] for line in (run / 'metrics.jsonl').open()]


def assert_same_training(run, other):
    ours, theirs = losses_of(run), losses_of(other)
    assert len(ours) == len(theirs)
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(expected, rel=2e-3)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4)  # before rounding has built up
    weights, expected = load_bundle(run)[1], load_bundle(other)[1]
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize('kind', ['plain', 'empty'])
def test_two_processes_are_one_with_the_whole_batch(train, kind):
    (one, alone), (two, together) = train('one', 1, kind), train('two', 2, kind)
    assert alone.returncode == 0, alone.stderr
    assert together.returncode == 0, together.stderr
    assert_same_training(two, one)
    assert len(list((two / 'tensorboard').iterdir())) == 1
    (session,) = json.loads((two / 'run.json').read_text())['sessions']
    assert session['machine']['processes'] == 2


def test_stopped_and_resumed_with_accumulation_and_average(train):
    settings = {'accumulate': 2, 'batch_size': 3, 'num_frames': 6, 'ema_decay': 0.9}
    whole, done = train('whole', 2, **settings)
    assert done.returncode == 0, done.stderr
    run, stopped = train('run', 2, 'stop', **settings)
    assert stopped.returncode != 0
    assert not (run / 'bundle').exists()
    shutil.copytree(run, run.with_name('alone'))
    _, resumed = train('run', 2, 'resume', **settings)
    assert resumed.returncode == 0, resumed.stderr
    assert losses_of(run) == losses_of(whole)
    for name, tensor in load_bundle(run)[1].items():
        assert torch.equal(tensor, load_bundle(whole)[1][name]), name
    alone, resumed = train('alone', 1, 'resume', **settings)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_training(alone, whole)


def test_not_a_number_in_one_process_stops_all_with_every_frame(train):
    run, done = train('run', 2, 'nan', batch_size=7)
    assert done.returncode != 0
    line = next(line for line in done.stderr.splitlines() if 'box = nan' in line)
    assert all(f'{index:06d}' in line for index in range(7))
    assert not list((run / 'checkpoints').glob('*'))


@pytest.mark.parametrize('adapter', ['frozen', 'trained'])
def test_distillation_in_two_processes(train, adapter):
    term = LocalGraphConfig(num_samples=32, num_neighbors=8, teacher_adapter=adapter)
    config = DistillationConfig(terms=(term,))
    one, alone = train('one', 1, distillation=config)
    two, together = train('two', 2, distillation=config)
    assert alone.returncode == 0, alone.stderr
    assert together.returncode == 0, together.stderr
    assert_same_training(two, one)


def test_distillation_where_a_process_has_no_pillars(train):
    config = DistillationConfig(terms=(LocalGraphConfig(num_samples=32, num_neighbors=8),))
    run, done = train('run', 2, 'empty', distillation=config)
    assert done.returncode == 0, done.stderr
    assert all(losses['local_graph'] > 0 for losses in losses_of(run))


def test_share_of_every_process():
    check_shares(7, TrainingConfig(batch_size=4))


def test_batch_too_small_for_the_processes(monkeypatch):
    from pointdistiller_core.training import processes

    monkeypatch.setattr(processes, 'num_processes', lambda: 4)
    check_shares(12, TrainingConfig(batch_size=8))
    message = r'batch_size 8: of 11 frames the last batch of an epoch has 3, too few for 4 '
    with pytest.raises(ConfigError, match=message):
        check_shares(11, TrainingConfig(batch_size=8))
    with pytest.raises(ConfigError, match='of 2 frames'):
        check_shares(2, TrainingConfig(batch_size=8))


def test_one_device_for_several_processes(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ConfigError, match=r"'cuda:0': 2 processes need one each"):
        launch(torch.device('cuda:0'), TrainingConfig())
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(ConfigError, match='2 processes, but torch sees 1 CUDA'):
        launch(torch.device('cuda'), TrainingConfig())


def test_alone_nothing_is_exchanged():
    parameter = torch.nn.Parameter(torch.zeros(2))
    average_gradients([parameter])
    assert parameter.grad is None
    assert gather_names(('a', 'b')) == ['a', 'b']
