# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny study from its files to its table: stopped in the middle, resumed, reported."""

from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from threading import Thread
from time import sleep

import pytest
import safetensors.torch
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


def run_study(folder: Path, *options: str, place: str = '-o', name: str = 'out'):
    words = ['study', folder / 'tiny.yaml', '--size', folder / 'size.yaml', place, folder / name]
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


def files_in_git(folder: Path) -> dict[str, bytes]:
    """What version control takes of a folder, in a repository that elsewhere ignores runs."""
    (folder.parent / '.gitignore').write_text('runs/\n')
    subprocess.run(['git', 'init', '-q'], cwd=folder.parent, check=True)
    words = ['git', 'ls-files', '--others', '--exclude-standard']
    listed = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
    return {name: (folder / name).read_bytes() for name in listed.stdout.splitlines()}


class Killed(Exception):
    pass


def killed_before_a_student_is_taught(folder: Path, monkeypatch) -> None:
    """Run the study in `here`, until all that needs no teacher is done."""
    command_of = study_runner._command

    def command(job, *others):
        if not job.teacher:
            return command_of(job, *others)
        while not (folder / 'here/tiny.json').exists() or len(runs_of(folder / 'here')) < 3:
            sleep(0.02)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(study_runner, '_command', command)
        with pytest.raises(Killed):
            run_study(folder, place='--continue', name='here')


def runs_of(output: Path) -> list[dict]:
    return json.loads((output / 'tiny.json').read_text())['runs']


def test_a_study_goes_on_elsewhere_from_what_is_in_git(folder, monkeypatch):
    """Killed, cloned to another place, continued: the same as in one sitting."""
    whole = run_study(folder, place='--continue', name='whole')
    assert whole.exit_code == 0, whole.output
    killed_before_a_student_is_taught(folder, monkeypatch)
    finished = [f'{run["arm"]}-seed{run["seed"]}' for run in runs_of(folder / 'here')]
    assert finished == ['teacher-seed5', 'plain-seed0', 'plain-seed1']

    kept = files_in_git(folder / 'here')
    assert {name.split('/')[0] for name in kept} == {'.gitignore', 'runs', 'tiny.json', 'tiny.md'}
    assert {name.split('/')[1] for name in kept if '/' in name} == set(finished)
    weights = [name for name in kept if name.endswith('model.safetensors')]
    assert len(weights) == 3
    for name in weights:
        state = safetensors.torch.load(kept[name])
        assert {tensor.dtype for tensor in state.values()} == {torch.float16, torch.int64}
    for name, content in kept.items():
        if 'plain' in name and name.endswith('.safetensors'):
            continue  # a finished student's weights are not needed to go on
        (folder / 'there' / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / 'there' / name).write_bytes(content)

    there = run_study(folder, place='--continue', name='there')
    assert there.exit_code == 0, there.output
    assert '[5/5]' in there.output
    assert 'plain, seed 0: 3D mAP' in there.output
    reports = [
        json.loads((folder / name / 'tiny.json').read_text()) for name in ('whole', 'there')
    ]
    assert reports[0]['table'] == reports[1]['table']
    for one, other in zip(reports[0]['runs'], reports[1]['runs'], strict=True):
        assert one['scores'] == other['scores']
        assert one['config_sha256'] == other['config_sha256']
    name = 'runs/taught-seed1/bundle/model.safetensors'
    assert (folder / 'whole' / name).read_bytes() == (folder / 'there' / name).read_bytes()
    assert not list((folder / 'whole/runs').glob('*/checkpoints'))


def test_a_teacher_keeps_the_weights_that_it_has_taught_with(folder):
    """A folder that began as any other goes on as one for version control."""
    assert run_study(folder).exit_code == 0
    weights = folder / 'out/runs/teacher-seed5/bundle/model.safetensors'
    before = weights.read_bytes()
    again = run_study(folder, place='--continue', name='out')
    assert again.exit_code == 0, again.output
    assert weights.read_bytes() == before
    student = folder / 'out/runs/taught-seed0/bundle/model.safetensors'
    state = safetensors.torch.load(student.read_bytes())
    assert torch.float16 in {tensor.dtype for tensor in state.values()}


def test_one_folder_alone(folder):
    with pytest.raises(ConfigError, match=r'--continue .* and --output .*: give one folder'):
        run_study(folder, '--continue', str(folder / 'kept'))


def test_arms_are_compared_seed_by_seed(folder, monkeypatch):
    study = STUDY + 'comparisons: [[taught, plain]]\norder: arms\n'
    (folder / 'tiny.yaml').write_text(study)
    result = run_study(folder, '--report-only')
    assert 'seed by seed' not in result.output
    assert 'Without a complete run yet: teacher; plain; distilled' in (
        ' '.join(result.output.split())
    )
    (comparison,) = json.loads((folder / 'out/tiny.json').read_text())['comparisons']
    assert comparison == {'title': 'distilled', 'other': 'plain', 'num_seeds': 0, 'gains': {}}
    page = (folder / 'out/tiny.md').read_text()
    assert 'Without a complete run yet: teacher; plain; distilled.\n' in page
    assert 'seed by seed' not in page
    runs = [
        {
            **{'arm': arm, 'seed': 0, 'metric': 'kitti', 'means': ['3D mAP'], 'revisions': ['r']},
            'scores': {'3D mAP': score},
        }
        for arm, score in (('plain', 10.0), ('taught', 12.5))
    ]
    monkeypatch.setattr('pointdistiller_core.studies.plan.collect_runs', lambda *_: runs)
    assert run_study(folder, '--report-only').exit_code == 0
    page = (folder / 'out/tiny.md').read_text()
    assert 'Without a complete run yet: teacher.\n' in page
    assert '| distilled | plain | 1 | +2.5 |' in page


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
