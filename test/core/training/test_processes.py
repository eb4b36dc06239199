# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from time import monotonic, sleep

import pytest
import torch
import training_workers as workers

from pointdistiller_core.config import (
    AugmentationConfig,
    DistillationConfig,
    ExperimentConfig,
    GroundTruthSamplingConfig,
    KittiConfig,
    LocalGraphConfig,
    SimulationConfig,
    TrainingConfig,
    dump_config,
)
from pointdistiller_core.datasets.simulated import simulate_dataset
from pointdistiller_core.deploy.bundle import load_bundle
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.training.processes import (
    average_gradients,
    check_shares,
    gather_names,
    launch,
)

Finished = tuple[Path, bool, str]


@pytest.fixture
def train(tmp_path, tiny_model):
    """`train(name, num_processes, kind)`: a run's folder, whether all went well, and stderr."""

    def start(name, num_processes, kind='plain', num_frames=7, **settings) -> Finished:
        parts = {
            part: settings.pop(part)
            for part in ('distillation', 'dataset', 'augmentation')
            if part in settings
        }
        values = {'epochs': 2, 'batch_size': 4, 'num_workers': 0, 'learning_rate': 1e-3} | settings
        config = ExperimentConfig(
            model=tiny_model,
            training=TrainingConfig(**values),
            **{'dataset': KittiConfig(root=Path('data/tiny')), **parts},
        )
        (tmp_path / f'{name}.yaml').write_text(dump_config(config))
        run = tmp_path / name
        processes, log = workers.start(
            tmp_path / f'{name}.yaml', run, kind, num_frames, num_processes
        )
        deadline = monotonic() + 120
        while any(process.is_alive() for process in processes) and monotonic() < deadline:
            processes[0].join(0.05)
            if any(process.exitcode for process in processes):  # as torchrun does
                sleep(0.5)
                break
        for process in processes:
            process.kill()
            process.join()
        good = all(process.exitcode == 0 for process in processes)
        return run, good, log.read_text()

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
    one, *alone = train('one', 1, kind)
    two, *together = train('two', 2, kind)
    assert alone[0], alone[1]
    assert together[0], together[1]
    assert_same_training(two, one)
    assert len(list((two / 'tensorboard').iterdir())) == 1
    (session,) = json.loads((two / 'run.json').read_text())['sessions']
    assert session['machine']['processes'] == 2


def test_stopped_and_resumed_with_accumulation_and_average(train):
    settings = {'accumulate': 2, 'batch_size': 3, 'num_frames': 6, 'ema_decay': 0.9}
    whole, good, errors = train('whole', 2, **settings)
    assert good, errors
    run, good, _ = train('run', 2, 'stop', **settings)
    assert not good
    assert not (run / 'bundle').exists()
    shutil.copytree(run, run.with_name('alone'))
    _, good, errors = train('run', 2, 'resume', **settings)
    assert good, errors
    assert losses_of(run) == losses_of(whole)
    for name, tensor in load_bundle(run)[1].items():
        assert torch.equal(tensor, load_bundle(whole)[1][name]), name
    alone, good, errors = train('alone', 1, 'resume', **settings)
    assert good, errors
    assert_same_training(alone, whole)


def test_not_a_number_in_one_process_stops_all_with_every_frame(train):
    run, good, errors = train('run', 2, 'nan', batch_size=7)
    assert not good
    line = next(line for line in errors.splitlines() if 'box = nan' in line)
    assert all(f'{index:06d}' in line for index in range(7))
    assert not list((run / 'checkpoints').glob('*'))


@pytest.mark.parametrize('adapter', ['frozen', 'trained'])
def test_distillation_in_two_processes(train, adapter):
    term = LocalGraphConfig(num_samples=32, num_neighbors=8, teacher_adapter=adapter)
    config = DistillationConfig(terms=(term,))
    one, *alone = train('one', 1, distillation=config)
    two, *together = train('two', 2, distillation=config)
    assert alone[0], alone[1]
    assert together[0], together[1]
    assert_same_training(two, one)


def test_distillation_where_a_process_has_no_pillars(train):
    config = DistillationConfig(terms=(LocalGraphConfig(num_samples=32, num_neighbors=8),))
    run, good, errors = train('run', 2, 'empty', distillation=config)
    assert good, errors
    assert all(losses['local_graph'] > 0 for losses in losses_of(run))


def test_the_first_process_builds_the_database_of_objects(train, tmp_path):
    data = tmp_path / 'data'
    simulate_dataset(data, SimulationConfig(), splits={'train': 4}, seed=0)
    run, good, errors = train(
        'run',
        2,
        'dataset',
        dataset=KittiConfig(root=data),
        augmentation=AugmentationConfig(
            ground_truth_sampling=GroundTruthSamplingConfig(classes={'Car': {'count': 5}})
        ),
        epochs=1,
    )
    assert good, errors
    assert run.with_suffix('.builds').read_text() == 'process 0\n'


def test_torchrun_starts_the_command(tmp_path, tiny_model):
    data = tmp_path / 'data'
    simulate_dataset(data, SimulationConfig(), splits={'train': 4}, seed=0)
    config = ExperimentConfig(
        model=tiny_model,
        dataset=KittiConfig(root=data),
        training=TrainingConfig(epochs=1, batch_size=4, num_workers=0),
    )
    (tmp_path / 'config.yaml').write_text(dump_config(config))
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    command = ['-m', 'pointdistiller_core', 'train', tmp_path / 'config.yaml', '-o']
    done = subprocess.run(
        [sys.executable, *launcher, *command, tmp_path / 'run', '--device', 'cpu'],
        env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (session,) = json.loads((tmp_path / 'run' / 'run.json').read_text())['sessions']
    assert session['machine']['processes'] == 2


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
