# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny study from its files to its table: stopped in the middle, resumed, reported."""

from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import sys
from threading import Thread
from time import sleep

import pytest
import torch
from typer.testing import CliRunner

from pointdistiller_core.cli import study as verb
from pointdistiller_core.cli.app import app
from pointdistiller_core.cli.study import parse_seeds
from pointdistiller_core.config import StudyConfig, StudySizeConfig, load_config
from pointdistiller_core.cores import usable_cores
from pointdistiller_core.deploy.bundle import read_info
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.studies import runner as study_runner
from pointdistiller_core.studies.plan import plan_study
from pointdistiller_core.training.exit_codes import EXIT_STOPPED
from pointdistiller_core.training.experiment import run_experiment

SIZE = """
data: {seed: 1, train: 4, val: 1, test: 2, simulation: {sensor: {num_columns: 300}}}
experiment:
  model:
    class_names: [Car]
    grid: {point_cloud_range: [0, -12.8, -3, 25.6, 12.8, 1], voxel_size: [0.8, 0.8, 4]}
    voxels: {max_points: 8, max_voxels: 1024, max_voxels_training: 1024}
    encoder: {channels: 8}
    backbone: {layers: [1, 1], strides: [1, 2], channels: [8, 16]}
    neck: {kind: stack, strides: [1, 2], channels: [8, 8]}
  training: {epochs: 1, batch_size: 2, num_workers: 0}
teacher: {training: {seed: 5}}
students: {4x: {model: {width: 0.5}}}
terms: {local_graph: {num_samples: 64, num_neighbors: 4}}
"""
STUDY = """
title: Tiny study
seeds: [0, 1]
arms:
  - {name: plain}
  - {name: taught, title: distilled, experiment: {distillation: default}}
"""
# One thread for each process: other numbers of threads round differently.
JOBS = str(max(2, usable_cores()))


def run_study(folder: Path, *options: str):
    words = ['study', folder / 'tiny.yaml', '--size', folder / 'size.yaml', '-o', folder / 'out']
    words += ['--device', 'cpu', '--jobs', JOBS, *options]
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / 'size.yaml').write_text(SIZE)
    (tmp_path / 'tiny.yaml').write_text(STUDY)
    return tmp_path


def stop_in_the_middle(folder: Path) -> None:
    """Start the study, and end it as soon as its teacher is trained."""

    def interrupt() -> None:
        while not (folder / 'out/runs/teacher-seed5/bundle').exists():
            sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    result = run_study(folder)
    assert result.exit_code == 130, result.output
    assert 'the same command goes on from here' in result.output


def train_without_studies(folder: Path, monkeypatch) -> dict[str, str]:
    """Checksum of the weights of every run, trained in this process one after the other."""
    config = load_config(StudyConfig, folder / 'tiny.yaml')
    size = load_config(StudySizeConfig, folder / 'size.yaml')
    monkeypatch.chdir(folder / 'out')
    checksums, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    for job in plan_study(config, size, size_name='size'):
        name = Path(job.folder).name
        teacher = folder / 'alone/teacher-seed5' if job.teacher else None
        bundle = run_experiment(
            job.experiment, folder / 'alone' / name, teacher=teacher, device='cpu'
        )
        checksums[name] = read_info(bundle).sha256['model.safetensors']
    torch.set_num_threads(threads)
    return checksums


def test_a_study_that_was_stopped_ends_as_if_it_had_not_been(folder, monkeypatch):
    stop_in_the_middle(folder)
    assert not list((folder / 'out/runs').glob('taught-*/bundle'))
    result = run_study(folder, '--stop-after', '1000')
    assert result.exit_code == 0, result.output
    assert '[5/5]' in result.output
    bundles = {path.parent.name: path for path in (folder / 'out/runs').glob('*/bundle')}
    assert {
        name: read_info(path).sha256['model.safetensors'] for name, path in bundles.items()
    } == train_without_studies(folder, monkeypatch)
    assert_report(folder / 'out')
    # Again: nothing is trained, and the report stays as it is, in another place, too.
    report = (folder / 'out/tiny.json').read_text()
    (folder / 'out').rename(folder / 'moved')
    again = run_study(folder, '-o', str(folder / 'moved'))
    assert again.exit_code == 0
    assert (folder / 'moved/tiny.json').read_text() == report


def assert_report(output: Path) -> None:
    report = json.loads((output / 'tiny.json').read_text())
    assert (report['study'], report['size'], report['data']['train']) == ('tiny', 'size', 4)
    assert [(run['arm'], run['seed']) for run in report['runs']] == [
        ('teacher', 5),
        ('plain', 0),
        ('plain', 1),
        ('taught', 0),
        ('taught', 1),
    ]
    assert [row['num_seeds'] for row in report['table']] == [1, 2, 2]
    taught = report['table'][2]
    assert taught['arm'] == {'name': 'taught', 'title': 'distilled', 'baseline': 'plain'}
    assert taught['gains']['3D mAP']['num'] == 2
    assert '| distilled | 2 |' in (output / 'tiny.md').read_text()
    assert (output / 'tiny.png').stat().st_size > 1000


def test_report_of_nothing_trains_nothing(folder):
    result = run_study(folder, '--report-only')
    assert result.exit_code == 0
    assert '0 of 5 runs' in result.output
    assert json.loads((folder / 'out/tiny.json').read_text())['runs'] == []
    assert not (folder / 'out/runs').exists()
    assert not (folder / 'out/data').exists()


def test_failures_are_reported_at_the_end(folder, monkeypatch):
    monkeypatch.setattr(verb, 'simulate_frames', lambda *_, **__: None)
    script = "import sys; sys.exit('error: the value 3 is bad')"
    command = [sys.executable, '-c', script]
    monkeypatch.setattr(study_runner, '_command', lambda *_: command)
    result = run_study(folder, '--seeds', '4')
    assert result.exit_code == 1
    assert '[3/3]' in result.output
    for name in ('teacher, seed 5', 'plain, seed 4'):
        assert f'error: {name}: exit code 1: error: the value 3 is bad;' in result.output
    assert 'error: taught, seed 4: its teacher has not been trained' in result.output
    assert json.loads((folder / 'out/tiny.json').read_text())['runs'] == []


def test_help_names_no_option_that_the_verb_lacks():
    text = CliRunner().invoke(app, ['study', '--help']).output
    assert '--stop-after' in text
    assert '--resume' not in text


def test_stopped_in_time_while_simulating(folder):
    result = run_study(folder, '--stop-after', '0')
    assert result.exit_code == EXIT_STOPPED
    assert 'stopped in time while simulating' in result.output


def test_stopped_in_time_while_training(folder, monkeypatch):
    monkeypatch.setattr(verb, 'simulate_frames', lambda *_, **__: None)
    command = [sys.executable, '-c', f'import sys; sys.exit({EXIT_STOPPED})']
    monkeypatch.setattr(study_runner, '_command', lambda *_: command)
    result = run_study(folder, '--seeds', '4', '--stop-after', '1000')
    assert result.exit_code == EXIT_STOPPED
    assert 'stopped in time: 3 of 3 runs can go on' in result.output
    assert 'failed' not in result.output


@pytest.mark.parametrize(
    ('text', 'seeds'), [(None, ()), ('3', (3,)), ('0,1,2', (0, 1, 2)), ('2 0', (2, 0))]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize('text', ['', '1,1', 'a', '-1', '1.5'])
def test_seeds_that_are_none(text):
    with pytest.raises(ConfigError, match='--seeds'):
        parse_seeds(text)


def test_unknown_study():
    with pytest.raises(ConfigError, match=r"studies: .*'ablations'; choose from \['ablation'"):
        CliRunner().invoke(app, ['study', 'ablations'], catch_exceptions=False)
