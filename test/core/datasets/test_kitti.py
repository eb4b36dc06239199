# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames in KITTI's layout: tiny made ones with every fault, and real ones."""

from __future__ import annotations

from dataclasses import replace
import json
import logging
import os
from pathlib import Path

from clouds import flat_ground, with_ring_and_time
import numpy as np
from PIL import Image
import pytest
import torch

from pointdistiller_core.config import KittiConfig
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.formats.kitti import (
    Calibration,
    boxes_from_objects,
    format_calibration,
    format_objects,
    objects_from_boxes,
)
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.records import IGNORE_LABEL

CLASSES = ('Car', 'Pedestrian', 'Cyclist')
CALIBRATION = Calibration(
    camera_from_lidar=np.array(
        [
            [0.0, -1.0, 0.0, 0.0],
            [0.0, 0.0, -1.0, 0.0],
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    ),
    image_from_camera=np.array(
        [
            [500.0, 0.0, 500.0, 0.0],
            [0.0, 500.0, 100.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ]
    ),
)
POINTS = np.array(
    [
        [10, 0, 0, 0.5],  # in the middle of the image
        [-10, 0, 0, 0.5],  # behind
        [10, 20, 0, 0.5],  # 45 degrees and more to the left
        [10, 0, 9, 0.5],  # above
        [10, -9.9, 0, 0.5],  # at x = 995: visible in images wider than that
    ],
    np.float32,
)
WIDE = with_ring_and_time(flat_ground())
BOXES = np.array([[10, 0, 0, 4, 2, 1.5, 0.3], [20, 5, 0, 5, 2, 2, -2.0]], np.float32)
DONT_CARE = 'DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames, 000000 and 000001; the first has a car, a van and a DontCare area."""
    for folder in ('velodyne', 'label_2', 'calib'):
        (tmp_path / 'training' / folder).mkdir(parents=True)
    (tmp_path / 'ImageSets').mkdir()
    (tmp_path / 'ImageSets' / 'train.txt').write_text('000001\n000000\n', encoding='utf-8')
    (tmp_path / 'ImageSets' / 'val.txt').write_text('000000\n', encoding='utf-8')
    labels = objects_from_boxes(BOXES, ['Car', 'Van'], CALIBRATION, (1242, 375))
    for name, text in {'000000': DONT_CARE + format_objects(labels), '000001': ''}.items():
        POINTS.tofile(tmp_path / 'training' / 'velodyne' / f'{name}.bin')
        calibration = format_calibration(CALIBRATION)
        (tmp_path / f'training/calib/{name}.txt').write_text(calibration, encoding='utf-8')
        (tmp_path / f'training/label_2/{name}.txt').write_text(text, encoding='utf-8')
    return tmp_path


def dataset(root: Path, split='val', class_names=CLASSES, **options) -> KittiDataset:
    return KittiDataset(KittiConfig(root=root, split=split, **options), class_names)


def test_frames_come_in_the_order_of_the_split(root):
    frames = dataset(root, 'train')
    assert len(frames) == 2
    assert [frame.frame_id for frame in frames] == ['000001', '000000']
    assert len(frames[0].ground_truth) == 0
    assert frames[-1].frame_id == '000000'
    with pytest.raises(IndexError):
        frames[2]


def test_labels(root):
    truth = dataset(root)[0].ground_truth
    np.testing.assert_allclose(truth.boxes, BOXES, atol=1e-4)
    assert truth.labels.tolist() == [0, IGNORE_LABEL]
    assert dataset(root, class_names=['Van', 'Car'])[0].ground_truth.labels.tolist() == [1, 0]


def test_objects_are_all_that_is_labelled(root):
    assert dataset(root).objects(0).names.tolist() == ['DontCare', 'Car', 'Van']


def test_labels_without_2d_boxes_get_those_of_their_3d_boxes(root, caplog):
    whole, frames = dataset(root).objects(0), dataset(root)
    path = frames.path('label_2', 0)
    bare = replace(whole, boxes_2d=np.where(whole.names[:, None] == 'DontCare', whole.boxes_2d, 0))
    path.write_text(format_objects(bare), encoding='utf-8')
    np.testing.assert_allclose(frames.objects(0).boxes_2d, whole.boxes_2d, atol=1e-2)
    frames.objects(0)
    assert [record.getMessage() for record in caplog.records] == [
        f'{path}: labels without a 2D box here, and maybe in other frames, get that of their 3D '
        'box, which decides about their difficulty; see check-dataset'
    ]
    frames.path('calib', 0).unlink()
    assert (frames.objects(0).boxes_2d == bare.boxes_2d).all()


def test_camera_view(root):
    np.testing.assert_array_equal(dataset(root)[0].points, POINTS[[0, 4]])
    np.testing.assert_array_equal(dataset(root, camera_view=False)[0].points, POINTS)


def test_the_camera_view_is_what_projects_into_the_image(root):
    points = np.random.default_rng(0).normal(0, 20, (20000, 4)).astype(np.float32)
    points[:5000, 1:3] = points[:5000, :1] * [0.2, -0.1]  # along a ray, near the camera too
    points.tofile(root / 'training' / 'velodyne' / '000000.bin')
    pixels, depth = CALIBRATION.project(points[:, :3])
    inside = ((pixels >= 0) & (pixels < (1000, 200))).all(axis=1) & (depth > 0)
    assert 2500 < inside.sum() < 10000
    np.testing.assert_array_equal(dataset(root)[0].points, points[inside])


def write_image(root: Path, name: str, size: tuple[int, int]) -> None:
    (root / 'training' / 'image_2').mkdir(exist_ok=True)
    Image.new('RGB', size).save(root / 'training' / 'image_2' / name)


def test_image_sizes(root, caplog):
    write_image(root, '000000.png', (990, 300))
    assert dataset(root).image_size(0) == (990, 300)
    assert len(dataset(root)[0].points) == 1  # the image ends at x = 990
    sizes = json.dumps({'000000': [1000, 200]})
    (root / 'image_sizes.json').write_text(sizes, encoding='utf-8')
    assert dataset(root).image_size(0) == (1000, 200)
    assert dataset(root).measure_image(0) == (990, 300)
    assert caplog.messages == []


def test_without_an_image_the_principal_point_is_its_middle(root, caplog):
    frames = dataset(root, 'train')
    assert frames.image_size(0) == (1000, 200)
    assert np.array_equal(frames[1].points, POINTS[[0, 4]])
    assert caplog.messages == [
        f'{root}: frame 000001, and maybe others, has no image and no entry in image_sizes.json; '
        'its size is taken as 1000 x 200, from the principal point; see check-dataset'
    ]


def rewrite_camera(root: Path, text: str) -> None:
    path = root / 'training' / 'calib' / '000000.txt'
    lines = path.read_text(encoding='utf-8').splitlines()
    lines = [text if line.startswith('P2') else line for line in lines]
    path.write_text('\n'.join(lines), encoding='utf-8')


def test_an_unknown_image_size_is_reported_where_it_matters(root):
    rewrite_camera(root, 'P2: 1 0 0 0 0 1 0 0 0 0 1 0')
    with pytest.raises(
        DatasetError, match=r'calib/000000\.txt: there is no image, .* \(0, 0\) tel'
    ):
        dataset(root)[0]
    whole = dataset(root, camera_view=False, cache_frames=True)
    assert len(whole[0].points) == 5
    relabel(root, '405.', '0 0 0 0 ')
    assert len(whole.objects(0)) == 3
    write_image(root, '000000.JPEG', (400, 300))
    assert dataset(root).image_size(0) == (400, 300)


def test_a_frame_of_which_the_camera_sees_nothing_is_an_error(root):
    rewrite_camera(root, 'P2: 500 0 90000 0 0 500 100 0 0 0 1 0')
    (root / 'image_sizes.json').write_text('{"000000": [640, 480]}', encoding='utf-8')
    message = (
        r'000000\.bin: none of its 5 points is in the image of 640 x 480 pixels; .*view=false'
    )
    for frames in (dataset(root), bare(root)):
        with pytest.raises(DatasetError, match=message):
            frames[0]
    POINTS[:0].tofile(root / 'training' / 'velodyne' / '000000.bin')
    assert len(dataset(root)[0].points) == 0


def test_labels_out_of_view_are_ignored(root):
    write_image(root, '000000.png', (1000, 200))
    away = np.array(
        [[-10, 0, 0, 4, 2, 1.5, 0], [10, 11, 0, 4, 2, 1.5, 0], [10, 14, 0, 4, 2, 2, 0]]
    )
    boxes = np.concatenate([BOXES[:1], away]).astype(np.float32)
    labels = objects_from_boxes(boxes, ['Car'] * 4, CALIBRATION, (1000, 200))
    text = DONT_CARE + format_objects(labels)
    (root / 'training' / 'label_2' / '000000.txt').write_text(text, encoding='utf-8')
    frames = dataset(root)
    truth = frames[0].ground_truth
    assert truth.labels.tolist() == [0, IGNORE_LABEL, 0, IGNORE_LABEL]  # the third in part
    np.testing.assert_allclose(truth.boxes, boxes, atol=1e-4)
    assert frames.seen(0, labels).tolist() == [True, False, True, False]
    whole = dataset(root, camera_view=False)
    assert whole[0].ground_truth.labels.tolist() == [0] * 4
    assert whole.seen(0, labels).all()


def test_an_image_that_is_none_is_reported(root):
    (root / 'training' / 'image_2').mkdir()
    (root / 'training' / 'image_2' / '000000.png').write_bytes(b'GIF89a')
    with pytest.raises(DatasetError, match=r'000000\.png: not an image that can be read'):
        dataset(root).image_size(0)


@pytest.mark.parametrize(
    'text', ['[]', '{"000000": 3}', '{"000000": [1]}', '{', '{"a": ["b", 2]}']
)
def test_malformed_image_sizes_are_reported(root, text):
    (root / 'image_sizes.json').write_text(text, encoding='utf-8')
    with pytest.raises(DatasetError, match=r'image_sizes\.json: expected {frame: \[width, height'):
        dataset(root)


@pytest.mark.parametrize('size', ['[0, 100]', '[100, -1]', '[1000000000, 3]'])
def test_impossible_image_sizes_are_reported(root, size):
    (root / 'image_sizes.json').write_text(f'{{"a": {size}}}', encoding='utf-8')
    with pytest.raises(DatasetError, match=r'image_sizes\.json: frame a has an image of '):
        dataset(root)


def test_an_unknown_split_lists_those_that_exist(root):
    with pytest.raises(DatasetError, match=r"test\.txt: no such split; .* \['train', 'val'\]"):
        dataset(root, 'test')
    with pytest.raises(DatasetError, match=r'no such split; .* has \[\]'):
        dataset(root / 'nowhere')


def test_several_splits_as_one(root):
    both = dataset(root, 'train+val').frame_ids
    assert both == (*dataset(root, 'train').frame_ids, *dataset(root, 'val').frame_ids)
    with pytest.raises(DatasetError, match=r'other\.txt: no such split'):
        dataset(root, 'train+other')


def test_an_empty_split_is_reported(root):
    (root / 'ImageSets' / 'none.txt').write_text('\n', encoding='utf-8')
    with pytest.raises(DatasetError, match=r'none\.txt: lists no frames'):
        dataset(root, 'none')


@pytest.mark.parametrize('name', ['velodyne/000000.bin', 'label_2/000000.txt', 'calib/000000.txt'])
def test_missing_files_are_reported(root, name):
    (root / 'training' / name).unlink()
    with pytest.raises(DatasetError, match=f'{name}: no such file'):
        dataset(root)[0]


def test_lists_and_labels_of_windows_and_of_other_encodings(root):
    for name in ('ImageSets/val.txt', 'training/label_2/000000.txt'):
        path = root / name
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b'\n', b'\r\n'))
    assert dataset(root).frame_ids == ('000000',)
    assert dataset(root)[0].ground_truth is not None
    (root / 'ImageSets' / 'val.txt').write_bytes(b'caf\xe9\n')
    with pytest.raises(DatasetError, match=r'val\.txt:1: not UTF-8 text: byte 0xe9'):
        dataset(root)


def test_a_sweep_beside_the_missing_one_is_named(root):
    folder = root / 'training' / 'velodyne'
    (folder / '000000.bin').rename(folder / '000000.pcd')
    with pytest.raises(DatasetError, match=r'000000\.bin: no such file; 000000\.pcd is not read'):
        dataset(root)[0]


def test_a_truncated_sweep_is_reported(root):
    path = root / 'training' / 'velodyne' / '000000.bin'
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r'000000\.bin: truncated, 77 bytes are not a whole'):
        dataset(root)[0]


def test_an_empty_sweep_is_a_frame_without_points(root):
    (root / 'training' / 'velodyne' / '000000.bin').write_bytes(b'')
    assert dataset(root)[0].points.shape == (0, 4)


def test_points_that_are_not_finite_are_dropped_with_a_warning(root, caplog):
    points = POINTS.copy()
    points[1, 2], points[3, 3], points[4, 0], points[4, 1] = np.nan, np.inf, np.inf, -np.inf
    path = root / 'training' / 'velodyne' / '000000.bin'
    points.tofile(path)
    with caplog.at_level(logging.WARNING):
        kept = dataset(root, camera_view=False)[0].points
    np.testing.assert_array_equal(kept, POINTS[[0, 2]])
    assert caplog.messages == [f'{path}: dropped 3 of 5 points, not finite']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (WIDE[:, :5].astype('<f4'), 'looks like 5 columns of float32, not 4 columns of float32'),
        (WIDE[:, :3].astype('<f4'), 'looks like 3 columns of float32.*astype.*tofile'),
        (WIDE[:, :4], 'looks like 4 columns of float64'),
        (np.float32(1000) * WIDE[:, :4].astype('<f4'), 'farther than 1000 m'),
    ],
)
def test_a_sweep_of_another_form_is_refused(root, content, message):
    content.tofile(root / 'training' / 'velodyne' / '000000.bin')
    with pytest.raises(DatasetError, match=rf'velodyne/000000\.bin: .*{message}'):
        dataset(root)[0]


def test_points_can_be_written_to(root):
    points = dataset(root, camera_view=False)[0].points
    assert points.dtype == np.float32
    assert points.flags.writeable


def relabel(root: Path, old: str, new: str) -> None:
    path = root / 'training' / 'label_2' / '000000.txt'
    path.write_text(path.read_text(encoding='utf-8').replace(old, new), encoding='utf-8')


def test_an_unknown_class_is_reported(root):
    relabel(root, 'Car ', 'Carr ')
    with pytest.raises(DatasetError, match=r"000000\.txt: unknown classes \['Carr'\].*'Cyclist'"):
        dataset(root)[0]
    frame = dataset(root, class_names=['Carr'])[0]
    assert frame.ground_truth.labels.tolist() == [0, IGNORE_LABEL]


def test_a_box_without_extent_is_reported(root):
    relabel(root, '1.5000 2.0000 4.0000', '1.5000 0.0000 4.0000')
    with pytest.raises(DatasetError, match=r'Car of height, width, length \[1\.5, 0\.0, 4\.0\]'):
        dataset(root)[0]


def test_a_malformed_label_is_reported(root):
    relabel(root, 'Van', 'Van x')
    with pytest.raises(DatasetError, match=r'000000\.txt:3: 16 fields'):
        dataset(root)[0]


def touch(path: Path) -> None:
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def test_fingerprints_tell_frames_apart(root):
    prints = [
        dataset(root).fingerprint(0),
        dataset(root, 'train').fingerprint(0),
        dataset(root, camera_view=False).fingerprint(0),
        dataset(root, class_names=['Car']).fingerprint(0),
    ]
    for name in ('velodyne/000000.bin', 'label_2/000000.txt', 'calib/000000.txt'):
        touch(root / 'training' / name)
        prints.append(dataset(root).fingerprint(0))
    (root / 'image_sizes.json').write_text('{"000000": [1000, 375]}', encoding='utf-8')
    prints.append(dataset(root).fingerprint(0))
    assert len(set(prints)) == len(prints) == 8
    same = dataset(root, 'train', cache=root / 'elsewhere', cache_frames=True)
    assert same.fingerprint(1) == prints[-1]


def test_a_fingerprint_needs_all_files(root):
    (root / 'training' / 'calib' / '000000.txt').unlink()
    with pytest.raises(DatasetError, match=r'calib/000000\.txt: No such file'):
        dataset(root).fingerprint(0)


def equal(a, b) -> bool:
    arrays = ((f.points, f.ground_truth.boxes, f.ground_truth.labels) for f in (a, b))
    return a.frame_id == b.frame_id and all(map(np.array_equal, *arrays))


def test_kept_frames_are_the_same(root, tmp_path, monkeypatch):
    cache = tmp_path / 'new' / 'cache'
    kept = dataset(root, cache=cache, cache_frames=True)
    before = dataset(root)[0]
    assert equal(kept[0], before)
    monkeypatch.setattr(KittiDataset, '_read_frame', None)  # would be an error
    assert equal(kept[0], before)
    assert len(list((cache / 'frames').iterdir())) == 1
    assert kept[0].points.flags.writeable


def test_kept_frames_are_those_of_the_files(root, kitti_mini, tmp_path):
    kept = dataset(root, cache_frames=True)
    kept[0]
    relabel(root, 'Car ', 'Pedestrian ')
    assert kept[0].ground_truth.labels.tolist() == [1, IGNORE_LABEL]
    (root / 'training' / 'velodyne' / '000000.bin').write_bytes(b'')
    assert len(kept[0].points) == 0
    real = dataset(kitti_mini, cache=tmp_path, cache_frames=True)
    for index in range(2 * len(real)):
        index %= len(real)  # the second time from the cache
        assert equal(real[index], dataset(kitti_mini)[index])


@pytest.mark.parametrize('content', [b'', b'too short', -5, None])
def test_a_damaged_kept_frame_is_made_again(root, caplog, content):
    kept = dataset(root, cache_frames=True)
    kept[0]
    (file,) = (root / '.cache' / 'frames').iterdir()
    whole = file.read_bytes()
    if content is None:  # a single bit, of a number
        content = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    file.write_bytes(whole[:content] if isinstance(content, int) else content)
    with caplog.at_level(logging.WARNING):
        assert equal(kept[0], dataset(root)[0])
    assert file.read_bytes() == whole
    assert f'{file}: damaged' in caplog.text


def bare(root, **options) -> KittiDataset:
    return KittiDataset(KittiConfig(root=root, split='val', **options), CLASSES, labelled=False)


def test_frames_without_labels_need_no_label_files(root):
    expected = {view: dataset(root, camera_view=view)[0].points for view in (True, False)}
    (root / 'training' / 'label_2' / '000000.txt').unlink()
    (frame,) = bare(root)
    assert frame.ground_truth is None
    assert np.array_equal(frame.points, expected[True])
    (root / 'training' / 'calib' / '000000.txt').unlink()
    with pytest.raises(DatasetError, match=r'calib/000000\.txt'):
        bare(root)[0]
    assert np.array_equal(bare(root, camera_view=False)[0].points, expected[False])


@pytest.mark.parametrize('camera_view', [True, False])
def test_frames_without_labels_are_kept_apart(root, monkeypatch, camera_view):
    options = {'camera_view': camera_view, 'cache_frames': True}
    labelled, unlabelled = dataset(root, **options), bare(root, **options)
    expected = labelled[0]
    assert unlabelled[0].ground_truth is None
    monkeypatch.setattr(KittiDataset, '_read_frame', None)  # would be an error
    assert equal(labelled[0], expected)
    assert unlabelled[0].ground_truth is None
    assert np.array_equal(unlabelled[0].points, expected.points)
    assert len(list((root / '.cache' / 'frames').iterdir())) == 2


def test_frames_that_cannot_be_kept_are_reported(root):
    (root / '.cache').write_bytes(b'')
    with pytest.raises(WriteError, match=r'frames/.*\.safetensors: cannot be written'):
        dataset(root, cache_frames=True)[0]


def test_real_frames(kitti_mini):
    frames = dataset(kitti_mini, 'train')
    assert len(frames) == 14
    assert len(dataset(kitti_mini, 'val')) == 6
    index = frames.frame_ids.index('000010')
    frame = frames[index]
    assert frame.ground_truth.labels.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    objects = frames.objects(index)
    labelled = objects[objects.names != 'DontCare']
    expected = boxes_from_objects(labelled, frames.calibration(index))
    np.testing.assert_array_equal(frame.ground_truth.boxes, expected)


def test_the_camera_sees_what_is_labelled_as_wholly_inside_the_image(kitti_mini):
    seen, whole = (dataset(kitti_mini, 'train', camera_view=value) for value in (True, False))
    for index in range(len(seen)):
        objects = seen.objects(index)
        inside = objects[objects.names != 'DontCare'].truncated == 0
        boxes = torch.from_numpy(seen[index].ground_truth.boxes[inside])
        counts = [
            points_in_boxes(torch.from_numpy(frames[index].points), boxes).sum(dim=0).tolist()
            for frames in (seen, whole)
        ]
        assert counts[0] == counts[1]
        assert len(seen[index].points) < len(whole[index].points) / 4


def test_real_image_sizes_are_those_of_the_images(kitti_mini, tmp_path):
    for name in ('training', 'ImageSets'):
        (tmp_path / name).symlink_to(kitti_mini / name)
    listed, measured = dataset(kitti_mini, 'train'), dataset(tmp_path, 'train')
    index = listed.frame_ids.index('000010')
    assert (kitti_mini / 'training' / 'image_2' / '000010.png').exists()
    assert measured.image_size(index) == listed.image_size(index)


def test_classes_get_new_names_everywhere(root):
    mapped = KittiDataset(KittiConfig(root=root, split='val', class_map={'Van': 'Car'}), CLASSES)
    plain = KittiDataset(KittiConfig(root=root, split='val'), CLASSES)
    assert mapped.labels(0).labels.tolist() == [0, 0]
    assert plain.labels(0).labels.tolist() == [0, IGNORE_LABEL]
    assert mapped.annotations(0).objects.names.tolist() == ['DontCare', 'Car', 'Car']
    assert mapped.label_names(0) == plain.label_names(0) == ['Car', 'Van']
    assert mapped.fingerprint(0) != plain.fingerprint(0)
    bus = KittiDataset(KittiConfig(root=root, split='val', class_map={'Van': 'Bus'}), CLASSES)
    assert bus.labels(0).labels.tolist() == [0, IGNORE_LABEL]
