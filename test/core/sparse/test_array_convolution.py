# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution for training, in NumPy or compiled by Numba, is that of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointdistiller_core.sparse import array_convolution, convolution
from pointdistiller_core.sparse.array_convolution import convolve, convolve_relu
from pointdistiller_core.sparse.array_engines import NUMPY_TRAINING, best_training_engine
from pointdistiller_core.sparse.convolution import ArrayConvolution, TorchConvolution
from pointdistiller_core.sparse.sites import Sites
from pointdistiller_core.sparse.team import Team

KERNELS = {'submanifold': (3, 3, 3), 'strided': (3, 3, 3), 'flat': (3, 1, 1)}


@pytest.fixture(params=['numpy', 'numba'])
def engine(request, monkeypatch):
    """Each engine, with few outputs in a part."""
    monkeypatch.setattr(array_convolution, 'VALUES', 1000)
    if request.param == 'numpy':
        return NUMPY_TRAINING
    pytest.importorskip('numba')
    monkeypatch.setattr('pointdistiller_core.sparse.compiled_training.SIZE', 100)
    found = best_training_engine()
    assert found.name == 'numba'
    return found


def rulebook_of(sites, name):
    if name == 'submanifold':
        return sites.submanifold
    stride, padding = ((2, 2, 2), (1, 1, 1)) if name == 'strided' else ((2, 1, 1), (0, 0, 0))
    return sites.strided(KERNELS[name], stride, padding)[1]


def random_sites(count, shape=(6, 9, 11)):
    places = np.random.default_rng(count).permutation(np.prod(shape))[:count]
    grid = np.stack(np.unravel_index(places, (1, *shape)), axis=1)
    return Sites.build(grid, shape, 1)[0]


def random_arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize('name', KERNELS)
@pytest.mark.parametrize('count', [0, 1, 300])
@pytest.mark.parametrize('channels', [(4, 5), (16, 48), (9, 32), (24, 64)])
def test_features_and_gradients_are_those_of_torch(engine, monkeypatch, name, count, channels):
    monkeypatch.setattr(convolution, 'best_training_engine', lambda _dtype: engine)
    rulebook, (before, behind) = rulebook_of(random_sites(count), name), channels
    arrays = random_arrays(
        (count, before),
        (np.prod(KERNELS[name]), before, behind),
        (rulebook.num_outputs, behind),
    )
    features, kernel, gradient = (torch.from_numpy(each) for each in arrays)
    results = []
    for applied in (ArrayConvolution, TorchConvolution):
        leaves = [each.clone().requires_grad_() for each in (features, kernel)]
        result = applied.apply(*leaves, rulebook)
        result.backward(gradient)
        results.append((result.detach(), *(leaf.grad for leaf in leaves)))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize('values', [1, 100, 1 << 16])
def test_numpys_parts_can_have_any_size(monkeypatch, values):
    rulebook = rulebook_of(random_sites(300), 'strided')
    features, kernel = random_arrays((300, 4), (27, 4, 5))
    expected = convolve(features, kernel, rulebook)
    monkeypatch.setattr(array_convolution, 'VALUES', values)  # of a part of the output
    np.testing.assert_allclose(convolve(features, kernel, rulebook), expected, atol=1e-5)


def test_float64_is_for_numpy():
    assert best_training_engine('float64') is NUMPY_TRAINING


@pytest.mark.parametrize('name', KERNELS)
def test_bias_and_relu(name):
    rulebook = rulebook_of(random_sites(300), name)
    features, kernel, bias = random_arrays((300, 4), (np.prod(KERNELS[name]), 4, 5), 5)
    found = convolve_relu(features, kernel, bias, rulebook)
    expected = np.maximum(convolve(features, kernel, rulebook) + bias, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('name', KERNELS)
@pytest.mark.parametrize('behind', [8, 32])
def test_bits_do_not_depend_on_threads(engine, name, behind):
    rulebook = rulebook_of(random_sites(400, (8, 9, 11)), name)
    features, kernel, gradient = random_arrays(
        (400, 4), (np.prod(KERNELS[name]), 4, behind), (rulebook.num_outputs, behind)
    )
    alone = engine.convolve(features, kernel, rulebook)
    of_kernel = engine.kernel_gradient(features, gradient, rulebook)
    assert np.count_nonzero(alone) > 100
    for num_threads in (2, 3):
        team = Team(num_threads)
        np.testing.assert_array_equal(engine.convolve(features, kernel, rulebook, team), alone)
        again = engine.kernel_gradient(features, gradient, rulebook, team)
        np.testing.assert_array_equal(again, of_kernel)


@pytest.mark.parametrize('name', KERNELS)
def test_bits_of_convolve_relu_do_not_depend_on_threads(monkeypatch, name):
    monkeypatch.setattr(array_convolution, 'VALUES', 64)  # many parts
    rulebook = rulebook_of(random_sites(400, (8, 9, 11)), name)
    features, kernel, bias = random_arrays((400, 4), (np.prod(KERNELS[name]), 4, 8), 8)
    alone = convolve_relu(features, kernel, bias, rulebook)
    for num_threads in (2, 3):
        found = convolve_relu(features, kernel, bias, rulebook, Team(num_threads))
        np.testing.assert_array_equal(found, alone)
