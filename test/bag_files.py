# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags as writers other than ours make them, and as they break."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import struct
from typing import Any, NamedTuple
import zlib

from lz4.frame import compress as compress_lz4
import numpy as np
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
import yaml

from pointdistiller_core.messages.point_cloud2 import cloud_layout
from pointdistiller_core.messages.storage.bag import zstd

CLOUD = 'sensor_msgs/msg/PointCloud2'
POINTS = np.array([[1, 2, 3, 0.5], [4, 5, 6, 0.25]], np.float32)
MAGIC = b'\x89MCAP0\r\n'
COMPRESS = {'': bytes, 'lz4': compress_lz4, 'zstd': zstd.compress}
TYPES = get_typestore(Stores.LATEST)


class McapChannel(NamedTuple):
    """A channel and its schema."""

    topic: str = '/points'
    schema: str = CLOUD
    schema_encoding: str = 'ros2msg'
    definition: bytes = b''
    encoding: str = 'cdr'
    metadata: tuple[tuple[str, str], ...] = ()


class McapMessage(NamedTuple):
    """A message; channels count from 1."""

    time_ns: int
    data: bytes
    channel: int = 1


def cloud_message(stamp_ns: int, points: Any = POINTS, types: Any = TYPES, **header: Any) -> Any:
    """A PointCloud2 of a typestore."""
    layout = cloud_layout(points)
    kinds = types.types
    fields = [kinds['sensor_msgs/msg/PointField'](**field) for field in layout['fields']]
    stamp = kinds['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
    head = kinds['std_msgs/msg/Header'](stamp=stamp, frame_id='lidar', **header)
    return kinds[CLOUD](header=head, **layout | {'fields': fields})


def cloud_cdr(stamp_ns: int, points: Any = POINTS) -> bytes:
    """A PointCloud2 as ROS 2 sends it."""
    return bytes(TYPES.serialize_cdr(cloud_message(stamp_ns, points), CLOUD))


def clouds(*times_ns: int, channel: int = 1) -> list[McapMessage]:
    """A message for each time, with a stamp of the same time."""
    return [McapMessage(time_ns, cloud_cdr(time_ns), channel) for time_ns in times_ns]


def write_storage(path: Path, plugin: Any, times_ns: Sequence[int], **metadata: Any) -> Path:
    """A bag of one file with clouds on /points; keys of its metadata are then replaced."""
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        connection = writer.add_connection('/points', CLOUD, typestore=TYPES)
        for time_ns in times_ns:
            writer.write(connection, time_ns, cloud_cdr(time_ns))
    edit_metadata(path, **metadata)
    return path


def edit_metadata(bag: Path, **changes: Any) -> None:
    """Replace keys in the metadata.yaml of a bag."""
    path = bag / 'metadata.yaml'
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    content['rosbag2_bagfile_information'] |= changes
    path.write_text(yaml.safe_dump(content), encoding='utf-8')


def mcap_bytes(
    chunks: Sequence[Sequence[McapMessage]],
    channels: Sequence[McapChannel] = (McapChannel(),),
    *,
    loose: Sequence[McapMessage] = (),
    profile: str = 'ros2',
    compression: str = '',
    indexed_chunks: Sequence[int] | None = None,
    message_index: bool | Sequence[int] = True,
    chunk_times: bool = True,
    repeated: bool = True,
    counts: dict[int, int] | None = None,
    summary: bool = True,
) -> bytes:
    """An MCAP file: chunks, then messages outside of chunks.

    Args:
        chunks: messages of each chunk.
        channels: they and their schemas stand at the beginning of the first chunk.
        loose: messages outside of chunks.
        profile: of the header.
        compression: of the chunks.
        indexed_chunks: those that the index has; None is all.
        message_index: whether there is one, or the channels that it has.
        chunk_times: whether the index has the times of chunks, or zeros.
        repeated: whether schemas and channels are in the summary, too.
        counts: messages of each channel in the statistics; None is the truth.
        summary: whether there is one.
    """
    definitions = b''.join(
        _definitions(index, channel) for index, channel in enumerate(channels, 1)
    )
    parts = [MAGIC, _record(0x01, _text(profile) + _text('test'))]
    if not chunks:
        parts.append(definitions)
    indexes = []
    for number, messages in enumerate(chunks):
        offset = sum(map(len, parts))
        chunk, index = _chunk(
            definitions if number == 0 else b'',
            messages,
            offset,
            compression=compression,
            message_index=message_index,
            chunk_times=chunk_times,
        )
        parts.append(chunk)
        if indexed_chunks is None or number in indexed_chunks:
            indexes.append(index)
    parts += [_record(0x05, _message(message)) for message in loose]
    parts.append(_record(0x0F, bytes(4)))
    start = sum(map(len, parts))
    if counts is None:
        numbers = [message.channel for messages in (*chunks, loose) for message in messages]
        counts = {number: numbers.count(number) for number in range(1, len(channels) + 1)}
    end = b''
    if summary:
        end = (definitions if repeated else b'') + b''.join(indexes)
        times = [message.time_ns for messages in (*chunks, loose) for message in messages]
        end += _record(0x0B, _statistics(len(chunks), counts, times))
    footer = _record(0x02, struct.pack('<QQ', start if summary else 0, 0))[:1]
    footer += struct.pack('<QQQ', 20, start if summary else 0, 0)
    crc = zlib.crc32(end + footer) if summary else 0
    return b''.join([*parts, end, footer, struct.pack('<I', crc), MAGIC])


def _definitions(number: int, channel: McapChannel) -> bytes:
    schema = struct.pack('<H', number) + _text(channel.schema) + _text(channel.schema_encoding)
    schema += struct.pack('<I', len(channel.definition)) + channel.definition
    metadata = b''.join(_text(name) + _text(value) for name, value in channel.metadata)
    content = struct.pack('<HH', number, number) + _text(channel.topic) + _text(channel.encoding)
    content += struct.pack('<I', len(metadata)) + metadata
    return _record(0x03, schema) + _record(0x04, content)


def _chunk(
    definitions: bytes,
    messages: Sequence[McapMessage],
    offset: int,
    *,
    compression: str,
    message_index: bool | Sequence[int],
    chunk_times: bool,
) -> tuple[bytes, bytes]:
    """A chunk with its message indexes, and its record in the chunk index."""
    records, places = definitions, {}
    for message in messages:
        places.setdefault(message.channel, []).append((message.time_ns, len(records)))
        records += _record(0x05, _message(message))
    times = [message.time_ns for message in messages] if chunk_times else []
    first, last = min(times, default=0), max(times, default=0)
    packed = COMPRESS[compression](records)
    head = struct.pack('<QQQI', first, last, len(records), zlib.crc32(records))
    chunk = _record(0x06, head + _text(compression) + struct.pack('<Q', len(packed)) + packed)
    indexes, offsets = b'', b''
    indexed = list(places) if message_index is True else message_index or []
    for number, entries in ((number, places[number]) for number in indexed if number in places):
        offsets += struct.pack('<HQ', number, offset + len(chunk) + len(indexes))
        content = b''.join(struct.pack('<QQ', *entry) for entry in entries)
        indexes += _record(0x07, struct.pack('<HI', number, len(content)) + content)
    index = struct.pack('<QQQQI', first, last, offset, len(chunk), len(offsets)) + offsets
    index += struct.pack('<Q', len(indexes)) + _text(compression)
    index += struct.pack('<QQ', len(packed), len(records))
    return chunk + indexes, _record(0x08, index)


def _statistics(num_chunks: int, counts: dict[int, int], times: Sequence[int]) -> bytes:
    pairs = b''.join(struct.pack('<HQ', *pair) for pair in counts.items())
    head = struct.pack('<QHIIII', sum(counts.values()), 0, len(counts), 0, 0, num_chunks)
    head += struct.pack('<QQ', min(times, default=0), max(times, default=0))
    return head + struct.pack('<I', len(pairs)) + pairs


def _message(message: McapMessage) -> bytes:
    head = struct.pack('<HIQQ', message.channel, 0, message.time_ns, message.time_ns)
    return head + message.data


def _text(text: str) -> bytes:
    return struct.pack('<I', len(text.encode())) + text.encode()


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack('<BQ', kind, len(content)) + content
