# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What runs the sparse convolutions of a model; on a GPU libraries can, instead of torch.

Weights are laid out alike in all of them, so any engine runs any checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import nn

from pointdistiller_core.errors import BackendError, ConfigError
from pointdistiller_core.sparse.array_engines import best_training_engine
from pointdistiller_core.sparse.convolution import SparseConv3d, SparseTensor

TORCH = 'torch'


class Library(NamedTuple):
    """A package with spconv's layers."""

    module: str
    requirement: str  # for `pip install`


LIBRARIES: Mapping[str, Library] = {
    'spconv': Library('spconv.pytorch', "'pointdistiller[spconv]'"),
    'spconv_triton': Library('spconv_triton.pytorch', "'pointdistiller[spconv-triton]'"),
}


def use_engine(model: nn.Module, name: str, device: torch.device | str) -> None:
    """Let every sparse convolution of a model run in one engine.

    Args:
        model: changed in place.
        name: `torch`, or a key of `LIBRARIES`.
        device: that the model will be on.

    Raises:
        ConfigError: no such engine, no GPU, or nothing in the model to run.
        BackendError: the engine's package is missing, or is spconv's build for CPUs.
    """
    convolutions = [part for part in model.modules() if isinstance(part, SparseConv3d)]
    if name != TORCH:
        _check(name, torch.device(device), convolutions)
    for convolution in convolutions:
        convolution.run = None if name == TORCH else Engine(LIBRARIES[name].module)


def engine_of(model: nn.Module, device: torch.device) -> str | None:
    """What the sparse convolutions of a model run in on a device; None if it has none.

    It is the module of one of the `LIBRARIES`, `torch`, or on a CPU `numba` or `numpy`.
    """
    runs = [part.run for part in model.modules() if isinstance(part, SparseConv3d)]
    if not runs:
        return None
    if isinstance(runs[0], Engine):
        return runs[0].module
    return best_training_engine().name if device.type == 'cpu' else TORCH


def _check(name: str, device: torch.device, convolutions: list[SparseConv3d]) -> None:
    if name not in LIBRARIES:
        raise ConfigError(f'sparse engine {name!r}: choose from {[TORCH, *LIBRARIES]}')
    if not convolutions:
        raise ConfigError(
            f'sparse engine {name!r}: this model has no sparse convolutions; leave it out'
        )
    if device.type != 'cuda':
        raise ConfigError(
            f'sparse engine {name!r} runs on a GPU alone, and the device is {device}; use {TORCH}'
        )
    package, _, _ = LIBRARIES[name].module.partition('.')
    remedy = f'run: pip install {LIBRARIES[name].requirement}'
    if find_spec(package) is None:
        raise BackendError(f'sparse engine {name!r}: {package} is not installed; {remedy}')
    if package == 'spconv' and _is_installed('spconv'):
        raise BackendError(
            f'sparse engine {name!r}: the package spconv is the build for CPUs; '
            f'run: pip uninstall spconv, then {remedy.removeprefix("run: ")}'
        )


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


class Engine:
    """Runs a `SparseConv3d` in a library that has spconv's layers."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __call__(self, conv: SparseConv3d, tensor: SparseTensor) -> SparseTensor:
        """(R, C) features to (R', C') ones, in this project's order of cells."""
        library = import_module(self.module)
        device = tensor.features.device
        cells = torch.from_numpy(tensor.sites.coords).to(device, torch.int32)
        given = library.SparseConvTensor(
            tensor.features, cells, list(tensor.sites.shape), tensor.sites.batch_size
        )
        channels = conv.weight.shape[-1], conv.weight.shape[0]
        layer = _layer(self.module, channels, conv.kernel, conv.stride, conv.padding)
        found = torch.func.functional_call(layer, {'weight': conv.weight}, (given,))
        if conv.stride is None:  # the same cells in the same order
            return tensor.with_features(found.features)
        depth, height, width = map(int, found.spatial_shape)
        return SparseTensor.build(
            found.features, found.indices.long(), (depth, height, width), tensor.sites.batch_size
        )


@cache
def _layer(
    module: str,
    channels: tuple[int, int],
    kernel: tuple[int, ...],
    stride: tuple[int, ...] | None,
    padding: tuple[int, ...],
) -> Any:
    """A layer of the library without weights of its own."""
    library = import_module(module)
    with torch.device('meta'):
        if stride is None:
            return library.SubMConv3d(*channels, kernel, bias=False)
        return library.SparseConv3d(*channels, kernel, stride, padding, bias=False)
