# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""First weights of a student, cut out of its teacher (SparseKD, NeurIPS 2022: TGI).

A student is its teacher, narrower: of each layer it keeps some channels, and of the next layer's
weights those that read them. The neck stacks levels, so the head reads the kept channels of each
level's block, not the first ones of the stack (SparseKD's FNAV2). What the head says of an anchor
is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pointdistiller_core.config import ModelConfig
from pointdistiller_core.distill.compatibility import anchor_facts, list_differences
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.models.stages.pillar_encoder import NUM_POINT_FEATURES

NORM_PARTS = ('weight', 'bias', 'running_mean', 'running_var')

CHOICES: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    'slice': lambda gamma, num_channels: torch.arange(num_channels, device=gamma.device),
    'slice_norm': lambda gamma, num_channels: gamma.abs().topk(num_channels).indices.sort().values,
}
"""Channels (n,) int64, ascending, that are kept by the scales (C,) of a batch norm and n.

`slice` keeps the first ones, `slice_norm` those of the largest scale (SparseKD's BN_SCALE).
"""


def slice_weights(teacher: AnyDetector, student: AnyDetector, method: str) -> dict[str, Tensor]:
    """A state for the student, made of the teacher's.

    Batch norms keep their running statistics. Neither model is changed.

    Args:
        teacher: trained.
        student: of the same architecture, at most as wide.
        method: one of `CHOICES`.

    Raises:
        ConfigError: the student is none of the teacher's slices; lists what is not.
    """
    check_same_architecture(teacher.config, student.config)
    cut = WeightCut(teacher.state_dict(), student.state_dict(), CHOICES[method])
    CUTS[student.config.name](cut, teacher.config)
    return cut.state


def _cut_pointpillars(cut: WeightCut, config: ModelConfig) -> None:
    channels = cut.layer('encoder.linear', 'encoder.norm', cut.all(NUM_POINT_FEATURES))
    blocks, offset = [], 0
    for level, size in enumerate(config.neck_channels):
        for layer in range(1 + config.backbone_layers[level]):
            name = f'backbone.stages.{level}.{layer}'
            channels = cut.layer(f'{name}.0', f'{name}.1', channels)
        name = f'neck.upsamplers.{level}'
        blocks.append(offset + cut.layer(f'{name}.0', f'{name}.1', channels, transposed=True))
        offset += config.scaled(size)
    cut.state['head.conv.weight'] = cut.teacher['head.conv.weight'][:, torch.cat(blocks)]
    cut.state['head.conv.bias'] = cut.teacher['head.conv.bias'].clone()


class WeightCut:
    """The state of a student, in the making; `teacher` is that of its teacher."""

    def __init__(
        self,
        teacher: Mapping[str, Tensor],
        student: Mapping[str, Tensor],
        choose: Callable[[Tensor, int], Tensor],
    ) -> None:
        self.teacher = teacher
        self.state: dict[str, Tensor] = {}
        self._student = student
        self._choose = choose

    def layer(self, linear: str, norm: str, inputs: Tensor, *, transposed: bool = False) -> Tensor:
        """Cut a layer without bias, and its batch norm.

        Args:
            linear: its name.
            norm: that of its batch norm.
            inputs: (n,) channels of the teacher that it reads.
            transposed: a transposed convolution, whose weights are (inputs, outputs, ...).

        Returns:
            (n,) channels of the teacher that it gives.
        """
        width = len(self._student[f'{norm}.weight'])
        kept = self._choose(self.teacher[f'{norm}.weight'], width)
        rows, columns = (inputs, kept) if transposed else (kept, inputs)
        weight = f'{linear}.weight'
        self.state[weight] = self.teacher[weight][rows][:, columns]
        for part in NORM_PARTS:
            self.state[f'{norm}.{part}'] = self.teacher[f'{norm}.{part}'][kept]
        counter = f'{norm}.num_batches_tracked'
        self.state[counter] = self.teacher[counter].clone()
        return kept

    def all(self, num_channels: int) -> Tensor:
        """(n,) all of n channels."""
        return torch.arange(num_channels, device=next(iter(self.teacher.values())).device)


CUTS: Mapping[str, Callable[[WeightCut, ModelConfig], None]] = {
    'pointpillars': _cut_pointpillars,
}
"""By family of detectors, what fills the state of a student, by the teacher's configuration."""


def check_same_architecture(teacher: ModelConfig, student: ModelConfig) -> None:
    """Check that the student is the teacher, or that but narrower.

    Raises:
        ConfigError: lists every difference with both sides.
    """
    if teacher.name != student.name or teacher.name not in CUTS:
        raise ConfigError(
            f'distillation.initialization: {student.name} cannot be cut out of {teacher.name}, '
            f"only {' or '.join(CUTS)} out of the same; choose 'random'"
        )
    ours, theirs = stage_widths(teacher), stage_widths(student)
    problems = list_differences(_architecture(teacher), _architecture(student)) + [
        f'  {name}: teacher has only {ours[name]}, student has {theirs[name]}'
        for name in ours
        if any(narrow < wide for narrow, wide in zip(ours[name], theirs[name], strict=False))
    ]
    if problems:
        raise ConfigError(
            'distillation.initialization: the student must be its teacher, or that but narrower; '
            "change one of the two, or choose 'random':\n" + '\n'.join(problems)
        )


def _architecture(config: ModelConfig) -> dict[str, Any]:
    """What must be the same, whatever the width."""
    names = ('class_names', 'backbone_layers', 'backbone_strides', 'neck_strides')
    return {name: getattr(config, name) for name in names} | anchor_facts(config)


def stage_widths(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Channels of each stage, after the width factor."""
    stages = {
        'encoder_channels': (config.encoder_channels,),
        'backbone_channels': config.backbone_channels,
        'neck_channels': config.neck_channels,
    }
    return {name: tuple(map(config.scaled, channels)) for name, channels in stages.items()}
