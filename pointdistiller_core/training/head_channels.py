# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Which channels of the heads of two detectors mean the same: those of the classes of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pointdistiller_core.config import AnchorDetectorConfig, PointRcnnConfig


@dataclass(frozen=True)
class SharedChannels:
    """What the heads of two detectors have in common.

    Attributes:
        taken: classes that both have, and whose channels mean the same.
        made_anew: classes by the reason why some of their channels begin anew.
        dropped: classes that only the source has.
        channels: [(channel of the target's head, channel of the source's), ...].
        num_channels: of the target's head.
    """

    taken: Sequence[str]
    made_anew: Mapping[str, Sequence[str]]
    dropped: Sequence[str]
    channels: Sequence[tuple[int, int]]
    num_channels: int

    def describe(self) -> str:
        """Counts of channels, and names of classes."""
        parts = [
            f'of the head {len(self.channels)} of {self.num_channels} channels '
            f'({_listed(self.taken) or "no class is the same"})',
            *(
                f'made anew: {what} ({_listed(names)})'
                for what, names in self.made_anew.items()
                if names
            ),
        ]
        if self.dropped:
            parts.append(f'left out: {_listed(self.dropped)}')
        return '; '.join(parts)


def of_points(source: PointRcnnConfig, target: PointRcnnConfig) -> SharedChannels:
    """Of PointRCNN's classifier of points: one channel for each class."""
    theirs, ours = source.class_names, target.class_names
    taken = [name for name in ours if name in theirs]
    return SharedChannels(
        taken=taken,
        made_anew={'new classes': [name for name in ours if name not in theirs]},
        dropped=[name for name in theirs if name not in ours],
        channels=[(ours.index(name), theirs.index(name)) for name in taken],
        num_channels=len(ours),
    )


def of_anchors(source: AnchorDetectorConfig, target: AnchorDetectorConfig) -> SharedChannels:
    """Of the head with anchors.

    Each channel belongs to an anchor of a class, and a class logit also to the class that it
    scores. It means the same if both detectors have all its classes, with the same anchors.
    """
    theirs, ours = _anchors(source), _anchors(target)
    same = {name for name in ours if theirs.get(name) == ours[name]}
    known = source.class_names
    per_class = target.head.assignment == 'per_class'
    common = [name for name in target.class_names if name in known]
    taken = [name for name in common if (name in same if per_class else same)]
    same_directions = source.head.direction_offset == target.head.direction_offset
    same_velocities = source.head.velocities or not target.head.velocities
    of_source, of_target = _head_channels(source), _head_channels(target)
    return SharedChannels(
        taken=taken,
        made_anew={
            'new classes': [name for name in target.class_names if name not in known],
            'classes with other anchors': [name for name in common if name not in taken],
            'directions, because of another head.direction_offset': (
                [] if same_directions else taken
            ),
            'velocities': [] if same_velocities else taken,
        },
        dropped=[name for name in known if name not in target.class_names],
        channels=[
            (channel, of_source[meaning])
            for meaning, channel in of_target.items()
            if meaning.anchor in same
            and meaning in of_source
            and (meaning.kind != 'class' or meaning.value in taken)
            and (meaning.kind != 'direction' or same_directions)
        ],
        num_channels=len(of_target),
    )


class _Meaning(NamedTuple):
    """Meaning of a channel of the head."""

    kind: str
    anchor: str  # its class, or the name of a shared one
    yaw: int
    value: str | int  # class of a logit, or number


def _head_channels(config: AnchorDetectorConfig) -> dict[_Meaning, int]:
    """Channels of `AnchorHead` by their meaning."""
    values: dict[str, Sequence[str | int]] = {
        'class': config.class_names,
        'box': range(7),
        'direction': range(2),
        'velocity': range(2 if config.head.velocities else 0),
    }
    meanings = (
        _Meaning(kind, name, yaw, value)
        for kind in values
        for name in config.anchor_names
        for yaw in range(len(config.head.anchors[name].yaws))
        for value in values[kind]
    )
    return {meaning: channel for channel, meaning in enumerate(meanings)}


def _anchors(config: AnchorDetectorConfig) -> dict[str, tuple[Any, ...]]:
    """What the outputs of a class refer to; how labels are matched does not matter."""
    anchors = dict(zip(config.anchor_names, config.anchor_configs, strict=True))
    head = config.head
    shared = (head.assignment, head.scales, head.centers)
    return {
        name: (anchor.size, anchor.bottom, anchor.yaws, *shared)
        for name, anchor in anchors.items()
    }


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names)
