# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointCloud2 of any layout to arrays and back."""

from __future__ import annotations

from array import array
import struct
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from pointdistiller_core.datasets.point_cloud2 import (
    cloud_layout,
    points_from_cloud,
    records_from_cloud,
)
from pointdistiller_core.errors import CloudError

FLOAT32, FLOAT64, UINT8, UINT16 = 7, 8, 2, 4
STRUCT_CODES = {1: 'b', 2: 'B', 3: 'h', 4: 'H', 5: 'i', 6: 'I', 7: 'f', 8: 'd'}
RANGES = {n: (-(2 ** (8 * s - 1)), 2 ** (8 * s - 1) - 1) for n, s in ((1, 1), (3, 2), (5, 4))} | {
    n: (0, 2 ** (8 * s) - 1) for n, s in ((2, 1), (4, 2), (6, 4))
}


def message(layout, frame_id='lidar'):
    fields = [SimpleNamespace(**field) for field in layout['fields']]
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=frame_id), **layout | {'fields': fields}
    )


def packed(values, fields, *, point_step, width=None, row_step=None, big_endian=False):
    """A message written value by value with `struct`; `fields` are (name, offset, datatype)."""
    width = width or len(values)
    height = len(values) // width
    stride = row_step or width * point_step
    data = bytearray(b'\xa5' * (stride * height))
    for index, row in enumerate(values):
        start = index // width * stride + index % width * point_step
        for value, (_, offset, datatype) in zip(row, fields, strict=True):
            code = ('>' if big_endian else '<') + STRUCT_CODES[datatype]
            struct.pack_into(code, data, start + offset, value)
    return message(
        {
            'height': height,
            'width': width,
            'fields': [
                {'name': name, 'offset': offset, 'datatype': datatype, 'count': 1}
                for name, offset, datatype in fields
            ],
            'is_bigendian': big_endian,
            'point_step': point_step,
            'row_step': stride if row_step is None else row_step,
            'data': bytes(data),
            'is_dense': True,
        }
    )


def plain_cloud(num_points=3):
    points = np.arange(num_points * 4, dtype=np.float32).reshape(-1, 4)
    return message(cloud_layout(points)), points


def test_plain_cloud_is_read_without_a_copy():
    cloud, points = plain_cloud()
    read = points_from_cloud(cloud)
    np.testing.assert_array_equal(read, points)
    assert np.shares_memory(read, cloud.data)


@pytest.mark.parametrize('container', [bytes, bytearray, lambda data: array('B', bytes(data))])
def test_data_of_any_message_library(container):
    cloud, points = plain_cloud()
    cloud.data = container(cloud.data)
    np.testing.assert_array_equal(points_from_cloud(cloud), points)


def test_layout_by_hand():
    layout = cloud_layout(
        np.array([[1, 2, 3]], np.float32), {'ring': np.array([7], np.uint16), 't': np.array([0.5])}
    )
    assert layout['data'].tobytes() == struct.pack('<fffHd', 1, 2, 3, 7, 0.5)
    assert [tuple(field.values()) for field in layout['fields']] == [
        ('x', 0, FLOAT32, 1),
        ('y', 4, FLOAT32, 1),
        ('z', 8, FLOAT32, 1),
        ('ring', 12, UINT16, 1),
        ('t', 14, FLOAT64, 1),
    ]
    assert (layout['height'], layout['width']) == (1, 1)
    assert layout['point_step'] == layout['row_step'] == 22
    assert layout['is_dense'] is True
    assert layout['is_bigendian'] is False


def test_layout_of_points_that_are_not_finite_is_not_dense():
    assert cloud_layout(np.array([[np.nan, 0, 0]], np.float32))['is_dense'] is False


def test_layout_leaves_its_arguments_alone():
    points, extra = np.ones((2, 4), np.float32), {'label': np.zeros(2, np.int32)}
    cloud_layout(points, extra)['data'][:] = 0
    assert (points == 1).all()
    assert list(extra) == ['label']


@pytest.mark.parametrize(
    ('column', 'named'), [(np.zeros(3, np.int32), r'\(3,\)'), (np.zeros(2, np.int64), 'int64')]
)
def test_layout_refuses_extra_fields_that_do_not_fit(column, named):
    with pytest.raises(CloudError, match=f"'label'.*{named}.*2 points"):
        cloud_layout(np.zeros((2, 3), np.float32), {'label': column})


@st.composite
def layouts(draw):
    """Random field order, gaps, number types, organization, row padding and byte order."""
    fields, offset = [], draw(st.integers(0, 5))
    names = draw(st.permutations(['x', 'y', 'z', 'intensity', 'ring', 'time']))
    for name in names:
        datatype = draw(st.sampled_from(sorted(STRUCT_CODES)))
        fields.append((name, offset, datatype))
        offset += struct.calcsize(STRUCT_CODES[datatype]) + draw(st.integers(0, 3))
    width, height = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    row_step = draw(st.one_of(st.just(0), st.integers(0, 9).map(lambda pad: width * offset + pad)))
    floats = st.floats(-1e6, 1e6, width=32) | st.sampled_from([float('nan'), float('inf')])
    row = st.tuples(
        *(floats if kind >= FLOAT32 else st.integers(*RANGES[kind]) for _, _, kind in fields)
    )
    values = draw(st.lists(row, min_size=width * height, max_size=width * height))
    big_endian = draw(st.booleans())
    cloud = packed(
        values, fields, point_step=offset, width=width, row_step=row_step, big_endian=big_endian
    )
    return cloud, names, values


@settings(deadline=None)
@given(layouts())
def test_any_layout_is_read(sample):
    cloud, names, values = sample
    points = points_from_cloud(cloud, intensity_scale=0.5)
    columns = dict(zip(names, np.array(values, np.float64).T, strict=True))
    for index, name in enumerate('xyz'):
        np.testing.assert_array_equal(points[:, index], columns[name].astype(np.float32))
    np.testing.assert_array_equal(points[:, 3], columns['intensity'].astype(np.float32) / 2)


@settings(deadline=None)
@given(st.integers(0, 5), st.sampled_from(['u1', 'i4', 'f8']))
def test_reading_inverts_writing(num_points, code):
    points = np.arange(num_points * 4, dtype=np.float32).reshape(-1, 4)
    extra = np.arange(num_points).astype(code)
    cloud = message(cloud_layout(points, {'extra': extra}))
    np.testing.assert_array_equal(points_from_cloud(cloud), points)
    np.testing.assert_array_equal(records_from_cloud(cloud, ['extra'])['extra'], extra)


def test_pcl_layout_with_a_gap_before_the_intensity():
    fields = [(name, offset, FLOAT32) for name, offset in zip('xyz', (0, 4, 8), strict=True)]
    cloud = packed([(1, 2, 3, 0.25)], [*fields, ('intensity', 16, FLOAT32)], point_step=32)
    assert points_from_cloud(cloud).tolist() == [[1, 2, 3, 0.25]]


@pytest.mark.parametrize('adjacent', [0, 1, 2, 3, 4])
@pytest.mark.parametrize('num_points', [1, 3])
def test_leading_fields_side_by_side(adjacent, num_points):
    names = ('x', 'y', 'z', 'intensity')
    offsets = [3 + 4 * index + (0 if index < adjacent else 5) for index in range(4)]
    fields = [(name, offset, FLOAT32) for name, offset in zip(names, offsets, strict=True)]
    points = np.arange(num_points * 4, dtype=np.float32).reshape(-1, 4)
    cloud = packed(list(map(tuple, points)), fields, point_step=29)
    read = points_from_cloud(cloud)
    np.testing.assert_array_equal(read, points)
    read[:] = 0  # a copy of its own
    np.testing.assert_array_equal(points_from_cloud(cloud), points)


XYZ = [('x', 0, FLOAT32), ('y', 4, FLOAT32), ('z', 8, FLOAT32)]


@pytest.mark.parametrize(
    ('datatype', 'raw', 'scale', 'expected'),
    [
        (UINT8, 51, None, 0.2),  # 51 / 255
        (UINT16, 13107, None, 0.2),  # 13107 / 65535
        (FLOAT32, 0.2, None, 0.2),
        (FLOAT64, 0.2, None, 0.2),
        (FLOAT32, 51.0, 1 / 255, 0.2),
        (UINT8, 51, 0.01, 0.51),
    ],
)
def test_intensity_scale(datatype, raw, scale, expected):
    cloud = packed([(1, 2, 3, raw)], [*XYZ, ('intensity', 12, datatype)], point_step=20)
    assert points_from_cloud(cloud, intensity_scale=scale)[0, 3] == pytest.approx(expected)


@pytest.mark.parametrize('name', ['intensity', 'reflectivity', 'signal', 'i'])
def test_names_of_the_intensity(name):
    cloud = packed([(1, 2, 3, 0.5)], [*XYZ, (name, 12, FLOAT32)], point_step=16)
    assert points_from_cloud(cloud).tolist() == [[1, 2, 3, 0.5]]


def test_intensity_comes_before_its_other_names():
    fields = [*XYZ, ('reflectivity', 12, UINT8), ('intensity', 16, FLOAT32)]
    cloud = packed([(1, 2, 3, 9, 0.5)], fields, point_step=20)
    assert points_from_cloud(cloud)[0, 3] == 0.5


def test_missing_intensity_is_an_error_unless_zero_is_asked_for():
    cloud = packed([(1, 2, 3)], XYZ, point_step=12)
    with pytest.raises(
        CloudError, match=r"'lidar'.*\['x', 'y', 'z'\].*missing_intensity to 'zero'"
    ):
        points_from_cloud(cloud)
    assert points_from_cloud(cloud, missing_intensity='zero').tolist() == [[1, 2, 3, 0]]


def test_missing_coordinate():
    cloud = packed([(1, 2, 3)], [XYZ[0], XYZ[1], ('intensity', 8, FLOAT32)], point_step=12)
    with pytest.raises(
        CloudError, match=r"lacks fields \['z'\]; it has \['intensity', 'x', 'y'\]"
    ):
        points_from_cloud(cloud)


def test_points_that_are_not_finite_are_kept():
    cloud = packed(
        [(np.nan, 2, np.inf, 0), (1, 2, 3, 0)], [*XYZ, ('i', 12, FLOAT32)], point_step=16
    )
    assert np.isfinite(points_from_cloud(cloud)).all(axis=1).tolist() == [False, True]


def test_float64_beyond_float32_becomes_infinite_without_a_warning():
    cloud = packed(
        [(1e300, 2, 3)], [(n, 8 * k, FLOAT64) for k, n in enumerate('xyz')], point_step=24
    )
    assert points_from_cloud(cloud, missing_intensity='zero')[0, 0] == np.inf


@pytest.mark.parametrize('fields', [[], XYZ])
def test_empty_cloud_needs_no_fields(fields):
    cloud = packed([], fields, point_step=12, width=1)
    cloud.width = 0
    assert points_from_cloud(cloud).shape == (0, 4)


def test_row_step_of_a_single_row_says_nothing():
    cloud, points = plain_cloud()
    cloud.row_step = 1
    np.testing.assert_array_equal(points_from_cloud(cloud), points)


@pytest.mark.parametrize(
    ('lie', 'named'),
    [
        ({'width': 4}, '1 x 4 points of 16 bytes need 64 bytes of data, the message has 48'),
        ({'width': 2**32 - 1, 'height': 2**32 - 1, 'row_step': 2**32 - 1}, 'row_step 4294967295'),
        ({'width': 2**32 - 1}, 'need 68719476720 bytes'),
        ({'point_step': 2**32 - 1}, 'need 12884901885 bytes'),
        ({'point_step': 0}, "'x' of 4 bytes at offset 0 does not fit into point_step 0"),
        (
            {'point_step': 14},
            "'intensity' of 4 bytes at offset 12 does not fit into point_step 14",
        ),
        ({'height': 3, 'width': 1, 'row_step': 8}, 'row_step 8 is less than 1 points of 16 bytes'),
        ({'data': b''}, 'the message has 0'),
    ],
)
def test_lying_lengths(lie, named):
    cloud, _ = plain_cloud()
    for name, value in lie.items():
        setattr(cloud, name, value)
    with pytest.raises(CloudError, match=named):
        points_from_cloud(cloud)


@pytest.mark.parametrize(
    ('lie', 'named'),
    [
        ({'datatype': 9}, "'y' has the unknown datatype 9"),
        ({'offset': 13}, "'y' of 4 bytes at offset 13 does not fit"),
        ({'offset': 2**32 - 1}, "'y' of 4 bytes at offset 4294967295 does not fit"),
        ({'count': 3}, "'y' holds 3 values a point"),
    ],
)
def test_lying_fields(lie, named):
    cloud, _ = plain_cloud()
    for name, value in lie.items():
        setattr(cloud.fields[1], name, value)
    with pytest.raises(CloudError, match=named):
        points_from_cloud(cloud)


def test_fields_that_nobody_reads_may_lie():
    cloud, points = plain_cloud()
    cloud.fields.append(SimpleNamespace(name='rgb', offset=99, datatype=42, count=7))
    np.testing.assert_array_equal(points_from_cloud(cloud), points)
