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

from benchmarks.point_cloud2 import LAYOUTS, build_message
from pointdistiller_core.errors import CloudError
from pointdistiller_core.messages.point_cloud2 import (
    DATATYPE_NUMBERS,
    INTENSITY_NAMES,
    cloud_layout,
    drop_no_returns,
    points_from_cloud,
    records_from_cloud,
    stamp_of_cdr,
)

FLOAT32, FLOAT64, UINT8, UINT16 = 7, 8, 2, 4
STRUCT_CODES = {1: 'b', 2: 'B', 3: 'h', 4: 'H', 5: 'i', 6: 'I', 7: 'f', 8: 'd'}
DATATYPES = sorted(STRUCT_CODES)
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


def read_slowly(cloud, names):
    """The fields of every point, one number after another."""
    order = '>' if cloud.is_bigendian else '<'
    row_step = cloud.row_step or cloud.width * cloud.point_step
    fields = {field.name: field for field in cloud.fields}
    return [
        [
            struct.unpack_from(
                order + STRUCT_CODES[fields[name].datatype],
                bytes(cloud.data),
                row * row_step + column * cloud.point_step + fields[name].offset,
            )[0]
            for name in names
        ]
        for row in range(cloud.height)
        for column in range(cloud.width)
    ]


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
def random_layouts(draw):
    """Clouds of random field order, gaps, number types, organization, row padding, byte order."""
    intensity = draw(st.sampled_from(INTENSITY_NAMES))
    names = draw(st.permutations(['x', 'y', 'z', intensity, 'ring', 'time']))
    side_by_side = draw(st.booleans())  # as most drivers lay them out
    if side_by_side:
        names = ['x', 'y', 'z', *(name for name in names if name not in 'xyz')]
    fields, offset = [], draw(st.integers(0, 5))
    for name in names:
        datatype = FLOAT32 if side_by_side and name in 'xyz' else draw(st.sampled_from(DATATYPES))
        fields.append((name, offset, datatype))
        gap = 0 if side_by_side and name in 'xy' else draw(st.sampled_from([0, 0, 1, 3, 4]))
        offset += struct.calcsize(STRUCT_CODES[datatype]) + gap
    width, height = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    row_step = draw(st.one_of(st.just(0), st.integers(0, 9).map(lambda pad: width * offset + pad)))
    floats = st.floats(-1e6, 1e6, width=32) | st.sampled_from([float('nan'), float('inf'), 0.0])
    row = st.tuples(
        *(floats if kind >= FLOAT32 else st.integers(*RANGES[kind]) for _, _, kind in fields)
    )
    values = draw(st.lists(row, min_size=width * height, max_size=width * height))
    big_endian = draw(st.booleans())
    shuffled = draw(st.permutations(fields))  # the order of the message is not that of the bytes
    cloud = packed(
        values, fields, point_step=offset, width=width, row_step=row_step, big_endian=big_endian
    )
    cloud.fields.sort(key=lambda field: [name for name, *_ in shuffled].index(field.name))
    return cloud, intensity


@settings(max_examples=200)
@given(random_layouts(), st.sampled_from([0.5, 1.0]))
def test_any_layout_is_read(sample, scale):
    cloud, intensity = sample
    expected = np.array(read_slowly(cloud, ['x', 'y', 'z', intensity]), np.float64)
    points = points_from_cloud(cloud, intensity_scale=scale)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[:, :3], expected[:, :3].astype(np.float32))
    np.testing.assert_array_equal(points[:, 3], expected[:, 3].astype(np.float32) * scale)


@given(random_layouts())
def test_records_keep_the_number_types(sample):
    cloud, _ = sample
    names = [field.name for field in cloud.fields]
    records = records_from_cloud(cloud, names)
    np.testing.assert_array_equal(
        [list(row) for row in records.tolist()], read_slowly(cloud, names)
    )


@pytest.mark.parametrize('name', LAYOUTS)
def test_layouts_of_drivers(name):
    layout = LAYOUTS[name]
    values = np.random.default_rng(0).integers(-99, 99, (128, len(layout.fields)))
    values[:, 3:] = abs(values[:, 3:])  # many are unsigned
    cloud = build_message(layout, values)
    intensity = next(name for name in INTENSITY_NAMES if name in layout.fields)
    points = points_from_cloud(cloud, intensity_scale=0.5)
    expected = np.array(read_slowly(cloud, ['x', 'y', 'z', intensity]))
    np.testing.assert_array_equal(points, expected * [1, 1, 1, 0.5])
    columns = [list(layout.fields).index(field) for field in ('x', 'y', 'z', intensity)]
    np.testing.assert_array_equal(expected, values[:, columns])


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


def test_intensity_of_a_named_field():
    fields = [*XYZ, ('intensity', 12, FLOAT32), ('ambient', 16, UINT16)]
    cloud = packed([(1, 2, 3, 0.5, 13107)], fields, point_step=20)
    assert points_from_cloud(cloud, intensity_field='ambient')[0, 3] == pytest.approx(0.2)
    with pytest.raises(CloudError, match=r"intensity fields \['rgb'\], only \['x', 'y'"):
        points_from_cloud(cloud, intensity_field='rgb')


def test_missing_intensity_is_an_error_unless_something_else_is_asked_for():
    cloud = packed([(1, 2, 3)], XYZ, point_step=12)
    with pytest.raises(
        CloudError, match=r"'lidar'.*\['x', 'y', 'z'\].*missing_intensity to 'zero'"
    ):
        points_from_cloud(cloud)
    assert points_from_cloud(cloud, missing_intensity='zero').tolist() == [[1, 2, 3, 0]]
    for scale in (None, 0.5):  # the constant is what the detector shall see
        points = points_from_cloud(
            cloud, missing_intensity='constant', constant_intensity=0.25, intensity_scale=scale
        )
        assert points.tolist() == [[1, 2, 3, 0.25]]


@pytest.mark.parametrize('policy', ['zero', 'constant'])
def test_missing_intensity_does_not_matter_where_there_is_one(policy):
    cloud, points = plain_cloud()
    read = points_from_cloud(cloud, missing_intensity=policy, constant_intensity=0.5)
    np.testing.assert_array_equal(read, points)


def test_points_without_a_return_are_kept_until_they_are_dropped():
    values = [(0, 0, 0, 9), (0, 2, 0, 1), (1, 0, 0, 2), (0, 0, 3, 3), (-0.0, 0, 0, 4)]
    cloud = packed(values, [*XYZ, ('intensity', 12, FLOAT32)], point_step=16)
    points = points_from_cloud(cloud)
    assert points.tolist() == [list(value) for value in values]
    assert drop_no_returns(points).tolist() == [list(value) for value in values[1:4]]
    assert len(points) == 5
    assert drop_no_returns(points[1:4]).base is points[1:4].base  # nothing to do: no copy
    assert drop_no_returns(points[:0]).shape == (0, 4)


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
    cloud.width = cloud.row_step = 0
    assert points_from_cloud(cloud).shape == (0, 4)


def test_row_step_of_a_single_row_says_nothing():
    cloud, points = plain_cloud()
    cloud.row_step = 1
    np.testing.assert_array_equal(points_from_cloud(cloud), points)


@pytest.mark.parametrize(
    ('lie', 'named'),
    [
        (
            {'width': 4},
            r'points of 16 bytes \(row_step 48\) need 64 bytes of data, the message has 48',
        ),
        ({'width': 2**32 - 1, 'height': 2**32 - 1, 'row_step': 2**32 - 1}, 'row_step 4294967295'),
        ({'width': 2**32 - 1}, 'need 68719476720 bytes'),
        ({'point_step': 2**32 - 1}, 'need 12884901885 bytes'),
        ({'point_step': 0}, "'x' of 4 bytes at offset 0 does not fit into point_step 0"),
        (
            {'point_step': 14},
            "'intensity' of 4 bytes at offset 12 does not fit into point_step 14",
        ),
        ({'height': 3, 'width': 1, 'row_step': 8}, 'row_step 8 is less than 1 points of 16 bytes'),
        ({'data': b''}, 'need 48 bytes of data, the message has 0'),
        ({'data': bytes(49)}, 'need 48 bytes of data, the message has 49'),
        ({'width': 0, 'row_step': 0}, 'need 0 bytes of data, the message has 48'),
        ({'height': 0, 'width': 2**32 - 1}, 'need 0 bytes of data, the message has 48'),
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


def test_count_zero_is_one():
    cloud, points = plain_cloud()
    cloud.fields[0].count = 0
    np.testing.assert_array_equal(points_from_cloud(cloud), points)


@pytest.mark.parametrize(
    ('offset', 'named'),
    [
        (2, "'y' at offset 2 overlaps field 'x', which ends at 4"),
        (4, None),
        (8, "field 'z' at offset 8 overlaps field 'y', which ends at 12"),
        (13, "field 'y' at offset 13 overlaps field 'intensity', which ends at 16"),
    ],
)
def test_overlapping_fields(offset, named):
    cloud, points = plain_cloud()
    cloud.point_step, cloud.width, cloud.fields[1].offset = 24, 2, offset
    if named is None:
        np.testing.assert_array_equal(points_from_cloud(cloud)[0], points[0])
    else:
        with pytest.raises(CloudError, match=named):
            points_from_cloud(cloud)


def test_a_field_declared_twice():
    cloud, points = plain_cloud()
    cloud.fields += [
        SimpleNamespace(name='', offset=0, datatype=1, count=1)
    ] * 2  # nobody reads it
    np.testing.assert_array_equal(points_from_cloud(cloud), points)
    cloud.fields.append(SimpleNamespace(name='y', offset=4, datatype=FLOAT32, count=1))
    with pytest.raises(CloudError, match=r"declares fields \['y'\] more than once"):
        points_from_cloud(cloud)


def test_an_error_stays_short():
    cloud, _ = plain_cloud()
    cloud.header.frame_id = 'f' * 10_000
    cloud.fields = [SimpleNamespace(name='n' * 10_000)] * 10_000
    with pytest.raises(CloudError) as raised:
        points_from_cloud(cloud)
    assert len(str(raised.value)) < 3000


SIZES = st.sampled_from([1, 2, 0, 3, 16, 20, 48, 2**31, 2**32 - 1])


@st.composite
def garbage(draw):
    """A good cloud of which any part is replaced by what else a message can hold."""
    field = st.builds(
        SimpleNamespace,
        name=st.sampled_from(['x', 'y', 'z', 'intensity', 'i', '', 'x ']) | st.text(max_size=3),
        offset=SIZES | st.integers(0, 20),
        datatype=st.integers(0, 255) | st.sampled_from([FLOAT32, FLOAT64, UINT8]),
        count=st.sampled_from([1, 1, 1, 0, 2, 2**32 - 1]),
    )
    lies = {
        'height': SIZES,
        'width': SIZES,
        'fields': st.lists(field, max_size=5),
        'is_bigendian': st.booleans(),
        'point_step': SIZES,
        'row_step': SIZES,
        'data': st.binary(max_size=200),
        'is_dense': st.booleans(),
    }
    cloud, _ = plain_cloud(3)
    for name in draw(st.sets(st.sampled_from(sorted(lies)), max_size=4)):
        setattr(cloud, name, draw(lies[name]))
    for index in draw(st.sets(st.integers(0, len(cloud.fields)), max_size=2)):
        cloud.fields[index : index + draw(st.integers(0, 1))] = [draw(field)]
    return cloud


@settings(max_examples=300)
@given(garbage(), st.sampled_from(['error', 'zero', 'constant']))
def test_garbage_is_an_error_or_points(cloud, policy):
    try:
        points = points_from_cloud(cloud, missing_intensity=policy)
        records = records_from_cloud(cloud, ['x'])
    except CloudError:
        return
    assert points.shape == (cloud.width * cloud.height, 4)
    assert points.dtype == np.float32
    assert len(records) <= len(cloud.data)


def test_fields_that_nobody_reads_may_lie():
    cloud, points = plain_cloud()
    cloud.fields.append(SimpleNamespace(name='rgb', offset=99, datatype=42, count=7))
    np.testing.assert_array_equal(points_from_cloud(cloud), points)


# Autoware's point types: name, offset and type of each field, bytes of a point.
AUTOWARE_XYZ = {'x': (0, 'f4'), 'y': (4, 'f4'), 'z': (8, 'f4')}
AUTOWARE = {
    'XYZI': (AUTOWARE_XYZ | {'intensity': (12, 'f4')}, 16),
    'XYZIRC': (
        AUTOWARE_XYZ | {'intensity': (12, 'u1'), 'return_type': (13, 'u1'), 'channel': (14, 'u2')},
        16,
    ),
    'XYZIRADRT': (
        AUTOWARE_XYZ
        | {'intensity': (12, 'f4'), 'ring': (16, 'u2'), 'azimuth': (18, 'f4')}
        | {'distance': (22, 'f4'), 'return_type': (26, 'u1'), 'time_stamp': (27, 'f8')},
        35,
    ),
    'XYZIRCAEDT': (
        AUTOWARE_XYZ
        | {'intensity': (12, 'u1'), 'return_type': (13, 'u1'), 'channel': (14, 'u2')}
        | {'azimuth': (16, 'f4'), 'elevation': (20, 'f4'), 'distance': (24, 'f4')}
        | {'time_stamp': (28, 'u4')},
        32,
    ),
}


def autoware_cloud(fields, point_step):
    """Three points whose other fields are full of numbers, and the points themselves."""
    offsets, formats = zip(*fields.values(), strict=True)
    dtype = np.dtype(
        {
            'names': list(fields),
            'formats': list(formats),
            'offsets': list(offsets),
            'itemsize': point_step,
        }
    )
    records = np.resize(np.arange(100, 250, dtype=np.uint8), 3 * point_step).view(dtype)
    points = np.array([[1, 2, 3, 0], [-4, 5, -6, 51], [7, -8, 9, 255]], np.float32)
    for name, column in zip(('x', 'y', 'z', 'intensity'), points.T, strict=True):
        records[name] = column
    described = [
        SimpleNamespace(
            name=name, offset=offset, datatype=DATATYPE_NUMBERS[np.dtype(code)], count=1
        )
        for name, (offset, code) in fields.items()
    ]
    cloud = SimpleNamespace(
        header=SimpleNamespace(frame_id='base_link'),
        height=1,
        width=3,
        fields=described,
        is_bigendian=False,
        point_step=point_step,
        row_step=3 * point_step,
        data=records.tobytes(),
        is_dense=True,
    )
    return cloud, points


@pytest.mark.parametrize('name', AUTOWARE)
def test_layouts_of_autoware(name):
    cloud, expected = autoware_cloud(*AUTOWARE[name])
    points = points_from_cloud(cloud)
    np.testing.assert_array_equal(points[:, :3], expected[:, :3])
    scale = 1.0 if AUTOWARE[name][0]['intensity'][1] == 'f4' else 1 / 255
    np.testing.assert_allclose(points[:, 3], expected[:, 3] * scale)
    raw = points_from_cloud(cloud, intensity_scale=1.0)
    np.testing.assert_array_equal(raw, expected)


@pytest.mark.parametrize('big', [False, True])
def test_the_stamp_of_a_serialized_cloud(big):
    cdr = bytes([0, not big, 0, 0]) + struct.pack('>iI' if big else '<iI', 12, 34) + bytes(20)
    assert stamp_of_cdr(cdr) == 12 * 10**9 + 34
    with pytest.raises(CloudError, match='11 bytes are no serialized message'):
        stamp_of_cdr(cdr[:11])
