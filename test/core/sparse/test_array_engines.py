# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Convolutions compiled by Numba are those of NumPy, which takes over without Numba."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.sparse.array_engines import NUMPY, best_array_engine
from pointdistiller_core.sparse.team import Team

SHAPE = (41, 9, 11)
KINDS = {
    'submanifold': None,
    'strided': ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    'without padding along z': ((3, 3, 3), (2, 2, 2), (0, 1, 1)),
    'flat': ((3, 1, 1), (2, 1, 1), (0, 0, 0)),
}


@pytest.fixture
def numba():
    pytest.importorskip('numba')
    return best_array_engine()


def random_cells(count, batch_size):
    cells = np.random.default_rng(count).permutation(batch_size * np.prod(SHAPE))[:count]
    return np.stack(np.unravel_index(cells, (batch_size, *SHAPE)), axis=1)


def level_of(engine, cells, batch_size, kind):
    sites, ranks = engine.sites.build(cells, SHAPE, batch_size)
    if KINDS[kind] is None:
        return ranks, sites, sites.submanifold
    return ranks, *sites.strided(*KINDS[kind])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('count', [0, 1, 300, 8000])
@pytest.mark.parametrize('channels', [(4, 5), (16, 32), (7, 40)])
def test_both_engines_agree(numba, monkeypatch, kind, count, channels):
    monkeypatch.setattr('pointdistiller_core.sparse.compiled_convolution.SIZE', 700)  # many parts
    cells, batch_size, (before, behind) = random_cells(count, 2), 2, channels
    ranks, sites, rulebook = level_of(NUMPY, cells, batch_size, kind)
    own_ranks, own_sites, reading = level_of(numba, cells, batch_size, kind)
    np.testing.assert_array_equal(own_ranks, ranks)
    np.testing.assert_array_equal(own_sites.coords, sites.coords)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, before)).astype(np.float32)
    kernel = rng.normal(size=(len(rulebook.pairs), before, behind)).astype(np.float32)
    bias = rng.normal(size=behind).astype(np.float32)
    kernel.flags.writeable = False  # as arrays of a file may be
    expected = NUMPY.convolve_relu(features, kernel, bias, rulebook)
    found = numba.convolve_relu(features, kernel, bias, reading)
    assert found.flags.c_contiguous
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, expected.max(initial=0)))
    for num_threads in (2, 3):
        again = numba.convolve_relu(features, kernel, bias, reading, Team(num_threads))
        np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize('extreme', [np.nan, np.inf])
def test_what_is_not_finite_stays_so(numba, extreme):
    cells = random_cells(50, 1)
    ranks, _, reading = level_of(numba, cells, 1, 'submanifold')
    features = np.zeros((50, 4), np.float32)
    features[ranks[0]] = extreme
    found = numba.convolve_relu(features, np.ones((27, 4, 16), np.float32), np.ones(16), reading)
    assert not np.isfinite(found[ranks[0]]).any()


def test_numpy_takes_over_without_numba(monkeypatch):
    monkeypatch.setattr('pointdistiller_core.sparse.array_engines.numba_works', lambda: False)
    assert best_array_engine() is NUMPY
