# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

from kitti_folder import points_in, write_frame, write_splits
import numpy as np
import pytest

from pointdistiller_core.config import AugmentationConfig, KittiConfig, TrainingConfig
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.training.data import batch_keys, load_batches
from pointdistiller_core.training.sampling import ClassBalance

BALANCE = ClassBalance((np.arange(8), np.array([0, 1]), np.array([9])))
CONFIG = TrainingConfig(epochs=3, batch_size=4, sampling='class_balanced', num_workers=0)
BOX = (10.0, 0.0, -1.0, 3.9, 1.6, 1.56, 0.0)


def indices(keys):
    return [key[1] for batch in keys for key in batch]


def test_every_class_has_its_turn_equally_often():
    drawn = BALANCE.draw(24, np.random.default_rng(0))
    assert Counter(drawn.tolist()) == Counter([*range(8), *[0, 1] * 4, *[9] * 8])
    for seed in range(9):  # what does not divide evenly goes to some of the classes
        counts = Counter(BALANCE.draw(10, np.random.default_rng(seed)).tolist())
        assert counts.total() == 10
        assert counts[9] in {3, 4}


def test_fewer_draws_than_classes():
    assert len(BALANCE.draw(2, np.random.default_rng(0))) == 2
    assert len(BALANCE.draw(0, np.random.default_rng(0))) == 0


def test_the_draw_depends_on_seed_and_epoch_alone():
    keys = list(batch_keys(10, CONFIG, balance=BALANCE))
    assert keys == list(batch_keys(10, CONFIG, balance=BALANCE))
    assert list(batch_keys(10, CONFIG, first_epoch=1, balance=BALANCE)) == keys[3:]
    other = CONFIG.model_copy(update={'seed': 1})
    assert list(batch_keys(10, other, balance=BALANCE)) != keys
    assert [len(batch) for batch in keys] == [4, 4, 2] * 3
    assert indices(keys[:3]) != indices(keys[3:6])


def test_a_frame_that_comes_again_is_augmented_anew():
    keys = [key for batch in batch_keys(24, CONFIG, balance=BALANCE) for key in batch]
    assert len(set(keys)) == len(keys)
    assert {(0, 9), *((0, 9, n) for n in range(1, 8))} <= set(keys)


def test_frames_without_labels_come_once():
    keys = list(batch_keys(14, CONFIG, num_unlabelled=4, balance=BALANCE))
    counts = Counter(indices(keys[:4]))
    assert [counts[index] for index in (10, 11, 12, 13)] == [1] * 4
    assert counts.total() == 14


@pytest.fixture
def dataset(tmp_path):
    names = [['Car'], ['Car', 'Cyclist'], [], ['Car'], ['Van'], ['Car']]
    for index, own in enumerate(names):
        boxes = [(*BOX[:1], 6.0 * place, *BOX[2:]) for place in range(len(own))]
        points = points_in([BOX], 20, np.random.default_rng(index)).reshape(-1, 4)
        write_frame(tmp_path, f'{index:06d}', points, boxes, own)
    write_splits(tmp_path, {'train': [f'{index:06d}' for index in range(len(names))]})
    return KittiDataset(KittiConfig(root=tmp_path), ['Car', 'Pedestrian', 'Cyclist'])


def test_frames_of_a_dataset(dataset, caplog):
    balance = ClassBalance.of(dataset)
    assert [own.tolist() for own in balance.frames] == [[0, 1, 3, 5], [1]]
    assert '2 of 6 frames show no object of Car, Pedestrian, Cyclist' in caplog.text
    batches = list(load_batches(dataset, AugmentationConfig(), CONFIG))
    counts = Counter(name for batch in batches[:2] for name in batch.frame_ids)
    assert counts.total() == 6
    assert counts['000001'] >= 3
    assert not {'000002', '000004'} & counts.keys()
    twice = [
        cloud[:, :3]
        for batch in batches[:2]
        for name, cloud in zip(batch.frame_ids, batch.points, strict=True)
        if name == '000001'
    ]
    assert not np.allclose(np.sort(twice[0], 0), np.sort(twice[1], 0))


def test_a_dataset_without_its_classes(dataset):
    dataset.class_names = ('Tram',)
    with pytest.raises(DatasetError, match=r"no frame shows any of \['Tram'\]"):
        ClassBalance.of(dataset)
