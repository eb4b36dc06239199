# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files of `torch.save`: what is sound comes back, and nothing else is opened or grows."""

from __future__ import annotations

import io
from pathlib import Path
import pickle
import re
import zipfile

import pytest
import torch

from pointdistiller_core.deploy.torch_files import SAFE_TORCH, load_torch_file
from pointdistiller_core.errors import CheckpointError

WHERE = Path('some.pth')


def saved(value: object, *, archive: bool = True) -> bytes:
    content = io.BytesIO()
    torch.save(value, content, _use_new_zipfile_serialization=archive)
    return content.getvalue()


def repacked(content: bytes, **options: int) -> bytes:
    """The same archive, written anew."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(target, 'w', **options) as archive,
    ):
        for entry in source.infolist():
            archive.writestr(entry.filename, source.read(entry))
    return target.getvalue()


@pytest.mark.parametrize('archive', [True, False])
def test_what_was_saved_comes_back(archive):
    value = {'a': [torch.arange(3), {'b': torch.ones(2, 2)}], 'epoch': 3, 'none': None}
    found = load_torch_file(saved(value, archive=archive), where=WHERE)
    assert (found['epoch'], found['none']) == (3, None)
    assert torch.equal(found['a'][0], value['a'][0])
    assert torch.equal(found['a'][1]['b'], value['a'][1]['b'])


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def many_times(depth: int) -> list[object]:
    value: list[object] = [0] * 10
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'', ''),
        (b'PK\x03\x04', ''),
        (saved({'a': torch.ones(9)})[:-30], ''),
        (saved({'a': torch.ones(9)}, archive=False)[:-30], ''),
        (pickle.dumps(Path('x')), ''),
        (saved({'a': print}), ''),
        (
            repacked(saved({'a': torch.zeros(10**6)}), compression=zipfile.ZIP_DEFLATED),
            'compressed',
        ),
        (saved({'a': torch.zeros(1).expand(10**9, 10**9)}), 'a tensor larger than the file'),
        (saved({'a': torch.sparse_coo_tensor(size=(10**9, 9))}), ''),
        (saved(nested(30)), 'nested too deeply'),
        (saved(many_times(15)), 'more values than bytes'),
    ],
)
def test_one_error_for_what_is_no_checkpoint(content, problem):
    with pytest.raises(CheckpointError, match=f'^some.pth: damaged, not a checkpoint.*{problem}'):
        load_torch_file(content, where=WHERE)


def test_a_torch_that_executes_what_it_reads_is_not_used(monkeypatch):
    monkeypatch.setattr(torch, '__version__', torch.torch_version.TorchVersion('2.5.1+cpu'))
    monkeypatch.setattr(torch, 'load', None)  # would be an error
    with pytest.raises(CheckpointError, match=r'torch 2\.5\.1\+cpu may execute.*torch>=2\.6'):
        load_torch_file(saved({}), where=WHERE)


def test_the_safe_torch_is_what_is_asked_for():
    root = Path(__file__).resolve().parents[3]
    setup = (root / 'setup.py').read_text(encoding='utf-8')
    assert re.findall(r"'torch>=([\d.]+)'", setup) == [SAFE_TORCH]
