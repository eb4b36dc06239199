# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""KITTI's files, and boxes on their way to and from the camera frame."""

from __future__ import annotations

from dataclasses import replace
import json
import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.files import check_results_folder
from pointdistiller_core.formats.kitti import (
    DIFFICULTIES,
    Calibration,
    KittiObjects,
    boxes_from_objects,
    difficulties_of,
    format_calibration,
    format_objects,
    objects_from_boxes,
    project_missing_boxes,
    reach_into_image,
    read_calibration,
    read_objects,
    write_results,
)
from pointdistiller_core.geometry.boxes import box_corners, points_in_boxes

LABELS = """\
Car 0.25 1 -1.57 100.00 110.00 200.50 180.00 1.50 1.60 3.90 1.00 1.70 20.00 -1.52

DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10
"""
# The camera looks along the LiDAR's x axis and hangs 0.5 m before and 0.1 m below it.
AXES = Calibration(
    camera_from_lidar=np.array(
        [
            [0.0, -1.0, 0.0, 0.0],
            [0.0, 0.0, -1.0, -0.1],
            [1.0, 0.0, 0.0, -0.5],
            [0.0, 0.0, 0.0, 1.0],
        ]
    ),
    image_from_camera=np.array(
        [
            [700.0, 0.0, 600.0, 0.0],
            [0.0, 700.0, 180.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ]
    ),
)


def saved(tmp_path: Path, text: str) -> Path:
    path = tmp_path / '000001.txt'
    path.write_text(text, encoding='utf-8')
    return path


def car(x=10.5, y=0.0, z=-0.1, yaw=0.0, size=(4.0, 2.0, 1.5)):
    return np.array([[x, y, z, *size, yaw]], np.float32)


def test_read_labels(tmp_path):
    objects = read_objects(saved(tmp_path, LABELS))
    assert objects.names.tolist() == ['Car', 'DontCare']
    assert objects.truncated.tolist() == [0.25, -1]
    assert objects.occluded.tolist() == [1, -1]
    assert objects.alpha.tolist() == [-1.57, -10]
    assert objects.boxes_2d[0].tolist() == [100, 110, 200.5, 180]
    assert objects.dimensions[0].tolist() == [1.5, 1.6, 3.9]
    assert objects.locations[0].tolist() == [1, 1.7, 20]
    assert objects.rotation_y[0] == -1.52
    assert objects.scores is None


def test_read_results(tmp_path):
    line = LABELS.splitlines()[0]
    objects = read_objects(saved(tmp_path, f'{line} -3.5\n{line} 17 \n'))
    assert objects.scores is not None
    assert objects.scores.tolist() == [-3.5, 17]


@pytest.mark.parametrize('text', ['', '\n', ' \n\n'])
def test_read_an_empty_file(tmp_path, text):
    assert len(read_objects(saved(tmp_path, text))) == 0


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('Car 0 0\n', r'000001\.txt:1: 3 fields; a label has 15, a result 16'),
        (LABELS + LABELS.splitlines()[0] + ' 0.5\n', r':4: 16 fields; .* must agree'),
        (LABELS.replace('1.70', '1.7O'), r":1: y: '1\.7O' is not a finite number"),
        (LABELS.replace('180.00', 'nan'), r":1: y2: 'nan' is not a finite number"),
    ],
)
def test_malformed_labels_are_reported(tmp_path, text, problem):
    with pytest.raises(DatasetError, match=problem):
        read_objects(saved(tmp_path, text))


def test_missing_and_binary_files_are_reported(tmp_path):
    with pytest.raises(DatasetError, match=r'none\.txt: no such file'):
        read_objects(tmp_path / 'none.txt')
    (tmp_path / 'binary.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(DatasetError, match=r'binary\.txt:1: not UTF-8 text: byte 0x'):
        read_calibration(tmp_path / 'binary.txt')


def test_format_objects_by_hand(tmp_path):
    text = format_objects(read_objects(saved(tmp_path, LABELS)))
    assert text.splitlines()[0] == (
        'Car 0.2500 1 -1.5700 100.0000 110.0000 200.5000 180.0000 '
        '1.5000 1.6000 3.9000 1.0000 1.7000 20.0000 -1.5200'
    )


@pytest.mark.parametrize('scores', [None, np.array([0.1, -7.25])])
def test_objects_survive_a_file(tmp_path, scores):
    labels = read_objects(saved(tmp_path, LABELS))
    objects = KittiObjects(**{**vars(labels), 'scores': scores})
    again = read_objects(saved(tmp_path, format_objects(objects)))
    for name, value in vars(objects).items():
        np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)


def results(*scores: float) -> KittiObjects:
    boxes = np.full((len(scores), 7), 2.0)
    return objects_from_boxes(boxes, ['Car'] * len(scores), AXES, (800, 400), np.array(scores))


def test_write_results(tmp_path):
    folder = tmp_path / 'new' / 'results'
    write_results(folder, {'000007': results(0.5, 0.25), '000008': results()})
    assert sorted(path.name for path in folder.iterdir()) == ['000007.txt', '000008.txt']
    assert read_objects(folder / '000007.txt').scores.tolist() == [0.5, 0.25]
    assert (folder / '000008.txt').read_bytes() == b''
    write_results(folder, {'000007': results(-3.0), '000008': results()})
    assert read_objects(folder / '000007.txt').scores.tolist() == [-3.0]


def test_results_stay_among_themselves(tmp_path):
    write_results(tmp_path, {'000007': results(0.5), '000009': results()})
    for function, frames in [
        (check_results_folder, ['000009']),
        (write_results, {'9': results()}),
    ]:
        with pytest.raises(DatasetError, match=r'results_stay.*other frames \(000007.* in all\)'):
            function(tmp_path, frames)
    check_results_folder(tmp_path, ['000007', '000008', '000009'])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ['000007', '000009']


def test_results_that_cannot_be_written(tmp_path):
    labels = read_objects(saved(tmp_path, LABELS))
    with pytest.raises(ValueError, match='frame 000008 have no scores'):
        write_results(tmp_path / 'results', {'000007': results(), '000008': labels})
    assert not (tmp_path / 'results').exists()
    (tmp_path / 'file').write_text('', encoding='utf-8')
    with pytest.raises(DatasetError, match='file: is a file; results need a folder'):
        write_results(tmp_path / 'file', {})
    with pytest.raises(WriteError, match='below: cannot be written: Not a directory'):
        write_results(tmp_path / 'file' / 'below', {})
    (tmp_path / 'blocked' / '.000007.txt.partial').mkdir(parents=True)
    with pytest.raises(WriteError, match=r'blocked.*: cannot be written: Is a directory'):
        write_results(tmp_path / 'blocked', {'000007': results(0.5)})


def test_difficulties_by_hand(tmp_path):
    """The easiest one whose bounds hold; the height must exceed its own."""
    kinds = [  # truncation, occlusion, height [px]
        *((0.15, 0, 40.5), (0.15, 0, 40.0), (0.16, 0, 99), (0.3, 1, 25.5), (0, 2, 99)),
        *((0.5, 2, 26), (0.5, 2, 25), (0.51, 0, 99), (0, 3, 99), (-1, -1, 0)),
    ]
    text = ''.join(
        f'Car {truncated} {occluded} 0 10 20 30 {20 + height} 1 1 1 0 0 9 0\n'
        for truncated, occluded, height in kinds
    )
    objects = read_objects(saved(tmp_path, text))
    assert difficulties_of(objects).tolist() == [0, 1, 1, 1, 2, 2, -1, -1, -1, -1]
    assert difficulties_of(objects[:0]).shape == (0,)


def test_what_keeps_labels_from_counting(tmp_path):
    boxes = ['0 0 0 0', '-1 -1 -1 -1', '10 20 30 45', '10 20 30 99', '10 20 30 99', '1 2 3 99']
    kinds = ['0 0', '-1 -1', '0 3', '0 3', '0.6 0', '0 2']  # the last one counts
    text = ''.join(
        f'Car {kind} 0 {box} 1 1 1 0 0 9 0\n' for kind, box in zip(kinds, boxes, strict=True)
    )
    objects = read_objects(saved(tmp_path, text))
    assert objects.lacks_box_2d.tolist() == [True, True, False, False, False, False]
    assert DIFFICULTIES['hard'].exclusions(objects) == {
        'without a 2D box': 2,
        'at most 25 pixels high': 1,
        'occluded above 2': 1,
        'truncated above 0.5': 1,
    }
    assert DIFFICULTIES['hard'].exclusions(objects[5:]) == {}
    assert DIFFICULTIES['hard'].exclusions(objects[:0]) == {}


def test_missing_2d_boxes_are_projected_and_no_others(tmp_path):
    ahead, behind = car(), car(x=-10.0)
    whole = objects_from_boxes(
        np.concatenate([ahead, ahead, behind]), ['Car'] * 3, AXES, (1242, 375)
    )
    given = np.array([[1.0, 2, 3, 4], [-1, -1, -1, -1], [0, 0, 0, 0]])
    bare = replace(whole, boxes_2d=given)
    projected = project_missing_boxes(bare, AXES, (1242, 375))
    np.testing.assert_allclose(
        projected.boxes_2d, [given[0], whole.boxes_2d[1], given[2]], atol=1e-9
    )
    assert bare.boxes_2d is given
    area = read_objects(saved(tmp_path, LABELS.replace('503.89 169.71 590.61 190.13', '0 0 0 0')))
    again = project_missing_boxes(area, AXES, (1242, 375))
    np.testing.assert_array_equal(again.boxes_2d, area.boxes_2d)  # DontCare has no 3D box


def test_selection():
    objects = objects_from_boxes(
        np.concatenate([car(), car(20)]), ['Car', 'Van'], AXES, (1242, 375), np.array([0.5, 0.25])
    )
    assert objects[objects.names == 'Van'].scores == [0.25]
    assert len(objects[np.zeros(2, bool)]) == 0
    assert objects[np.array([1, 0])].names.tolist() == ['Van', 'Car']


def test_columns_must_fit():
    objects = objects_from_boxes(car(), ['Car'], AXES, (1242, 375))
    with pytest.raises(ValueError, match=r'locations must be of shape \(1, 3\), not \(2, 3\)'):
        KittiObjects(**{**vars(objects), 'locations': np.zeros((2, 3))})


def test_read_calibration(tmp_path):
    text = (
        'P0: 1 2 3\n'
        'P2: 7 0 6 4 0 7 2 5 0 0 1 0.5\n'
        'R0_rect: 0 -1 0 1 0 0 0 0 1\n'
        'Tr_velo_to_cam: 1 0 0 1 0 1 0 2 0 0 1 3\n\n'
    )
    calibration = read_calibration(saved(tmp_path, text))
    assert calibration.image_from_camera.tolist() == [[7, 0, 6, 4], [0, 7, 2, 5], [0, 0, 1, 0.5]]
    # First shifted by (1, 2, 3), then turned by a quarter.
    assert calibration.camera_from_lidar.tolist() == [
        [0, -1, 0, -2],
        [1, 0, 0, 1],
        [0, 0, 1, 3],
        [0, 0, 0, 1],
    ]


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (('P2', 'P9'), r"lacks P2; it has \['P0', 'P1', 'P3', 'P9'"),
        (('R0_rect: 1', 'R0_rect: x 1'), r':5: R0_rect has 10 numbers instead of 9'),
        (('R0_rect: 1', 'R0_rect: x'), r":5: R0_rect: 'x.*' is not a finite number"),
    ],
)
def test_malformed_calibrations_are_reported(tmp_path, change, problem):
    with pytest.raises(DatasetError, match=problem):
        read_calibration(saved(tmp_path, format_calibration(AXES).replace(*change)))


def test_calibration_survives_a_file(tmp_path):
    again = read_calibration(saved(tmp_path, format_calibration(AXES)))
    np.testing.assert_array_equal(again.camera_from_lidar, AXES.camera_from_lidar)
    np.testing.assert_array_equal(again.image_from_camera, AXES.image_from_camera)


def test_project_by_hand():
    pixels, depth = AXES.project(np.array([[7.5, 1.0, -0.1], [-6.5, 0.0, 0.0]]))
    assert depth.tolist() == [7.0, -7.0]
    np.testing.assert_allclose(pixels[0], [500, 180])


def test_box_to_camera_by_hand():
    objects = objects_from_boxes(car(), ['Car'], AXES, (1242, 375))
    np.testing.assert_allclose(objects.locations, [[0, 0.75, 10]], atol=1e-6)  # the bottom
    assert objects.dimensions.tolist() == [[1.5, 2.0, 4.0]]
    assert objects.rotation_y[0] == pytest.approx(-math.pi / 2)
    assert objects.alpha[0] == pytest.approx(-math.pi / 2)  # straight ahead
    # The rear, 8 m away, bounds what is seen: 1 m to either side, 0.75 m up and down.
    np.testing.assert_allclose(objects.boxes_2d, [[512.5, 114.375, 687.5, 245.625]], atol=1e-4)
    assert (objects.truncated[0], objects.occluded[0]) == (0, 0)


def test_alpha_is_relative_to_the_ray():
    objects = objects_from_boxes(car(x=10.5, y=-10.0), ['Car'], AXES, (1242, 375))
    assert objects.alpha[0] == pytest.approx(-math.pi / 2 - math.pi / 4, abs=1e-6)


def test_truncation_by_hand():
    left_half = objects_from_boxes(car(), ['Car'], AXES, (601, 375))
    assert left_half.boxes_2d[0, 2] == 600
    assert left_half.truncated[0] == pytest.approx(0.5)


def test_a_box_behind_the_camera_is_not_seen():
    objects = objects_from_boxes(car(x=-10.0), ['Car'], AXES, (1242, 375))
    assert objects.boxes_2d.tolist() == [[0, 0, 0, 0]]
    assert objects.truncated.tolist() == [1]


def test_a_box_that_reaches_behind_the_camera():
    """Beside the camera, on the left: its visible part reaches the left border of the image."""
    objects = objects_from_boxes(car(x=2.0, y=3.0, size=(8, 2, 1.5)), ['Car'], AXES, (1242, 375))
    left, _, right, _ = objects.boxes_2d[0]
    assert left == 0
    assert right == pytest.approx(600 - 700 * 2 / 5.5, abs=1e-3)  # its front right edge
    assert 0.9 < objects.truncated[0] < 1


def test_no_boxes():
    objects = objects_from_boxes(np.zeros((0, 7), np.float32), [], AXES, (1242, 375))
    assert len(objects) == 0
    assert format_objects(objects) == ''
    assert boxes_from_objects(objects, AXES).shape == (0, 7)


def test_arguments_are_left_alone():
    boxes, scores = car(yaw=1.0), np.array([0.5], np.float32)
    objects = objects_from_boxes(boxes, ['Car'], AXES, (1242, 375), scores)
    before = {name: value.copy() for name, value in vars(objects).items()}
    boxes_from_objects(objects, AXES)
    assert np.array_equal(boxes, car(yaw=1.0))
    assert all(np.array_equal(getattr(objects, name), value) for name, value in before.items())


@settings(deadline=None)
@given(
    st.tuples(st.floats(-80, 80), st.floats(-80, 80), st.floats(-5, 5)),
    st.tuples(*[st.floats(0.1, 20)] * 3),
    st.floats(-math.pi, math.pi, exclude_max=True),
)
def test_boxes_come_back_from_the_camera_frame(center, size, yaw):
    boxes = np.array([[*center, *size, yaw]], np.float32)
    objects = objects_from_boxes(boxes, ['Car'], AXES, (1242, 375))
    again = boxes_from_objects(objects, AXES)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again[:, :6], boxes[:, :6], rtol=1e-6, atol=1e-5)
    assert math.cos(again[0, 6] - boxes[0, 6]) == pytest.approx(1)
    low, high = objects.boxes_2d[0, :2], objects.boxes_2d[0, 2:]
    assert (low >= 0).all()
    assert (low <= high).all()
    assert (high <= (1241, 374)).all()


def test_the_2d_box_bounds_the_projected_corners():
    boxes = car(x=15, y=3, yaw=0.7)
    corners = box_corners(torch.from_numpy(boxes))[0].numpy()
    pixels, _ = AXES.project(corners)
    objects = objects_from_boxes(boxes, ['Car'], AXES, (1242, 375))
    expected = [*pixels.min(axis=0), *pixels.max(axis=0)]
    np.testing.assert_allclose(objects.boxes_2d[0], expected, atol=1e-3)


@pytest.fixture(scope='module')
def real_frames(kitti_mini):
    """Name, objects without DontCare, calibration and image size of each frame."""
    sizes = json.loads((kitti_mini / 'image_sizes.json').read_text(encoding='utf-8'))
    frames = []
    for path in sorted((kitti_mini / 'training' / 'label_2').glob('*.txt')):
        objects = read_objects(path)
        calibration = read_calibration(kitti_mini / 'training' / 'calib' / path.name)
        size = tuple(sizes.get(path.stem, (1242, 375)))
        frames.append((path.stem, objects[objects.names != 'DontCare'], calibration, size))
    return frames


def test_real_labels_come_back_from_the_lidar_frame(real_frames):
    """Centimetres are what the files resolve; KITTI drew its 2D boxes from the same 3D boxes."""
    assert len(real_frames) == 20
    pixels_off = []
    for name, objects, calibration, size in real_frames:
        boxes = boxes_from_objects(objects, calibration)
        again = objects_from_boxes(boxes, objects.names, calibration, size)
        np.testing.assert_allclose(again.locations, objects.locations, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(again.dimensions, objects.dimensions, atol=1e-5)
        np.testing.assert_allclose(np.cos(again.rotation_y - objects.rotation_y), 1, atol=1e-6)
        np.testing.assert_allclose(np.cos(again.alpha - objects.alpha), 1, atol=1e-3)
        np.testing.assert_allclose(again.truncated, objects.truncated, atol=0.01)
        pixels_off += np.abs(again.boxes_2d - objects.boxes_2d).max(axis=1).tolist()
    assert np.median(pixels_off) < 1
    assert max(pixels_off) < 12  # the nearest ones


def test_real_labels_are_in_view(real_frames):
    for name, objects, calibration, size in real_frames:
        assert reach_into_image(objects, calibration, size).all(), name


def test_boxes_in_view():
    ahead, behind, beside, across = car(), car(x=-10.0), car(x=10, y=12.0), car(x=10, y=9.0)
    boxes = np.concatenate([ahead, behind, beside, across])
    objects = objects_from_boxes(boxes, ['Car'] * 4, AXES, (1242, 375))
    assert reach_into_image(objects, AXES, (1242, 375)).tolist() == [True, False, False, True]
    assert reach_into_image(objects[:0], AXES, (1242, 375)).shape == (0,)


def test_real_boxes_hold_points(real_frames, kitti_mini):
    empty = []
    for name, objects, calibration, _ in real_frames:
        path = kitti_mini / 'training' / 'velodyne' / f'{name}.bin'
        points = torch.from_numpy(np.fromfile(path, np.float32).reshape(-1, 4))
        boxes = torch.from_numpy(boxes_from_objects(objects, calibration))
        for index, count in enumerate(points_in_boxes(points, boxes).sum(dim=0).tolist()):
            if count == 0:
                empty.append((name, str(objects.names[index]), objects.locations[index, 2]))
        # Seen from the sensor the ground is 1.73 m below: no box stands far from it.
        bottoms = boxes[:, 2] - boxes[:, 5] / 2
        assert ((bottoms > -3.5) & (bottoms < 0.5)).all(), name
    assert empty == [('000114', 'Car', pytest.approx(42.9, abs=0.1))]
