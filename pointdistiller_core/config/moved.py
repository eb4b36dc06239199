# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Keys that have moved: users are told, and files of earlier versions are read."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

MOVED = {
    'model.pillars.max_points_per_pillar': 'model.voxels.max_points',
    'model.pillars.max_pillars': 'model.voxels.max_voxels',
    'model.pillars.max_pillars_training': 'model.voxels.max_voxels_training',
    'model.encoder_channels': 'model.encoder.channels',
    'model.backbone_layers': 'model.backbone.layers',
    'model.backbone_strides': 'model.backbone.strides',
    'model.backbone_channels': 'model.backbone.channels',
    'model.neck_strides': 'model.neck.strides',
    'model.neck_channels': 'model.neck.channels',
    'training.peak_beta1': 'training.schedule.peak_beta1',
    'training.warmup_fraction': 'training.schedule.warmup_fraction',
    'training.initial_factor': 'training.schedule.initial_factor',
    'training.final_factor': 'training.schedule.final_factor',
}
"""Where a key of an experiment is now, by where it was."""


def moved_keys(values: Any) -> dict[str, str]:
    """The keys of `MOVED` that an experiment has at their old place."""
    return {old: new for old, new in MOVED.items() if _has(values, *old.split('.'))}


def move_keys(values: Any, moves: Mapping[str, str] = MOVED) -> Any:
    """A copy of stored values with all keys at their new places."""
    moved = deepcopy(values)
    for old, new in moves.items():
        *above, name = old.split('.')
        if _has(moved, *above, name):
            *parents, new_name = new.split('.')
            target, source = moved, _at(moved, *above)
            for parent in parents:
                target = target.setdefault(parent, {})
            target[new_name] = source.pop(name)
            if not source:
                del _at(moved, *above[:-1])[above[-1]]
    return moved


def _has(values: Any, *path: str) -> bool:
    above = _at(values, *path[:-1])
    return isinstance(above, dict) and path[-1] in above


def _at(values: Any, *path: str) -> Any:
    """The value at a path; None if its sections are missing."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values
