# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from pointdistiller_core.config import ExperimentConfig, KittiConfig
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.evaluation.scores import Scores
from pointdistiller_core.training.run import (
    alone_in,
    describe_session,
    describe_validation,
    keep_history,
    last_record,
    open_run,
    read_facts,
    read_features,
    read_losses,
    read_scores,
    read_sessions,
    record_session,
)

CONFIG = ExperimentConfig(dataset=KittiConfig(root='data'))


def test_a_run_that_was_killed_at_its_very_start_can_begin_again(tmp_path):
    run = tmp_path / 'run'
    open_run(run, CONFIG, {}, resume=False)
    (run / 'config.yaml').rename(run / '.config.yaml.partial')
    open_run(run, CONFIG, {}, resume=False)
    open_run(run, CONFIG, {}, resume=True)
    with pytest.raises(CheckpointError, match='holds a run already; add --resume'):
        open_run(run, CONFIG, {}, resume=False)


def test_a_folder_with_other_files_is_no_place_for_a_run(tmp_path):
    (tmp_path / 'notes.txt').write_text('keep me')
    with pytest.raises(CheckpointError, match='is not a run, and not empty'):
        open_run(tmp_path, CONFIG, {}, resume=False)


def test_one_process_trains_in_a_folder_at_a_time(tmp_path):
    hold = (
        'import sys; from pathlib import Path; from pointdistiller_core.training.run import *\n'
        'with alone_in(Path(sys.argv[1])): print(flush=True); sys.stdin.read()'
    )
    command = [sys.executable, '-c', hold, str(tmp_path)]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        try:
            other.stdout.readline()
            refused = pytest.raises(CheckpointError, match='another process trains in it')
            with refused, alone_in(tmp_path):
                pass
        finally:
            other.kill()
    with alone_in(tmp_path):
        pass


# --- damaged files ---------------------------------------------------------------------------

EPOCH = '{"epoch": 1, "seconds": 2.5, "losses": {"total": 1.5}}\n'
VALIDATION = {'bev': {'Car': {'ap40': [3.0, 2.0, 1.0], 'ap11': [3.0, 2.0, 1.0]}}}
NOT_JSON = ['', '{"epo', '[]', '3', 'null', '{}', '\0\0\0', '[' * 100_000]


def reads_as_damaged(run, name, read):
    with pytest.raises(CheckpointError, match=r'missing or damaged.*train the run again') as error:
        read(run)
    assert str(error.value).startswith(f'{run / name}: ')
    assert '\n' not in str(error.value)


def test_what_a_run_has_written_is_read_as_it_is(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text(EPOCH * 2)
    (tmp_path / 'metrics.json').write_text(json.dumps({'validation': VALIDATION}))
    keep_history(tmp_path, 1)
    assert (tmp_path / 'metrics.jsonl').read_text() == EPOCH
    assert last_record(tmp_path) == json.loads(EPOCH)
    assert read_losses(tmp_path) == [{'total': 1.5}]
    metric, scores = read_scores(tmp_path, ['Car', 'Cyclist'])  # of an earlier version
    assert (metric, scores.details) == ('kitti', VALIDATION)
    assert scores.row == {'BEV mAP': 1.0, '3D mAP': 0.0, '3D Car': 0.0, '3D Cyclist': 0.0}
    assert read_features(tmp_path) == {}
    open_run(tmp_path / 'run', CONFIG, {'teacher': 'a'}, resume=False)
    record_session(tmp_path / 'run', first_epoch=1)
    assert [each['first_epoch'] for each in read_sessions(tmp_path / 'run')] == [1]


def test_scores_are_read_as_they_were_written(tmp_path):
    car = {'3D AP': 1.5}
    means = {'BEV mAP': 1.5, '3D mAP': math.nan}
    scores = Scores(means, {'Car': car}, {'Car': 3}, {'num_frames': 2})
    metrics = describe_validation(scores, 'lidar')
    (tmp_path / 'metrics.json').write_text(json.dumps(metrics, allow_nan=False))
    metric, read = read_scores(tmp_path, ['Car'])
    assert metric == 'lidar'
    assert repr(read) == repr(scores)  # NaN is not equal to itself


@pytest.mark.parametrize(
    'content', [*NOT_JSON, EPOCH + '{"epo', '{"seconds": "a", "losses": {}}', '{"seconds": 1}']
)
def test_a_damaged_history_is_named(tmp_path, content):
    (tmp_path / 'metrics.jsonl').write_text(content)
    for read in (last_record, read_losses):
        reads_as_damaged(tmp_path, 'metrics.jsonl', read)
    if content:  # a run that has not come to the end of an epoch has none
        reads_as_damaged(tmp_path, 'metrics.jsonl', lambda run: keep_history(run, 2))
    assert (tmp_path / 'metrics.jsonl').read_text() == content


def test_a_torn_line_of_an_epoch_that_runs_again_does_not_matter(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text(EPOCH + '{"epo')
    keep_history(tmp_path, 1)
    assert (tmp_path / 'metrics.jsonl').read_text() == EPOCH


@pytest.mark.parametrize(
    'content',
    [
        *NOT_JSON,
        '{"validation": {"bev": {"Car": {"ap40": [1], "ap11": ["a"]}}}}',
        '{"validation": {}, "scores": {"metric": "kitti", "means": {"mAP": "a"}}}',
    ],
)
def test_damaged_metrics_are_named(tmp_path, content):
    (tmp_path / 'metrics.json').write_text(content)
    reads_as_damaged(tmp_path, 'metrics.json', lambda run: read_scores(run, ['Car']))


@pytest.mark.parametrize('content', [*NOT_JSON, '{"sessions": [], "facts": 3}'])
def test_a_damaged_record_of_the_sessions_is_named(tmp_path, content):
    (tmp_path / 'run.json').write_text(content)
    for read in (read_facts, read_sessions):
        reads_as_damaged(tmp_path, 'run.json', read)
    if content != '{"sessions": [], "facts": 3}':
        reads_as_damaged(tmp_path, 'run.json', lambda run: record_session(run, first_epoch=1))
    assert (tmp_path / 'run.json').read_text() == content


@pytest.mark.parametrize('content', ['', '[]', '{"student": 3}'])
def test_damaged_similarities_are_named(tmp_path, content):
    (tmp_path / 'features.json').write_text(content)
    reads_as_damaged(tmp_path, 'features.json', read_features)


def test_files_that_are_gone_are_named(tmp_path):
    reads_as_damaged(tmp_path, 'metrics.jsonl', last_record)
    reads_as_damaged(tmp_path, 'metrics.json', lambda run: read_scores(run, ['Car']))
    reads_as_damaged(tmp_path, 'run.json', read_sessions)


@pytest.mark.parametrize(
    'program',
    ['/home/me/pointdistiller_core/__main__.py', '/opt/venv/bin/pointdistiller', 'pointdistiller'],
)
def test_the_command_is_told_without_this_machines_places(monkeypatch, program):
    monkeypatch.setattr('sys.argv', [program, 'train', 'my file.yaml'])
    assert describe_session()['command'] == "pointdistiller train 'my file.yaml'"
