# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Commands that are asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from time import sleep

import pytest

from pointdistiller_core.cli import data, demo, from_bag

SCRIPT = """
import sys
from time import sleep
from pointdistiller_core.cli.stopping import stopped_by_signals
with stopped_by_signals():
    try:
        print('begins', flush=True)
        sleep(60)
    except KeyboardInterrupt:
        print('stops', flush=True)
        if sys.argv[1] == 'slow':
            sleep(60)
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('pace', ['fast', 'slow'])
def test_the_first_signal_is_an_interrupt_and_the_second_the_end(number, pace):
    words = [sys.executable, '-c', SCRIPT, pace]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in ('begins\n', 'stops\n')[: 1 if pace == 'fast' else 2]:
            assert running.stdout.readline() == line
            running.send_signal(number)
        assert running.wait() == (0 if pace == 'fast' else 130)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_simulate_ends_with_its_workers(tmp_path, number):
    """As a terminal does it: Ctrl-C goes to all processes of the group."""
    words = ['simulate', str(tmp_path / 'data'), '--train', '500', '--val', '0', '--workers', '2']
    running = subprocess.Popen(
        [sys.executable, '-m', 'pointdistiller_core', *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list((tmp_path / 'data').glob('training/objects/*.json')):
        assert running.poll() is None
        sleep(0.02)
    os.killpg(running.pid, number)
    _, errors = running.communicate()  # until no process has its end of the pipe
    assert running.returncode == 130
    assert 'Traceback' not in errors


@pytest.mark.parametrize('verb', ['simulate', 'demo', 'from-bag'])
def test_ctrl_c_says_how_to_go_on(run, bundle, tmp_path, monkeypatch, verb):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, 'simulate_frames', stop)
    monkeypatch.setattr(demo, 'simulate_frames', stop)
    monkeypatch.setattr(from_bag, 'walk', stop)
    folder = tmp_path / 'out'
    (tmp_path / 'drive').mkdir()
    words = {
        'simulate': [folder],
        'demo': ['--output', folder],
        'from-bag': ['--bag', tmp_path / 'drive', '--teacher', bundle, '--output', folder],
    }
    code, _, said = run(verb, *words[verb])
    assert code == 130
    assert said.endswith(f'{folder}: stopped; repeat the command to go on')


def test_ctrl_c_at_a_progress_bar_says_so(run, bundle, dataset, tmp_path, monkeypatch):
    """Where something is kept, how to go on; else that the command begins anew."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('pointdistiller_core.pipelines.evaluate.detect', stop)
    monkeypatch.setattr('pointdistiller_core.pipelines.convert_dataset.kitti_to_folder', stop)
    code, _, said = run('evaluate', bundle, '--dataset', dataset)
    assert code == 130
    assert said.endswith('stopped; repeat the command')
    code, _, said = run('convert', dataset, tmp_path / 'open', '--to', 'folder')
    assert code == 130
    assert said.endswith(f'{tmp_path / "open"}: stopped; repeat the command to go on')
