# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How hard each term pulls at each module of a student, against its detection loss.

A term whose gradient is a hundredth of detection's is inert, and one whose gradient is many times
as long decides alone; losses themselves say neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math

import torch
from torch import Tensor, nn

REACHED = 'reached'
_SCALE = 1024.0  # of all losses: half precision would lose the smallest gradients

Norms = dict[str, float]  # module -> length of the gradient


def gradient_ratios(
    detection: Tensor, terms: Mapping[str, Tensor], model: nn.Module
) -> dict[str, dict[str, float]]:
    """Length of each term's gradient over that of the detection loss, in each module.

    It changes no gradient that is there, and the losses can be differentiated again.

    Args:
        detection: the detection loss, a scalar.
        terms: weighted losses by name; those without gradients are left out.
        model: the student.

    Returns:
        Term -> module -> ratio, of the modules that the term reaches; `reached` is that of all of
        them together. A module in which detection has no gradient is left out.
    """
    modules = parameters_by_module(model)
    theirs = _norms(detection, modules)
    ratios = {}
    for name, loss in terms.items():
        if loss.requires_grad:
            ours = {key: norm for key, norm in _norms(loss, modules).items() if norm}
            shared = [key for key in ours if theirs[key]]
            ratios[name] = {key: ours[key] / theirs[key] for key in shared}
            if shared:
                ours_in_all, theirs_in_all = (
                    math.hypot(*(norms[key] for key in shared)) for norms in (ours, theirs)
                )
                ratios[name][REACHED] = ours_in_all / theirs_in_all
    return ratios


def parameters_by_module(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trained parameters of a detector by module; each stage of the backbone is one."""
    modules: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            modules.setdefault(_module_of(name), []).append(parameter)
    return modules


def _module_of(parameter: str) -> str:
    first, *others = parameter.split('.')
    return f'{first}.{others[1]}' if [first, *others[:1]] == ['backbone', 'stages'] else first


def _norms(loss: Tensor, modules: Mapping[str, Sequence[nn.Parameter]]) -> Norms:
    parameters = [parameter for group in modules.values() for parameter in group]
    gradients = iter(
        torch.autograd.grad(_SCALE * loss, parameters, retain_graph=True, allow_unused=True)
    )
    squares = {
        name: sum(
            gradient.float().square().sum()
            for gradient in [next(gradients) for _ in group]
            if gradient is not None
        )
        for name, group in modules.items()
    }
    return {name: math.sqrt(float(value)) / _SCALE for name, value in squares.items()}
