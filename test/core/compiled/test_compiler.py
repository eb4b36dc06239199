# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Numba is used where it works, and its absence is no error."""

from __future__ import annotations

import sys

import pytest

from pointdistiller_core import compiled
from pointdistiller_core.compiled import numba_works


@pytest.fixture
def anew():
    numba_works.cache_clear()
    yield
    numba_works.cache_clear()


@pytest.mark.usefixtures('anew')
def test_without_numba(monkeypatch, caplog):
    monkeypatch.setattr(compiled, 'find_spec', lambda _name: None)
    assert not numba_works()
    assert not caplog.text


@pytest.mark.usefixtures('anew')
def test_a_numba_for_another_numpy_is_reported(monkeypatch, caplog):
    monkeypatch.setattr(compiled, 'find_spec', lambda _name: True)
    monkeypatch.delattr('pointdistiller_core.compiled.compiler', raising=False)
    monkeypatch.setitem(sys.modules, 'pointdistiller_core.compiled.compiler', None)
    assert not numba_works()
    assert 'numba cannot be used' in caplog.text


def test_without_a_folder_for_what_is_compiled(monkeypatch):
    pytest.importorskip('numba')
    from pointdistiller_core.compiled import compiler

    def njit(*_signature, cache=False, **_options):
        if cache:
            raise RuntimeError('cannot cache function: no locator available')
        return lambda function: function

    monkeypatch.setattr(compiler, 'njit', njit)
    assert compiler.compiled('i8(i8)')(abs) is abs
