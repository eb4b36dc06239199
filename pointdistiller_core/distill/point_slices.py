# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""First weights of a narrower PointRCNN; see `initialization`.

Scales, levels and the two inputs of a merging layer are stacked, so the layer behind reads the
kept channels of each block, not the first ones of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pointdistiller_core.config import PointRcnnConfig
from pointdistiller_core.distill.terms.point_logits import point_facts
from pointdistiller_core.models.stages.refinement import POINT_INPUTS

if TYPE_CHECKING:
    from pointdistiller_core.distill.initialization import WeightCut


def cut_pointrcnn(cut: WeightCut, config: PointRcnnConfig) -> None:
    """Fill the state of a student by the teacher's configuration."""
    levels, widths = [cut.all(config.point_columns)], [config.point_columns]
    for level, scales in enumerate(config.backbone.channels):
        name = f'backbone.levels.{level}'
        levels.append(_cut_abstraction(cut, name, levels[-1], scales, config))
        widths.append(sum(config.scaled(channels[-1]) for channels in scales))
    features, width = levels[-1], widths[-1]
    for level in reversed(range(len(config.backbone.propagation))):
        channels = config.backbone.propagation[level]
        inputs = torch.cat([features, width + levels[level]])
        features = _cut_layers(cut, f'backbone.propagation.{level}.layers', inputs, len(channels))
        width = config.scaled(channels[-1])
    _cut_head(cut, 'classifier', features, len(config.head.class_channels))
    _cut_head(cut, 'regressor', features, len(config.head.box_channels))
    _cut_refinement(cut, features, config)


def _cut_refinement(cut: WeightCut, features: Tensor, config: PointRcnnConfig) -> None:
    second = config.refinement
    channels = cut.all(POINT_INPUTS)
    for layer in range(len(second.point_channels)):
        channels = cut.product(f'refinement.point_layers.{layer}.0', channels)
    width = config.scaled(second.point_channels[-1])
    channels = cut.product('refinement.merge.0', torch.cat([channels, width + features]))
    for level, own in enumerate(second.channels):
        name = f'refinement.levels.{level}'
        channels = _cut_abstraction(cut, name, channels, [own], config)
    _cut_head(cut, 'refinement.classifier', channels, len(second.class_channels))
    _cut_head(cut, 'refinement.regressor', channels, len(second.box_channels))


def _cut_abstraction(
    cut: WeightCut,
    name: str,
    features: Tensor,
    scales: Sequence[Sequence[int]],
    config: PointRcnnConfig,
) -> Tensor:
    """Layers of each scale, whose inputs are an offset and features; (n,) channels they keep."""
    inputs, blocks, offset = torch.cat([cut.all(3), 3 + features]), [], 0
    for scale, channels in enumerate(scales):
        kept = _cut_layers(cut, f'{name}.scales.{scale}', inputs, len(channels))
        blocks.append(offset + kept)
        offset += config.scaled(channels[-1])
    return torch.cat(blocks)


def _cut_layers(cut: WeightCut, name: str, channels: Tensor, count: int) -> Tensor:
    for layer in range(count):
        channels = cut.layer(f'{name}.{layer}.linear', f'{name}.{layer}.norm', channels)
    return channels


def _cut_head(cut: WeightCut, name: str, channels: Tensor, count: int) -> None:
    """Layers, and a last one whose outputs are the same for both."""
    channels = _cut_layers(cut, name, channels, count)
    last = f'{name}.{count}.linear'
    cut.state[f'{last}.weight'] = cut.teacher[f'{last}.weight'][:, channels]
    cut.state[f'{last}.bias'] = cut.teacher[f'{last}.bias'].clone()


def point_architecture(config: PointRcnnConfig) -> dict[str, Any]:
    """All that must be equal, whatever the width."""
    first, second = config.backbone, config.refinement
    return {
        'class_names': config.class_names,
        **{f'{name}, layers': len(own) for name, own in point_widths(config).items()},
        'backbone.num_points': first.num_points,
        'backbone.radii': first.radii,
        'backbone.num_neighbors': first.num_neighbors,
        'refinement.num_points': second.num_points,
        'refinement.radii': second.radii,
        'refinement.num_neighbors': second.num_neighbors,
        **point_facts(config),
    }


def point_widths(config: PointRcnnConfig) -> dict[str, tuple[int, ...]]:
    """Channels of each row of layers, after the width factor."""
    first, second = config.backbone, config.refinement
    rows = {
        'head.class_channels': config.head.class_channels,
        'head.box_channels': config.head.box_channels,
        'refinement.point_channels': second.point_channels,
        'refinement.class_channels': second.class_channels,
        'refinement.box_channels': second.box_channels,
    }
    for level, scales in enumerate(first.channels, 1):
        for scale, channels in enumerate(scales, 1):
            rows[f'backbone.channels of level {level}, radius {scale}'] = channels
    for level, channels in enumerate(first.propagation, 1):
        rows[f'backbone.propagation of level {level}'] = channels
    for level, channels in enumerate(second.channels, 1):
        rows[f'refinement.channels of level {level}'] = channels
    return {name: tuple(map(config.scaled, channels)) for name, channels in rows.items()}
