# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Exact labels and poses stored next to a simulated drive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import read_text
from pointdistiller_core.formats.folder import Label, read_info, shortest_floats
from pointdistiller_core.geometry.mounting import Mounting

if TYPE_CHECKING:
    Matrix: TypeAlias = NDArray[np.float64]

TRUTH_FILE = 'truth.json'  # `pointdistiller simulate --drive` writes it
EXACT_LABELS = f'labels: exact, from the simulation ({TRUTH_FILE})'


@dataclass(frozen=True)
class Truth:
    """Ground truth of a simulated drive.

    Attributes:
        poses: (4, 4) `world_from_lidar` by time [ns].
        labels: labels of each sweep by its time [ns], in the sensor's frame.
    """

    poses: dict[int, Matrix]
    labels: Mapping[int, Sequence[Label]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of all labels."""
        return tuple(sorted({label.name for found in self.labels.values() for label in found}))


def read_truth(bag: Path) -> Truth | None:
    """Read the ground truth next to a drive; None if the bag is not a simulated drive.

    Raises:
        DatasetError: the file is malformed.
    """
    path = (bag if bag.is_dir() else bag.parent) / TRUTH_FILE
    if not path.is_file():
        return None
    try:
        frames = json.loads(read_text(path, DatasetError))
        poses = {frame['stamp_ns']: np.array(frame['world_from_lidar']) for frame in frames}
        labels = {frame['stamp_ns']: list(map(_label, frame['objects'])) for frame in frames}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{path}: is no truth of a simulated drive: {error!r}') from error
    return Truth(poses, labels)


def label_makers(root: Path) -> str:
    """Who made those labels of a converted dataset that no teacher has made.

    Raises:
        DatasetError: it cannot be read.
    """
    drives = read_info(root).drives.values()
    exact = [EXACT_LABELS in drive.notes for drive in drives]
    if not any(exact):
        return 'people'
    return 'the simulation' if all(exact) else 'people or the simulation'


def moved_labels(labels: Sequence[Label], mounting: Mounting) -> list[Label]:
    """Transform labels from a sensor's frame to that of the dataset."""
    boxes: NDArray[np.float32] = np.array([label.box for label in labels], np.float32)
    boxes = boxes.reshape(-1, 7)
    if (mounting.training_from_sensor != np.eye(4)).any():
        boxes = mounting.boxes_to_training(boxes)
    return [
        replace(label, box=shortest_floats(box)) for label, box in zip(labels, boxes, strict=True)
    ]


def _label(item: Mapping[str, Any]) -> Label:
    # What no ray hit cannot be found: it is neither object nor background.
    further = {key: item[key] for key in ('num_points', 'occlusion') if key in item}
    velocity = item.get('velocity')
    return Label(
        name=item['name'],
        box=tuple(map(float, item.get('label_box') or item['box'])),
        track=item['track_id'],
        velocity=None if velocity is None else (float(velocity[0]), float(velocity[1])),
        ignore=item['num_points'] == 0,
        further=further,
    )
