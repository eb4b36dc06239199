# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny datasets in KITTI's layout, made for a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from pathlib import Path

import numpy as np

from pointdistiller_core.formats.kitti import (
    Calibration,
    format_calibration,
    format_objects,
    objects_from_boxes,
)

CALIBRATION = Calibration(
    camera_from_lidar=np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]),
    image_from_camera=np.array([[600.0, 0, 621, 0], [0, 600, 187, 0], [0, 0, 1, 0]]),
)
IMAGE_SIZE = (1242, 375)


def points_in(boxes, per_box: int, rng: np.random.Generator, *, reach: float = 0.45):
    """(G, per_box, 4) points within `reach` sizes of each box's center, in double precision."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    local = rng.uniform(-reach, reach, (len(boxes), per_box, 3)) * boxes[:, None, 3:6]
    cos, sin = np.cos(boxes[:, None, 6]), np.sin(boxes[:, None, 6])
    x, y, z = np.moveaxis(local, -1, 0)
    xyz = np.stack([x * cos - y * sin, x * sin + y * cos, z], axis=-1) + boxes[:, None, :3]
    return np.concatenate([xyz, rng.uniform(0, 1, (*xyz.shape[:2], 1))], axis=-1)


def write_frame(root: Path, name: str, points, boxes, names: Sequence[str]) -> None:
    """The three files of one frame, and the size of its image."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 7)
    labels = objects_from_boxes(boxes, names, CALIBRATION, IMAGE_SIZE)
    for folder in ('velodyne', 'label_2', 'calib'):
        (root / 'training' / folder).mkdir(parents=True, exist_ok=True)
    np.asarray(points, np.float32).tofile(root / 'training' / 'velodyne' / f'{name}.bin')
    texts = {'label_2': format_objects(labels), 'calib': format_calibration(CALIBRATION)}
    for folder, text in texts.items():
        (root / 'training' / folder / f'{name}.txt').write_text(text, encoding='utf-8')
    file = root / 'image_sizes.json'
    sizes = json.loads(file.read_text(encoding='utf-8')) if file.exists() else {}
    file.write_text(json.dumps(sizes | {name: IMAGE_SIZE}), encoding='utf-8')


def write_splits(root: Path, splits: Mapping[str, Sequence[str]]) -> None:
    """`ImageSets/<split>.txt` of each."""
    (root / 'ImageSets').mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        path = root / 'ImageSets' / f'{split}.txt'
        path.write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
