# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A training whose frames the camera does not see does not start."""

from __future__ import annotations

import json
from pathlib import Path

from kitti_folder import write_frame, write_splits
import numpy as np
import pytest

from pointdistiller_core.config import DatasetConfig, ExperimentConfig, KittiConfig, TrainingConfig
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.training.experiment import run_experiment

CAR = [10, 0, -1, 3.9, 1.6, 1.56, 0]


def write_data(root: Path, image_size: tuple[int, int]) -> DatasetConfig:
    """One frame with a car ahead."""
    write_frame(root, '0', [[10, 0, -1, 0.5]], [CAR], ['Car'])
    write_splits(root, {'train': ['0']})
    (root / 'image_sizes.json').write_text(json.dumps({'0': image_size}), encoding='utf-8')
    return KittiConfig(root=root)


@pytest.mark.parametrize(
    ('point', 'message'),
    [
        ([10, 0, -1, 0.5], r'0\.bin: none of its 1 points is in the image of 100 x 375 pixels'),
        ([10, 9, -1, 0.5], r'away, train: the camera sees none of 1 labels'),
    ],
)
@pytest.mark.parametrize('place', ['dataset', 'validation'])
def test_it_is_refused_before_anything_is_written(tiny_model, tmp_path, point, message, place):
    away = write_data(tmp_path / 'away', (100, 375))
    np.float32([point]).tofile(away.root / 'training' / 'velodyne' / '0.bin')
    sources = {'dataset': write_data(tmp_path / 'data', (1242, 375)), place: away}
    training = TrainingConfig(epochs=1, batch_size=1, num_workers=0)
    config = ExperimentConfig(model=tiny_model, training=training, **sources)
    with pytest.raises(DatasetError, match=message):
        run_experiment(config, tmp_path / 'run', device='cpu')
    assert not (tmp_path / 'run').exists()
