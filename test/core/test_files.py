# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
from threading import Thread

import pytest

from pointdistiller_core.errors import ConfigError, WriteError
from pointdistiller_core.files import (
    check_writable,
    new_folder,
    read_text,
    remove_folder,
    temporary_folder,
    write_file,
    write_text,
)


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
    with pytest.raises(WriteError, match='exists already'), new_folder(tmp_path):
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
    message = rf'{tmp_path}/folder: cannot be written: No space left on device'
    with pytest.raises(WriteError, match=message), new_folder(tmp_path / 'folder') as aside:
        (aside / 'file').write_text('content')
    assert not list(tmp_path.iterdir())


def test_killed_while_saving(tmp_path):
    folder = tmp_path / 'folder'
    script = (
        'import os, pathlib, signal, sys\n'
        'from pointdistiller_core.files import new_folder\n'
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
    with pytest.raises(WriteError, match='No space left on device'):
        write_text(tmp_path / 'file', 'new')
    assert (tmp_path / 'file').read_text() == 'old'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_folder_is_removed(tmp_path):
    with new_folder(tmp_path / 'folder') as aside:
        (aside / 'file').write_text('content')
    remove_folder(tmp_path / 'folder')
    assert not list(tmp_path.iterdir())


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written_and_replaced(tmp_path):
    file = tmp_path / 'new' / 'file.bin'
    write_file(file, b'first, and longer')
    write_file(file, b'second')
    assert file.read_bytes() == b'second'
    assert names_in(file.parent) == ['file.bin']


def test_a_file_survives_a_stop(tmp_path, monkeypatch):
    file = tmp_path / 'file.bin'
    write_file(file, b'first')

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, 'replace', stop)
    with pytest.raises(KeyboardInterrupt):
        write_file(file, b'second')
    assert file.read_bytes() == b'first'
    assert names_in(tmp_path) == ['file.bin']


def test_what_a_killed_process_left_of_a_file_is_replaced(tmp_path):
    (tmp_path / '.file.bin.partial').write_bytes(b'half, longer than what follows')
    write_file(tmp_path / 'file.bin', b'whole')
    assert (tmp_path / 'file.bin').read_bytes() == b'whole'
    assert names_in(tmp_path) == ['file.bin']


def test_writers_at_once_do_not_disturb_each_other(tmp_path):
    file, problems = tmp_path / 'file', []

    def write(letter: bytes) -> None:
        try:
            for _ in range(50):
                write_file(file, letter * 5000)
                assert len(set(file.read_bytes())) == 1
        except (WriteError, AssertionError) as error:
            problems.append(error)

    threads = [Thread(target=write, args=(letter,)) for letter in (b'a', b'b', b'c')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert names_in(tmp_path) == ['file']


def test_what_the_file_system_refuses_is_reported(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(WriteError, match=r'file/below: cannot be written: (Not a|File exists)'):
        write_file(tmp_path / 'file' / 'below', b'')
    (tmp_path / 'folder' / 'inner').mkdir(parents=True)
    with pytest.raises(WriteError, match='folder: cannot be written: Is a directory'):
        write_file(tmp_path / 'folder', b'')
    assert sorted(names_in(tmp_path)) == ['file', 'folder']


def test_devices_and_links_are_written_through(tmp_path):
    write_file(Path('/dev/null'), b'content')
    assert Path('/dev/null').is_char_device()
    with pytest.raises(WriteError, match='/dev/full: cannot be written: No space left on device'):
        write_file(Path('/dev/full'), b'content')
    (tmp_path / 'link').symlink_to(tmp_path / 'target')
    write_file(tmp_path / 'link', b'content')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'target').read_bytes() == b'content'


def test_a_folder_has_one_writer(tmp_path):
    with new_folder(tmp_path / 'folder') as aside:
        (aside / 'deep').mkdir()
        (aside / 'deep' / 'file').write_text('content')
        with (
            pytest.raises(WriteError, match='folder: another process is writing it'),
            new_folder(tmp_path / 'folder'),
        ):
            pass
    assert (tmp_path / 'folder' / 'deep' / 'file').read_text() == 'content'


@pytest.mark.parametrize(
    ('name', 'folder', 'message'),
    [
        ('file/x.json', False, r'x\.json: cannot be written: .*/file is not a folder'),
        ('folder', False, 'folder: is a folder; a file is to be written'),
        ('file', True, 'file: is a file; a folder is to be written'),
        ('file/deep/folder', True, 'file is not a folder'),
        ('locked/x.json', False, 'locked is not writable'),
    ],
)
def test_a_place_is_judged_before_the_work(tmp_path, monkeypatch, name, folder, message):
    (tmp_path / 'file').touch()
    for made in ('folder', 'locked'):
        (tmp_path / made).mkdir()
    # tests may run as root, who may write everywhere
    monkeypatch.setattr(os, 'access', lambda path, _: Path(path).name != 'locked')
    with pytest.raises(WriteError, match=message):
        check_writable(tmp_path / name, folder=folder)
    check_writable(tmp_path / 'new' / 'x.json')
    check_writable(tmp_path / 'file')
    check_writable(tmp_path / 'folder', folder=True)


def test_no_room_for_temporary_files(tmp_path, monkeypatch):
    with temporary_folder() as folder:
        (folder / 'file').touch()
    assert not folder.exists()

    with pytest.raises(WriteError, match=r'no room .* files: .* TMPDIR'), temporary_folder():
        write_file(Path('/dev/full'), b'content')
    with pytest.raises(WriteError, match=r'No space left on device.*TMPDIR'), temporary_folder():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), temporary_folder():  # of something else
        raise PermissionError
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'absent'))
    with pytest.raises(WriteError, match='no temporary files: No such file'), temporary_folder():
        pass


def test_text_with_a_mark_and_in_other_encodings(tmp_path):
    file = tmp_path / 'text'
    file.write_bytes(b'\xef\xbb\xbfcaf\xc3\xa9\n')
    assert read_text(file, ConfigError) == 'caf\u00e9\n'
    file.write_bytes(b'a\nb\ncaf\xe9\n')
    with pytest.raises(ConfigError, match=r'text:3: not UTF-8 text: byte 0xe9; save it as UTF-8'):
        read_text(file, ConfigError)
    with pytest.raises(ConfigError, match='none: no such file'):
        read_text(tmp_path / 'none', ConfigError)
    with pytest.raises(ConfigError, match='cannot be read: Is a directory'):
        read_text(tmp_path, ConfigError)
