# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
import json

import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig, KittiConfig, SimulationConfig
from pointdistiller_core.datasets.class_tally import ClassTally
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.datasets.simulated import simulate_dataset
from pointdistiller_core.errors import ConfigError, DatasetError, WriteError
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRange,
    FrameRow,
    Label,
    read_info,
    read_labels,
    write_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.formats.kitti import read_objects
from pointdistiller_core.geometry.poses import Pose
from pointdistiller_core.pipelines.convert_dataset import (
    folder_to_kitti,
    kind_of,
    kitti_to_folder,
    merge_folders,
)

CAR = Label('Car', (10.0, 2.0, -1.0, 4.0, 1.75, 1.5, 0.5))


def tree_of(root):
    paths = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture(scope='module')
def simulated(tmp_path_factory):
    root = tmp_path_factory.mktemp('sim') / 'scenes'
    config = SimulationConfig.model_validate({'sensor': {'num_columns': 300}})
    simulate_dataset(root, config, splits={'train': 2, 'val': 1}, seed=3, num_workers=1)
    return root


def test_kitti_there_and_back_gives_the_same(kitti_mini, tmp_path):
    lost = kitti_to_folder(kitti_mini, tmp_path / 'open')
    others = ('P0', 'P1', 'P3', 'Tr_imu_to_velo')
    matrices = {f'calibrations with a {key} of its own': 20 for key in others}
    assert lost == {'images': 4, **matrices}
    assert folder_to_kitti(tmp_path / 'open', tmp_path / 'back') == {}
    assert_same_kitti(kitti_mini, tmp_path / 'back')
    camera = next(iter(read_info(tmp_path / 'open').cameras.values()))
    assert camera.image_size is not None


def test_classes_get_new_names(kitti_mini, tmp_path):
    tally = ClassTally({'Van': 'Car'})
    kitti_to_folder(kitti_mini, tmp_path / 'open', tally=tally)
    names = read_info(tmp_path / 'open').class_names
    assert tally.met['Van'] > 0
    assert 'Car' in names
    assert 'Van' not in names
    with pytest.raises(DatasetError, match=r"named by \{'Van': 'Car'\}, not by \{\}"):
        kitti_to_folder(kitti_mini, tmp_path / 'open')
    folder_to_kitti(tmp_path / 'open', tmp_path / 'back', tally=ClassTally({'Car': 'Vehicle'}))
    texts = [path.read_text() for path in (tmp_path / 'back/training/label_2').iterdir()]
    assert any('Vehicle' in text for text in texts)
    assert not any('Car ' in text or 'Van ' in text for text in texts)


def test_simulated_scenes_there_and_back_give_the_same_and_more(simulated, tmp_path):
    assert kitti_to_folder(simulated, tmp_path / 'open') == {}
    folder_to_kitti(tmp_path / 'open', tmp_path / 'back')
    assert_same_kitti(simulated, tmp_path / 'back', more=True)
    exact = json.loads((simulated / 'training' / 'objects' / '000001.json').read_text())
    labels = read_labels(tmp_path / 'open', '000001')
    assert len(labels) == len(exact)
    boxes = np.array([label.box for label in labels])
    np.testing.assert_allclose(boxes, [item['box'] for item in exact], atol=1e-5)
    assert [label.ignore for label in labels] == [item['num_points'] == 0 for item in exact]


def assert_same_kitti(one, two, *, more=False):
    for split in ('train', 'val'):
        text = (one / 'ImageSets' / f'{split}.txt').read_text()
        assert (two / 'ImageSets' / f'{split}.txt').read_text() == text
        first = KittiDataset(KittiConfig(root=one, split=split), ('Car',))
        second = KittiDataset(KittiConfig(root=two, split=split), ('Car',))
        for index, name in enumerate(first.frame_ids):
            files = [root / 'training' / 'velodyne' / f'{name}.bin' for root in (one, two)]
            assert files[0].read_bytes() == files[1].read_bytes()
            assert first.image_size(index) == second.image_size(index)
            old, new = (
                read_objects(root / 'training' / 'label_2' / f'{name}.txt') for root in (one, two)
            )
            rows_old, rows_new = (sorted(map(_row, _columns(found))) for found in (old, new))
            assert set(rows_old) <= set(rows_new)
            assert more or rows_old == rows_new
            boxes = [dataset[index].ground_truth.boxes for dataset in (first, second)]
            if not more:
                np.testing.assert_allclose(boxes[0], boxes[1], atol=0.01)


def _columns(objects):
    return zip(
        objects.names.tolist(),
        objects.occluded.tolist(),
        np.column_stack(
            [objects.truncated, objects.alpha, objects.boxes_2d, objects.dimensions]
        ).round(3),
        np.column_stack([objects.locations, objects.rotation_y]).round(3),
        strict=True,
    )


def _row(row):
    name, occluded, *numbers = row
    return (name, occluded, *(tuple(part.tolist()) for part in numbers))


# --- what KITTI cannot hold ------------------------------------------------------------------


def write_folder(root, labels, *, columns=('x', 'y', 'z', 'intensity'), names=('a', 'b'), **row):
    classes = tuple(sorted({label.name for label in labels or ()}))
    with FolderWriter(root, FolderInfo(class_names=classes, columns=columns)) as writer:
        for number, name in enumerate(names):
            points = np.full((5, len(columns)), number + 0.5, np.float32)
            writer.add(FrameRow(name, **row), points, labels)
        writer.set_ranges(names, {'train': [FrameRange(names[0], names[-1])]})
    return root


def test_what_kitti_cannot_hold_is_counted(tmp_path):
    labels = [
        replace(CAR, score=0.5, track=7, velocity=(1.0, 0.0)),
        replace(CAR, ignore=True),
        replace(CAR, name='Big bus'),
    ]
    write_folder(
        tmp_path / 'open',
        labels,
        columns=('x', 'y', 'z', 'ring', 'intensity'),
        stamp_ns=5,
        pose=Pose.from_values((0, 0, 0, 0, 0, 0, 1)),
    )
    assert folder_to_kitti(tmp_path / 'open', tmp_path / 'kitti') == {
        "points with a column 'ring'": 2,
        'frames without a camera; one that looks forward is assumed': 2,
        'frames with a time': 2,
        'frames with a pose': 2,
        'scores': 2,
        'tracks': 2,
        'velocities': 2,
        'objects to be ignored, which are of class Misc then': 2,
        'names of classes with spaces, which are _ then': 2,
    }
    found = read_objects(tmp_path / 'kitti' / 'training' / 'label_2' / 'a.txt')
    assert found.names.tolist() == ['Car', 'Misc', 'Big_bus']
    points = np.fromfile(tmp_path / 'kitti' / 'training' / 'velodyne' / 'b.bin', np.float32)
    np.testing.assert_array_equal(points, np.full(20, 1.5))


def test_boxes_that_no_camera_sees_are_kept_and_nothing_moves(tmp_path):
    behind = replace(CAR, box=(-10.0, 2.0, -1.0, 4.0, 1.75, 1.5, 3.0))
    write_folder(tmp_path / 'open', [CAR, behind])
    folder_to_kitti(tmp_path / 'open', tmp_path / 'kitti')
    kitti_to_folder(tmp_path / 'kitti', tmp_path / 'again')
    boxes = [label.box for label in read_labels(tmp_path / 'again', 'a')]
    np.testing.assert_allclose(boxes, [CAR.box, behind.box], atol=1e-3)


def test_a_label_that_was_moved_gets_new_numbers(tmp_path, simulated):
    kitti_to_folder(simulated, tmp_path / 'open')
    labels = read_labels(tmp_path / 'open', '000000')
    place = next(number for number, label in enumerate(labels) if 'kitti' in label.further)
    box = labels[place].box
    moved = replace(labels[place], box=(box[0] + 0.5, *box[1:]))
    write_labels(tmp_path / 'open', '000000', [moved])
    folder_to_kitti(tmp_path / 'open', tmp_path / 'back')
    dataset = KittiDataset(KittiConfig(root=tmp_path / 'back', camera_view=False), (moved.name,))
    np.testing.assert_allclose(dataset[0].ground_truth.boxes, [moved.box], atol=1e-3)


def test_unlabelled_frames_have_no_label_file(tmp_path):
    write_folder(tmp_path / 'open', None)
    lost = folder_to_kitti(tmp_path / 'open', tmp_path / 'kitti')
    assert lost['frames without labels, which have no label file'] == 2
    assert not (tmp_path / 'kitti' / 'training' / 'label_2').exists()
    kitti_to_folder(tmp_path / 'kitti', tmp_path / 'again')
    assert read_labels(tmp_path / 'again', 'a') is None


def test_an_interrupted_conversion_goes_on_to_the_same_files(simulated, tmp_path):
    kitti_to_folder(simulated, tmp_path / 'whole')
    stop = []

    def interrupt(done, _total):
        if done == 2 and not stop:
            stop.append(done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kitti_to_folder(simulated, tmp_path / 'open', on_frame=interrupt)
    kitti_to_folder(simulated, tmp_path / 'open')
    assert tree_of(tmp_path / 'open') == tree_of(tmp_path / 'whole')


def test_a_target_that_is_there_is_refused(tmp_path):
    write_folder(tmp_path / 'open', [CAR])
    (tmp_path / 'kitti').mkdir()
    with pytest.raises(WriteError, match='exists already'):
        folder_to_kitti(tmp_path / 'open', tmp_path / 'kitti')


def test_points_without_intensity_are_no_sweep_of_kitti(tmp_path):
    write_folder(tmp_path / 'open', [CAR], columns=('x', 'y', 'z'))
    with pytest.raises(DatasetError, match=r"lack the columns \['intensity'\]"):
        folder_to_kitti(tmp_path / 'open', tmp_path / 'kitti')


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DatasetError, match='is no dataset'):
        kind_of(tmp_path)


# --- joining ---------------------------------------------------------------------------------


def test_joined_folders_keep_every_byte(tmp_path):
    one = write_folder(tmp_path / 'one', [CAR], drive='d1')
    two = write_folder(tmp_path / 'two', [replace(CAR, name='Van')], names=('c', 'd'), drive='d2')
    prefixes = merge_folders([one, two], tmp_path / 'all')
    assert prefixes == {one: '', two: ''}
    for source in (one, two):
        for folder in ('points', 'labels'):
            for name, content in tree_of(source / folder).items():
                assert (tmp_path / 'all' / folder / name).read_bytes() == content
    dataset = FolderDataset(FolderConfig(root=tmp_path / 'all'), ('Van',))
    assert list(dataset.frame_ids) == ['a', 'b', 'c', 'd']
    assert dataset.info.class_names == ('Car', 'Van')
    assert dataset[3].ground_truth.labels.tolist() == [0]
    before = tree_of(tmp_path / 'all')
    merge_folders([one, two], tmp_path / 'all')
    assert tree_of(tmp_path / 'all') == before


def test_names_that_are_taken_get_a_prefix(tmp_path):
    one, two = (write_folder(tmp_path / name, [CAR], drive='d') for name in ('one', 'two'))
    assert merge_folders([one, two], tmp_path / 'all') == {one: '', two: 'two_'}
    dataset = FolderDataset(FolderConfig(root=tmp_path / 'all'), ('Car',))
    assert list(dataset.frame_ids) == ['a', 'b', 'two_a', 'two_b']
    assert dataset.row(2).drive == 'two_d'


def test_folders_that_do_not_fit_are_refused(tmp_path):
    one = write_folder(tmp_path / 'one', [CAR])
    two = write_folder(tmp_path / 'two', [CAR], columns=('x', 'y', 'z'))
    with pytest.raises(ConfigError, match='columns is'):
        merge_folders([one, two], tmp_path / 'all')
    with pytest.raises(ConfigError, match='given twice'):
        merge_folders([one, one], tmp_path / 'all')


def test_nuscenes_is_named(tmp_path):
    (tmp_path / 'v1.0-mini').mkdir()
    (tmp_path / 'v1.0-mini' / 'sample.json').write_text('[]', encoding='utf-8')
    with pytest.raises(DatasetError, match=r"is in nuScenes' format, .* cannot be converted"):
        kind_of(tmp_path)
