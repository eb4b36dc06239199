# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""First weights of a student, cut out of its teacher (SparseKD, NeurIPS 2022: TGI).

A student is a narrower teacher: it keeps some channels of each layer, and the weights of the next
layer that read them. The neck stacks levels, so the head reads the kept channels of each level's
block, not the first ones of the stack (SparseKD's FNAV2). The head's outputs for an anchor are the
same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pointdistiller_core.config import (
    AnchorDetectorConfig,
    DetectorConfig,
    FpnNeckConfig,
    PointPillarsConfig,
    PointRcnnConfig,
    SecondConfig,
    StackNeckConfig,
)
from pointdistiller_core.distill.compatibility import anchor_facts, list_differences
from pointdistiller_core.distill.point_slices import (
    cut_pointrcnn,
    point_architecture,
    point_widths,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector

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
    inputs = cut.all(config.encoder_inputs)
    if config.encoder.hidden is not None:
        hidden = cut.layer('encoder.hidden.linear', 'encoder.hidden.norm', inputs)
        # a point's own channels, then the maxima of its pillar
        inputs = torch.cat([hidden, config.scaled(config.encoder.hidden) + hidden])
    channels = cut.layer('encoder.linear', 'encoder.norm', inputs)
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
    levels = []
    for level, layers in enumerate(config.backbone.layers):
        for layer in range(1 + layers):
            name = f'backbone.stages.{level}.{layer}'
            channels = cut.layer(f'{name}.0', f'{name}.1', channels)
        levels.append(channels)
    cut_neck = _cut_pyramid if isinstance(config.neck, FpnNeckConfig) else _cut_stack
    read = cut_neck(cut, config, levels)
    cut.state['head.conv.weight'] = cut.teacher['head.conv.weight'][:, read]
    cut.state['head.conv.bias'] = cut.teacher['head.conv.bias'].clone()


def _cut_stack(cut: WeightCut, config: AnchorDetectorConfig, levels: Sequence[Tensor]) -> Tensor:
    """(n,) channels of the stacked maps that the head reads."""
    assert isinstance(config.neck, StackNeckConfig)
    blocks, offset = [], 0
    for level, (channels, size) in enumerate(zip(levels, config.neck.channels, strict=True)):
        name = f'neck.upsamplers.{level}'
        blocks.append(offset + cut.layer(f'{name}.0', f'{name}.1', channels, transposed=True))
        offset += config.scaled(size)
    return torch.cat(blocks)


def _cut_pyramid(cut: WeightCut, _: AnchorDetectorConfig, levels: Sequence[Tensor]) -> Tensor:
    """(n,) channels of each map that the head reads.

    Maps are added, and one head reads all of them, so all laterals keep the same channels, and
    all outputs do.
    """
    kept, read = [
        cut.choose_common([f'neck.{part}.{level}.1' for level in range(len(levels))])
        for part in ('laterals', 'outputs')
    ]
    for level, channels in enumerate(levels):
        for part, inputs, outputs in (('laterals', channels, kept), ('outputs', kept, read)):
            name = f'neck.{part}.{level}'
            cut.layer(f'{name}.0', f'{name}.1', inputs, kept=outputs)
    return read


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
        kept: Tensor | None = None,
    ) -> Tensor:
        """Cut a layer without bias, and its batch norm.

        Args:
            linear: name of the layer.
            norm: name of its batch norm.
            inputs: (n,) channels of the teacher that it reads.
            transposed: a transposed convolution, whose weights are (inputs, outputs, ...).
            inputs_last: a sparse convolution, whose weights are (outputs, ..., inputs).
            kept: (n,) channels to keep; None chooses them by the batch norm.

        Returns:
            (n,) channels of the teacher that it keeps.
        """
        if kept is None:
            kept = self.choose_common([norm])
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

    def product(self, name: str, inputs: Tensor) -> Tensor:
        """Cut a layer with a bias and without batch norm; its scales are those of its weights.

        Args:
            name: of the layer.
            inputs: (n,) channels of the teacher that it reads.

        Returns:
            (n,) channels of the teacher that it keeps.
        """
        weight, bias = self.teacher[f'{name}.weight'], self.teacher[f'{name}.bias']
        kept = self._choose(weight.norm(dim=1), len(self._student[f'{name}.bias']))
        self.state[f'{name}.weight'] = weight[kept][:, inputs]
        self.state[f'{name}.bias'] = bias[kept]
        return kept

    def choose_common(self, norms: Sequence[str]) -> Tensor:
        """(n,) channels that all of some layers keep: by the mean scale of their batch norms."""
        width = len(self._student[f'{norms[0]}.weight'])
        scales = [self.teacher[f'{norm}.weight'] for norm in norms]
        return self._choose(
            scales[0] if len(scales) == 1 else torch.stack(scales).abs().mean(dim=0), width
        )

    def all(self, num_channels: int) -> Tensor:
        """(n,) all of n channels."""
        return torch.arange(num_channels, device=next(iter(self.teacher.values())).device)


CUTS: Mapping[str, Callable[[WeightCut, Any], None]] = {
    'pointpillars': _cut_pointpillars,
    'second': _cut_second,
    'pointrcnn': cut_pointrcnn,
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
    sides: list[Any] = [teacher, student]
    widths: Callable[[Any], dict[str, tuple[int, ...]]] = stage_widths
    architecture: Callable[[Any], dict[str, Any]] = _architecture
    if isinstance(teacher, PointRcnnConfig):
        widths, architecture = point_widths, point_architecture
    ours, theirs = map(widths, sides)
    problems = list_differences(*map(architecture, sides)) + [
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


def stage_facts(config: AnchorDetectorConfig) -> dict[str, tuple[int | str, ...]]:
    """Layers and strides of the stages, and the kind of the neck."""
    facts: dict[str, tuple[int | str, ...]] = {
        **config.encoder_facts,
        'backbone.layers': config.backbone.layers,
        'backbone.strides': config.backbone.strides,
        'neck.kind': (config.neck.kind,),
    }
    neck = config.neck
    return {**facts, 'neck.strides': neck.strides} if isinstance(neck, StackNeckConfig) else facts


def stage_widths(config: AnchorDetectorConfig) -> dict[str, tuple[int, ...]]:
    """Channels of each stage, after the width factor."""
    neck = config.neck
    stages = {
        **config.encoder_channels,
        'backbone.channels': config.backbone.channels,
        'neck.channels': neck.channels if isinstance(neck, StackNeckConfig) else (),
    }
    if isinstance(neck, FpnNeckConfig):
        stages['neck.channels'] = (neck.channels,)
    return {name: tuple(map(config.scaled, channels)) for name, channels in stages.items()}
