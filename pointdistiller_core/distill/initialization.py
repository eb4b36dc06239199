# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""First weights of a student, cut out of its teacher (SparseKD, NeurIPS 2022: TGI).

A student is a narrower teacher: it keeps some channels of each layer, and the weights of the next
layer that read them. The neck stacks levels, so the head reads the kept channels of each level's
block, not the first ones of the stack (SparseKD's FNAV2). The head's outputs for an anchor are the
same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from pointdistiller_core.config import (
    AnchorDetectorConfig,
    DetectorConfig,
    PointPillarsConfig,
    SecondConfig,
)
from pointdistiller_core.distill.compatibility import anchor_facts, list_differences
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.models.stages.pillar_encoder import NUM_OFFSETS

NORM_PARTS = ('weight', 'bias', 'running_mean', 'running_var')

CHOICES: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    'slice': lambda gamma, num_channels: torch.arange(num_channels, device=gamma.device),
    'slice_norm': lambda gamma, num_channels: gamma.abs().topk(num_channels).indices.sort().values,
}
"""Channels (n,) int64, ascending, that are kept by the scales (C,) of a batch norm and n.

`slice` keeps the first ones, `slice_norm` those of the largest scale (SparseKD's BN_SCALE).
"""


def slice_weights(teacher: AnyDetector, student: AnyDetector, method: str) -> dict[str, Tensor]:
    """A state dict for the student, cut out of the teacher's.

    Batch norms keep their running statistics. Neither model is changed.

    Args:
        teacher: trained.
        student: of the same architecture, at most as wide.
        method: one of `CHOICES`.

    Raises:
        ConfigError: the student is no slice of the teacher; lists the differences.
    """
    check_same_architecture(teacher.config, student.config)
    cut = WeightCut(teacher.state_dict(), student.state_dict(), CHOICES[method])
    CUTS[student.config.name](cut, teacher.config)
    return cut.state


def _cut_pointpillars(cut: WeightCut, config: PointPillarsConfig) -> None:
    inputs = len(config.point_features) + NUM_OFFSETS
    channels = cut.layer('encoder.linear', 'encoder.norm', cut.all(inputs))
    _cut_behind_map(cut, config, channels)


def _cut_second(cut: WeightCut, config: SecondConfig) -> None:
    channels = cut.all(len(config.point_features))
    num_blocks = [bool(stage) + count for stage, count in enumerate(config.middle.layers)]
    blocks = [f'stages.{s}.{b}' for s, count in enumerate(num_blocks) for b in range(count)]
    for block in (*blocks, 'output'):
        name = f'encoder.{block}'
        channels = cut.layer(f'{name}.conv', f'{name}.norm', channels, inputs_last=True)
    # the layers of a channel are side by side in the map
    layers = torch.arange(config.map_layers, device=channels.device)
    _cut_behind_map(cut, config, (channels[:, None] * config.map_layers + layers).flatten())


def _cut_behind_map(cut: WeightCut, config: AnchorDetectorConfig, channels: Tensor) -> None:
    """The 2D backbone, the neck and the head, which read (n,) channels of the teacher's map."""
    blocks, offset = [], 0
    for level, size in enumerate(config.neck.channels):
        for layer in range(1 + config.backbone.layers[level]):
            name = f'backbone.stages.{level}.{layer}'
            channels = cut.layer(f'{name}.0', f'{name}.1', channels)
        name = f'neck.upsamplers.{level}'
        blocks.append(offset + cut.layer(f'{name}.0', f'{name}.1', channels, transposed=True))
        offset += config.scaled(size)
    cut.state['head.conv.weight'] = cut.teacher['head.conv.weight'][:, torch.cat(blocks)]
    cut.state['head.conv.bias'] = cut.teacher['head.conv.bias'].clone()


class WeightCut:
    """Collects the state of a student; `teacher` is that of its teacher."""

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

    def layer(
        self,
        linear: str,
        norm: str,
        inputs: Tensor,
        *,
        transposed: bool = False,
        inputs_last: bool = False,
    ) -> Tensor:
        """Cut a layer without bias, and its batch norm.

        Args:
            linear: name of the layer.
            norm: name of its batch norm.
            inputs: (n,) channels of the teacher that it reads.
            transposed: a transposed convolution, whose weights are (inputs, outputs, ...).
            inputs_last: a sparse convolution, whose weights are (outputs, ..., inputs).

        Returns:
            (n,) channels of the teacher that it keeps.
        """
        width = len(self._student[f'{norm}.weight'])
        kept = self._choose(self.teacher[f'{norm}.weight'], width)
        rows, columns = (inputs, kept) if transposed else (kept, inputs)
        weight = f'{linear}.weight'
        self.state[weight] = self.teacher[weight][rows].index_select(
            -1 if inputs_last else 1, columns
        )
        for part in NORM_PARTS:
            self.state[f'{norm}.{part}'] = self.teacher[f'{norm}.{part}'][kept]
        counter = f'{norm}.num_batches_tracked'
        self.state[counter] = self.teacher[counter].clone()
        return kept

    def all(self, num_channels: int) -> Tensor:
        """(n,) all of n channels."""
        return torch.arange(num_channels, device=next(iter(self.teacher.values())).device)


CUTS: Mapping[str, Callable[[WeightCut, Any], None]] = {
    'pointpillars': _cut_pointpillars,
    'second': _cut_second,
}
"""By family of detectors, what fills the state of a student, by the teacher's configuration."""


def check_same_architecture(teacher: DetectorConfig, student: DetectorConfig) -> None:
    """Check that the student is the same as the teacher, or narrower.

    Raises:
        ConfigError: lists every difference, with both values.
    """
    if teacher.name != student.name or teacher.name not in CUTS:
        raise ConfigError(
            f'distillation.initialization: {student.name} cannot be cut out of {teacher.name}, '
            f"only {' or '.join(CUTS)} out of the same; choose 'random'"
        )
    sides = [cast(AnchorDetectorConfig, side) for side in (teacher, student)]
    ours, theirs = map(stage_widths, sides)
    problems = list_differences(*map(_architecture, sides)) + [
        f'  {name}: teacher has only {ours[name]}, student has {theirs[name]}'
        for name in ours
        if any(narrow < wide for narrow, wide in zip(ours[name], theirs[name], strict=False))
    ]
    if problems:
        raise ConfigError(
            'distillation.initialization: the student must be its teacher, or that but narrower; '
            "change one of the two, or choose 'random':\n" + '\n'.join(problems)
        )


def _architecture(config: AnchorDetectorConfig) -> dict[str, Any]:
    """All that must be equal, whatever the width."""
    return {'class_names': config.class_names, **stage_facts(config), **anchor_facts(config)}


def stage_facts(config: AnchorDetectorConfig) -> dict[str, tuple[int, ...]]:
    """Layers and strides of the stages."""
    return {
        **config.encoder_facts,
        'backbone.layers': config.backbone.layers,
        'backbone.strides': config.backbone.strides,
        'neck.strides': config.neck.strides,
    }


def stage_widths(config: AnchorDetectorConfig) -> dict[str, tuple[int, ...]]:
    """Channels of each stage, after the width factor."""
    stages = {
        **config.encoder_channels,
        'backbone.channels': config.backbone.channels,
        'neck.channels': config.neck.channels,
    }
    return {name: tuple(map(config.scaled, channels)) for name, channels in stages.items()}
