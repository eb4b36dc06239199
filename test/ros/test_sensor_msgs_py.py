# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""ROS's own reader and writer of PointCloud2 as an oracle; docs/ros.md says what it misreads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
pytest.importorskip('sensor_msgs_py', reason='needs sensor_msgs_py, which ROS 2 brings')

from sensor_msgs.msg import PointCloud2, PointField
from sensor_msgs_py import point_cloud2 as oracle
from std_msgs.msg import Header

from pointdistiller_core.messages.point_cloud2 import (
    DATATYPES,
    points_from_cloud,
    records_from_cloud,
)
from pointdistiller_core.records import Detections, Importance
from pointdistiller_ros.conversions import to_boxes_cloud, to_cloud, to_importance_cloud

HEADER = Header(frame_id='lidar')
NAMES = ('x', 'y', 'z', 'intensity')


@st.composite
def clouds(draw):
    """Little-endian clouds whose rows follow one another, of any fields and any bytes."""
    names = draw(st.permutations([*NAMES, *draw(st.sets(st.sampled_from(['ring', 'time', ''])))]))
    fields, end = [], 0
    for name in names:
        number = draw(st.sampled_from(list(DATATYPES)))
        offset = end + draw(st.integers(0, 5))
        fields.append(PointField(name=name, offset=offset, datatype=number, count=1))
        end = offset + DATATYPES[number].itemsize
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    step = end + draw(st.integers(0, 5))
    size = step * width * height
    return PointCloud2(
        header=HEADER,
        height=height,
        width=width,
        fields=fields,
        point_step=step,
        row_step=step * width,
        data=draw(st.binary(min_size=size, max_size=size)),
    )


@given(clouds())
def test_fields_are_read_alike(cloud):
    expected = oracle.read_points(cloud, list(NAMES))
    found = records_from_cloud(cloud, NAMES)
    for name in NAMES:
        assert found[name].dtype == expected[name].dtype
        assert found[name].tobytes() == expected[name].tobytes()  # also of what is not finite


@given(clouds(), st.sampled_from([1.0, 0.25]))
def test_points_are_read_alike(cloud, scale):
    expected = oracle.read_points(cloud, list(NAMES))
    found = points_from_cloud(cloud, intensity_scale=scale)
    with np.errstate(over='ignore', invalid='ignore'):
        columns = [expected[name].astype(np.float32) for name in NAMES]
        columns[3] = columns[3] * np.float32(scale)
    np.testing.assert_array_equal(found, np.stack(columns, axis=1))


@pytest.mark.parametrize('num_points', [0, 1, 100])
def test_cloud_of_the_oracle_is_read(num_points):
    points = np.random.default_rng(0).normal(size=(num_points, 4)).astype(np.float32)
    fields = [
        PointField(name=name, offset=4 * column, datatype=PointField.FLOAT32, count=1)
        for column, name in enumerate(NAMES)
    ]
    np.testing.assert_array_equal(
        points_from_cloud(oracle.create_cloud(HEADER, fields, points)), points
    )


def read(cloud):
    """The columns of a cloud, by name."""
    records = oracle.read_points(cloud)
    return {name: records[name].tolist() for name in records.dtype.names}


def test_oracle_reads_our_clouds():
    points = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    expected = dict(zip(NAMES, points.T.tolist(), strict=True))
    assert read(to_cloud(points, HEADER)) == expected
    scores = np.array([0.25, 0.5, 1.0], np.float32)
    importance = Importance(points[:, :3], scores, scores[::-1].copy())
    assert read(to_importance_cloud(points, importance, HEADER)) == {
        **expected,
        'importance': [1.0, 0.5, 0.25],
    }


def test_oracle_reads_our_boxes():
    boxes = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    detections = Detections(
        boxes, np.array([0.5, 0.25, 0.125], np.float32), np.array([2, 0, 1], np.int64)
    )
    assert read(to_boxes_cloud(detections, HEADER)) == {
        **dict(zip(('x', 'y', 'z', 'dx', 'dy', 'dz', 'yaw'), boxes.T.tolist(), strict=True)),
        'score': [0.5, 0.25, 0.125],
        'label': [2, 0, 1],
    }
