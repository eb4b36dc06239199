# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from pointdistiller_core.config import (
    AugmentationConfig,
    ExperimentConfig,
    KittiConfig,
    OneCycleConfig,
    StepConfig,
    TrainingConfig,
    load_config,
)
from pointdistiller_core.deploy.bundle import load_bundle, read_info
from pointdistiller_core.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    PointDistillerError,
    WriteError,
)
from pointdistiller_core.evaluation.scores import Scores
from pointdistiller_core.pipelines.evaluate import Evaluation
from pointdistiller_core.training.checkpoint import new_name
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.listeners import Listener


class Objective(nn.Module):
    """A 'detector' that guesses the frame's first box from its mean point, and an adapter."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.detector = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 7))
        self.adapter = nn.Linear(7, 7)
        self.teacher = nn.Linear(7, 7).requires_grad_(False)
        self.seen = []

    def forward(self, batch):
        self.seen.append(batch)
        means = torch.stack([points.mean(0) for points in batch.points])
        error = self.detector(means) - torch.stack([boxes[0] for boxes in batch.boxes])
        noise = torch.rand(error.shape, device=error.device)  # torch's own random numbers
        return {
            'box': (error + 0.1 * noise).square().mean(),
            'adapter': (self.adapter(error) - self.teacher(error)).square().mean(),
        }


class Recorder(Listener):
    def __init__(self):
        self.steps, self.epochs = [], []

    def on_step(self, progress):
        self.steps.append(progress)

    def on_epoch(self, record):
        self.epochs.append(record)


class StopAfter(Listener):
    """What Ctrl-C does, after some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch(self, record):
        if record['epoch'] == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture
def make_config(tiny_model):
    def make(**training):
        values = {'epochs': 4, 'batch_size': 2, 'num_workers': 0, 'seed': 3} | training
        return ExperimentConfig(
            model=tiny_model,
            dataset=KittiConfig(root=Path('data/tiny'), sensor_height=1.9),
            training=TrainingConfig(**values),
        )

    return make


@pytest.fixture
def frames(tiny_dataset):
    return tiny_dataset(6)


def weights_of(objective):
    return {name: tensor.clone() for name, tensor in objective.state_dict().items()}


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def checkpoints_of(run):
    return sorted(path.name for path in (run / 'checkpoints').iterdir())


def test_run_folder_holds_everything(tmp_path, frames, make_config):
    run, config, objective = tmp_path / 'run', make_config(), Objective()
    bundle = fit(objective, frames, config, run)
    assert bundle == run / 'bundle'
    assert {path.name for path in run.iterdir()} == {
        'bundle', 'checkpoints', 'config.yaml', 'metrics.json', 'metrics.jsonl', 'run.json',
        'tensorboard',
    }  # fmt: skip
    assert load_config(ExperimentConfig, run / 'config.yaml') == config
    assert checkpoints_of(run) == ['epoch_000003', 'epoch_000004']
    history = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
    assert [(line['epoch'], line['step']) for line in history] == [(1, 3), (2, 6), (3, 9), (4, 12)]
    assert set(history[0]['losses']) == {'box', 'adapter', 'total'}
    assert json.loads((run / 'metrics.json').read_text())['last_epoch'] == history[-1]
    assert any('events' in path.name for path in (run / 'tensorboard').iterdir())


def test_run_json_says_with_what_it_was_made(tmp_path, frames, make_config):
    fit(Objective(), frames, make_config(epochs=1), tmp_path / 'run')
    values = json.loads((tmp_path / 'run' / 'run.json').read_text())
    assert values['seed'] == 3
    assert values['facts'] == {}
    (session,) = values['sessions']
    assert session['first_epoch'] == 1
    assert session['versions']['torch'] == torch.__version__
    assert set(session) == {
        'first_epoch', 'started', 'command', 'revision', 'versions', 'machine',
    }  # fmt: skip
    assert set(session['machine']) == {'cpu', 'cores', 'threads', 'processes', 'gpus'}


def test_bundle_holds_the_detector_alone(tmp_path, frames, make_config):
    objective = Objective()
    info, state = load_bundle(fit(objective, frames, make_config(), tmp_path / 'run'))
    assert_same_weights(state, objective.detector.state_dict())
    assert info.sensor_height == 1.9
    assert info.training['epochs'] == 4
    assert info.training['seed'] == 3
    assert info.training['dataset'] == 'tiny/train'
    assert info.training['frames'] == 6
    assert info.training['distillation'] == []


def test_checkpoint_is_a_bundle_with_safe_training_state(tmp_path, frames, make_config):
    fit(Objective(), frames, make_config(), tmp_path / 'run')
    folder = tmp_path / 'run' / 'checkpoints' / 'epoch_000003'
    assert read_info(folder).training['epoch'] == 3
    saved = torch.load(folder / 'training.pt', weights_only=True)
    assert saved['epoch'] == 3
    assert list(saved['companions']) == ['adapter']


def test_loss_falls_and_the_listener_hears_of_it(tmp_path, frames, make_config):
    recorder = Recorder()
    config = make_config(epochs=30, learning_rate=0.05)
    config = config.model_copy(update={'augmentation': AugmentationConfig(rotation=(0, 0))})
    fit(Objective(), frames, config, tmp_path / 'run', listener=recorder)
    totals = [record['losses']['total'] for record in recorder.epochs]
    assert totals[-1] < 0.5 * totals[0]
    assert [progress.step for progress in recorder.steps] == list(range(1, 91))
    last = recorder.steps[-1]
    assert (last.num_steps, last.epoch, last.num_epochs) == (90, 30, 30)
    assert last.losses['total'] == pytest.approx(last.losses['box'] + last.losses['adapter'])
    assert max(progress.learning_rate for progress in recorder.steps) == pytest.approx(0.05, 0.01)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_resumed_run_is_the_uninterrupted_run(tmp_path, frames, make_config, num_workers):
    config = make_config(num_workers=num_workers)
    whole = Objective()
    fit(whole, frames, config, tmp_path / 'whole')

    run = tmp_path / 'stopped'
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, config, run, listener=StopAfter(2))
    resumed = Objective(seed=99)  # the checkpoint, not the caller, has the weights
    resumed.teacher.load_state_dict(whole.teacher.state_dict())
    fit(resumed, frames, config, run, resume=True)

    assert_same_weights(weights_of(resumed), weights_of(whole))
    sessions = json.loads((run / 'run.json').read_text())['sessions']
    assert [session['first_epoch'] for session in sessions] == [1, 3]
    losses = [
        [json.loads(line)['losses'] for line in (folder / 'metrics.jsonl').open()]
        for folder in (run, tmp_path / 'whole')
    ]
    assert losses[0] == losses[1]


def test_average_is_the_result_and_resumes_exactly(tmp_path, frames, make_config):
    config, whole = make_config(ema_decay=0.9), Objective()
    info, expected = load_bundle(fit(whole, frames, config, tmp_path / 'whole'))
    assert info.training['ema_decay'] == 0.9
    assert not torch.equal(expected['0.weight'], whole.detector[0].weight)

    run = tmp_path / 'stopped'
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, config, run, listener=StopAfter(2))
    saved = torch.load(run / 'checkpoints' / 'epoch_000002' / 'training.pt', weights_only=True)
    resumed = Objective()
    resumed.detector[0].weight.data.fill_(9.0)
    _, result = load_bundle(fit(resumed, frames, config, run, resume=True))
    assert_same_weights(result, expected)
    assert_same_weights(weights_of(resumed), weights_of(whole))
    _, average = load_bundle(tmp_path / 'whole' / 'checkpoints' / 'epoch_000003')
    assert saved['detector'].keys() == average.keys()


def test_average_does_not_change_the_training(tmp_path, frames, make_config):
    plain, averaged = Objective(), Objective()
    fit(plain, frames, make_config(), tmp_path / 'plain')
    fit(averaged, frames, make_config(ema_decay=0.9), tmp_path / 'averaged')
    assert_same_weights(weights_of(plain), weights_of(averaged))


def test_average_is_what_is_validated(tmp_path, frames, make_config, monkeypatch):
    from pointdistiller_core.training import fit as module

    validated = []

    def evaluate(detector, *_args, **_kwargs):
        validated.append(detector.state_dict())
        return Evaluation(Scores({}, {}, {}), [])

    monkeypatch.setattr(module, 'evaluate', evaluate)
    config = make_config(ema_decay=0.9)
    bundle = fit(Objective(), frames, config, tmp_path / 'run', validation=frames)
    assert_same_weights(load_bundle(bundle)[1], validated[0])


class PlainObjective(Objective):
    """Without batch norm and random numbers: a frame's gradient depends on that frame alone."""

    def __init__(self):
        super().__init__()
        self.detector = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 7))

    def forward(self, batch):
        means = torch.stack([points.mean(0) for points in batch.points])
        error = self.detector(means) - torch.stack([boxes[0] for boxes in batch.boxes])
        return {'box': error.square().mean(), 'size': self.adapter(error).square().mean()}


@pytest.mark.parametrize('num_frames', [8, 7, 5])  # the last step of 7 is 2 + 1, that of 5 is 1
def test_accumulated_batches_are_one_big_batch(tmp_path, tiny_dataset, make_config, num_frames):
    frames, ends, records = tiny_dataset(num_frames), [], []
    for sizes in ({'batch_size': 4}, {'batch_size': 2, 'accumulate': 2}):
        objective, recorder = PlainObjective(), Recorder()
        config = make_config(**sizes)
        run = tmp_path / f'{sizes["batch_size"]}'
        fit(objective, frames, config, run, listener=recorder)
        ends.append(weights_of(objective))
        records.append(recorder.steps)
    assert len(records[0]) == len(records[1]) == 8
    for big, small in zip(*records, strict=True):
        assert (big.step, big.num_steps, big.epoch) == (small.step, small.num_steps, small.epoch)
        assert big.learning_rate == small.learning_rate
        assert dict(small.losses) == pytest.approx(dict(big.losses), rel=1e-4)
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=1e-4, atol=1e-5)


def test_accumulating_run_resumes_exactly(tmp_path, frames, make_config):
    config, whole = make_config(accumulate=2), Objective()
    fit(whole, frames, config, tmp_path / 'whole')
    run, resumed = tmp_path / 'stopped', Objective()
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, config, run, listener=StopAfter(2))
    fit(resumed, frames, config, run, resume=True)
    assert_same_weights(weights_of(resumed), weights_of(whole))


def test_resume_before_the_first_checkpoint(tmp_path, frames, make_config):
    config, run, whole = make_config(checkpoint_every=3), tmp_path / 'run', Objective()
    fit(whole, frames, config, tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, config, run, listener=StopAfter(2))
    resumed = Objective()
    fit(resumed, frames, config, run, resume=True)
    assert_same_weights(weights_of(resumed), weights_of(whole))
    assert len((run / 'metrics.jsonl').read_text().splitlines()) == 4
    assert checkpoints_of(run) == ['epoch_000003', 'epoch_000004']


def test_resume_of_a_complete_run_does_nothing(tmp_path, frames, make_config):
    run, config = tmp_path / 'run', make_config()
    fit(Objective(), frames, config, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob('*')}
    assert fit(Objective(), frames, config, run, resume=True) == run / 'bundle'
    assert {path: path.stat().st_mtime_ns for path in run.rglob('*')} == before


def test_killed_before_the_bundle(tmp_path, frames, make_config):
    run, config, objective = tmp_path / 'run', make_config(), Objective()
    with pytest.raises(KeyboardInterrupt):
        fit(objective, frames, config, run, listener=StopAfter(4))
    assert not (run / 'bundle').exists()
    _, state = load_bundle(fit(Objective(), frames, config, run, resume=True))
    assert_same_weights(state, objective.detector.state_dict())
    assert json.loads((run / 'metrics.json').read_text())['last_epoch']['epoch'] == 4


def test_changed_configuration_is_listed_before_anything_is_written(tmp_path, frames, make_config):
    run = tmp_path / 'run'
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, make_config(), run, listener=StopAfter(1))
    before = {path: path.stat().st_mtime_ns for path in run.rglob('*')}
    with pytest.raises(ConfigError) as caught:
        fit(Objective(), frames, make_config(seed=4, epochs=9), run, resume=True)
    assert str(caught.value).splitlines()[1:] == [
        '  training.epochs: 4 then, 9 now',
        '  training.seed: 3 then, 4 now',
    ]
    assert {path: path.stat().st_mtime_ns for path in run.rglob('*')} == before


def test_other_facts_cannot_be_resumed(tmp_path, frames, make_config):
    run, config = tmp_path / 'run', make_config()
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, config, run, listener=StopAfter(1), facts={'teacher': 'a'})
    with pytest.raises(ConfigError, match="teacher: 'a' then, 'b' now"):
        fit(Objective(), frames, config, run, resume=True, facts={'teacher': 'b'})
    bundle = fit(Objective(), frames, config, run, resume=True, facts={'teacher': 'a'})
    assert read_info(bundle).training['teacher'] == 'a'


def test_folder_with_other_files(tmp_path, frames, make_config):
    (tmp_path / 'thesis.txt').write_text('precious')
    with pytest.raises(CheckpointError, match='is not a run, and not empty'):
        fit(Objective(), frames, make_config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_nothing_to_resume(tmp_path, frames, make_config):
    with pytest.raises(CheckpointError, match='no run to resume'):
        fit(Objective(), frames, make_config(), tmp_path / 'run', resume=True)
    assert not (tmp_path / 'run').exists()


def test_no_frames(tmp_path, tiny_dataset, make_config):
    with pytest.raises(DatasetError, match='data/tiny, train: no frames'):
        fit(Objective(), tiny_dataset(0), make_config(), tmp_path / 'run')


class Broken(Objective):
    """A loss (or only its gradient) that is not a number from the third step on."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def forward(self, batch):
        losses = super().forward(batch)
        if len(self.seen) == 3 and self.where == 'loss':
            losses['box'] = losses['box'] * math.nan
        if len(self.seen) == 3 and self.where == 'gradient':
            zero = self.detector[0].weight.sum() * 0
            losses['box'] = losses['box'] + zero.sqrt()  # 0, with an infinite slope
        return losses


@pytest.mark.parametrize(
    ('where', 'term'), [('loss', 'box = nan'), ('gradient', 'gradient = nan')]
)
def test_not_a_number(tmp_path, frames, make_config, where, term):
    objective = Broken(where)
    with pytest.raises(PointDistillerError) as caught:
        fit(objective, frames, make_config(), tmp_path / 'run')
    message = str(caught.value)
    assert message.startswith(f'step 3: {term}, with frames {list(objective.seen[-1].frame_ids)};')
    assert all(torch.isfinite(tensor).all() for tensor in objective.state_dict().values())


def test_full_disk_leaves_the_checkpoints(tmp_path, frames, make_config, monkeypatch):
    def fill_disk(record):
        if record['epoch'] == 2:

            def write_bytes(_path, _content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(Path, 'write_bytes', write_bytes)

    run, config, listener = tmp_path / 'run', make_config(), Listener()
    listener.on_epoch = fill_disk
    with pytest.raises(WriteError, match=r'epoch_000003: .*No space left on device'):
        fit(Objective(), frames, config, run, listener=listener)
    monkeypatch.undo()
    assert checkpoints_of(run) == ['epoch_000001', 'epoch_000002']
    assert_resumes(run, frames, config)


def assert_resumes(run, frames, config):
    resumed, whole = Objective(), Objective()
    fit(resumed, frames, config, run, resume=True)
    fit(whole, frames, config, run.with_name('whole'))
    assert_same_weights(weights_of(resumed), weights_of(whole))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from conftest import TinyDataset
from test_fit import Objective
from pointdistiller_core.config import ExperimentConfig, KittiConfig, load_config
from pointdistiller_core.training import checkpoint, fit

def write_half(folder, *_args, **_kwargs):
    if folder.parent.name == '.epoch_000003.partial':
        (folder / 'bundle.json').write_text('{"format_ver')
        os.kill(os.getpid(), signal.SIGKILL)
    write_whole(folder, *_args, **_kwargs)

write_whole, checkpoint.write_bundle = checkpoint.write_bundle, write_half
config = load_config(ExperimentConfig, Path(sys.argv[3]))
fit.fit(Objective(), TinyDataset(6), config, Path(sys.argv[4]))
"""


def test_killed_while_saving(tmp_path, frames, make_config):
    from pointdistiller_core.config import dump_config

    run, config, here = tmp_path / 'run', make_config(), Path(__file__).parent
    (tmp_path / 'config.yaml').write_text(dump_config(config))
    arguments = [here.parent, here, tmp_path / 'config.yaml', run]
    killed = subprocess.run([sys.executable, '-c', KILLED, *map(str, arguments)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoints_of(run) == ['.epoch_000003.partial', 'epoch_000001', 'epoch_000002']
    assert_resumes(run, frames, config)
    assert checkpoints_of(run) == ['epoch_000003', 'epoch_000004']


def test_damaged_checkpoint_says_what_to_do(tmp_path, frames, make_config):
    run, config = tmp_path / 'run', make_config()
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, config, run, listener=StopAfter(3))
    newest = run / 'checkpoints' / 'epoch_000003'
    (newest / 'training.pt').write_bytes(b'half')
    with pytest.raises(CheckpointError, match=r'training.pt: truncated or altered.*; or remove'):
        fit(Objective(), frames, config, run, resume=True)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('local_graph.losses.0.student_adapter.scale', 'student_adapter.norm.weight'),
        ('local_graph.losses.0.teacher_adapter.shift', 'teacher_adapter.norm.bias'),
        ('fitnets.regressors.1.1.shift', 'fitnets.regressors.1.1.bias'),
        ('overhaul.adapters.0.1.scale', 'overhaul.adapters.0.1.weight'),
        ('attention_nonlocal.levels.0.spatial_adapter.weight', 'spatial_adapter.weight'),
    ],
)
def test_adapters_of_earlier_checkpoints_have_another_name(old, new):
    assert new_name(old) == old[: old.index(new.split('.')[0])] + new
    assert new_name(new_name(old)) == new_name(old)


def test_checkpoint_of_another_objective(tmp_path, frames, make_config):
    run, config = tmp_path / 'run', make_config()
    with pytest.raises(KeyboardInterrupt):
        fit(Objective(), frames, config, run, listener=StopAfter(1))
    plain = Objective()
    del plain.adapter
    with pytest.raises(CheckpointError, match=r"trained parts \['adapter'\], .* has \[\]"):
        fit(plain, frames, config, run, resume=True)


def test_nothing_is_printed(tmp_path, frames, make_config, capfd, caplog):
    fit(Objective(), frames, make_config(precision='bf16-mixed', num_workers=1), tmp_path / 'run')
    assert capfd.readouterr() == ('', '')
    assert not caplog.records


def test_points_stay_float32_in_mixed_precision(tmp_path, frames, make_config):
    config = make_config(precision='bf16-mixed', epochs=1)
    objective = Objective()
    products = []
    objective.detector[0].register_forward_hook(lambda *args: products.append(args[2].dtype))
    fit(objective, frames, config, tmp_path / 'run')
    assert objective.seen[0].points[0].dtype == torch.float32
    assert set(products) == {torch.bfloat16}
    assert objective.detector[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('epochs', 3),
        ('batch_size', 3),
        ('learning_rate', 0.02),
        ('weight_decay', 0.1),
        ('betas', (0.9, 0.99)),
        ('betas', (0.95, 0.9)),
        ('schedule', OneCycleConfig(peak_beta1=0.5)),
        ('schedule', OneCycleConfig(warmup_fraction=0.9)),
        ('schedule', OneCycleConfig(initial_factor=2.0)),
        ('schedule', OneCycleConfig(final_factor=2.0)),
        ('schedule', StepConfig(warmup_steps=0, milestones=())),
        ('schedule', StepConfig(warmup_steps=2, milestones=())),
        ('schedule', StepConfig(warmup_steps=2, milestones=(), initial_factor=2.0)),
        ('schedule', StepConfig(milestones=(1,))),
        ('schedule', StepConfig(milestones=(1,), step_factor=3.0)),
        ('gradient_clip', 1e-6),
        ('precision', 'bf16-mixed'),
        ('seed', 1),
        ('accumulate', 2),
    ],
)
def test_every_setting_is_used(tmp_path, frames, make_config, name, value):
    ends = []
    for index, change in enumerate([{}, {name: value}]):
        objective = Objective()
        fit(objective, frames, make_config(**({'epochs': 2} | change)), tmp_path / str(index))
        ends.append(objective.detector[0].weight)
    assert not torch.equal(*ends)


def test_deterministic_algorithms_are_switched_on(tmp_path, frames, make_config):
    try:
        fit(Objective(), frames, make_config(deterministic=True, epochs=1), tmp_path / 'run')
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_unknown_device_before_anything_is_written(tmp_path, frames, make_config):
    with pytest.raises(ConfigError, match='device'):
        fit(Objective(), frames, make_config(), tmp_path / 'run', device='tpu9')
    assert not (tmp_path / 'run').exists()


def test_callers_argument_is_trained_in_place_and_config_is_not(tmp_path, frames, make_config):
    config = make_config(epochs=1)
    before, objective = config.model_copy(deep=True), Objective()
    start = weights_of(objective)
    fit(objective, frames, config, tmp_path / 'run')
    assert config == before
    assert not torch.equal(objective.detector[0].weight, start['detector.0.weight'])
    assert torch.equal(objective.teacher.weight, start['teacher.weight'])
