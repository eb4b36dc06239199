# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What `train` and `distill` say at their start, at their end, and where they are stopped."""

from __future__ import annotations

import json
import os
import signal

import pytest
import yaml

from pointdistiller_core.pipelines.make_bag import write_kitti_bag
from pointdistiller_core.training.checkpoint import Position
from pointdistiller_core.training.fit import _Trainer


@pytest.mark.parametrize('validated', [True, False])
def test_features_stand_beside_the_losses(
    run, make_bundle, dataset, tmp_path, tiny_model, validated
):
    data = {'root': str(dataset), 'split': 'val'}
    experiment = {
        'model': tiny_model.model_copy(update={'width': 0.5}).model_dump(mode='json'),
        'dataset': data,
        'validation': data if validated else None,
        'training': {'epochs': 2, 'batch_size': 2, 'num_workers': 0},
        'distillation': 'default',
    }
    config, output = tmp_path / 'experiment.yaml', tmp_path / 'run'
    config.write_text(yaml.safe_dump(experiment))
    code, table, _ = run('distill', config, '--teacher', make_bundle('teacher'), '-o', output)
    assert code == 0
    lines = (output / 'metrics.jsonl').read_text().splitlines()
    first, last = (json.loads(line)['losses']['logits'] for line in lines)
    rows = [line for line in table.splitlines() if 'logits' in line]
    assert any(f'{first:.3f}' in row and f'{last:.3f}' in row for row in rows)
    assert ('CKA, untrained' in table) == validated
    assert (f'{output} on {dataset} (val)' in table) == validated  # a table of its scores
    if validated:
        neck = json.loads((output / 'features.json').read_text())['student']['neck']
        rows = [line for line in table.splitlines() if 'neck' in line]
        assert any(f'{neck["cka"]:.3f}' in row for row in rows)


def test_a_training_begins_with_a_bundle(run, make_bundle, dataset, tmp_path, tiny_model):
    config, output = tmp_path / 'experiment.yaml', tmp_path / 'run'
    model = tiny_model.model_copy(update={'class_names': ('Car', 'Pedestrian')})
    experiment = {
        'model': model.model_dump(mode='json'),
        'dataset': {'root': str(dataset), 'split': 'val'},
        'training': {'epochs': 1, 'batch_size': 2, 'num_workers': 0},
    }
    config.write_text(yaml.safe_dump(experiment))
    source = make_bundle('source')
    code, _, said = run('train', config, '-o', output, '--from', source, '--set', 'model.width=2')
    assert code == 2
    assert 'encoder.channels: source has (8,), configuration has (16,)' in said
    assert not output.exists()
    code, _, said = run('train', config, '-o', output, '--from', source)
    assert code == 0
    head = 'of the head 20 of 44 channels (Car); made anew: new classes (Pedestrian)'
    assert f'{source}: fine-tuning: ' in said
    assert head in said
    bundle = json.loads((output / 'bundle' / 'bundle.json').read_text())
    weights = json.loads((source / 'bundle.json').read_text())['sha256']['model.safetensors']
    assert bundle['training']['from_sha256'] == weights


@pytest.fixture
def config(dataset, tmp_path, tiny_model):
    """An experiment of two steps."""
    experiment = {
        'model': tiny_model.model_dump(mode='json'),
        'dataset': {'root': str(dataset), 'split': 'val'},
        'training': {'epochs': 2, 'batch_size': 2, 'num_workers': 0},
    }
    path = tmp_path / 'experiment.yaml'
    path.write_text(yaml.safe_dump(experiment))
    return path


@pytest.mark.parametrize(('first', 'where'), [(1, 'at its beginning'), (2, 'from epoch_000001')])
def test_ctrl_c_says_how_to_go_on(run, config, tmp_path, monkeypatch, first, where):
    output, steps = tmp_path / 'run', []
    step = _Trainer._run_step

    def stopping(*arguments, **options):
        steps.append(0)
        if len(steps) == first:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    monkeypatch.setattr(_Trainer, '_run_step', stopping)
    code, _, said = run('train', config, '-o', output)
    assert code == 130
    assert f'{output}: stopped; repeat it with --resume to go on {where}' in said
    code, _, said = run('train', config, '-o', output, '--resume')
    assert code == 0
    assert len(steps) == 3


@pytest.fixture
def handlers():
    """Puts the handlers of signals back; a process that was signalled is ending, and does not."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures('handlers')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_current_step(run, config, tmp_path, monkeypatch, number):
    output, steps = tmp_path / 'run', []
    step = _Trainer._run_step

    def signalled(*arguments, **options):
        steps.append(0)
        if len(steps) == 1:
            os.kill(os.getpid(), number)
        return step(*arguments, **options)

    monkeypatch.setattr(_Trainer, '_run_step', signalled)
    code, _, said = run('train', config, '-o', output, '--set', 'training.batch_size=1')
    assert (code, len(steps)) == (130, 1)
    assert 'repeat it with --resume to go on from epoch_000000_step_000001' in said
    code, _, said = run(
        'train', config, '-o', output, '--set', 'training.batch_size=1', '--resume'
    )
    assert (code, len(steps)) == (0, 4)


def test_a_bag_is_no_training_data(run, config, dataset, tmp_path):
    bag = tmp_path / 'bag'
    write_kitti_bag(dataset, bag, ground_truth=('Car',))
    options = ['--set', f'dataset={{name: bag, root: {bag}}}']
    code, _, said = run('train', config, '-o', tmp_path / 'run', *options)
    assert code == 2
    assert f'pointdistiller bag convert {bag} FOLDER' in said
    assert not (tmp_path / 'run').exists()


def test_a_wrong_override_is_blamed_itself(run, config, tmp_path):
    code, _, said = run('train', config, '-o', tmp_path / 'run', '--set', 'training.epoch=3')
    assert code == 2
    assert said.startswith('error: command line: training.epoch: unknown key')
    assert said.endswith('(--set training.epoch=3)')


def test_an_error_before_the_first_step_stands_alone(run, config, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'mine').touch()
    code, _, said = run('train', config, '-o', tmp_path / 'run')
    assert code == 2
    assert said.startswith(f'error: {tmp_path / "run"}: is not a run, and not empty')


def test_stopped_before_the_first_step(run, config, tmp_path):
    code, _, said = run('train', config, '-o', tmp_path / 'run', '--stop-after', 0)
    assert code == 75
    assert said.startswith(f'{tmp_path / "run"}: stopped in time after 0 of 2 epochs; resume it')


def test_shipped_experiments_are_found_by_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = run('train', 'own_data', '-o', 'run')
    assert (code, said) == (2, 'error: data/own: no such file or folder')
    code, _, said = run('train', 'own_date', '-o', 'run')
    assert code == 2
    assert "none shipped of the name 'own_date'; choose from [" in said
    assert "'own_data'" in said


def test_positions_in_words():
    assert Position(1).of(10) == '1 of 10 epochs'
    assert Position(0, losses=[{}]).of(1) == '0 of 1 epoch and 1 step'
    assert Position(3, losses=[{}, {}]).of(5) == '3 of 5 epochs and 2 steps'
