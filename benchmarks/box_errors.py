# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where the boxes of a detector lie beside labelled ones, and which end is the front.

Of each labelled object that holds enough points, the nearest box of its class counts. Clouds are
levelled if the detector is one of levelled clouds, or with --level. Example:
`python benchmarks/box_errors.py lidar_4x --dataset data/any --split val`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch

from pointdistiller_core.datasets import open_dataset
from pointdistiller_core.detector import Detector
from pointdistiller_core.pipelines.evaluate import detect
from pointdistiller_core.pointcloud.box_points import inside_boxes
from pointdistiller_core.records import Detections, Frame

FARTHEST = 1.5  # [m] from above, between the centers of a label and its box
ERRORS = ('along [m]', 'across [m]', 'lower face [m]', 'length [m]', 'width [m]', 'height [m]')


class Errors(NamedTuple):
    """What was measured of the labelled objects of a class.

    Attributes:
        num_labels: objects with enough points.
        rows: (N, 8) of those with a box near: `ERRORS`, box minus label; of the axis [degrees];
            whether the box heads the other way.
    """

    num_labels: int
    rows: NDArray[np.float64]


def main() -> None:
    """Print mean, median and spread of each error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bundle')
    parser.add_argument('--dataset', type=Path, required=True)
    parser.add_argument('--split', default='val')
    parser.add_argument('--camera-view', action='store_true', help='only what the camera sees')
    parser.add_argument('--class-name', default='Car')
    parser.add_argument('--min-points', type=int, default=20, help='in the labelled box')
    parser.add_argument('--score', type=float, default=0.15, help='least one of a box')
    parser.add_argument('--level', action='store_true', help='level clouds for any detector')
    arguments = parser.parse_args()
    detector = Detector.load(arguments.bundle, backend='torch', num_threads=1)
    frames = open_dataset(
        arguments.dataset,
        split=arguments.split,
        class_names=detector.class_names,
        camera_view=arguments.camera_view,
    )
    thresholds = {'score_threshold': arguments.score, 'score_thresholds': ()}
    found = detect(
        detector,
        frames,
        range(len(frames)),
        level=arguments.level,
        detection=detector.info.model.detection.model_copy(update=thresholds),
    )
    label = detector.class_names.index(arguments.class_name)
    parts = [
        compare(frame, boxes, label, arguments.min_points)
        for frame, boxes in zip(map(frames.__getitem__, range(len(frames))), found, strict=True)
    ]
    report(
        Errors(sum(part.num_labels for part in parts), np.vstack([part.rows for part in parts]))
    )


def compare(frame: Frame, found: Detections, label: int, min_points: int) -> Errors:
    """The errors of the boxes of one class beside the labels of one frame."""
    truth = frame.ground_truth
    assert truth is not None
    labels = truth.boxes[truth.labels == label].astype(np.float64)
    points = torch.from_numpy(frame.points[:, :3])
    counts = inside_boxes(points, torch.from_numpy(labels).float()).sum(dim=1).numpy()
    labels = labels[counts >= min_points]
    boxes = found.boxes[found.labels == label].astype(np.float64)
    rows = []
    for wanted in labels if len(boxes) else ():
        box = boxes[np.hypot(*(boxes[:, :2] - wanted[:2]).T).argmin()]
        x, y = box[:2] - wanted[:2]
        if math.hypot(x, y) > FARTHEST:
            continue
        cos, sin, turn = math.cos(wanted[6]), math.sin(wanted[6]), box[6] - wanted[6]
        low = box[2] - box[5] / 2 - wanted[2] + wanted[5] / 2
        place = (x * cos + y * sin, y * cos - x * sin, low)
        axis = math.degrees((turn + math.pi / 2) % math.pi - math.pi / 2)
        rows.append((*place, *(box[3:6] - wanted[3:6]), axis, math.cos(turn) < 0))
    return Errors(len(labels), np.array(rows, np.float64).reshape(-1, 8))


def report(errors: Errors) -> None:
    """Print a row for each error."""
    print(f'{errors.num_labels} labelled, {len(errors.rows)} with a box within {FARTHEST} m')
    if not len(errors.rows):
        return
    print(f'{"box minus label":16} {"mean":>8} {"median":>8} {"spread":>8} {"|median|":>9}')
    for name, values in zip((*ERRORS, 'axis [degrees]'), errors.rows.T[:7], strict=True):
        middle, size = np.median(values), np.median(np.abs(values))
        print(f'{name:16} {values.mean():8.3f} {middle:8.3f} {values.std():8.3f} {size:9.3f}')
    print(f'the other end in front: {100 * errors.rows[:, 7].mean():.1f} %')


if __name__ == '__main__':
    main()
