# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Names of nuScenes."""

from __future__ import annotations

import numpy as np

from pointdistiller_core.formats.nuscenes.names import (
    ATTRIBUTES,
    CLASS_NAMES,
    CLASS_OF_CATEGORY,
    category_class,
    in_official_split,
    likely_attributes,
    official_splits,
)


def test_23_categories_make_10_classes():
    assert len(CLASS_OF_CATEGORY) == 23
    assert {name for name in CLASS_OF_CATEGORY.values() if name} == set(CLASS_NAMES)
    assert len(CLASS_NAMES) == 10
    assert category_class('human.pedestrian.police_officer') == 'pedestrian'
    assert category_class('vehicle.emergency.police') is None
    assert category_class('tram') == 'tram'


def test_attributes_by_class_and_speed():
    nan = np.nan
    velocities = np.array([[3, 4], [0.1, 0], [nan, nan], [0, 0], [0, 1], [0, 0], [1, 1], [0, 2]])
    names = ['car', 'car', 'truck', 'bus', 'pedestrian', 'pedestrian', 'bicycle', 'barrier']
    assert likely_attributes(names, velocities) == [
        *('vehicle.moving', 'vehicle.parked', 'vehicle.parked', 'vehicle.stopped'),
        *('pedestrian.moving', 'pedestrian.standing', 'cycle.with_rider', ''),
    ]
    assert likely_attributes(['motorcycle', 'tram'], None) == ['cycle.without_rider', '']
    assert set(likely_attributes([*CLASS_NAMES], None)) <= {*ATTRIBUTES, ''}


def test_published_splits():
    scenes = [f'scene-{number:04d}' for number in range(1, 1111)]
    sizes = {
        split: sum(in_official_split(scene, split) for scene in scenes)
        for split in ('val', 'train_detect')
    }
    assert sizes == {'val': 150, 'train_detect': 350}
    assert official_splits('v1.0-trainval') == ('train', 'val', 'train_detect', 'train_track')
    assert official_splits('v1.0-mini') == ('mini_train', 'mini_val')
    assert official_splits('v1.0-test') == ('test',)
    assert official_splits('v1.0-mine') == ()
    # Every scene of a version is in one of two splits.
    for parts in (('train', 'val'), ('mini_train', 'mini_val')):
        assert all(sum(in_official_split(scene, part) for part in parts) == 1 for scene in scenes)
    train = [scene for scene in scenes if in_official_split(scene, 'train')]
    for scene in train:
        assert in_official_split(scene, 'train_detect') != in_official_split(scene, 'train_track')
    assert [scene for scene in scenes if in_official_split(scene, 'mini_val')] == [
        *('scene-0103', 'scene-0916')
    ]
    assert in_official_split('scene-0003', 'val')
    assert not in_official_split('scene-0003', 'train_track')
    assert in_official_split('scene-0077', 'test')
