# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets with every fault, all of which are reported at once."""

from __future__ import annotations

import json
from pathlib import Path

from clouds import flat_ground, with_ring_and_time
from kitti_folder import write_frame, write_splits
import numpy as np
from PIL import Image
import pytest

from pointdistiller_core.datasets.checks import DatasetReport, Finding, check_dataset

CAR, VAN = [4.0, 2.0, 1.5], [5.0, 2.0, 2.0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames of train and one of val; a walker's box is empty."""
    near, far = [10, 0, 0, *CAR, 0.3], [40, 30, 0, *VAN, -2]
    walker = [6, 0, 0, 0.8, 0.6, 1.8, 0]
    points = [[10, 0, 0, 0.5], [10.5, 0, 0, 0.5], [40, 30, 0, 1]]
    write_frame(tmp_path, '000003', points, [near, far], ['Car', 'Van'])
    write_frame(tmp_path, '000007', points[1:], [near, walker], ['Car', 'Pedestrian'])
    write_frame(tmp_path, '000008', points[2:], [], [])
    write_splits(tmp_path, {'train': ['000007', '000003'], 'val': ['000008']})
    return tmp_path


def findings(report: DatasetReport) -> list[Finding]:
    told = [item for item in report.findings if 'frames without labels' not in item.what]
    return [item for item in told if item.where != '000007' or item.broken]


def file(root: Path, name: str) -> Path:
    return root / 'training' / name


def test_a_sound_dataset(root):
    report = check_dataset(root)
    empty = '1 of 2 boxes have no points: Pedestrian at 6.0 m'
    assert report.findings == (
        Finding('val.txt', 'frames without labels: 1 of 1'),
        Finding('000007', empty, broken=False),
    )
    assert report.num_broken == 0
    assert report.splits == {'train': 2, 'val': 1}
    assert report.points_per_sweep.tolist() == [3, 2, 1]
    objects = report.objects
    assert objects.names.tolist() == ['Car', 'Van', 'Car', 'Pedestrian']
    assert objects.num_points.tolist() == [2, 1, 1, 0]
    np.testing.assert_allclose(objects.distances, [10, 50, 10, 6], atol=1e-3)


def test_the_report_as_plain_values(root):
    values = json.loads(json.dumps(check_dataset(root).to_dict()))
    assert values['splits'] == {'train': 2, 'val': 1}
    assert values['points_per_sweep'] == {'least': 1, 'median': 2, 'greatest': 3}
    assert list(values['classes']) == ['Car', 'Van', 'Pedestrian']
    car = values['classes']['Car']
    # 600 pixels * 1.5 m / 8.6 m: high enough; nothing is known of occlusion, so it is 0
    assert [car[name] for name in ('objects', 'easy', 'none', 'empty')] == [2, 2, 0, 0]
    assert values['classes']['Pedestrian']['empty'] == 1
    assert car['points'] == {'least': 1, 'median': 1.5, 'greatest': 2}
    assert car['distance'] == {'least': 10, 'median': 10, 'greatest': 10}
    assert car['mean_size'] == CAR
    assert values['broken'] == 0
    assert values['findings'][1]['where'] == '000007'


def test_one_split(root):
    write_splits(root, {'broken': ['nowhere'], 'test': ['000000']})
    report = check_dataset(root, split='train')
    assert report.splits == {'train': 2}
    assert findings(report) == []


def test_all_splits_but_the_unlabelled_one(root):
    write_splits(root, {'trainval': ['000003', '000007', '000008'], 'test': ['000000']})
    report = check_dataset(root)
    assert report.splits == {'train': 2, 'trainval': 3, 'val': 1}
    assert len(report.points_per_sweep) == 3
    assert findings(report) == []


def test_progress_is_told(root):
    heard = []
    check_dataset(root, on_frame=lambda *numbers: heard.append(numbers))
    assert heard == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize('name', ['velodyne/000003.bin', 'label_2/000003.txt', 'calib/000003.txt'])
def test_a_missing_file(root, name):
    file(root, name).unlink()
    problem = f'{file(root, name)}: no such file'
    assert findings(check_dataset(root)) == [Finding('000003', problem, broken=True)]


def test_everything_that_is_broken_is_reported_together(root):
    sweep, calibration = file(root, 'velodyne/000003.bin'), file(root, 'calib/000003.txt')
    sweep.write_bytes(sweep.read_bytes()[:-1])
    file(root, 'label_2/000003.txt').write_text('Car 1\n', encoding='utf-8')
    calibration.write_text(calibration.read_text(encoding='utf-8').replace('P2', 'Q2'), 'utf-8')
    (file(root, 'image_2')).mkdir()
    file(root, 'image_2/000003.png').write_bytes(b'GIF')
    file(root, 'velodyne/000008.bin').write_bytes(b'')
    report = check_dataset(root)
    whats = [(item.where, item.what.split(': ', 1)[-1]) for item in report.findings if item.broken]
    assert whats == [
        ('000003', 'truncated, 47 bytes are not a whole number of 16-byte points'),
        ('000003', '2 fields; a label has 15, a result 16, and all lines of a file must agree'),
        ('000003', whats[2][1]),
        ('000003', whats[3][1]),
        ('000008', 'the sweep has no points'),
    ]
    assert whats[2][1].startswith('lacks P2')
    assert whats[3][1].startswith('not an image that can be read')
    assert report.num_broken == 5
    assert [item.broken for item in report.findings] == [True] * 5 + [False] * 2
    assert report.points_per_sweep.tolist() == [2, 0]
    assert len(report.objects.names) == 2  # of the frame that can be read


def test_sweeps_of_another_form(root):
    points = with_ring_and_time(flat_ground()).astype(np.float32)
    for name, columns in (('000003', 5), ('000007', 3)):
        points[:, :columns].tofile(file(root, f'velodyne/{name}.bin'))
    (points[:, :4] * 1000).tofile(file(root, 'velodyne/000008.bin'))
    found = findings(check_dataset(root))
    assert [item.where for item in found] == ['000003', '000007', '000008']
    assert all(item.broken for item in found)
    words = ('looks like 5 columns', 'looks like 3 columns', 'farther than 1000 m')
    assert all(word in item.what for word, item in zip(words, found, strict=True))


def test_labels_without_2d_boxes(root):
    label = file(root, 'label_2/000003.txt')
    car, van = (line.split() for line in label.read_text(encoding='utf-8').splitlines())
    car[4:8] = ['-1'] * 4
    label.write_text('\n'.join(map(' '.join, (car, van))), encoding='utf-8')  # the van has none
    what = '1 labels have no 2D box; that of their 3D box is taken'
    assert findings(check_dataset(root)) == [Finding('000003', what, broken=False)]
    assert check_dataset(root).objects.difficulties.tolist()[0] == 0


def test_labels_that_a_training_refuses(root):
    path = file(root, 'label_2/000003.txt')
    text = path.read_text(encoding='utf-8')
    path.write_text(text.replace('Car', 'Tank').replace('2.0000 2.0000 5', '0 2.0 5'), 'utf-8')
    whats = [item.what for item in findings(check_dataset(root)) if item.broken]
    assert "unknown classes ['Tank']" in whats[0]
    assert whats[1] == 'Van of height, width, length [0.0, 2.0, 5.0]; all must be positive'
    file(root, 'velodyne/000003.bin').unlink()
    both = [item.what for item in findings(check_dataset(root))]
    assert [what for what in both if 'no such file' not in what] == whats
    known = findings(check_dataset(root, class_names=['Tank']))
    assert whats[1] in [item.what for item in known]
    assert len(known) == 2


@pytest.mark.parametrize(
    ('matrix', 'problem'),
    [
        (f'R0_rect:{" 0" * 9}', 'is not a rotation'),
        ('Tr_velo_to_cam: 1 0 0 0 0 1 0 0 0 0 1 0', 'boxes would not stand upright'),
    ],
)
def test_calibration_that_turns_no_box_upright(root, matrix, problem):
    path = file(root, 'calib/000003.txt')
    lines = path.read_text(encoding='utf-8').splitlines()
    lines = [matrix if line.startswith(matrix.split()[0]) else line for line in lines]
    path.write_text('\n'.join(lines), encoding='utf-8')
    (found,) = findings(check_dataset(root))
    assert (found.where, found.broken) == ('000003', True)
    assert found.what.startswith(f'{path}: R0_rect times Tr_velo_to_cam')
    assert problem in found.what


def test_points_that_are_odd(root):
    points = np.fromfile(file(root, 'velodyne/000003.bin'), np.float32).reshape(-1, 4)
    points[0, 1], points[1, 3] = np.nan, 255
    points.tofile(file(root, 'velodyne/000003.bin'))
    report = check_dataset(root)
    assert findings(report) == [
        Finding('000003', 'intensities from 0 to 255; expected 0 to 1'),
        Finding('000003', '1 of 3 points are not finite'),
    ]
    assert report.objects.num_points.tolist() == [1, 1, 1, 0]


def test_intensities_are_one_finding_however_many_sweeps_are_odd(root):
    for name in ('000003', '000007'):
        points = np.fromfile(file(root, f'velodyne/{name}.bin'), np.float32).reshape(-1, 4)
        points[1, 3] = int(name)
        points.tofile(file(root, f'velodyne/{name}.bin'))
    (found,) = findings(check_dataset(root))
    assert (found.where, found.broken) == ('000003', False)
    assert found.what == 'intensities from 0 to 7; expected 0 to 1; so it is in 1 more'


def test_intensities_on_another_scale_are_one_finding(root):
    for name in ('000003', '000007'):
        points = np.fromfile(file(root, f'velodyne/{name}.bin'), np.float32).reshape(-1, 4)
        points = np.repeat(points, 100, axis=0)
        points[:, 3] = np.linspace(0, 255, len(points))
        points.tofile(file(root, f'velodyne/{name}.bin'))
    (found,) = findings(check_dataset(root))
    assert found.where == 'training/velodyne'
    assert found.what.endswith('(beyond 0 to 1: 2 of 3 sweeps)')


def test_a_camera_that_looks_elsewhere(root):
    for name in ('000003', '000007'):
        path = file(root, f'calib/{name}.txt')
        text = path.read_text(encoding='utf-8')
        path.write_text(text.replace(' 6.210000000000e+02', ' 9e4'), encoding='utf-8')
    report = check_dataset(root)
    assert [item for item in findings(report) if item.broken] == [
        Finding('train.txt', 'the camera sees none of 4 labels', broken=True),
        *(
            Finding(
                name,
                f'none of its {count} points is in the image of 1242 x 375 pixels; the '
                'calibration or the size of the image is wrong',
                broken=True,
            )
            for name, count in (('000003', 3), ('000007', 2))
        ),
    ]


def test_labels_that_the_camera_does_not_see(root):
    sizes = {'000003': [640, 375], '000007': [1242, 375], '000008': [1242, 375]}
    (root / 'image_sizes.json').write_text(json.dumps(sizes), encoding='utf-8')
    near, far = [10, 0, 0, *CAR, 0.3], [40, -30, 0, *VAN, -2]
    write_splits(root, {'train': ['000003', '000007', '000009']})
    write_frame(root, '000009', [[10, 0, 0, 0.5]], [[-10, 0, 0, *CAR, 0]], ['Car'])
    write_frame(root, '000003', [[10, 0, 0, 0.5]], [near, far], ['Car', 'Van'])
    sizes['000009'] = [1242, 375]
    (root / 'image_sizes.json').write_text(json.dumps(sizes), encoding='utf-8')
    notes = [item.what for item in check_dataset(root, split='train').findings]
    assert "labels out of the camera's view, which do not count: 2 of 5" in notes
    assert 'frames without labels: 1 of 3, 1 of them by the crop to the view' in notes


def test_sizes_of_images(root):
    (root / 'image_sizes.json').write_text('{"000008": [1000, 375]}', encoding='utf-8')
    file(root, 'image_2').mkdir()
    Image.new('L', (1242, 375)).save(file(root, 'image_2/000008.JPG'))
    path = file(root, 'calib/000003.txt')
    text = path.read_text(encoding='utf-8')
    path.write_text(text.replace(' 6.210000000000e+02', ' 0'), encoding='utf-8')
    assert findings(check_dataset(root)) == [
        Finding(
            '000003',
            'there is no image, no entry in image_sizes.json, and a principal point of (0, 187) '
            'tells no size; add one of the first two',
            broken=True,
        ),
        Finding('000008', 'image_sizes.json says 1000 x 375 pixels, the image has 1242 x 375'),
    ]
    assumed = [item for item in check_dataset(root).findings if 'no entry' in item.what]
    assert assumed[1] == Finding(
        '000007',
        'has no image and no entry in image_sizes.json; its size is taken as 1242 x 374, from '
        'the principal point',
    )


def test_duplicates(root):
    sweep = file(root, 'velodyne/000003.bin').read_bytes()
    for name in ('000007', '000008'):
        file(root, f'velodyne/{name}.bin').write_bytes(sweep)
    label = file(root, 'label_2/000003.txt')
    car, van = label.read_text(encoding='utf-8').splitlines()
    shifted = van.replace(van.split()[11], str(float(van.split()[11]) + 0.2))
    label.write_text('\n'.join([car, van, car, van.replace('Van', 'Truck'), shifted]), 'utf-8')
    write_splits(root, {'train': ['000007', '000003', '000007'], 'val': ['000008', '000003']})
    report = check_dataset(root)
    assert findings(report) == [
        Finding('train.txt', 'lists frame 000007 2 times'),
        Finding('000003', 'is in train and in val'),
        Finding('000003', 'has the same sweep as 000007, 000008'),
        Finding('000003', 'two labels of one Car at 10.0 m (IoU 1.00)'),
        Finding('000003', findings(report)[4].what),
    ]
    assert findings(report)[4].what.startswith('two labels of one Van at 50.0 m (IoU 0.')
    assert report.num_broken == 0


def test_splits_that_cannot_be_read(root, tmp_path):
    (root / 'ImageSets' / 'none.txt').write_text('', encoding='utf-8')
    (found,) = findings(check_dataset(root))
    assert (found.where, found.broken) == ('none.txt', True)
    assert found.what.endswith('none.txt: lists no frames')
    report = check_dataset(tmp_path / 'nowhere')
    assert [item.what.split(': ', 1)[1] for item in report.findings] == [
        f'no such split; {tmp_path}/nowhere/ImageSets has []'
    ]
    assert report.to_dict()['classes'] == {}
    assert report.to_dict()['points_per_sweep'] == {}


def test_real_frames(kitti_mini):
    report = check_dataset(kitti_mini)
    assert report.splits == {'train': 14, 'val': 6}
    empty = '1 of 12 boxes have no points: Car at 45.6 m'
    size = 'has no image and no entry in image_sizes.json; its size is taken as 1219 x 346, from'
    assert report.findings == (
        Finding('000032', f'{size} the principal point'),
        Finding('000114', empty),
    )
    cars = report.to_dict()['classes']['Car']
    assert [cars[level] for level in ('easy', 'moderate', 'hard', 'none')] == [15, 14, 8, 15]
