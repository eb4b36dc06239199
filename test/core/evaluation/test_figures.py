# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as files, without a screen."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import pytest

from pointdistiller_core.errors import ConfigError, WriteError
from pointdistiller_core.evaluation.figures import Figure, save_figure

SCRIPT = """
import os
from pointdistiller_core.evaluation.pictures import scenes as pictures
import matplotlib
print(matplotlib.rcParams['backend'], os.environ['MPLBACKEND'])
"""


@pytest.mark.parametrize(
    ('display', 'used'),
    [('svg', 'svg'), ('module://absent_inline.backend_inline', None), ('nonsense', None)],
)
def test_a_display_that_is_not_installed_does_no_harm(display, used):
    environment = {**os.environ, 'MPLBACKEND': display}
    words = [sys.executable, '-c', SCRIPT]
    output = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    backend, kept = output.stdout.split()
    assert kept == display
    assert used is None or backend == used


def test_a_figure_becomes_a_whole_file(tmp_path):
    save_figure(Figure(), tmp_path / 'new' / 'figure.PNG')
    assert (tmp_path / 'new' / 'figure.PNG').read_bytes().startswith(b'\x89PNG')
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['figure.PNG']


@pytest.mark.parametrize('name', ['figure.foo', 'figure'])
def test_an_unknown_kind_of_picture(tmp_path, name):
    with pytest.raises(ConfigError, match=rf'{name}: no kind of picture; .* \.png or \.svg'):
        save_figure(Figure(), tmp_path / name)


def test_a_figure_without_a_place(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match=r'file/figure\.png: cannot be written'):
        save_figure(Figure(), tmp_path / 'file' / 'figure.png')
    (tmp_path / 'full.png').symlink_to(Path('/dev/full'))
    with pytest.raises(WriteError, match='No space left on device'):
        save_figure(Figure(), tmp_path / 'full.png')
