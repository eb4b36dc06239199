# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Results without a place are refused before anything is read or computed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from pointdistiller_core.cli.app import app
from pointdistiller_core.errors import WriteError

FILES = {
    'detect BUNDLE CLOUD --json': 'x.json',
    'check-dataset ROOT --json': 'x.json',
    'evaluate BUNDLE --dataset ROOT --json': 'x.json',
    'export BUNDLE --to onnx --json': 'x.json',
    'models --json': 'x.json',
    'compare-at-recall A B --dataset ROOT --json': 'x.json',
    'compare-features A B --dataset ROOT --json': 'x.json',
    'compare-sweeps ROOT ROOT --json': 'x.json',
    'check-dataset ROOT --picture': 'x.png',
    'evaluate BUNDLE --dataset ROOT --curves': 'x.png',
}
FOLDERS = (
    'detect BUNDLE CLOUD --pictures',
    'compare-at-recall A B --dataset ROOT --picture',
    'evaluate BUNDLE --dataset ROOT --results',
)


def run(words: str, target: object) -> None:
    CliRunner().invoke(app, [*words.split(), str(target)], catch_exceptions=False)


@pytest.mark.parametrize(('words', 'name'), FILES.items())
def test_files_without_a_place(tmp_path, words, name):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match=f'{name}: cannot be written: .*file is not a folder'):
        run(words, tmp_path / 'file' / name)
    with pytest.raises(WriteError, match='is a folder; a file is to be written'):
        run(words, tmp_path)


@pytest.mark.parametrize('words', FOLDERS)
def test_folders_without_a_place(tmp_path, words):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='file: is a file; a folder is to be written'):
        run(words, tmp_path / 'file')
