# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
import multiprocessing
import os
from pathlib import Path
import signal

from kitti_folder import write_frame, write_splits
import pytest
import torch
from torch import Tensor

from pointdistiller_core.config import (
    AugmentationConfig,
    GroundTruthSamplingConfig,
    KittiConfig,
    SampledClassConfig,
    TrainingConfig,
)
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.errors import ConfigError, DatasetError, PointDistillerError
from pointdistiller_core.training.data import (
    batch_keys,
    collate,
    dead_workers_explained,
    load_batches,
    torch_seed,
)


def config(**values):
    return TrainingConfig(**({'epochs': 3, 'batch_size': 2, 'num_workers': 0} | values))


class Unreadable:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise DatasetError(f'velodyne/{index:06d}.bin: no such file')


def test_every_frame_once_per_epoch():
    keys = list(batch_keys(5, config()))
    assert [len(batch) for batch in keys] == [2, 2, 1] * 3
    for epoch in range(3):
        flat = [key for batch in keys[3 * epoch : 3 * epoch + 3] for key in batch]
        assert sorted(flat) == [(epoch, index) for index in range(5)]


def test_order_changes_with_epoch_and_seed():
    first, second = list(batch_keys(50, config(batch_size=50, epochs=2)))
    (other,) = list(batch_keys(50, config(batch_size=50, epochs=1, seed=1)))
    orders = [[index for _, index in batch] for batch in (first, second, other)]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_later_epochs_do_not_depend_on_earlier_ones():
    assert list(batch_keys(5, config(), first_epoch=2)) == list(batch_keys(5, config()))[6:]


def test_torch_seeds_differ():
    assert len({torch_seed(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


@pytest.mark.parametrize('num_workers', [0, 2])
def test_batches_are_the_same_whoever_loads_them(tiny_dataset, num_workers):
    dataset, augmentation = tiny_dataset(3), AugmentationConfig()
    expected = list(load_batches(dataset, augmentation, config()))
    batches = list(load_batches(dataset, augmentation, config(num_workers=num_workers)))
    resumed = load_batches(dataset, augmentation, config(num_workers=num_workers), first_epoch=1)
    batches += list(resumed)
    assert len(batches) == 6 + 4
    for batch, other in zip(batches, expected + expected[2:], strict=True):
        assert batch.frame_ids == other.frame_ids
        for name in ('points', 'boxes', 'labels'):
            for tensor, same in zip(getattr(batch, name), getattr(other, name), strict=True):
                assert torch.equal(tensor, same)


def test_augmentation_differs_from_epoch_to_epoch(tiny_dataset):
    batches = list(load_batches(tiny_dataset(1), AugmentationConfig(), config()))
    assert not torch.equal(batches[0].points[0], batches[1].points[0])


@pytest.fixture
def two_cars(tmp_path: Path) -> KittiDataset:
    """Two frames, with one car each at another place."""
    for name, x in (('000003', 10), ('000007', 30)):
        write_frame(tmp_path, name, [[x, 0, 0, 0.5]] * 9, [[x, 0, 0, 4, 2, 1.5, 0]], ['Car'])
    write_splits(tmp_path, {'train': ['000003', '000007']})
    return KittiDataset(KittiConfig(root=tmp_path), ['Car'])


def still(**values) -> AugmentationConfig:
    return AugmentationConfig(flip_probability=0, rotation=(0, 0), scaling=(1, 1), **values)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_objects_are_pasted_from_the_database(two_cars, num_workers):
    # Both are drawn, and a frame's own one collides with itself.
    sampling = GroundTruthSamplingConfig(classes={'Car': SampledClassConfig(count=3)})
    batches = load_batches(
        two_cars, still(ground_truth_sampling=sampling), config(num_workers=num_workers)
    )
    for batch in batches:
        for points, boxes, labels in zip(batch.points, batch.boxes, batch.labels, strict=True):
            assert sorted(points[:, 0].tolist()) == [10] * 9 + [30] * 9
            assert sorted(boxes[:, 0].round().tolist()) == [10, 30]
            assert labels.tolist() == [0, 0]


def test_frames_without_labels_are_mixed_in_without_boxes(tiny_dataset):
    bare = tiny_dataset(2, seed=1)
    bare.frames = [
        replace(frame, frame_id=f'bare {i}', ground_truth=None)
        for i, frame in enumerate(bare.frames)
    ]
    batches = list(
        load_batches(tiny_dataset(3), still(), config(batch_size=5, epochs=2), unlabelled=bare)
    )
    orders = [batch.frame_ids for batch in batches]
    assert orders[0] != orders[1]
    for batch in batches:
        assert set(batch.frame_ids) == {'000000', '000001', '000002', 'bare 0', 'bare 1'}
        for frame_id, boxes, labels in zip(
            batch.frame_ids, batch.boxes, batch.labels, strict=True
        ):
            assert len(boxes) == len(labels) == (0 if frame_id.startswith('bare') else 2)
            assert boxes.shape[1] == 7
            assert labels.dtype == torch.int64
        bare_places = [i for i, name in enumerate(batch.frame_ids) if name.startswith('bare')]
        assert batch.unlabelled == set(bare_places)


def test_objects_are_of_labelled_frames_and_pasted_into_those_alone(two_cars, tmp_path):
    write_frame(tmp_path, '000009', [[50, 0, 0, 0.5]] * 9, [[50, 0, 0, 4, 2, 1.5, 0]], ['Car'])
    write_splits(tmp_path, {'rest': ['000009']})
    rest = KittiDataset(KittiConfig(root=tmp_path, split='rest'), ['Car'], labelled=False)
    sampling = GroundTruthSamplingConfig(classes={'Car': SampledClassConfig(count=3)})
    batches = load_batches(
        two_cars, still(ground_truth_sampling=sampling), config(batch_size=3), unlabelled=rest
    )
    for batch in batches:
        found = dict(zip(batch.frame_ids, batch.points, strict=True))
        assert found['000009'][:, 0].tolist() == [50] * 9
        assert sorted(found['000003'][:, 0].tolist()) == [10] * 9 + [30] * 9


def test_what_is_out_of_range_is_left_out(two_cars):
    near = (0, -5, -3, 20, 5, 1)
    for batch in load_batches(two_cars, still(), config(), point_cloud_range=near):
        sizes = dict(zip(batch.frame_ids, map(len, batch.points), strict=True))
        assert sizes == {'000003': 9, '000007': 0}
        assert sorted(map(len, batch.boxes)) == [0, 1]


def test_a_class_without_objects_to_paste_is_reported(two_cars):
    sampling = GroundTruthSamplingConfig(classes={'Car': {}, 'Tram': {}})
    batches = load_batches(two_cars, still(ground_truth_sampling=sampling), config())
    with pytest.raises(ConfigError, match=r"\['Tram'\] are not in the database"):
        next(batches)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_unreadable_frame_keeps_its_message(num_workers):
    batches = load_batches(Unreadable(), AugmentationConfig(), config(num_workers=num_workers))
    with pytest.raises(DatasetError) as caught:
        next(batches)
    assert str(caught.value).startswith('velodyne/00000')
    assert str(caught.value).endswith('.bin: no such file')


def test_collate_by_hand(tiny_dataset):
    frames = tiny_dataset(2).frames
    batch = collate(frames)
    assert batch.frame_ids == ('000000', '000001')
    assert batch.points[1].tolist() == frames[1].points.tolist()
    assert batch.boxes[1].tolist() == frames[1].ground_truth.boxes.tolist()
    assert batch.labels[1].tolist() == [0, 0]


def test_frames_without_labels_are_told_apart(tiny_dataset):
    first, second = tiny_dataset(2).frames
    batch = collate([replace(first, ground_truth=None), second])
    assert batch.unlabelled == {0}
    assert [len(boxes) for boxes in batch.boxes] == [0, 2]
    assert batch.to('cpu').unlabelled == {0}


def test_frame_without_labels_is_named_by_the_loader(tiny_dataset):
    dataset = tiny_dataset(1)
    dataset.frames[0] = replace(dataset[0], ground_truth=None)
    with pytest.raises(DatasetError, match='frame 000000 has no labels'):
        next(load_batches(dataset, AugmentationConfig(), config()))


def refuse_memory(*_):
    raise RuntimeError('unable to allocate shared memory(shm): No space left on device (28)')


def refuse_locks():
    raise OSError(28, 'No space left on device')


@pytest.mark.parametrize(
    ('place', 'name', 'refuse'),
    [(Tensor, 'share_memory_', refuse_memory), (multiprocessing, 'Lock', refuse_locks)],
)
def test_no_room_in_shared_memory_is_an_error(tiny_dataset, monkeypatch, place, name, refuse):
    monkeypatch.setattr(place, name, refuse)  # the processes are forks of this one
    message = r'No space left .* give /dev/shm more room .* lower training\.num_workers'
    with pytest.raises(PointDistillerError, match=message):
        next(load_batches(tiny_dataset(3), AugmentationConfig(), config(num_workers=2)))
    monkeypatch.undo()
    monkeypatch.setattr(place, name, refuse)
    assert len(next(load_batches(tiny_dataset(3), AugmentationConfig(), config()))) == 2


def test_batches_of_processes_are_in_shared_memory(tiny_dataset):
    batch = next(load_batches(tiny_dataset(3), AugmentationConfig(), config(num_workers=1)))
    assert all(points.is_shared() for points in batch.points)


class Fatal:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_was_ended_from_outside():
    @dead_workers_explained()
    def train():
        list(load_batches(Fatal(), AugmentationConfig(), config(num_workers=1)))

    with pytest.raises(
        PointDistillerError, match=r'was ended: DataLoader worker .* memory: lower'
    ):
        train()


def test_other_errors_are_not_explained():
    with pytest.raises(RuntimeError, match='singular'), dead_workers_explained():
        raise RuntimeError('singular')
