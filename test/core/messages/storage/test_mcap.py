# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""MCAP files as other writers make them, and as they break."""

from __future__ import annotations

from contextlib import suppress

from bag_files import (
    CLOUD,
    POINTS,
    McapChannel,
    McapMessage,
    cloud_message,
    clouds,
    mcap_bytes,
)
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.messages.bags import (
    bag_topics,
    latched_topics,
    read_clouds,
    read_messages,
)
from pointdistiller_core.messages.point_cloud2 import points_from_cloud

TIMES = [second * 10**9 for second in range(1, 7)]
EARLY, MIDDLE, LATE = clouds(*TIMES[:2]), clouds(*TIMES[2:4]), clouds(*TIMES[4:])
CHUNKS = [EARLY, MIDDLE, LATE]


@pytest.fixture
def read(tmp_path):
    """`read(content, **choices)` -> times of all clouds, notes."""

    def read(content: bytes, **choices) -> tuple[list[int], list[str]]:
        path, notes = tmp_path / 'drive.mcap', []
        path.write_bytes(content)
        found = list(read_clouds(path, on_note=notes.append, **choices))
        assert [cloud.stamp_ns for cloud in found] == [cloud.time_ns for cloud in found]
        return [cloud.time_ns for cloud in found], notes

    return read


@pytest.mark.parametrize('compression', ['', 'lz4', 'zstd'])
@pytest.mark.parametrize('message_index', [True, False])
def test_chunks_with_and_without_a_message_index(read, compression, message_index):
    content = mcap_bytes(CHUNKS, compression=compression, message_index=message_index)
    assert read(content) == (TIMES, [])
    assert read(content, start_s=1.5, duration_s=2.0) == (TIMES[2:4], [])


@pytest.mark.parametrize(
    'choices',
    [
        {'profile': ''},
        {'profile': 'ros1'},
        {'repeated': False},
        {'repeated': False, 'message_index': False},
        {'chunk_times': False},
        {'summary': False},
        {'counts': {}},
    ],
)
def test_what_a_writer_may_leave_out(read, choices):
    content = mcap_bytes(CHUNKS, **choices)
    assert read(content) == (TIMES, [])
    assert read(content, start_s=1.5) == (TIMES[2:], [])


def test_chunks_that_the_index_lacks(read):
    times, notes = read(mcap_bytes(CHUNKS, indexed_chunks=[0, 2]))
    assert times == TIMES
    assert notes == [
        'the index of drive.mcap lacks 1 of 3 chunks and 0 messages outside of chunks; they are '
        'read, too'
    ]


def test_messages_outside_of_chunks(read):
    times, (note,) = read(mcap_bytes([LATE], loose=[*MIDDLE, *EARLY]))
    assert times == TIMES
    assert 'lacks 0 of 1 chunks and 4 messages outside of chunks' in note
    assert read(mcap_bytes([], loose=[*LATE, *EARLY], summary=False)) == (
        [*TIMES[:2], *TIMES[4:]],
        [],
    )


def test_chunks_out_of_order_that_overlap(read):
    chunks = [clouds(*TIMES[4:]), clouds(*reversed(TIMES[:4:2])), clouds(*TIMES[1:4:2])]
    assert read(mcap_bytes(chunks)) == (TIMES, [])


@pytest.mark.parametrize(
    ('counts', 'told'), [({1: 9}, 9), ({1: 2}, 2), ({7: 6}, 0)], ids=['more', 'fewer', 'other']
)
def test_counts_of_the_index_bound_nothing(read, counts, told):
    times, (_, note) = read(mcap_bytes(CHUNKS, counts=counts))
    assert times == TIMES
    assert f'the index has {told} messages on /points, but 6 are there and were read' in note


def test_message_index_that_lacks_a_channel(read):
    channels = [McapChannel(), McapChannel('/other', 'std_msgs/msg/String')]
    chunk = [*clouds(*TIMES), McapMessage(TIMES[0], b'', 2)]
    times, (note,) = read(mcap_bytes([chunk], channels, message_index=[2]))
    assert times == TIMES
    assert 'message index of drive.mcap has 1 messages, its statistics 7: every chunk' in note


@pytest.mark.parametrize(
    'other',
    [
        McapChannel('/o', 'foxglove.Log', 'jsonschema', b'{}', 'json'),
        McapChannel('/o', 'foxglove.Grid', 'protobuf', b'\xff\x00', 'protobuf'),
        McapChannel('/o', 'std_msgs/String', 'ros1msg', b'string data', 'ros1'),
        McapChannel('/o', 'my_msgs/msg/Odd', 'ros2idl', b'module { nonsense', 'cdr'),
        McapChannel('/o', 'my_msgs/msg/Odd', 'ros2msg', b'!!nonsense[[', 'cdr'),
        McapChannel('/o', 'my_msgs/msg/Odd', 'unknown', b'', 'cdr'),
        McapChannel('/o', '', '', b'', ''),
    ],
    ids=lambda channel: channel.schema_encoding or 'nothing',
)
def test_other_topics_may_be_anything(read, tmp_path, other):
    content = mcap_bytes([[*clouds(*TIMES), McapMessage(5, b'xx', 2)]], [McapChannel(), other])
    assert read(content) == (TIMES, [])
    named = bag_topics(tmp_path / 'drive.mcap')
    assert named.pop('/points') == CLOUD
    readable = {'cdr': ['my_msgs/msg/Odd'], 'ros1': ['std_msgs/msg/String']}
    assert list(named.values()) == readable.get(other.encoding, [])


def test_what_there_is_instead_of_clouds(tmp_path):
    path = tmp_path / 'drive.mcap'
    channels = [McapChannel('/a', 'foxglove.PointCloud', 'protobuf', b'', 'protobuf')]
    path.write_bytes(mcap_bytes([[McapMessage(5, b'x')]], channels))
    with pytest.raises(DatasetError, match=r'only /a \(foxglove\.PointCloud as protobuf\)'):
        list(read_clouds(path))
    path.write_bytes(mcap_bytes([[McapMessage(5, b'{}')]], [McapChannel(encoding='json')]))
    with pytest.raises(DatasetError, match=r'only /points \(sensor_msgs/msg/PointCloud2 as json'):
        list(read_clouds(path))
    assert bag_topics(path) == {}
    assert list(read_messages(path, ['/points'])) == []


@pytest.mark.parametrize(
    'name', ['sensor_msgs/PointCloud2', 'sensor_msgs::msg::dds_::PointCloud2_']
)
def test_names_of_types_by_others(read, name):
    assert read(mcap_bytes(CHUNKS, [McapChannel(schema=name)])) == (TIMES, [])


def test_clouds_of_ros1(tmp_path):
    types = get_typestore(Stores.ROS1_NOETIC)
    definition = types.generate_msgdef(CLOUD)[0].encode()
    messages = [
        McapMessage(
            time, bytes(types.serialize_ros1(cloud_message(time, types=types, seq=0), CLOUD))
        )
        for time in TIMES
    ]
    latching = (('callerid', '/lidar'), ('latching', '1'))
    channel = McapChannel(
        '/points', 'sensor_msgs/PointCloud2', 'ros1msg', definition, 'ros1', latching
    )
    path = tmp_path / 'drive.mcap'
    path.write_bytes(mcap_bytes([messages], [channel], profile='ros1'))
    found = list(read_clouds(path))
    assert [cloud.stamp_ns for cloud in found] == TIMES
    np.testing.assert_array_equal(points_from_cloud(found[0].message), POINTS)
    assert latched_topics(path) == {'/points'}


@pytest.mark.parametrize('durability', ['1', 'transient_local', '2', 'volatile'])
def test_latched_topics_of_any_version(tmp_path, durability):
    text = f'- history: 1\n  durability: {durability}\n  depth: 10'
    channel = McapChannel(metadata=(('offered_qos_profiles', text),))
    (tmp_path / 'drive.mcap').write_bytes(mcap_bytes(CHUNKS, [channel]))
    latched = durability in ('1', 'transient_local')
    assert latched_topics(tmp_path / 'drive.mcap') == ({'/points'} if latched else set())


def test_summary_that_is_damaged_is_not_used(read):
    content = bytearray(mcap_bytes(CHUNKS, compression='zstd'))
    content[-60] ^= 0xFF  # in the statistics
    times, (note,) = read(bytes(content))
    assert times == TIMES
    assert 'the summary of drive.mcap is not used, all of the file is searched: its check' in note


def test_chunk_of_a_compression_that_is_not_known(read):
    content = mcap_bytes(CHUNKS, compression='lz4', summary=False).replace(b'lz4', b'br9')
    with pytest.raises(DatasetError, match=r"compressed with 'br9', not with zstd or lz4"):
        read(content)


def test_any_damage_is_a_dataset_error_or_reads(tmp_path):
    path, rng = tmp_path / 'drive.mcap', np.random.default_rng(0)
    for choices in ({}, {'message_index': False, 'compression': 'zstd'}, {'summary': False}):
        whole = mcap_bytes(CHUNKS, loose=clouds(7), **choices)
        for position in rng.integers(0, len(whole), 30):
            for damage in (b'', b'\xff' * 4 + whole[position + 4 :], bytes(99)):
                path.write_bytes(whole[:position] + damage)
                with suppress(DatasetError):  # any other error fails the test
                    found = list(read_clouds(path, on_note=lambda _: None))
                    assert len(found) <= 7
