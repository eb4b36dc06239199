# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How big a network is: parameters and multiply-adds, counted on the network itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import copy
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@runtime_checkable
class CountsItself(Protocol):
    """A module whose products are no operators of torch, which would be counted by themselves."""

    def count_multiply_adds(self, *inputs: Any) -> int:
        """Multiply-adds for these inputs."""


def count_parameters(module: nn.Module) -> int:
    """Numbers that training adjusts; a shared parameter counts once, buffers do not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(module: nn.Module, *inputs: Any) -> int:
    """Multiply-adds of one forward pass in evaluation mode.

    Products of matrices and convolutions of all kinds count, padding like any other input; biases,
    norms and activations do not.

    Args:
        module: left as it was.
        inputs: what to call it with.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _evaluating(module), counter:
        module(*inputs)
    return counter.get_total_flops() // 2  # a multiplication and an addition each


def count_detector_multiply_adds(detector: nn.Module) -> int:
    """Multiply-adds of a detector's dense part: everything that a frame without points costs.

    This is what PointDistiller reports (34.2 G for PointPillars): convolutions of the 2D backbone,
    neck and head, whose work does not depend on the cloud. The linear layer of the pillar encoder
    is not in it; `count_multiply_adds` on a cloud counts it too (0.03 G for a full KITTI sweep).

    A detector on points costs the same for every cloud with enough points and proposals.

    Args:
        detector: its `fixed_work` lists its parts with their inputs.
    """
    assert callable(detector.fixed_work)
    total = 0
    for part, values in detector.fixed_work():
        without_values = isinstance(values, torch.Tensor) and values.is_meta
        # torch counts a product by its shapes alone
        counted = copy.deepcopy(part).to('meta') if without_values else part
        total += count_multiply_adds(counted, values)
    return total


def count_encoder_multiply_adds(detector: nn.Module, prepared: Any) -> int:
    """Multiply-adds before the map: the pillar encoder, or SECOND's sparse convolutions.

    They grow with the cloud. A sparse convolution counts the pairs of cells that meet.

    Args:
        detector: its `encode` makes the map.
        prepared: a cloud, as its `prepare` gives it.
    """
    assert callable(detector.encode)
    own: list[int] = []

    def count(part: Any, inputs: tuple[Any, ...]) -> None:
        own.append(part.count_multiply_adds(*inputs))

    counting = [part for part in detector.modules() if isinstance(part, CountsItself)]
    hooks = [part.register_forward_pre_hook(count) for part in counting]
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), _evaluating(detector), counter:
            detector.encode(prepared)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(own) if own else counter.get_total_flops() // 2


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that no statistics move; then each part's own mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
