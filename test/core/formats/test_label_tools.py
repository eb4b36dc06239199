# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels to annotation tools and back."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.folder import Label
from pointdistiller_core.formats.label_tools import (
    LABEL_TOOLS,
    format_tool_labels,
    not_held,
    read_tool_labels,
)

CAR = Label('Car', (10.5, -3.25, -0.75, 4.0, 1.75, 1.5, 0.5))
WALKER = Label(
    'Pedestrian', (-8.0, 2.0, -0.5, 0.8, 0.6, 1.7, -3.0), 0.75, '7', (1.0, -0.5), ignore=True
)
JSON_TOOLS = [name for name in LABEL_TOOLS if name != 'kitti']


@pytest.mark.parametrize('tool', JSON_TOOLS)
def test_nothing_is_lost_on_the_way_there_and_back(tool):
    found = read_tool_labels(tool, format_tool_labels(tool, [CAR, WALKER], '000001'), 'a.json')
    assert (found.num_tilted, found.num_others) == (0, 0)
    for label, expected in zip(found.labels, [CAR, WALKER], strict=True):
        np.testing.assert_allclose(label.box, expected.box, atol=1e-9)
        for field in ('name', 'score', 'track', 'velocity', 'ignore'):
            assert getattr(label, field) == getattr(expected, field)


numbers = st.floats(-1000, 1000, width=32)
lengths = st.floats(0.125, 30, width=32)
angles = st.floats(-3.140625, 3.140625, width=32)


@pytest.mark.parametrize('tool', JSON_TOOLS)
@given(center=st.tuples(*[numbers] * 3), size=st.tuples(*[lengths] * 3), yaw=angles)
def test_any_box_comes_back(tool, center, size, yaw):
    label = Label('Car', (*center, *size, yaw))
    (found,) = read_tool_labels(tool, format_tool_labels(tool, [label], 'x'), 'x').labels
    np.testing.assert_allclose(found.box[:6], label.box[:6], rtol=1e-6, atol=1e-9)
    turn = (found.box[6] - yaw + math.pi) % (2 * math.pi) - math.pi
    assert abs(turn) < 1e-6


@pytest.mark.parametrize('tool', JSON_TOOLS)
def test_an_empty_frame(tool):
    assert read_tool_labels(tool, format_tool_labels(tool, [], 'x'), 'x').labels == []


def test_a_file_as_sustechpoints_writes_it():
    """A car 4.5 m long that heads along y, its center 1.8 m up; nothing is shifted."""
    psr = {
        'position': {'x': 4.1, 'y': -49.7, 'z': 1.8},
        'scale': {'x': 4.5, 'y': 1.7, 'z': 1.6},
        'rotation': {'x': -0.05, 'y': 0.002, 'z': 1.5 + 2 * math.pi},
    }
    text = json.dumps([{'psr': psr, 'obj_type': 'Car', 'obj_id': '8'}])
    found = read_tool_labels('sustech', text, 'x')
    np.testing.assert_allclose(found.labels[0].box, (4.1, -49.7, 1.8, 4.5, 1.7, 1.6, 1.5))
    assert found.labels[0].track == '8'
    assert found.num_tilted == 1


def test_a_file_as_xtreme1_exports_it():
    contour = {
        'center3D': {'x': 1, 'y': 2, 'z': 3},
        'size3D': {'x': 4, 'y': 1.8, 'z': 1.5},
        'rotation3D': {'x': 0, 'y': 0, 'z': -1.5},
        'pointN': 12,
    }
    box = {'type': '3D_BOX', 'className': None, 'modelClass': 'Car', 'contour': contour}
    rectangle = {'type': '2D_RECT', 'contour': {'points': []}}
    text = json.dumps([{'version': '1', 'objects': [{**box, 'modelConfidence': 0.5}, rectangle]}])
    found = read_tool_labels('xtreme1', text, 'x')
    assert found.num_others == 1
    assert found.labels[0].name == 'Car'
    assert found.labels[0].score == 0.5
    assert found.labels[0].box == (1, 2, 3, 4, 1.8, 1.5, -1.5)


def test_degrees_and_radians_of_labelcloud():
    item = {
        'name': 'cart',
        'centroid': {'x': 1, 'y': 2, 'z': 3},
        'dimensions': {'length': 4, 'width': 2, 'height': 1},
        'rotations': {'x': 0, 'y': 0, 'z': 270},
    }
    text = json.dumps({'folder': 'p', 'filename': 'a.pcd', 'objects': [item]})
    (label,) = read_tool_labels('labelcloud-abs', text, 'x').labels
    assert label.box[6] == pytest.approx(-math.pi / 2)
    with pytest.raises(DatasetError, match='no radians; it may be labelcloud-abs'):
        read_tool_labels('labelcloud-rel', text, 'a.json')


@pytest.mark.parametrize('tool', JSON_TOOLS)
@pytest.mark.parametrize(
    'text', ['', '{', '7', 'null', '[1]', '{"objects": [{}]}', '[{"psr": 1}]']
)
def test_other_files_are_named(tool, text):
    with pytest.raises(DatasetError, match=rf'a\.json: no label file of {tool}: '):
        read_tool_labels(tool, text, 'a.json')


def test_a_label_of_kitti_without_a_camera():
    """The bottom of a car 10 m behind, seen from a camera at the LiDAR that looks along x."""
    car = Label('Car', (-10.0, 3.0, -0.5, 4.0, 1.75, 1.5, 0.0))
    fields = format_tool_labels('kitti', [car], 'x').split()
    assert fields[0] == 'Car'
    assert len(fields) == 15
    assert list(map(float, fields[4:8])) == [0, 0, 0, 0]  # the camera does not see it
    height, width, length, *location, turn = map(float, fields[8:])
    assert (height, width, length) == (1.5, 1.75, 4.0)
    assert location == [-3.0, 1.25, -10.0]
    assert turn == pytest.approx(-math.pi / 2, abs=1e-4)
    (found,) = read_tool_labels('kitti', ' '.join(fields), 'x').labels
    np.testing.assert_allclose(found.box, car.box, atol=2e-4)


def test_kitti_keeps_scores_where_all_have_one():
    sure = Label('Person sitting', (5, 0, 0, 1, 1, 1, 0.5), 0.125, '7', (1.0, 0.0))
    text = format_tool_labels('kitti', [sure], 'x')
    (found,) = read_tool_labels('kitti', text, 'x').labels
    assert (found.name, found.score, found.track) == ('Person_sitting', 0.125, None)
    lost = {'tracks': 1, 'velocities': 1, 'spaces in names of classes, which are _': 1}
    assert not_held('kitti', [sure]) == lost
    drawn = Label('Car', sure.box)
    assert len(format_tool_labels('kitti', [sure, drawn], 'x').split()) == 30
    assert not_held('kitti', [sure, drawn])['scores, because some labels have none'] == 1
    assert not not_held('sustech', [sure, drawn])


def test_the_occlusion_of_kitti_is_kept():
    text = format_tool_labels('kitti', [CAR], 'x').split()
    text[2] = '2'
    (found,) = read_tool_labels('kitti', ' '.join(text), 'x').labels
    assert format_tool_labels('kitti', [found], 'x').split()[2] == '2'


def test_areas_of_kitti_are_no_boxes():
    area = 'DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10'
    found = read_tool_labels('kitti', area, 'x')
    assert (found.labels, found.num_others) == ([], 1)
    with pytest.raises(DatasetError, match=r'a\.txt: no label file of kitti: line:1: 1 fields'):
        read_tool_labels('kitti', '{', 'a.txt')
