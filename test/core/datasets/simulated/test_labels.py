# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes drawn towards what is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.config import (
    CameraConfig,
    KittiConfig,
    SceneConfig,
    SensorConfig,
    SimulationConfig,
)
from pointdistiller_core.config.simulation import AnnotationConfig
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.datasets.simulated import (
    SimulatedObject,
    simulate_dataset,
    simulate_scene,
)
from pointdistiller_core.datasets.simulated.labels import shrink_box
from pointdistiller_core.datasets.simulated.writer import label_objects

BOX = (10.0, 0.0, 0.0, 4.0, 2.0, 1.5, 0.0)
# Its rear face, up to 0.2 m below its top.
REAR = np.array([[8.0, y, z] for y in (-1, 1) for z in (-0.75, 0, 0.55)])


def test_the_unseen_end_moves_towards_the_points():
    shrunk = shrink_box(BOX, np.array([*REAR, [10.0, -1, 0]]), 0.25)
    # 2 m of the length are unseen, a quarter is 0.5 m; of the top 0.05 m; the ground stays.
    assert shrunk == pytest.approx((9.75, 0, -0.025, 3.5, 2.0, 1.45, 0.0))


def test_no_end_moves_far():
    assert shrink_box(BOX, REAR, 0.9)[3] == pytest.approx(4.0 - 0.15 * 4)
    assert shrink_box(BOX, REAR, 0.9)[5] == pytest.approx(1.5 - 0.1)


def test_a_turned_box_shrinks_along_its_heading():
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    box = (0.0, 10.0, 0.0, 4.0, 2.0, 1.5, math.pi / 2)
    shrunk = shrink_box(box, np.array([*REAR, [10.0, -1, 0]]) @ turn.T, 0.25)
    assert shrunk == pytest.approx((0.0, 9.75, -0.025, 3.5, 2.0, 1.45, math.pi / 2))


def test_few_points_and_no_part_change_nothing():
    assert shrink_box(BOX, REAR[:4], 0.5) == BOX
    assert shrink_box(BOX, REAR, 0.0) == BOX


def test_exact_boxes_stay_beside_the_labels():
    config = SimulationConfig(
        sensor=SensorConfig(num_columns=400), labels=AnnotationConfig(shrink=0.3)
    )
    frame, exact = (
        simulate_scene(item, seed=0, index=0)
        for item in (config, SimulationConfig(sensor=config.sensor))
    )
    assert [item.box for item in frame.objects] == [item.box for item in exact.objects]
    assert all('label_box' not in item.to_dict() for item in exact.objects)
    seen = [item for item in frame.objects if item.num_points > 20]
    parts = [item.label_box[3] / item.box[3] for item in seen]
    assert max(parts) <= 1
    assert min(parts) < 0.98
    labels = label_objects(seen, CameraConfig(image_size=(9000, 3000)))
    lengths = [item.label_box[3] for item in seen]
    assert set(labels.dimensions[:, 2].round(4)) <= set(np.round(lengths, 4))


def test_labels_all_round_have_no_2d_box(tmp_path):
    behind = SimulatedObject(0, 'Car', (-20, 0, -1.0, 4.0, 1.6, 1.5, 0.0), 9, 0.0)
    assert not len(label_objects([behind], CameraConfig()))
    labels = label_objects([behind], CameraConfig(), all_round=True)
    assert labels.lacks_box_2d.tolist() == [True]
    config = SimulationConfig(
        sensor=SensorConfig(num_columns=300),
        labels=AnnotationConfig(all_round=True),
        scene=SceneConfig(cars=(12, 12)),
    )
    simulate_dataset(tmp_path / 'data', config, splits={'train': 2}, seed=0, num_workers=1)
    frames = KittiDataset(KittiConfig(root=tmp_path / 'data', camera_view=False), ('Car',))
    boxes = np.concatenate([frames[index].ground_truth.boxes for index in range(2)])
    assert (boxes[:, 0] < 0).any()
    assert (boxes[:, 0] > 0).any()
