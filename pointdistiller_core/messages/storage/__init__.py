# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The files of bags: what MCAP, sqlite3 and ROS 1 have in common.

A file is recognized by its content. Its index says where to look and what to compare with; it does
not limit what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import heapq
from operator import itemgetter
import re
from typing import Any, NamedTuple, Protocol

NANOSECONDS = 1_000_000_000  # of a second

# A number up to version 8 of the metadata, then a word.
_LATCHED = re.compile(r'durability[\'"]?:\s*[\'"]?(1\b|transient_local)', re.IGNORECASE)


@dataclass(frozen=True)
class Channel:
    """Messages of one type on one topic of a file.

    Attributes:
        number: its number within the file.
        topic: where they were recorded.
        message_type: as ROS 2 writes it, e.g. `std_msgs/msg/String`.
        encoding: of the messages: cdr, ros1, or one that no ROS node reads, e.g. json.
        definition: of the type and those of its fields; empty if the file has none as .msg.
        latched: whether the publisher kept messages for late subscribers.
    """

    number: int
    topic: str
    message_type: str
    encoding: str
    definition: str = ''
    latched: bool = False


class StoredMessage(NamedTuple):
    """A message as it is in a file.

    Attributes:
        time_ns: when it was recorded [ns].
        channel: where it belongs.
        data: its bytes.
    """

    time_ns: int
    channel: Channel
    data: bytes


class Run(NamedTuple):
    """A part of a file whose messages come in the order of time.

    Attributes:
        start_ns: earliest time of a message [ns].
        read: opens the part.
    """

    start_ns: int
    read: Callable[[], Iterator[StoredMessage]]


@dataclass(frozen=True)
class TimeSpan:
    """From `start_ns` until before `stop_ns` [ns]; None means no end."""

    start_ns: int | None = None
    stop_ns: int | None = None

    def __contains__(self, time_ns: int) -> bool:
        return (self.start_ns is None or time_ns >= self.start_ns) and (
            self.stop_ns is None or time_ns < self.stop_ns
        )

    def overlaps(self, first_ns: int, last_ns: int) -> bool:
        """Whether one of the times from `first_ns` to `last_ns` may be in the span."""
        return (self.start_ns is None or last_ns >= self.start_ns) and (
            self.stop_ns is None or first_ns < self.stop_ns
        )


class BagFile(Protocol):
    """One file of a bag. Opening it reads what is needed to find messages, not the messages.

    Attributes:
        channels: what is in it.
        times_ns: times of the first and the last message [ns]; None if there is none.
        counts: messages of each topic according to the file's index; None without an index.
        damage: why the end of the file is not read; empty if all of it is.
        notes: what the index has wrong.
    """

    channels: Sequence[Channel]
    times_ns: tuple[int, int] | None
    counts: Mapping[str, int] | None
    damage: str
    notes: Sequence[str]

    def runs(self, channels: Collection[Channel], span: TimeSpan) -> Iterator[Run]:
        """Parts of the file that together hold all messages of some channels in a span of time."""


def merge_runs(runs: Iterable[Run]) -> Iterator[StoredMessage]:
    """All messages in the order of time; a part is opened when its first message may be next."""
    for _, message in heapq.merge(*map(_items, runs), key=itemgetter(0)):
        if message is not None:
            yield message


def _items(run: Run) -> Iterator[tuple[int, StoredMessage | None]]:
    yield run.start_ns, None
    for message in run.read():
        yield message.time_ns, message


def is_latched(qos_profiles: Any) -> bool:
    """Whether one of the offered QoS profiles keeps messages for late subscribers.

    Args:
        qos_profiles: YAML, or what it was parsed to.
    """
    if isinstance(qos_profiles, str):
        return bool(_LATCHED.search(qos_profiles))
    durabilities = (profile.get('durability') for profile in qos_profiles or ())
    return any(is_latched(f'durability: {durability}') for durability in durabilities)


def ros2_type(name: str) -> str:
    """A type's name as ROS 2 writes it, from its name in ROS 1 or DDS."""
    parts = [part for part in name.replace('::', '/').split('/') if part != 'dds_']
    if name.endswith('_'):
        parts[-1] = parts[-1].rstrip('_')
    if len(parts) == 2:
        parts.insert(1, 'msg')
    return '/'.join(parts)
