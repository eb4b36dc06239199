# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What teacher and student must have in common, for terms that compare their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointdistiller_core.config import AnchorDetectorConfig
from pointdistiller_core.errors import ConfigError


def check_same_anchors(
    teacher: AnchorDetectorConfig, student: AnchorDetectorConfig, *, purpose: str
) -> None:
    """Check that the outputs of both models belong to the same anchors, one by one.

    Args:
        teacher: the teacher.
        student: the student; sees the same grid and classes.
        purpose: what needs it, and how; the message begins with it.

    Raises:
        ConfigError: lists every difference, with both values.
    """
    if differences := list_differences(anchor_facts(teacher), anchor_facts(student)):
        raise ConfigError(f'{purpose}; make these equal:\n' + '\n'.join(differences))


def anchor_facts(config: AnchorDetectorConfig) -> dict[str, Any]:
    """All that determines the meaning of an anchor's outputs."""
    head = config.head
    anchors = dict(zip(config.anchor_names, config.anchor_configs, strict=True))
    cells = sum(height * width for height, width in config.head_shapes)
    boxes = {
        f'head.anchors.{name}.{field}': getattr(anchor, field)
        for name, anchor in anchors.items()
        for field in ('size', 'bottom', 'yaws')
    }
    return {
        'number of anchors': cells * config.anchors_per_cell,
        'cells of the grid per cell of the head (backbone.strides, neck.strides)': (
            ', '.join(map(str, config.head_strides))
        ),
        'order of the anchors': ', '.join(anchors),
        'head.scales': head.scales,
        'head.centers': head.centers,
        'head.velocities': head.velocities,
        'head.direction_offset': head.direction_offset,
        **boxes,
    }


def list_differences(
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
    *,
    sides: tuple[str, str] = ('teacher', 'student'),
) -> list[str]:
    """A line for each fact that differs; `sides` names the two."""
    return [
        f'  {name}: {sides[0]} has {teacher.get(name)}, {sides[1]} has {student.get(name)}'
        for name in {**teacher, **student}
        if teacher.get(name) != student.get(name)
    ]
