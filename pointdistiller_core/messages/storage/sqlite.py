# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The sqlite3 files of ROS 2's bags, of any version of their schema."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
import sqlite3

from pointdistiller_core.messages.storage import (
    Channel,
    Run,
    StoredMessage,
    TimeSpan,
    is_latched,
)

MAGIC = b'SQLite format 3\0'


class SqliteFile:
    """A sqlite3 file: see `BagFile`. It has no index with counts.

    Args:
        path: the file.

    Raises:
        sqlite3.Error: it is damaged, or no bag.
    """

    damage = ''
    counts: Mapping[str, int] | None = None
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as database:
            database.row_factory = sqlite3.Row
            definitions = _definitions(database)
            self.channels: Sequence[Channel] = [
                _channel(dict(row), definitions)
                for row in database.execute('SELECT * FROM topics ORDER BY id')
            ]
            query = 'SELECT MIN(timestamp), MAX(timestamp) FROM messages'
            first_ns, last_ns = database.execute(query).fetchone()
        self.times_ns = None if first_ns is None else (first_ns, last_ns)

    def runs(self, channels: Collection[Channel], span: TimeSpan) -> Iterator[Run]:
        """Parts of the file that together hold all messages of some channels in a span of time."""
        if channels and self.times_ns is not None and span.overlaps(*self.times_ns):
            yield Run(self.times_ns[0], partial(self._read, channels, span))

    def _read(self, channels: Collection[Channel], span: TimeSpan) -> Iterator[StoredMessage]:
        wanted = {channel.number: channel for channel in channels}
        query = f'topic_id IN ({",".join(map(str, wanted))})'
        if span.start_ns is not None:
            query += f' AND timestamp >= {span.start_ns}'
        if span.stop_ns is not None:
            query += f' AND timestamp < {span.stop_ns}'
        query = f'SELECT timestamp, topic_id, data FROM messages WHERE {query} ORDER BY timestamp'
        with closing(self._connect()) as database:
            for time_ns, number, data in database.execute(query):
                yield StoredMessage(time_ns, wanted[number], bytes(data))

    def _connect(self) -> sqlite3.Connection:
        # Without this promise sqlite3 needs write access. With it, sqlite3 skips the messages that
        # a recorder which died left in a journal beside the file.
        journals = [Path(f'{self._path}{suffix}') for suffix in ('-wal', '-journal')]
        left = any(journal.exists() and journal.stat().st_size for journal in journals)
        options = 'mode=ro' if left else 'mode=ro&immutable=1'
        return sqlite3.connect(f'{self._path.absolute().as_uri()}?{options}', uri=True)


def _definitions(database: sqlite3.Connection) -> dict[str, str]:
    """Definitions by type; empty before version 4 of the schema."""
    try:
        rows = database.execute(
            'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions'
        ).fetchall()
    except sqlite3.OperationalError:
        return {}
    return {str(name): str(text) for name, encoding, text in rows if encoding == 'ros2msg'}


def _channel(row: Mapping[str, object], definitions: Mapping[str, str]) -> Channel:
    return Channel(
        number=int(str(row['id'])),
        topic=str(row['name']),
        message_type=str(row['type']),
        encoding=str(row['serialization_format']),
        definition=definitions.get(str(row['type']), ''),
        latched=is_latched(row.get('offered_qos_profiles')),
    )
