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
@pytest.mark.parametrize('channels', [(4, 5), (8, 16), (16, 32), (7, 40), (24, 64)])
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


def test_pairs_are_kept_for_the_next_convolution_alone(numba, monkeypatch):
    monkeypatch.setattr('pointdistiller_core.sparse.compiled_convolution.SIZE', 100)
    rng, team = np.random.default_rng(0), Team(2)
    kernel, bias = rng.normal(size=(27, 4, 4)).astype(np.float32), np.zeros(4, np.float32)
    for count in (700, 300, 900):  # clouds in turn, of which one has more parts
        features = rng.normal(size=(count, 4)).astype(np.float32)
        _, _, rulebook = level_of(NUMPY, random_cells(count, 1), 1, 'submanifold')
        _, _, reading = level_of(numba, random_cells(count, 1), 1, 'submanifold')
        expected = found = features
        for _ in range(3):
            expected = NUMPY.convolve_relu(expected, kernel, bias, rulebook)
            found = numba.convolve_relu(found, kernel, bias, reading, team)
        assert np.count_nonzero(expected) > count
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize('count', [0, 1, 2000])
def test_the_cells_of_a_frame(numba, count):
    coords = random_cells(count, 1)
    cells = np.ravel_multi_index(tuple(coords[:, 1:].T), SHAPE)
    sites, ranks = NUMPY.sites.build(coords, SHAPE, 1)
    features = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    stacked, places = NUMPY.stack_layers(features, sites)
    for engine in (NUMPY, numba):
        own, own_ranks = engine.sites.of_frame(cells, SHAPE)
        np.testing.assert_array_equal(own_ranks, ranks)
        for name in ('keys', 'masks', 'layers', 'coords'):
            np.testing.assert_array_equal(getattr(own, name), getattr(sites, name), strict=True)
        found = engine.stack_layers(features, own)
        np.testing.assert_array_equal(found[0], stacked, strict=True)
        np.testing.assert_array_equal(found[1], places, strict=True)
    dense = np.zeros((9 * 11, 3, 41), np.float32)
    dense[coords[:, 2] * 11 + coords[:, 3], :, coords[:, 1]] = features[ranks]
    np.testing.assert_array_equal(stacked, dense[places].reshape(-1, 3 * 41))
    assert np.count_nonzero(stacked) == np.count_nonzero(dense) == 3 * count


def test_too_many_layers_are_refused(numba):
    for engine in (NUMPY, numba):
        with pytest.raises(ValueError, match='63 layers; sparse convolution knows up to 62'):
            engine.sites.of_frame(np.zeros(1, np.int64), (63, 2, 2))


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
