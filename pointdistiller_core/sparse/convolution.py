# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution for training: for each cell of the kernel, gather, multiply, add.

Weights are laid out as in spconv 2: (outputs, kz, ky, kx, inputs). Within a cell of the kernel no
output appears twice, so the order of the sums, and with it every bit, is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.sparse.array_engines import best_training_engine
from pointdistiller_core.sparse.sites import Rulebook, Sites, Triple
from pointdistiller_core.sparse.team import Team


@dataclass(frozen=True)
class SparseTensor:
    """Features of the occupied cells of a grid.

    Attributes:
        features: (R, C), a row for each of the sites.
        sites: their cells.
    """

    features: Tensor
    sites: Sites

    @classmethod
    def build(
        cls, features: Tensor, coords: Tensor, shape: Triple, batch_size: int
    ) -> SparseTensor:
        """Features (R, C) of cells (R, 4) frame, layer, row, column in any order."""
        sites, ranks = Sites.build(coords.cpu().numpy(), shape, batch_size)
        order = torch.empty(len(ranks), dtype=torch.int64)
        order[torch.from_numpy(ranks)] = torch.arange(len(ranks))
        return cls(features.index_select(0, order.to(features.device)), sites)

    def with_features(self, features: Tensor) -> SparseTensor:
        """Other features (R, D) of the same cells."""
        return replace(self, features=features)

    def to_map(self) -> Tensor:
        """(B, C * layers, H, W), channel by channel and then layer; empty cells are zero."""
        depth, height, width = self.sites.shape
        frames, layers, rows, cells = (
            torch.from_numpy(self.sites.coords).to(self.features.device).unbind(1)
        )
        channels = self.features.shape[1]
        size = (self.sites.batch_size, height, width)
        canvas = self.features.new_zeros(math.prod(size) * depth, channels)
        places = ((frames * height + rows) * width + cells) * depth + layers
        canvas = canvas.index_copy(0, places, self.features)
        maps = canvas.view(*size, depth, channels).transpose(3, 4).flatten(3)
        return maps.permute(0, 3, 1, 2)


class SparseConv3d(nn.Module):
    """A convolution without bias over occupied cells.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel: along z, y, x.
        stride: likewise; None is a submanifold convolution of 3 x 3 x 3, whose output has the
            cells of its input and no others.
        padding: likewise.

    Attributes:
        run: what computes it instead of torch; see `sparse.engines`.
    """

    run: Callable[[SparseConv3d, SparseTensor], SparseTensor] | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple = (3, 3, 3),
        *,
        stride: Triple | None = None,
        padding: Triple = (0, 0, 0),
    ) -> None:
        super().__init__()
        if stride is None and kernel != (3, 3, 3):
            raise ValueError(f'a submanifold convolution has a kernel of (3, 3, 3), not {kernel}')
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.weight = nn.Parameter(torch.empty(out_channels, *kernel, in_channels))
        # as spconv and torch initialize: uniform by the number of inputs
        bound = 1 / math.sqrt(in_channels * math.prod(kernel))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """(R, C) features to (R', C') ones."""
        if self.run is not None and len(tensor.sites):
            return self.run(self, tensor)
        sites, rulebook = self._meet(tensor.sites)
        features = convolve(tensor.features, self.weight, rulebook)
        return SparseTensor(features, sites)

    def count_multiply_adds(self, tensor: SparseTensor) -> int:
        """Multiply-adds for an input: of the pairs of cells that meet."""
        _, rulebook = self._meet(tensor.sites)
        return rulebook.num_pairs * self.weight.shape[0] * self.weight.shape[-1]

    def _meet(self, sites: Sites) -> tuple[Sites, Rulebook]:
        if self.stride is None:
            return sites, sites.submanifold
        return sites.strided(self.kernel, self.stride, self.padding)


def convolve(features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:
    """(R', C') features of the output.

    Args:
        features: (R, C).
        weight: (C', kz, ky, kx, C).
        rulebook: which cells meet.
    """
    kernel = weight.flatten(1, 3).permute(1, 2, 0)  # (K, C, C')
    convolution: Any = ArrayConvolution if features.device.type == 'cpu' else TorchConvolution
    result: Tensor = convolution.apply(features, kernel, rulebook)
    return result


class ArrayConvolution(torch.autograd.Function):
    """In Numba or NumPy, which take about 25 and 60 % of the time of torch's operators."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, rulebook: Rulebook) -> Tensor:
        """See `convolve`; the kernel is (K, C, C')."""
        ctx.save_for_backward(features, kernel)
        ctx.rulebook = rulebook
        rows, cells = _arrays(features, kernel)
        engine = best_training_engine(rows.dtype.name)
        with products_in_calling_thread():
            return torch.from_numpy(engine.convolve(rows, cells, rulebook, _team()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of features and kernel."""
        features, kernel, gradient = _arrays(*ctx.saved_tensors, gradients[0])
        team, rulebook, engine = _team(), ctx.rulebook, best_training_engine(features.dtype.name)
        of_features = of_kernel = None
        with products_in_calling_thread():
            if ctx.needs_input_grad[0]:
                back = rulebook.transposed(len(features))
                turned = np.ascontiguousarray(kernel.swapaxes(1, 2))
                of_features = torch.from_numpy(engine.convolve(gradient, turned, back, team))
            if ctx.needs_input_grad[1]:
                of_kernel = torch.from_numpy(
                    engine.kernel_gradient(features, gradient, rulebook, team)
                )
        return of_features, of_kernel, None


def _arrays(*tensors: Tensor) -> list[Any]:
    return [np.ascontiguousarray(tensor.detach().numpy()) for tensor in tensors]


def _team() -> Team:
    return _team_of(torch.get_num_threads())


@cache
def _team_of(num_threads: int) -> Team:
    return Team(num_threads)


class TorchConvolution(torch.autograd.Function):
    """In torch. Keeps its input, but no gathered copies, which would be many times as large."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, rulebook: Rulebook) -> Tensor:
        """See `convolve`; the kernel is (K, C, C')."""
        rules = tuple(
            tuple(torch.from_numpy(rows).to(features.device) for rows in pairs)
            for pairs in rulebook.pairs
        )
        ctx.save_for_backward(features, kernel)
        ctx.rules = rules
        result = features.new_zeros(rulebook.num_outputs, kernel.shape[2])
        for (inputs, outputs), part in zip(rules, kernel, strict=True):
            if len(inputs):
                result.index_add_(0, outputs, features.index_select(0, inputs) @ part)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of features and kernel."""
        features, kernel = ctx.saved_tensors
        of_features = torch.zeros_like(features) if ctx.needs_input_grad[0] else None
        of_kernel = torch.zeros_like(kernel) if ctx.needs_input_grad[1] else None
        for number, (inputs, outputs) in enumerate(ctx.rules):
            if not len(inputs):
                continue
            gathered = gradients[0].index_select(0, outputs)
            if of_features is not None:
                of_features.index_add_(0, inputs, gathered @ kernel[number].T)
            if of_kernel is not None:
                of_kernel[number] = features.index_select(0, inputs).T @ gathered
        return of_features, of_kernel, None
