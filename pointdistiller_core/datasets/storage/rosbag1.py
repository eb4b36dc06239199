# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from rosbags.interfaces import Connection, ConnectionExtRosbag1
from rosbags.rosbag1 import Reader

from pointdistiller_core.datasets.storage import Channel, Run, StoredMessage, TimeSpan

MAGIC = b'#ROSBAG V'


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
        """Parts of the file that hold all messages of some of its channels in a span of time."""
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
