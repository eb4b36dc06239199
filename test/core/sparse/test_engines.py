# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Engines for GPUs; benchmarks/gpu holds the real ones against torch's."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from pointdistiller_core.errors import BackendError, ConfigError
from pointdistiller_core.sparse import engines
from pointdistiller_core.sparse.array_engines import best_training_engine
from pointdistiller_core.sparse.convolution import SparseConv3d, SparseTensor, convolve
from pointdistiller_core.sparse.engines import LIBRARIES, Engine, engine_of, use_engine
from pointdistiller_core.sparse.sites import Sites

SHAPE, BATCH = (6, 9, 7), 2
KINDS = {
    'submanifold': lambda: SparseConv3d(4, 5),
    'strided': lambda: SparseConv3d(4, 5, stride=(2, 2, 2), padding=(1, 1, 1)),
    'flat': lambda: SparseConv3d(4, 5, (3, 1, 1), stride=(2, 1, 1)),
}


class Layer(nn.Module):
    """A layer as spconv has it, whose output has its cells in an order of its own."""

    def __init__(self, inputs, outputs, kernel, stride=None, padding=(0, 0, 0), *, bias):
        super().__init__()
        assert not bias
        self.weight = nn.Parameter(torch.empty(outputs, *kernel, inputs))
        self.stride, self.padding = stride, padding

    def forward(self, tensor):
        assert tensor.indices.dtype == torch.int32
        _, *kernel, _ = self.weight.shape
        sites, ranks = Sites.build(tensor.indices.long().numpy(), tuple(tensor.shape), tensor.size)
        features = torch.empty_like(tensor.features).index_copy(
            0, torch.from_numpy(ranks), tensor.features
        )
        if self.stride is None:
            found = convolve(features, self.weight, sites.submanifold)
            return SimpleNamespace(features=found[torch.from_numpy(ranks)])
        output, rulebook = sites.strided(tuple(kernel), self.stride, self.padding)
        mixed = torch.randperm(len(output), generator=torch.Generator().manual_seed(1))
        return SimpleNamespace(
            features=convolve(features, self.weight, rulebook)[mixed],
            indices=torch.from_numpy(output.coords)[mixed].int(),
            spatial_shape=list(output.shape),
        )


@pytest.fixture
def library(monkeypatch):
    """A library with spconv's layers, on a CPU."""
    module = ModuleType('like_spconv')
    module.SparseConvTensor = lambda features, indices, shape, size: SimpleNamespace(
        features=features, indices=indices, shape=shape, size=size
    )
    module.SubMConv3d = module.SparseConv3d = Layer
    monkeypatch.setitem(sys.modules, 'like_spconv', module)
    return 'like_spconv'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('count', [0, 1, 200])
def test_numbers_and_gradients_are_those_of_torch(library, kind, count):
    torch.manual_seed(0)
    cells = torch.randperm(2 * 6 * 9 * 7)[:count]
    coords = torch.stack(torch.unravel_index(cells, (BATCH, *SHAPE)), dim=1)
    conv, features = KINDS[kind](), torch.randn(count, 4)
    results = []
    for run in (None, Engine(library)):
        conv.run = run
        inputs = features.clone().requires_grad_()
        found = conv(SparseTensor.build(inputs, coords, SHAPE, BATCH))
        conv.zero_grad()
        found.features.square().sum().backward()
        results.append((found, inputs.grad, conv.weight.grad.clone()))
    (first, *gradients), (second, *others) = results
    assert first.sites.coords.tolist() == second.sites.coords.tolist()
    torch.testing.assert_close(second.features, first.features)
    for found, expected in zip(others, gradients, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('name', LIBRARIES)
def test_they_refuse_what_they_cannot_do(monkeypatch, name):
    model = nn.Sequential(SparseConv3d(4, 5))
    with pytest.raises(ConfigError, match=f"'{name}' runs on a GPU alone, and the device is cpu"):
        use_engine(model, name, 'cpu')
    with pytest.raises(ConfigError, match='has no sparse convolutions'):
        use_engine(nn.Linear(1, 1), name, 'cuda')
    monkeypatch.setattr(engines, 'find_spec', lambda _: None)
    with pytest.raises(
        BackendError, match=r'is not installed; run: pip install .pointdistiller\['
    ):
        use_engine(model, name, 'cuda')
    assert model[0].run is None


def test_an_unknown_engine_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"\['torch', 'spconv', 'spconv_triton'\]"):
        use_engine(nn.Sequential(SparseConv3d(4, 5)), 'minkowski', 'cuda')


def test_spconv_for_cpus_is_refused(monkeypatch):
    monkeypatch.setattr(engines, 'find_spec', lambda _: object())
    monkeypatch.setattr(engines, 'distribution', lambda _: object())
    with pytest.raises(BackendError, match='the build for CPUs; run: pip uninstall spconv'):
        use_engine(nn.Sequential(SparseConv3d(4, 5)), 'spconv', 'cuda')


def test_an_engine_is_chosen_and_left_again(monkeypatch):
    monkeypatch.setattr(engines, 'find_spec', lambda _: object())
    model = nn.Sequential(SparseConv3d(4, 5), SparseConv3d(5, 5))
    use_engine(model, 'spconv_triton', 'cuda:1')
    assert all(isinstance(conv.run, Engine) for conv in model)
    assert engine_of(model, torch.device('cuda:1')) == 'spconv_triton.pytorch'
    use_engine(model, 'torch', 'cpu')
    assert all(conv.run is None for conv in model)
    assert engine_of(model, torch.device('cuda')) == 'torch'
    assert engine_of(model, torch.device('cpu')) == best_training_engine().name
    assert engine_of(nn.Linear(1, 1), torch.device('cpu')) is None
