# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pointdistiller_core.datasets.files import pack_arrays, unpack_arrays, write_file
from pointdistiller_core.errors import DatasetError


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written_and_replaced(tmp_path):
    file = tmp_path / 'new' / 'file.bin'
    write_file(file, b'first')
    write_file(file, b'second')
    assert file.read_bytes() == b'second'
    assert names_in(file.parent) == ['file.bin']


def test_a_killed_process_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / 'file.bin'
    write_file(file, b'first')

    def killed(path: Path, content: bytes) -> None:
        path.open('wb').write(content[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, 'write_bytes', killed)
    with pytest.raises(KeyboardInterrupt):
        write_file(file, b'second')
    assert file.read_bytes() == b'first'
    assert names_in(tmp_path) == ['file.bin']


def test_arrays_come_back_and_any_damage_is_noticed():
    arrays = {'points': np.arange(8, dtype=np.float32).reshape(2, 4), 'none': np.zeros((0, 7))}
    content = pack_arrays(arrays)
    again = unpack_arrays(content)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    for index in range(len(content)):
        damaged = content[:index] + bytes([content[index] ^ 4]) + content[index + 1 :]
        with pytest.raises(ValueError, match=r'checksum|safetensors'):
            unpack_arrays(damaged)


def test_what_the_file_system_refuses_is_reported(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(DatasetError, match=r'file/below: cannot be written: (Not a|File exists)'):
        write_file(tmp_path / 'file' / 'below', b'')
    (tmp_path / 'folder' / 'inner').mkdir(parents=True)
    with pytest.raises(DatasetError, match='folder: cannot be written: Is a directory'):
        write_file(tmp_path / 'folder', b'')
    assert sorted(names_in(tmp_path)) == ['file', 'folder']
