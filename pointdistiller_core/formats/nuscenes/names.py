# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Names of nuScenes: classes of the detection task, categories, attributes and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

VEHICLES = ('car', 'truck', 'bus', 'trailer', 'construction_vehicle')
CYCLES = ('motorcycle', 'bicycle')
CLASS_NAMES = (*VEHICLES, 'pedestrian', *CYCLES, 'traffic_cone', 'barrier')

# A category that is missing here, of another dataset in this format, is a class of its own.
CLASS_OF_CATEGORY: Mapping[str, str | None] = {
    'vehicle.car': 'car',
    'vehicle.truck': 'truck',
    'vehicle.bus.bendy': 'bus',
    'vehicle.bus.rigid': 'bus',
    'vehicle.trailer': 'trailer',
    'vehicle.construction': 'construction_vehicle',
    'human.pedestrian.adult': 'pedestrian',
    'human.pedestrian.child': 'pedestrian',
    'human.pedestrian.construction_worker': 'pedestrian',
    'human.pedestrian.police_officer': 'pedestrian',
    'vehicle.motorcycle': 'motorcycle',
    'vehicle.bicycle': 'bicycle',
    'movable_object.trafficcone': 'traffic_cone',
    'movable_object.barrier': 'barrier',
    'animal': None,
    'human.pedestrian.personal_mobility': None,
    'human.pedestrian.stroller': None,
    'human.pedestrian.wheelchair': None,
    'movable_object.debris': None,
    'movable_object.pushable_pullable': None,
    'static_object.bicycle_rack': None,
    'vehicle.emergency.ambulance': None,
    'vehicle.emergency.police': None,
}
RACK = 'static_object.bicycle_rack'

ATTRIBUTES = (
    *('pedestrian.moving', 'pedestrian.sitting_lying_down', 'pedestrian.standing'),
    *('cycle.with_rider', 'cycle.without_rider'),
    *('vehicle.moving', 'vehicle.parked', 'vehicle.stopped'),
)
MOVING_SPEED = 0.2  # [m/s], above which mmdetection3d takes an object for a moving one

# Scenes of the published splits, by number. All other scenes of `trainval` are `train`, those of
# `mini` are `mini_train`, and all of `test` are `test`.
_VAL = (
    '3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 '
    '632-638 770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 '
    '1059-1073'
)
_TRAIN_DETECT = (
    '1-2 41-76 161-168 170-176 190-196 199-200 202-204 206-214 254-264 283-306 315-318 321 '
    '323-324 347-375 382 420-439 457-459 461-465 467-469 471-472 474-480 566 568 570-578 580 '
    '582-583 665-679 681 683-689 739-741 744 746-747 749-752 757-765 767-769 868-873 875-878 '
    '880 882-903 945 947 949 952-953 955-961 975-984 988-991 1011-1025 1074-1102 1104-1105'
)
_MINI_VAL = '103 916'

_SPLITS: Mapping[str, tuple[str, ...]] = {
    'trainval': ('train', 'val', 'train_detect', 'train_track'),
    'mini': ('mini_train', 'mini_val'),
    'test': ('test',),
}


def category_class(category: str) -> str | None:
    """Class of the detection task; None for a category that the task leaves out."""
    return CLASS_OF_CATEGORY.get(category, category)


def likely_attributes(
    names: Sequence[str], velocities: NDArray[np.floating[Any]] | None
) -> list[str]:
    """Attributes by class and speed, as mmdetection3d sets them.

    Args:
        names: of N classes.
        velocities: (N, 2) [m/s], NaN if not known; None is unknown for all.
    """
    speeds = np.zeros(len(names)) if velocities is None else np.hypot(*velocities.T)
    moving = (speeds > MOVING_SPEED).tolist()  # not those of unknown speed
    return [_likely_attribute(*each) for each in zip(names, moving, strict=True)]


def _likely_attribute(name: str, moving: bool) -> str:
    if name in VEHICLES:
        resting = 'vehicle.stopped' if name == 'bus' else 'vehicle.parked'
        return 'vehicle.moving' if moving else resting
    if name in CYCLES:
        return 'cycle.with_rider' if moving else 'cycle.without_rider'
    if name == 'pedestrian':
        return 'pedestrian.moving' if moving else 'pedestrian.standing'
    return ''


def official_splits(version: str) -> tuple[str, ...]:
    """Names of the published splits of a version, such as `v1.0-trainval`."""
    return next((names for end, names in _SPLITS.items() if version.endswith(end)), ())


def in_official_split(scene: str, split: str) -> bool:
    """Whether a scene of the version that has this published split belongs to it."""
    if split in {'mini_train', 'mini_val'}:
        return (scene in _scenes(_MINI_VAL)) == (split == 'mini_val')
    if split in {'val', 'test'}:
        return split == 'test' or scene in _scenes(_VAL)
    detect = split == 'train' or (scene in _scenes(_TRAIN_DETECT)) == (split == 'train_detect')
    return detect and scene not in _scenes(_VAL)


@cache
def _scenes(numbers: str) -> frozenset[str]:
    """Names of scenes from their numbers and ranges of numbers."""
    names = []
    for part in numbers.split():
        first, _, last = part.partition('-')
        names += [f'scene-{number:04d}' for number in range(int(first), int(last or first) + 1)]
    return frozenset(names)
