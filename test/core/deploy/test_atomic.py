# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from pointdistiller_core.deploy.atomic import new_folder, remove_folder, write_text
from pointdistiller_core.errors import CheckpointError


@pytest.fixture
def disk_full(monkeypatch):
    """Flushing is where a file system says that it had no room after all."""

    def fsync(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', fsync)


def test_folder_appears_complete(tmp_path):
    with new_folder(tmp_path / 'deep' / 'folder') as aside:
        (aside / 'file').write_text('content')
        assert not (tmp_path / 'deep' / 'folder').exists()
    assert (tmp_path / 'deep' / 'folder' / 'file').read_text() == 'content'
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['folder']


def test_existing_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match='exists already'), new_folder(tmp_path):
        pass


def test_failure_leaves_nothing(tmp_path):
    def fail():
        with new_folder(tmp_path / 'folder') as aside:
            (aside / 'file').write_text('content')
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures('disk_full')
def test_full_disk_is_named(tmp_path):
    message = rf'{tmp_path}/folder: cannot be saved: No space left on device'
    with pytest.raises(CheckpointError, match=message), new_folder(tmp_path / 'folder') as aside:
        (aside / 'file').write_text('content')
    assert not list(tmp_path.iterdir())


def test_killed_while_saving(tmp_path):
    folder = tmp_path / 'folder'
    script = (
        'import os, pathlib, signal, sys\n'
        'from pointdistiller_core.deploy.atomic import new_folder\n'
        'with new_folder(pathlib.Path(sys.argv[1])) as aside:\n'
        "    (aside / 'file').write_text('half of the con')\n"
        '    os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    killed = subprocess.run([sys.executable, '-c', script, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ['.folder.partial']
    with new_folder(folder) as aside:  # the remains do not get in the way
        (aside / 'other').write_text('content')
    assert [path.name for path in folder.iterdir()] == ['other']
    assert [path.name for path in tmp_path.iterdir()] == ['folder']


def test_text_is_replaced(tmp_path):
    write_text(tmp_path / 'file', 'old')
    write_text(tmp_path / 'file', 'new')
    assert (tmp_path / 'file').read_text() == 'new'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_text_survives_a_full_disk(tmp_path, request):
    write_text(tmp_path / 'file', 'old')
    request.getfixturevalue('disk_full')
    with pytest.raises(CheckpointError, match='No space left on device'):
        write_text(tmp_path / 'file', 'new')
    assert (tmp_path / 'file').read_text() == 'old'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_folder_is_removed(tmp_path):
    with new_folder(tmp_path / 'folder') as aside:
        (aside / 'file').write_text('content')
    remove_folder(tmp_path / 'folder')
    assert not list(tmp_path.iterdir())
