# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""MCAP files of any writer, whole or cut off.

Other readers find messages only by the message index, which a writer may leave out, and parse the
schemas of all topics. Here the chunk index only says what can be skipped; what it does not cover
is read record by record.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
import io
from pathlib import Path
import struct
import sys
from typing import BinaryIO, NamedTuple
from zlib import crc32

from lz4.frame import decompress as decompress_lz4

from pointdistiller_core.errors import describe
from pointdistiller_core.messages.storage import (
    Channel,
    Run,
    StoredMessage,
    TimeSpan,
    is_latched,
    ros2_type,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
CHUNK_INDEX, STATISTICS, DATA_END = 0x08, 0x0B, 0x0F

_HEAD = struct.Struct('<BQ')  # operation code, length
_MESSAGE = struct.Struct('<HIQQ')  # channel, sequence, time of the log, time of publishing
_CHUNK = struct.Struct('<QQQI')  # first time, last time, size without compression, CRC
_FOOTER = struct.Struct('<BQQQI')  # head, start of the summary, of its offsets, CRC
_END_SIZE = _FOOTER.size + len(MAGIC)
_INDEX_HEAD_SIZE, _INDEX_ENTRY_SIZE = _HEAD.size + 6, 16  # of a channel's messages in a chunk
_DECOMPRESS: Mapping[str, Callable[[memoryview], bytes | memoryview]] = {
    '': lambda packed: packed,
    'lz4': decompress_lz4,
    'zstd': zstd.decompress,
}


class McapError(Exception):
    """The file is no MCAP."""


@dataclass(frozen=True)
class _Chunk:
    """A chunk; `channels` are the numbers of its channels, None if they are not known.

    `counts` are the numbers of their messages, if it was looked into.
    """

    offset: int
    first_ns: int
    last_ns: int
    channels: frozenset[int] | None
    end: int = 0  # of its message indexes
    counts: Mapping[int, int] | None = None


class _Summary(NamedTuple):
    """What the end of a file says."""

    data_end: int
    chunks: Mapping[int, _Chunk]  # by offset
    counts: Mapping[int, int] | None  # messages of each channel, by the statistics
    indexed: Counter[int]  # and by the message index


class McapFile:
    """An MCAP file: see `BagFile`.

    Args:
        path: the file.

    Raises:
        McapError: its beginning is not that of MCAP.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damage = ''
        self.notes: Sequence[str] = ()
        self._schemas: dict[int, tuple[str, str]] = {}  # name, definition
        self._channels: dict[int, tuple[int, str, str, dict[str, str]]] = {}
        self._loose = _LooseMessages(path)
        with path.open('rb') as file:
            begin = file.read(len(MAGIC) + 1)
            if begin != MAGIC + bytes([HEADER]):
                raise McapError('it does not begin as an MCAP file does')
            summary = self._read_summary(file)
            others = list(self._walk(file, summary.data_end, summary.chunks))
            chunks = list(summary.chunks.values())
            if self._is_index_short(summary, len(others)):
                chunks = [replace(chunk, channels=None) for chunk in chunks]
            self._chunks = [*chunks, *others]
            self._find_channels(file, {*summary.indexed, *(summary.counts or ())})
        self.channels: Sequence[Channel] = [self._channel(number) for number in self._channels]
        times = [time for chunk in self._chunks for time in (chunk.first_ns, chunk.last_ns)]
        times += self._loose.ends()
        self.times_ns: tuple[int, int] | None = (min(times), max(times)) if times else None
        counts = self._count_messages() if summary.counts is None else summary.counts
        self.counts: Mapping[str, int] | None = (
            None if counts is None else self._count_topics(counts)
        )

    def runs(self, channels: Collection[Channel], span: TimeSpan) -> Iterator[Run]:
        """Parts of the file that together hold all messages of some channels in a span of time."""
        wanted = {channel.number: channel for channel in channels}
        for chunk in self._chunks:
            if (chunk.channels is None or not chunk.channels.isdisjoint(wanted)) and span.overlaps(
                chunk.first_ns, chunk.last_ns
            ):
                yield Run(chunk.first_ns, partial(self._read_chunk, chunk, wanted, span))
        if ends := self._loose.ends():
            yield Run(ends[0], partial(self._loose.read, wanted, span))

    def _read_chunk(
        self, chunk: _Chunk, wanted: Mapping[int, Channel], span: TimeSpan
    ) -> Iterator[StoredMessage]:
        with self._path.open('rb') as file:
            records = _records_of_chunk(file, chunk.offset)
        found: list[tuple[int, int, int, int]] = []
        for kind, begin, end in _split(records):
            if kind == MESSAGE:
                number, _, time_ns, _ = _MESSAGE.unpack_from(records, begin)
                if number in wanted and time_ns in span:
                    found.append((time_ns, begin + _MESSAGE.size, end, number))
        for time_ns, begin, end, number in sorted(found):
            yield StoredMessage(time_ns, wanted[number], bytes(records[begin:end]))

    def _read_summary(self, file: BinaryIO) -> _Summary:
        """The summary; a mistake in it counts as no summary."""
        size = file.seek(0, io.SEEK_END)
        nothing = _Summary(size, {}, None, Counter())
        file.seek(-min(_END_SIZE, size), io.SEEK_END)
        end = file.read()
        if len(end) < _END_SIZE or not end.endswith(MAGIC) or end[0] != FOOTER:
            self.damage = (
                'was cut off while it was recorded; everything before that was read '
                '(ros2 bag reindex repairs the bag)'
            )
            return nothing
        nothing = nothing._replace(data_end=size - _END_SIZE)
        _, _, start, _, crc = _FOOTER.unpack_from(end)
        if not start:
            return nothing
        try:
            if not len(MAGIC) <= start <= nothing.data_end:
                raise McapError(f'it begins at byte {start} of {size}')
            file.seek(start)
            data = file.read(nothing.data_end - start)
            if crc and crc32(end[: _FOOTER.size - 4], crc32(data)) != crc:
                raise McapError('its checksum is wrong')
            return self._parse_summary(memoryview(data), start)
        except Exception as error:  # of a parser whose input may be anything
            self._note(
                f'the summary of {self._path.name} is not used, all of the file is searched: '
                f'{describe(error)}'
            )
            return nothing

    def _parse_summary(self, data: memoryview, start: int) -> _Summary:
        chunks: dict[int, _Chunk] = {}
        counts: dict[int, int] | None = None
        indexed: Counter[int] = Counter()
        for kind, begin, end in _split(data):
            if kind == CHUNK_INDEX:
                chunk, messages = _parse_chunk_index(data[begin:end])
                if not chunk.offset + _HEAD.size <= chunk.end <= start:
                    raise McapError(f'it has a chunk from byte {chunk.offset} to {chunk.end}')
                chunks[chunk.offset] = chunk
                indexed.update(messages)
            elif kind == STATISTICS:
                counts = _parse_counts(data[begin:end])
            else:
                self._learn(kind, data[begin:end])
        return _Summary(start, chunks, counts or None, indexed)

    def _is_index_short(self, summary: _Summary, num_others: int) -> bool:
        """Whether the index lacks messages; if so, a note says it."""
        if not summary.chunks:
            return False
        if num_others or len(self._loose):
            self._note(
                f'the index of {self._path.name} lacks {num_others} of '
                f'{num_others + len(summary.chunks)} chunks and {len(self._loose)} messages '
                'outside of chunks; they are read, too'
            )
            return True
        complete = all(chunk.channels for chunk in summary.chunks.values())
        if summary.counts and complete and +summary.indexed != +Counter(summary.counts):
            self._note(
                f'the message index of {self._path.name} has {summary.indexed.total()} messages, '
                f'its statistics {sum(summary.counts.values())}: every chunk is looked into'
            )
            return True
        return False

    def _walk(
        self, file: BinaryIO, data_end: int, indexed: Mapping[int, _Chunk]
    ) -> Iterator[_Chunk]:
        """Chunks that the index lacks, each examined, and messages outside of chunks."""
        position = len(MAGIC)
        while position < data_end:
            if position in indexed:
                position = indexed[position].end
                continue
            file.seek(position)
            head = file.read(_HEAD.size + _MESSAGE.size)
            kind, size = _HEAD.unpack_from(head) if len(head) >= _HEAD.size else (0, 0)
            end = position + _HEAD.size + size
            # After a loss of power, file systems leave nothing but zeros.
            if kind in (0, FOOTER) or end > data_end:
                self.damage = self.damage or f'is damaged at byte {position}'
                return
            if kind == DATA_END:
                return
            if kind == MESSAGE:
                self._loose.add(position, head[_HEAD.size :])
            elif kind == CHUNK:
                try:
                    chunk = self._look_into(file, position)
                except Exception as error:  # of a parser whose input may be anything
                    self.damage = f'is damaged at byte {position}: {error}'
                    return
                if chunk is not None:
                    yield chunk
            elif kind in (SCHEMA, CHANNEL):
                file.seek(position + _HEAD.size)
                self._learn(kind, file.read(size))
            position = end

    def _look_into(self, file: BinaryIO, offset: int) -> _Chunk | None:
        """What is in a chunk, whatever its head says; None if there is no message."""
        records = _records_of_chunk(file, offset)
        times, counts = [], Counter[int]()
        for kind, begin, end in _split(records):
            if kind == MESSAGE:
                number, _, time_ns, _ = _MESSAGE.unpack_from(records, begin)
                times.append(time_ns)
                counts[number] += 1
            else:
                self._learn(kind, records[begin:end])
        if not times:
            return None
        return _Chunk(offset, min(times), max(times), frozenset(counts), counts=counts)

    def _find_channels(self, file: BinaryIO, named: Collection[int]) -> None:
        """Read schemas and channels that the summary or the index leaves out."""
        chunks = {chunk.offset: chunk for chunk in self._chunks}
        for chunk in self._chunks:
            known = self._channels and self._channels.keys() >= set(named)
            schemas = {schema for schema, *_ in self._channels.values()} - {0}
            if not chunk.last_ns or not known or not self._schemas.keys() >= schemas:
                found = self._look_into(file, chunk.offset)
                chunks.pop(chunk.offset)
                if found is not None:
                    chunks[chunk.offset] = found
        self._chunks = list(chunks.values())

    def _note(self, note: str) -> None:
        self.notes = (*self.notes, note)

    def _learn(self, kind: int, data: bytes | memoryview) -> None:
        """Remember a schema or a channel."""
        fields = _Fields(data)
        if kind == SCHEMA:
            number, name, encoding = fields.number(2), fields.text(), fields.text()
            definition = fields.text() if encoding in ('ros1msg', 'ros2msg') else ''
            self._schemas[number] = (name, definition)
        elif kind == CHANNEL:
            number, schema = fields.number(2), fields.number(2)
            topic, encoding = fields.text(), fields.text()
            self._channels[number] = (schema, topic, encoding, fields.texts())

    def _channel(self, number: int) -> Channel:
        schema, topic, encoding, metadata = self._channels[number]
        name, definition = self._schemas.get(schema, ('', ''))
        # Of ROS 2, and of a bag of ROS 1 that was converted.
        latched = is_latched(metadata.get('offered_qos_profiles', ''))
        latched |= metadata.get('latching') == '1'
        return Channel(number, topic, ros2_type(name), encoding, definition, latched)

    def _count_messages(self) -> Mapping[int, int] | None:
        """Messages of each channel, if every chunk was looked into anyway."""
        total = self._loose.count()
        for chunk in self._chunks:
            if chunk.counts is None:
                return None
            total.update(chunk.counts)
        return total

    def _count_topics(self, counts: Mapping[int, int]) -> Mapping[str, int]:
        topics: Counter[str] = Counter()
        for channel in self.channels:
            topics[channel.topic] += counts.get(channel.number, 0)
        return topics


class _LooseMessages:
    """Where messages outside of chunks are, in little memory: there may be millions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets, self._times, self._numbers = array('Q'), array('Q'), array('H')

    def add(self, offset: int, head: bytes) -> None:
        """Note the message whose record begins at `offset`."""
        number, _, time_ns, _ = _MESSAGE.unpack(head)
        self._offsets.append(offset)
        self._times.append(time_ns)
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._offsets)

    def count(self) -> Counter[int]:
        """Messages of each channel."""
        return Counter(self._numbers)

    def ends(self) -> list[int]:
        """First and last time; empty if there is no message."""
        return [min(self._times), max(self._times)] if self._times else []

    def read(self, wanted: Mapping[int, Channel], span: TimeSpan) -> Iterator[StoredMessage]:
        """Some of the messages in the order of time."""
        indices = [index for index, number in enumerate(self._numbers) if number in wanted]
        with self._path.open('rb') as file:
            for index in sorted(indices, key=self._times.__getitem__):
                if (time_ns := self._times[index]) in span:
                    file.seek(self._offsets[index])
                    _, size = _HEAD.unpack(file.read(_HEAD.size))
                    data = file.read(size)[_MESSAGE.size :]
                    yield StoredMessage(time_ns, wanted[self._numbers[index]], data)


class _Fields:
    """Reads the fields of a record one after another, without copies: records are big."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._position = memoryview(data), 0

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        begin, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise McapError(f'a record ends {self._position - len(self._data)} bytes too early')
        return self._data[begin : self._position]

    def number(self, size: int) -> int:
        """An unsigned integer of so many bytes."""
        return int.from_bytes(self.take(size), 'little')

    def blob(self) -> memoryview:
        """Bytes after their number."""
        return self.take(self.number(4))

    def text(self) -> str:
        """A text after its length."""
        return bytes(self.blob()).decode(errors='replace')

    def texts(self) -> dict[str, str]:
        """Texts by their names, after the size of all."""
        fields, texts = _Fields(self.blob()), {}
        while fields.left:
            name = fields.text()
            texts[name] = fields.text()
        return texts

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._position


def _split(records: memoryview) -> Iterator[tuple[int, int, int]]:
    """Operation code, beginning and end of the content of each record."""
    position = 0
    while position < len(records):
        kind, size = _HEAD.unpack_from(records, position)
        begin = position + _HEAD.size
        position = begin + size
        if position > len(records):
            raise McapError(f'a record ends {position - len(records)} bytes too early')
        yield kind, begin, position


def _records_of_chunk(file: BinaryIO, offset: int) -> memoryview:
    file.seek(offset)
    kind, size = _HEAD.unpack(file.read(_HEAD.size))
    if kind != CHUNK:
        raise McapError(f'the index has a chunk at byte {offset}, where there is none')
    fields = _Fields(file.read(size))
    _, _, full_size, crc = _CHUNK.unpack(fields.take(_CHUNK.size))
    compression = fields.text()
    if compression not in _DECOMPRESS:
        raise McapError(f'chunks are compressed with {compression!r}, not with zstd or lz4')
    records = memoryview(_DECOMPRESS[compression](fields.take(fields.number(8))))
    if len(records) != full_size or (crc and crc32(records) != crc):
        raise McapError(f'the chunk at byte {offset} does not have the size or checksum it claims')
    return records


def _parse_chunk_index(data: memoryview) -> tuple[_Chunk, Mapping[int, int]]:
    """A chunk, and how many messages of each channel its message indexes have."""
    fields = _Fields(data)
    first_ns, last_ns, offset, size = (fields.number(8) for _ in range(4))
    places = sorted((place, number) for number, place in struct.iter_unpack('<HQ', fields.blob()))
    end = offset + size + fields.number(8)
    ends = [*(place for place, _ in places[1:]), end]
    counts = {
        number: (stop - place - _INDEX_HEAD_SIZE) // _INDEX_ENTRY_SIZE
        for (place, number), stop in zip(places, ends, strict=False)
    }
    # A writer may leave the message index out; then it is not known what the chunk holds.
    return _Chunk(offset, first_ns, last_ns, frozenset(counts) or None, end), counts


def _parse_counts(data: memoryview) -> dict[int, int]:
    fields = _Fields(data)
    fields.take(42)  # counts of all kinds of records, times
    return dict(struct.iter_unpack('<HQ', fields.blob()))
