# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution in NumPy is that of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointdistiller_core.sparse import array_convolution
from pointdistiller_core.sparse.array_convolution import convolve, convolve_relu, kernel_gradient
from pointdistiller_core.sparse.convolution import ArrayConvolution, TorchConvolution
from pointdistiller_core.sparse.sites import Sites
from pointdistiller_core.sparse.team import Team

KERNELS = {'submanifold': (3, 3, 3), 'strided': (3, 3, 3), 'flat': (3, 1, 1)}


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
@pytest.mark.parametrize('values', [1, 100, 1 << 16])
def test_features_and_gradients_are_those_of_torch(monkeypatch, name, count, values):
    monkeypatch.setattr(array_convolution, 'VALUES', values)  # of a part of the output
    rulebook = rulebook_of(random_sites(count), name)
    arrays = random_arrays((count, 4), (np.prod(KERNELS[name]), 4, 5), (rulebook.num_outputs, 5))
    features, kernel, gradient = (torch.from_numpy(each) for each in arrays)
    results = []
    for convolution in (ArrayConvolution, TorchConvolution):
        leaves = [each.clone().requires_grad_() for each in (features, kernel)]
        result = convolution.apply(*leaves, rulebook)
        result.backward(gradient)
        results.append((result.detach(), *(leaf.grad for leaf in leaves)))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('name', KERNELS)
def test_bias_and_relu(name):
    rulebook = rulebook_of(random_sites(300), name)
    features, kernel, bias = random_arrays((300, 4), (np.prod(KERNELS[name]), 4, 5), 5)
    found = convolve_relu(features, kernel, bias, rulebook)
    expected = np.maximum(convolve(features, kernel, rulebook) + bias, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('name', KERNELS)
def test_bits_do_not_depend_on_threads(monkeypatch, name):
    monkeypatch.setattr(array_convolution, 'VALUES', 64)  # many parts
    rulebook = rulebook_of(random_sites(400, (8, 9, 11)), name)
    features, kernel, bias, gradient = random_arrays(
        (400, 4), (np.prod(KERNELS[name]), 4, 8), 8, (rulebook.num_outputs, 8)
    )
    alone = convolve_relu(features, kernel, bias, rulebook)
    of_kernel = kernel_gradient(features, gradient, rulebook)
    assert np.count_nonzero(alone) > 100
    for num_threads in (2, 3):
        team = Team(num_threads)
        found = convolve_relu(features, kernel, bias, rulebook, team)
        np.testing.assert_array_equal(found, alone)
        found = kernel_gradient(features, gradient, rulebook, team)
        np.testing.assert_array_equal(found, of_kernel)
