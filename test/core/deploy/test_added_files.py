# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files that an export adds to a bundle."""

from __future__ import annotations

import os

import pytest

from pointdistiller_core.deploy import bundle_format
from pointdistiller_core.deploy.bundle import BundleInfo, load_bundle, save_bundle
from pointdistiller_core.deploy.bundle_format import add_files, read_info, read_verified
from pointdistiller_core.errors import WriteError
from pointdistiller_core.models import build_detector


@pytest.fixture
def bundle(tiny_model, tmp_path):
    save_bundle(tmp_path / 'bundle', build_detector(tiny_model), BundleInfo(model=tiny_model))
    return tmp_path / 'bundle'


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_added_and_replaced(bundle):
    add_files(bundle, {'a': b'1', 'b': b'2'})
    add_files(bundle, {'a': b'3'})
    info = read_info(bundle)
    assert [read_verified(bundle, name, info) for name in 'ab'] == [b'3', b'2']
    assert set(files_of(bundle)) == {'bundle.json', 'model.safetensors', 'a', 'b'}
    load_bundle(bundle)


def test_a_full_disk_changes_nothing(bundle, monkeypatch):
    add_files(bundle, {'a': b'1', 'b': b'2'})
    before = files_of(bundle)
    flushed: list[int] = []

    def full(descriptor):
        flushed.append(descriptor)
        if len(flushed) == 2:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(WriteError, match='No space left on device'):
        add_files(bundle, {'a': b'3', 'b': b'4'})
    assert files_of(bundle) == before


@pytest.mark.parametrize('writes', [0, 1])
def test_killed_meanwhile_all_that_is_named_is_intact(bundle, monkeypatch, writes):
    add_files(bundle, {'a': b'1', 'b': b'2'})
    done = []
    write = bundle_format.write_info

    def killed(folder, info):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(info)
        write(folder, info)

    monkeypatch.setattr(bundle_format, 'write_info', killed)
    with pytest.raises(KeyboardInterrupt):
        add_files(bundle, {'a': b'3', 'b': b'4'})
    info = read_info(bundle)
    assert all(read_verified(bundle, name, info) for name in info.sha256)
    assert 'model.safetensors' in info.sha256
    load_bundle(bundle)
