# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""New names for classes: `Van: Car`, and the names that other data sets and programs use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from pointdistiller_core.errors import ConfigError

# To KITTI's names, which the shipped models have. Classes without a counterpart keep theirs.
CLASS_MAPS: Mapping[str, Mapping[str, str]] = {
    'nuscenes': {
        **{'car': 'Car', 'truck': 'Truck', 'pedestrian': 'Pedestrian', 'bicycle': 'Cyclist'},
        **{'vehicle.car': 'Car', 'vehicle.truck': 'Truck', 'vehicle.bicycle': 'Cyclist'},
        'human.pedestrian.adult': 'Pedestrian',
        'human.pedestrian.child': 'Pedestrian',
        'human.pedestrian.construction_worker': 'Pedestrian',
        'human.pedestrian.police_officer': 'Pedestrian',
    },
    # A rider is part of a cyclist there, and a bicycle without one is no road user.
    'vod': {'truck': 'Truck'},
    'autoware': {
        **{'CAR': 'Car', 'TRUCK': 'Truck', 'BUS': 'Bus', 'TRAILER': 'Trailer'},
        **{'MOTORCYCLE': 'Motorcycle', 'BICYCLE': 'Cyclist', 'PEDESTRIAN': 'Pedestrian'},
    },
}


def read_class_map(value: Any) -> Any:
    """A map of classes from a name of `CLASS_MAPS`, a mapping, or a list of both.

    Later ones win. Anything else is returned as it is.

    Raises:
        ValueError: there is no such name.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    joined: dict[Any, Any] = {}
    for part in parts:
        if isinstance(part, str):
            if part not in CLASS_MAPS:
                raise ValueError(f'{part!r} is no map of classes; choose from {list(CLASS_MAPS)}')
            joined |= CLASS_MAPS[part]
        elif isinstance(part, Mapping):
            joined |= part
        else:
            return value
    return joined


ClassMap = Annotated[dict[str, str], BeforeValidator(read_class_map)]


def parse_class_map(texts: Iterable[str]) -> dict[str, str]:
    """A map of classes from texts like `Van=Car` or `nuscenes`.

    Raises:
        ConfigError: a text is of another form.
    """
    parts: list[str | dict[str, str]] = []
    for text in texts:
        name, separator, new = text.partition('=')
        if separator and not (name and new):
            raise ConfigError(f'--class-map {text}: expected NAME=CLASS, e.g. Van=Car')
        parts.append({name: new} if separator else text)
    try:
        found: dict[str, str] = read_class_map(parts)
    except ValueError as error:
        raise ConfigError(f'--class-map: {error}, or NAME=CLASS') from error
    return found
