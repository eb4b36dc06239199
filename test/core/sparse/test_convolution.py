# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolutions against torch's dense ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pointdistiller_core.sparse.convolution import SparseConv3d, SparseTensor

SHAPE, BATCH = (6, 9, 7), 2


def random_tensor(count: int, channels: int, seed: int = 0) -> tuple[SparseTensor, torch.Tensor]:
    """Features of random cells, and the same as a dense grid (B, C, D, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (BATCH, *SHAPE)
    total = torch.tensor(sizes).prod().item()
    cells = torch.randperm(total, generator=generator)[:count]
    coords = torch.stack(torch.unravel_index(cells, sizes), dim=1)
    features = torch.randn(count, channels, generator=generator)
    dense = torch.zeros(total, channels).index_copy(0, cells, features)
    dense = dense.view(*sizes, channels).movedim(-1, 1)
    return SparseTensor.build(features, coords, SHAPE, BATCH), dense


def at_sites(dense: torch.Tensor, tensor: SparseTensor) -> torch.Tensor:
    frames, layers, rows, cells = torch.from_numpy(tensor.sites.coords).unbind(1)
    return dense[frames, :, layers, rows, cells]


def dense_convolution(conv: SparseConv3d, dense: torch.Tensor) -> torch.Tensor:
    weight = conv.weight.movedim(-1, 1)
    if conv.stride is None:
        return F.conv3d(dense, weight, padding=1)
    return F.conv3d(dense, weight, stride=conv.stride, padding=conv.padding)


KINDS = {
    'submanifold': lambda: SparseConv3d(4, 5),
    'strided': lambda: SparseConv3d(4, 5, stride=(2, 2, 2), padding=(1, 1, 1)),
    'flat': lambda: SparseConv3d(4, 5, (3, 1, 1), stride=(2, 1, 1)),
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('count', [0, 1, 50, 400])
def test_features_and_gradients_are_those_of_a_dense_convolution(kind, count):
    torch.manual_seed(0)
    conv = KINDS[kind]().double()
    tensor, dense = random_tensor(count, 4)
    inputs = tensor.features.double().requires_grad_()
    dense = dense.double().requires_grad_()
    found = conv(tensor.with_features(inputs))
    expected = dense_convolution(conv, dense)
    torch.testing.assert_close(found.features, at_sites(expected, found))
    if kind != 'submanifold':  # what is no site reads nothing
        assert torch.count_nonzero(expected.detach().abs().sum(1)) == len(found.sites)
    factors = torch.randn_like(found.features)
    (found.features * factors).sum().backward()
    gradients = conv.weight.grad.clone()
    conv.weight.grad = None
    (at_sites(expected, found) * factors).sum().backward()
    torch.testing.assert_close(gradients, conv.weight.grad)
    torch.testing.assert_close(inputs.grad, at_sites(dense.grad, tensor))


def test_gradients_by_differences():
    torch.manual_seed(1)
    conv = SparseConv3d(2, 3).double()
    tensor, _ = random_tensor(30, 2)
    features = tensor.features.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda rows, weight: convolve_with(conv, tensor, rows, weight), (features, conv.weight)
    )


def convolve_with(conv, tensor, rows, weight):
    return torch.func.functional_call(
        conv, {'weight': weight}, (tensor.with_features(rows),)
    ).features


def test_the_map_has_the_layers_of_a_channel_side_by_side():
    tensor, dense = random_tensor(80, 3)
    expected = dense.flatten(1, 2)  # (B, C * D, H, W)
    torch.testing.assert_close(tensor.to_map(), expected)


def test_bits_do_not_depend_on_threads():
    conv, (tensor, _) = SparseConv3d(16, 32), random_tensor(700, 16)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            inputs = tensor.features.clone().requires_grad_()
            output = conv(tensor.with_features(inputs)).features
            conv.weight.grad = None
            output.square().sum().backward()
            results.append((output, inputs.grad, conv.weight.grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_a_submanifold_kernel_is_a_cube():
    with pytest.raises(ValueError, match='kernel of'):
        SparseConv3d(4, 4, (3, 1, 1))
