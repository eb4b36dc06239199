# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1, with and without an index."""

from __future__ import annotations

from contextlib import suppress

from bag_files import CLOUD, POINTS, cloud_message
import numpy as np
import pytest
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.messages.bags import bag_topics, latched_topics, read_clouds
from pointdistiller_core.messages.point_cloud2 import points_from_cloud

TYPES = get_typestore(Stores.ROS1_NOETIC)
TIMES = [second * 10**9 for second in range(1, 7)]


def write_bag(path, *, compression=None):
    """Clouds, one a second, each in a chunk, and a topic that cannot be parsed."""
    writer = Writer(path)
    writer.chunk_threshold = 1
    if compression:
        writer.set_compression(compression)
    with writer:
        connection = writer.add_connection('/points', CLOUD, typestore=TYPES, latching=1)
        writer.add_connection('/odd', 'my_msgs/msg/Odd', msgdef='!!nonsense[[', md5sum='0' * 32)
        for time_ns in TIMES:
            points = np.tile(POINTS, (50, 1))
            message = cloud_message(time_ns, points, TYPES, seq=0)
            writer.write(connection, time_ns, TYPES.serialize_ros1(message, CLOUD))
    return path


def without_index(path):
    content = bytearray(path.read_bytes())
    place = content.index(b'index_pos=') + len(b'index_pos=')
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)
    return path


def read_until_error(path, **choices):
    """Times of the clouds, and the error after them."""
    times = []
    with pytest.raises(DatasetError) as raised:
        times.extend(cloud.time_ns for cloud in read_clouds(path, **choices))
    return times, str(raised.value)


def test_other_topics_may_be_anything(tmp_path):
    bag = write_bag(tmp_path / 'drive.bag')
    assert [cloud.time_ns for cloud in read_clouds(bag)] == TIMES
    assert bag_topics(bag) == {'/points': CLOUD, '/odd': 'my_msgs/msg/Odd'}


def test_bags_are_taken_by_their_content(tmp_path):
    (tmp_path / 'split').mkdir()
    bag = write_bag(tmp_path / 'drive.bag').rename(tmp_path / 'drive')
    assert [cloud.time_ns for cloud in read_clouds(bag)] == TIMES
    write_bag(tmp_path / 'split' / 'drive_0.bag')
    write_bag(tmp_path / 'drive.bag').rename(tmp_path / 'split' / 'drive_1.bag.active')
    clouds = read_clouds(tmp_path / 'split', on_note=lambda _: None)
    assert [cloud.time_ns for cloud in clouds] == sorted(2 * TIMES)


@pytest.mark.parametrize('compression', [None, *Writer.CompressionFormat])
def test_bag_without_an_index_is_read_before_the_error(tmp_path, compression):
    bag = without_index(write_bag(tmp_path / 'drive.bag', compression=compression))
    times, error = read_until_error(bag)
    assert times == TIMES
    assert 'drive.bag has no whole index' in error
    assert 'rosbag reindex repairs the bag' in error
    assert latched_topics(bag) == {'/points'}
    cloud = next(read_clouds(bag))
    np.testing.assert_array_equal(points_from_cloud(cloud.message)[:2], POINTS)
    clouds = read_clouds(bag, start_s=1.5, duration_s=2.0)
    assert [cloud.time_ns for cloud in clouds] == TIMES[:4]  # it is latched


@pytest.mark.parametrize('count', [1, 4])
def test_bag_that_was_cut_off(tmp_path, count):
    bag = without_index(write_bag(tmp_path / 'drive.bag'))
    content, place = bag.read_bytes(), 0
    for _ in range(count + 1):  # into the chunk after these
        place = content.index(b'compression=none', place + 1)
    bag.write_bytes(content[: place + 500])
    times, error = read_until_error(bag)
    assert times == TIMES[:count]
    assert 'everything before that was read' in error


def test_any_damage_is_a_dataset_error_or_reads(tmp_path):
    whole = write_bag(tmp_path / 'drive.bag').read_bytes()
    damaged, rng = tmp_path / 'damaged.bag', np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 15):
        for content in (whole[:position], whole[:position] + b'\xff' * 4 + whole[position + 4 :]):
            damaged.write_bytes(content)
            with suppress(DatasetError):  # any other error fails the test
                assert len(list(read_clouds(damaged, on_note=lambda _: None))) <= 6
