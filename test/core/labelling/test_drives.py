# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of a drive: sure tracks, ignored ones, and objects that stand still."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import LabellingConfig, SimulationConfig, TrustConfig
from pointdistiller_core.datasets.simulated.drive import simulate_drive
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.labelling.drives import label_drive
from pointdistiller_core.records import Detections

NAMES = ('Car', 'Pedestrian')


def frame(*rows) -> Detections:
    """Rows x, y, score, and perhaps a label."""
    return Detections(
        np.array([[x, y, 0, 4, 2, 1.5, 0] for x, y, *_ in rows], np.float32).reshape(-1, 7),
        np.array([row[2] for row in rows], np.float32),
        np.array([row[3] if len(row) > 3 else 0 for row in rows], np.int64),
    )


def label(found, *, empty=(), **options):
    """Labels where 20 points stand at (10, 0), but in the frames of `empty`."""
    cloud = np.tile(np.float32([10, 0, 0, 0.5]), (20, 1))
    return label_drive(
        found,
        lambda index: cloud[:0] if index in empty else cloud,
        [100_000_000 * index for index in range(len(found))],
        [np.eye(4)] * len(found),
        config=LabellingConfig(**options),
        class_names=NAMES,
    )


def test_bands_of_trust():
    for score, band in ((0.7, 'labels'), (0.4, 'ignored'), (0.15, 'dropped')):
        # Without a first detection of 0.3 there is no track.
        result = label([frame((10, 0, max(score, 0.3)))] + [frame((10, 0, score))] * 9)
        counts = dict.fromkeys(('labels', 'ignored', 'dropped'), 0) | {band: 1}
        assert result.counts['Car'] == counts
    few = label([frame((10, 0, 0.9)), frame((10, 0, 0.9)), *[frame()] * 8])
    assert few.counts['Car']['ignored'] == 1  # sure, but not often enough


def test_bands_of_a_class_of_its_own():
    found = [frame((10, 0, 0.5, 1))] * 5
    assert label(found).counts['Pedestrian']['ignored'] == 1
    lower = {'Pedestrian': TrustConfig(accept=0.4)}
    assert label(found, trust_by_class=lower).counts['Pedestrian']['labels'] == 1


def test_what_stands_is_found_before_and_after_its_track():
    found = [*[frame()] * 5, *[frame((10, 0, 0.9))] * 6, *[frame()] * 5]
    result = label(found, propagate=3, empty={12})
    assert [len(each) for each in result.frames] == [0, 0, *[1] * 10, 0, 1, 0, 0]
    assert result.frames[2].scores.tolist() == pytest.approx([0.9 * 0.98**3])
    assert {each.tracks[0] for each in result.frames if len(each)} == {0}


def test_boxes_without_points_are_no_labels():
    result = label([frame((10, 0, 0.9))] * 8, empty={4, 5})
    assert [len(each) for each in result.frames] == [1, 1, 1, 1, 0, 0, 1, 1]


def test_of_two_objects_in_one_place_the_surer_is_there():
    result = label([frame((10, 0, 0.9), (10.5, 0, 0.7, 1))] * 8)
    assert [each.labels.tolist() for each in result.frames] == [[0]] * 8


def test_labels_of_a_simulated_drive_are_where_its_objects_are():
    """Detections are the truth with noise, gaps and false alarms; the sensor drives."""
    rng = np.random.default_rng(3)
    frames = list(simulate_drive(SimulationConfig(), num_frames=15, seed=5))
    found, truths = [], []
    for each in frames:
        near = [one for one in each.objects if one.num_points >= 20 and one.name == 'Car']
        boxes = np.array([one.box for one in near], np.float32).reshape(-1, 7)
        truths.append(boxes)
        noisy = boxes + rng.normal(0, 0.08, boxes.shape).astype(np.float32)
        noisy = noisy[rng.random(len(noisy)) > 0.15]
        false = np.concatenate(
            [rng.uniform(-50, 50, (2, 2)), np.tile([0, 4, 2, 1.5, 0], (2, 1))], 1
        )
        boxes = np.concatenate([noisy, false]).astype(np.float32)
        scores = np.concatenate([np.full(len(noisy), 0.8), [0.7, 0.7]]).astype(np.float32)
        found.append(Detections(boxes, scores, np.zeros(len(boxes), np.int64)))
    result = label_drive(
        found,
        lambda index: frames[index].points,
        [each.stamp_ns for each in frames],
        [each.world_from_lidar for each in frames],
        config=LabellingConfig(),
        class_names=NAMES,
    )
    num_truths = num_found = num_labels = 0
    for labels, truth, each in zip(result.frames, truths, frames, strict=True):
        everyone = np.array([one.box for one in each.objects], np.float32)
        sure = labels.boxes[~labels.ignored]
        num_labels += len(sure)
        assert (rotated_iou_bev(sure, everyone).max(axis=1) > 0.5).all()
        num_found += (rotated_iou_bev(truth, sure) > 0.5).any(axis=1).sum()
        num_truths += len(truth)
    assert num_found > 0.95 * num_truths
    assert num_labels > 30
