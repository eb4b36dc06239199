# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution in NumPy is that of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointdistiller_core.sparse import array_convolution
from pointdistiller_core.sparse.array_convolution import convolve_relu
from pointdistiller_core.sparse.convolution import convolve
from pointdistiller_core.sparse.sites import Sites
from pointdistiller_core.sparse.team import Team

KERNELS = {'submanifold': (3, 3, 3), 'strided': (3, 3, 3), 'flat': (3, 1, 1)}


def rulebook_of(sites, name):
    if name == 'submanifold':
        return sites.submanifold
    stride, padding = ((2, 2, 2), (1, 1, 1)) if name == 'strided' else ((2, 1, 1), (0, 0, 0))
    return sites.strided(KERNELS[name], stride, padding)[1]


@pytest.mark.parametrize('name', KERNELS)
@pytest.mark.parametrize('count', [0, 1, 300])
@pytest.mark.parametrize('values', [1, 100, 1 << 16])
def test_features_are_those_of_torch(monkeypatch, name, count, values):
    monkeypatch.setattr(array_convolution, 'VALUES', values)  # of a part of the output
    rng = np.random.default_rng(count)
    grid = np.stack(np.unravel_index(rng.permutation(6 * 9 * 11)[:count], (1, 6, 9, 11)), axis=1)
    sites, _ = Sites.build(grid, (6, 9, 11), 1)
    features = rng.normal(size=(count, 4)).astype(np.float32)
    weight = rng.normal(size=(5, *KERNELS[name], 4)).astype(np.float32)
    bias = rng.normal(size=5).astype(np.float32)
    rulebook = rulebook_of(sites, name)
    kernel = weight.reshape(5, -1, 4).transpose(1, 2, 0)
    found = convolve_relu(features, kernel, bias, rulebook)
    result = convolve(torch.from_numpy(features), torch.from_numpy(weight), rulebook)
    expected = (result + torch.from_numpy(bias)).relu()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize('name', KERNELS)
def test_bits_do_not_depend_on_threads(monkeypatch, name):
    monkeypatch.setattr(array_convolution, 'VALUES', 64)  # many parts
    rng = np.random.default_rng(0)
    grid = np.stack(np.unravel_index(rng.permutation(8 * 9 * 11)[:400], (1, 8, 9, 11)), axis=1)
    sites, _ = Sites.build(grid, (8, 9, 11), 1)
    features = rng.normal(size=(400, 4)).astype(np.float32)
    kernel = rng.normal(size=(np.prod(KERNELS[name]), 4, 8)).astype(np.float32)
    bias = rng.normal(size=8).astype(np.float32)
    rulebook = rulebook_of(sites, name)
    alone = convolve_relu(features, kernel, bias, rulebook)
    assert np.count_nonzero(alone) > 100
    for num_threads in (2, 3):
        found = convolve_relu(features, kernel, bias, rulebook, Team(num_threads))
        np.testing.assert_array_equal(found, alone)
