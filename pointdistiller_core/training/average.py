# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""An exponential moving average of a detector's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


def start_average(detector: nn.Module) -> nn.Module:
    """A copy of the detector for `update_average`; it is never trained itself."""
    return copy.deepcopy(detector).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, detector: nn.Module, *, step: int, decay: float) -> None:
    """Move the average towards the detector, after step `step` (counted from 0) of its training.

    average <- d average + (1 - d) detector with d = min(decay, (1 + step) / (10 + step)), so that
    the random weights of the beginning are soon forgotten. The running statistics of batch norm
    are averaged with their weights; counters are copied.

    Args:
        average: changed in place.
        detector: of the same architecture, on the same device.
        step: counts the optimizer's steps.
        decay: d in the long run.
    """
    part = 1 - min(decay, (1 + step) / (10 + step))
    current = detector.state_dict()
    for name, tensor in average.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(current[name], part)
        else:
            tensor.copy_(current[name])
