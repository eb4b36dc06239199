# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""An installation of this package by colcon."""

from __future__ import annotations

from pathlib import Path
import shutil
import subprocess

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'pointdistiller_ros'
FILES = ('setup.py', 'setup.cfg', 'package.xml', 'pyproject.toml')
FOLDERS = ('resource', 'launch', 'config', 'scripts', 'weights', 'pointdistiller_core', PACKAGE)


def install(workspace: Path, *options: str) -> Path:
    """Build a copy of this package; the folder with `setup.bash`."""
    colcon = shutil.which('colcon') or pytest.skip('colcon is not installed')
    source = workspace / 'src' / PACKAGE
    source.mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name)
    command = [colcon, '--log-base', 'log', 'build', '--base-paths', 'src', *options]
    built = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return workspace / 'install'
