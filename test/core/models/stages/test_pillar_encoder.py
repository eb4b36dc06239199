# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pillar encoder and scatter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.grid import Grid
from pointdistiller_core.models.stages.pillar_encoder import (
    PillarEncoder,
    point_features,
    scatter_to_bev,
)
from pointdistiller_core.pointcloud.voxels import Voxels, group_voxels

GRID = Grid(point_cloud_range=(0, -4, -3, 8, 4, 1), voxel_size=(2, 2, 4))


def group(points: torch.Tensor, max_points: int = 4) -> Voxels:
    return group_voxels([points], GRID, max_points=max_points, max_voxels=100)


def random_pillars() -> Voxels:
    """Full, nearly empty and empty cells."""
    points = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    return group(points * torch.tensor([8.0, 4, 3, 1]) - torch.tensor([0, 1.5, 2.5, 0]))


def test_point_features_by_hand():
    points = torch.tensor([[1.0, 1.0, -1.0, 0.2], [1.5, 1.0, 0.0, 0.4], [5.0, -3.0, 0, 1]])
    features = point_features(group(points), GRID, columns=range(4))
    expected = torch.tensor(
        [
            [1.0, 1, -1, 0.2, -0.25, 0, -0.5, 0, 0, 0],  # mean (1.25, 1, -0.5), center (1, 1, -1)
            [1.5, 1, 0, 0.4, 0.25, 0, 0.5, 0.5, 0, 1],
            [5.0, -3, 0, 1, 0, 0, 0, 0, 0, 1],
        ]
    )
    torch.testing.assert_close(features, expected)


class DenseEncoder(nn.Module):
    """The published layer: every slot is computed."""

    def __init__(self, encoder: PillarEncoder) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 16, bias=False)
        self.norm = nn.BatchNorm1d(16, eps=1e-3, momentum=0.01)
        self.load_state_dict(encoder.state_dict())

    def forward(self, pillars: Voxels) -> torch.Tensor:
        used = torch.arange(pillars.points.shape[1]) < pillars.num_points[:, None]
        slots = torch.zeros(*used.shape, 10)
        slots[used] = point_features(pillars, GRID, columns=range(4))
        values = self.norm(self.linear(slots).transpose(1, 2)).relu()
        return values.amax(dim=2)


@pytest.fixture
def encoder() -> PillarEncoder:
    """An encoder whose statistics, scales (some negative) and shifts are not trivial."""
    torch.manual_seed(0)
    encoder = PillarEncoder(16, GRID, range(4))
    nn.init.normal_(encoder.norm.weight)
    nn.init.normal_(encoder.norm.bias)
    encoder.norm.running_mean.normal_()
    encoder.norm.running_var.uniform_(0.5, 2)
    return encoder


@pytest.mark.parametrize('training', [False, True])
def test_equals_the_layer_that_computes_every_slot(encoder, training):
    pillars = random_pillars()
    assert {1, 4} <= set(pillars.num_points.tolist())
    dense = DenseEncoder(encoder).train(training)
    found, expected = encoder.train(training)(pillars), dense(pillars)
    torch.testing.assert_close(found, expected)
    (found**2).sum().backward()
    (expected**2).sum().backward()
    expected_gradients = {name: p.grad for name, p in dense.named_parameters()}
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, expected_gradients[name], rtol=1e-4, atol=1e-4)
    for name, buffer in dense.named_buffers():
        torch.testing.assert_close(encoder.get_buffer(name), buffer)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('num_points', [0, 1])
def test_few_points(encoder, training, num_points):
    found = encoder.train(training)(group(torch.full((num_points, 4), 0.5)))
    assert found.shape == (num_points, 16)
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    assert all(buffer.isfinite().all() for buffer in encoder.buffers())


def test_one_pillar_of_one_slot_has_no_variance_to_divide_by(encoder):
    found = encoder.train()(group(torch.full((1, 4), 0.5), max_points=1))
    assert found.isfinite().all()
    assert encoder.norm.running_var.isfinite().all()


def test_features_are_float32_under_autocast(encoder):
    pillars = random_pillars()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = encoder.eval()(pillars)
    torch.testing.assert_close(found, encoder(pillars), rtol=0, atol=0)


class DenseTwoLayers(nn.Module):
    """The published two layers: every slot is computed, and goes on with its pillar's maxima."""

    def __init__(self, encoder: PillarEncoder) -> None:
        super().__init__()
        self.columns, self.axes = encoder.columns, encoder.center_axes
        self.hidden = nn.Module()
        self.hidden.linear = nn.Linear(8, 6, bias=False)
        self.hidden.norm = nn.BatchNorm1d(6, eps=1e-3, momentum=0.01)
        self.linear = nn.Linear(12, 16, bias=False)
        self.norm = nn.BatchNorm1d(16, eps=1e-3, momentum=0.01)
        self.load_state_dict(encoder.state_dict())

    def forward(self, pillars: Voxels) -> torch.Tensor:
        used = torch.arange(pillars.points.shape[1]) < pillars.num_points[:, None]
        slots = torch.zeros(*used.shape, 8)
        slots[used] = point_features(pillars, GRID, columns=self.columns, center_axes=self.axes)
        first = self.hidden.norm(self.hidden.linear(slots).transpose(1, 2)).relu()
        both = torch.cat([first, first.amax(dim=2, keepdim=True).expand_as(first)], dim=1)
        values = self.norm(self.linear(both.transpose(1, 2)).transpose(1, 2)).relu()
        return values.amax(dim=2)


@pytest.fixture
def two_layers() -> PillarEncoder:
    """Two layers that read x, y and z, with norms that are not trivial."""
    torch.manual_seed(0)
    encoder = PillarEncoder(16, GRID, range(3), hidden=6, center_axes=2)
    for norm in (encoder.norm, encoder.hidden.norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return encoder


@pytest.mark.parametrize('training', [False, True])
def test_two_layers_equal_those_that_compute_every_slot(two_layers, training):
    pillars = random_pillars()
    dense = DenseTwoLayers(two_layers).train(training)
    found, expected = two_layers.train(training)(pillars), dense(pillars)
    torch.testing.assert_close(found, expected)
    (found**2).sum().backward()
    (expected**2).sum().backward()
    gradients = {name: parameter.grad for name, parameter in dense.named_parameters()}
    assert gradients.keys() == dict(two_layers.named_parameters()).keys()
    for name, parameter in two_layers.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-4)
    for name, buffer in dense.named_buffers():
        torch.testing.assert_close(two_layers.get_buffer(name), buffer)


@pytest.mark.parametrize('num_points', [0, 1])
def test_two_layers_and_few_points(two_layers, num_points):
    found = two_layers.train()(group(torch.full((num_points, 4), 0.5)))
    assert found.shape == (num_points, 16)
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in two_layers.parameters())
    assert all(buffer.isfinite().all() for buffer in two_layers.buffers())


def test_scatter_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    coords = torch.tensor([[1, 0, 0, 2], [0, 0, 1, 1]])
    bev_features = scatter_to_bev(features, coords, batch_size=2, bev_shape=(2, 3))
    assert bev_features.shape == (2, 2, 2, 3)
    assert bev_features[1, :, 0, 2].tolist() == [1, 2]
    assert bev_features[0, :, 1, 1].tolist() == [3, 4]
    assert bev_features.sum() == 10
    assert bev_features.is_contiguous(memory_format=torch.channels_last)
    (bev_features * 2).sum().backward()
    assert (features.grad == 2).all()


def test_scatter_of_nothing():
    empty = torch.zeros(0, 3, dtype=torch.int64)
    bev_features = scatter_to_bev(torch.zeros(0, 2), empty, batch_size=1, bev_shape=(2, 3))
    assert bev_features.shape == (1, 2, 2, 3)
    assert not bev_features.any()
