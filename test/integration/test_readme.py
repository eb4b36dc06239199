# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The README's commands on less data, each after those that make what it needs."""

from __future__ import annotations

import os
from pathlib import Path
import re
import shlex
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = '.venv/bin/pointdistiller'
# What makes the README's numbers small enough for a test; everything else stays as it stands.
SMALLER = {'--train': '4', '--val': '2', '--drive': '2'}
ORDER = ('simulate', 'train', 'distill', 'evaluate', 'make-bag', 'run')
QUICKLY = ('training.epochs=1', 'training.num_workers=0', 'training.batch_size=2')


def readme_commands() -> list[list[str]]:
    text = (ROOT / 'README.md').read_text(encoding='utf-8').replace('\\\n', ' ')
    lines = (line.strip() for line in text.splitlines())
    commands = [shlex.split(line) for line in lines if line.startswith(PROGRAM)]
    return sorted(commands, key=lambda words: ORDER.index(words[1]))


def shortened(words: list[str]) -> list[str]:
    for option, value in SMALLER.items():
        if option in words:
            words[words.index(option) + 1] = value
    words = [re.sub('^config/', f'{ROOT}/config/', word) for word in words]
    if words[1] in {'train', 'distill'}:
        words += [word for setting in QUICKLY for word in ('--set', setting)]
    return [sys.executable, '-m', 'pointdistiller_core', *words[1:]]


def replaced(words: list[str], places: dict[str, str]) -> list[str]:
    return [places.get(word, word) for word in words]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp('readme')


@pytest.mark.parametrize('words', readme_commands(), ids=lambda words: words[1])
def test_readme_command(words, folder):
    if words[1] == 'run':
        pytest.importorskip('rclpy', reason='needs ROS 2 for Python')
    places = {'/path/to/kitti': 'data', 'demo_output/runs/distilled': 'runs/student'}
    result = subprocess.run(
        replaced(shortened(words), places),
        cwd=folder,
        env=os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_readme_shows_commands_of_every_kind():
    verbs = {words[1] for words in readme_commands()}
    assert verbs == set(ORDER)
