# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1, also those left without an index by a recorder that died."""

from __future__ import annotations

import bz2
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
import io
from pathlib import Path
import struct
from typing import BinaryIO, NamedTuple

from lz4.frame import decompress as decompress_lz4
from rosbags.interfaces import Connection, ConnectionExtRosbag1
from rosbags.rosbag1 import Reader

from pointdistiller_core.messages.storage import (
    NANOSECONDS,
    BagFile,
    Channel,
    Run,
    StoredMessage,
    TimeSpan,
    ros2_type,
)

MAGIC = b'#ROSBAG V2.0\n'
MESSAGE, CHUNK, CONNECTION = 0x02, 0x05, 0x07
_DECOMPRESS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b'none': lambda packed: packed,
    b'bz2': bz2.decompress,
    b'lz4': decompress_lz4,
}


def open_rosbag1(path: Path) -> BagFile:
    """A bag by its index or, if that is missing or damaged, by its records.

    Raises:
        Exception: it has neither; any error of the parser.
    """
    try:
        return Rosbag1File(path)
    except Exception:  # of a parser whose input may be anything
        file = UnindexedRosbag1File(path)
        if not file.channels:
            raise
        return file


class Rosbag1File:
    """A bag of ROS 1, version 2.0, with its index: see `BagFile`.

    Args:
        path: the file.

    Raises:
        rosbags.rosbag1.ReaderError: it is damaged or has no index.
    """

    damage = ''
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        with Reader(path) as reader:
            self.channels: Sequence[Channel] = [_channel(found) for found in reader.connections]
            counts: Counter[int] = Counter()
            for info in reader.chunk_infos:
                counts.update(info.connection_counts)
            times = (reader.start_time, reader.end_time - 1)
        self.times_ns = times if counts.total() else None
        topics: Counter[str] = Counter()
        for channel in self.channels:
            topics[channel.topic] += counts[channel.number]
        self.counts: Mapping[str, int] | None = topics

    def runs(self, channels: Collection[Channel], span: TimeSpan) -> Iterator[Run]:
        """Parts of the file that together hold all messages of some channels in a span of time."""
        if channels and self.times_ns is not None and span.overlaps(*self.times_ns):
            yield Run(self.times_ns[0], partial(self._read, channels, span))

    def _read(self, channels: Collection[Channel], span: TimeSpan) -> Iterator[StoredMessage]:
        wanted = {channel.number: channel for channel in channels}
        with Reader(self._path) as reader:
            connections = [found for found in reader.connections if found.id in wanted]
            messages = reader.messages(connections, span.start_ns, span.stop_ns)
            for connection, time_ns, data in messages:
                yield StoredMessage(time_ns, wanted[connection.id], data)


def _channel(connection: Connection) -> Channel:
    ext = connection.ext
    latched = isinstance(ext, ConnectionExtRosbag1) and bool(ext.latching)
    return Channel(
        connection.id,
        connection.topic,
        connection.msgtype,
        'ros1',
        connection.msgdef.data,
        latched,
    )


class _Record(NamedTuple):
    """A record: where it begins, the fields of its head, and its data."""

    offset: int
    fields: Mapping[bytes, bytes]
    data: bytes

    @property
    def kind(self) -> int:
        """Its operation code."""
        return self.fields.get(b'op', b'\0')[0]


class _Part(NamedTuple):
    """A chunk, or a message outside of chunks."""

    offset: int
    first_ns: int
    last_ns: int
    connections: frozenset[int]


class UnindexedRosbag1File:
    """A bag of ROS 1 that is read without its index: see `BagFile`.

    Args:
        path: the file.
    """

    counts: Mapping[str, int] | None = None
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._channels: dict[int, Channel] = {}
        self._parts: list[_Part] = []
        with path.open('rb') as file:
            file.seek(len(MAGIC))
            for record in _records(file):
                try:
                    part = self._part(record)
                except Exception:  # of a parser whose input may be anything: it is cut off here
                    break
                if part is not None:
                    self._parts.append(part)
        self.channels: Sequence[Channel] = list(self._channels.values())
        times = [time_ns for part in self._parts for time_ns in part[1:3]]
        self.times_ns: tuple[int, int] | None = (min(times), max(times)) if times else None
        self.damage = (
            'has no whole index, as if it was cut off while it was recorded; everything before '
            'that was read (rosbag reindex repairs the bag)'
        )

    def runs(self, channels: Collection[Channel], span: TimeSpan) -> Iterator[Run]:
        """Parts of the file that together hold all messages of some channels in a span of time."""
        wanted = {channel.number: channel for channel in channels}
        for part in self._parts:
            if not part.connections.isdisjoint(wanted) and span.overlaps(*part[1:3]):
                yield Run(part.first_ns, partial(self._read, part, wanted, span))

    def _read(
        self, part: _Part, wanted: Mapping[int, Channel], span: TimeSpan
    ) -> Iterator[StoredMessage]:
        with self._path.open('rb') as file:
            file.seek(part.offset)
            record = next(_records(file))
        messages = [
            StoredMessage(time_ns, wanted[number], found.data)
            for found in _unpack(record)
            if found.kind == MESSAGE
            for number, time_ns in [_number_and_time(found)]
            if number in wanted and time_ns in span
        ]
        yield from sorted(messages, key=lambda message: message.time_ns)

    def _part(self, record: _Record) -> _Part | None:
        """What is in a record, whose connections are remembered; None if there is no message."""
        messages = []
        for found in _unpack(record):
            if found.kind == CONNECTION:
                channel = _parse_connection(found)
                self._channels[channel.number] = channel
            elif found.kind == MESSAGE:
                messages.append(_number_and_time(found))
        if not messages:
            return None
        times = [time_ns for _, time_ns in messages]
        numbers = frozenset(number for number, _ in messages)
        return _Part(record.offset, min(times), max(times), numbers)


def _records(file: BinaryIO) -> Iterator[_Record]:
    """Records up to the first incomplete one."""
    while True:
        offset = file.tell()
        head, data = _sized(file), _sized(file)
        if head is None or data is None:
            return
        fields, stream = {}, io.BytesIO(head)
        while (field := _sized(stream)) is not None:
            name, _, value = field.partition(b'=')
            fields[name] = value
        yield _Record(offset, fields, data)


def _sized(file: BinaryIO) -> bytes | None:
    """Bytes after their number; None if they are not all there."""
    size = file.read(4)
    if len(size) < 4:
        return None
    (count,) = struct.unpack('<I', size)
    data = file.read(count)
    return data if len(data) == count else None


def _unpack(record: _Record) -> Iterator[_Record]:
    """The records of a chunk; any other record itself."""
    if record.kind == CHUNK:
        unpack = _DECOMPRESS[record.fields[b'compression']]
        yield from _records(io.BytesIO(unpack(record.data)))
    else:
        yield record


def _number_and_time(record: _Record) -> tuple[int, int]:
    """Connection and time [ns] of a message."""
    seconds, nanoseconds = struct.unpack('<II', record.fields[b'time'])
    return _number(record), seconds * NANOSECONDS + nanoseconds


def _number(record: _Record) -> int:
    return int.from_bytes(record.fields[b'conn'], 'little')


def _parse_connection(record: _Record) -> Channel:
    head = struct.pack('<I', len(record.data)) + record.data
    (inner,) = _records(io.BytesIO(head + bytes(4)))
    fields = {name: value.decode(errors='replace') for name, value in inner.fields.items()}
    return Channel(
        number=_number(record),
        topic=record.fields[b'topic'].decode(errors='replace'),
        message_type=ros2_type(fields[b'type']),
        encoding='ros1',
        definition=fields[b'message_definition'],
        latched=fields.get(b'latching') == '1',
    )
