# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What nuScenes' metric needs of samples: labels, racks, and where the vehicle is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes.index import SEVERAL, NuScenesIndex
from pointdistiller_core.formats.nuscenes.names import (
    ATTRIBUTES,
    RACK,
    category_class,
    likely_attributes,
)
from pointdistiller_core.formats.nuscenes.rotations import (
    quaternion_of,
    quaternion_product,
    quaternions_about_z,
)
from pointdistiller_core.formats.nuscenes.submission import (
    MAX_BOXES,
    NO_POINTS_KNOWN,
    GlobalBoxes,
)
from pointdistiller_core.records import Detections

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class SampleTruth:
    """Labels of S samples in the global frame.

    Attributes:
        vehicles: (S, 2) x, y of the vehicle at the time of the sweep [m].
        boxes: of the labels that have a class.
        racks: (R, 10) boxes of bicycle racks, as in the index.
        rack_samples: (R,) sample of each rack.
    """

    vehicles: FloatArray
    boxes: GlobalBoxes
    racks: FloatArray
    rack_samples: IntArray


@dataclass(frozen=True)
class NuScenesAnnotations:
    """What the metric needs of a frame, beside points and boxes.

    Attributes:
        token: of the sample.
        truth: of this sample alone; None if the dataset has no labels.
        global_from_lidar: (4, 4), from the frame of the points and boxes.
    """

    token: str
    truth: SampleTruth | None
    global_from_lidar: FloatArray


def sample_truth(
    index: NuScenesIndex,
    samples: Sequence[int] | IntArray,
    class_names: Sequence[str],
    class_map: Mapping[str, str] = MappingProxyType({}),
) -> SampleTruth:
    """Labels of some samples, those of each in the order of their table.

    Args:
        index: of the tables.
        samples: their numbers in the index.
        class_names: that labels index; others are left out.
        class_map: new names of classes.

    Raises:
        DatasetError: a label has two attributes.
    """
    samples = np.asarray(samples, np.int64)
    starts, ends = index.starts[samples], index.starts[samples + 1]
    counts = ends - starts
    first = np.cumsum(counts) - counts
    rows = np.arange(counts.sum()) + np.repeat(starts - first, counts)
    own = np.repeat(np.arange(len(samples)), counts)
    categories, attributes, _ = index.labels[rows].T
    numbers = {name: number for number, name in enumerate(class_names)}
    named = [category_class(name) or '' for name in index.categories]
    classes = [numbers.get(class_map.get(name, name), -1) for name in named]
    labels = np.array([*classes, -1], np.int64)[categories]
    rack = np.array([name == RACK for name in index.categories])[categories]
    kept = labels >= 0
    _check_attributes(index, own[kept], attributes[kept], samples)
    known = {name: number for number, name in enumerate(ATTRIBUTES)}
    renamed = np.array([*(known.get(name, -1) for name in index.attributes), -1], np.int64)
    poses = index.sweep_poses[index.key_frames[samples]]
    return SampleTruth(
        vehicles=poses[:, :2],
        boxes=GlobalBoxes(
            samples=own[kept],
            translation=index.boxes[rows[kept], :3],
            size=index.boxes[rows[kept], 3:6],
            rotation=index.boxes[rows[kept], 6:],
            velocity=index.velocities[rows[kept], :2],
            labels=labels[kept],
            attributes=renamed[attributes[kept]],
            scores=np.zeros(int(kept.sum())),
            num_points=index.num_points[rows[kept]].sum(axis=1),
        ),
        racks=index.boxes[rows[rack]],
        rack_samples=own[rack],
    )


def _check_attributes(
    index: NuScenesIndex, own: IntArray, attributes: IntArray, samples: IntArray
) -> None:
    if (several := attributes == SEVERAL).any():
        token = index.token(int(samples[own[np.argmax(several)]]))
        raise DatasetError(
            f'{index.folder / "sample_annotation.json"}: {several.sum()} labels have several '
            f'attributes, e.g. one of sample {token}; the detection task knows none or one'
        )


def to_global(
    found: Detections, global_from_lidar: FloatArray, class_names: Sequence[str]
) -> GlobalBoxes:
    """Detections of one frame as boxes of a submission, all with sample 0, the 500 best.

    Their attributes are the likely ones for class and speed.

    Args:
        found: in the LiDAR frame.
        global_from_lidar: (4, 4).
        class_names: that their labels index.
    """
    best = np.argsort(-found.scores, kind='stable')[:MAX_BOXES]
    found = found[best]
    turn, shift = global_from_lidar[:3, :3], global_from_lidar[:3, 3]
    boxes = found.boxes.astype(np.float64)
    velocity: FloatArray = np.zeros((len(found), 2))
    if found.velocities is not None:
        flat = np.pad(found.velocities.astype(np.float64), ((0, 0), (0, 1)))
        velocity = (flat @ turn.T)[:, :2]
    names = [class_names[label] for label in found.labels]
    numbers = {name: number for number, name in enumerate(ATTRIBUTES)}
    attributes = [numbers.get(name, -1) for name in likely_attributes(names, velocity)]
    return GlobalBoxes(
        samples=np.zeros(len(found), np.int64),
        translation=boxes[:, :3] @ turn.T + shift,
        size=boxes[:, [4, 3, 5]],
        rotation=quaternion_product(quaternion_of(turn), _own_rotations(found)),
        velocity=velocity,
        labels=found.labels,
        attributes=np.array(attributes, np.int64),
        scores=found.scores.astype(np.float64),
        num_points=np.full(len(found), NO_POINTS_KNOWN),
    )


def _own_rotations(found: Detections) -> FloatArray:
    """(N, 4) quaternions w, x, y, z of boxes in their own frame."""
    if found.orientations is None:
        return quaternions_about_z(found.boxes[:, 6].astype(np.float64))
    return np.roll(found.orientations.astype(np.float64), 1, axis=1)
