# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""metadata.yaml of a bag of ROS 2, of any version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pointdistiller_core.messages.storage import is_latched

METADATA_FILE = 'metadata.yaml'


@dataclass(frozen=True)
class Metadata:
    """What metadata.yaml says of a bag; what it does not say is empty.

    Attributes:
        files: names of the files.
        storage: the plugin that wrote them.
        compression: of files or messages, e.g. zstd.
        total: number of messages; None if it is not said.
        counts: messages of each topic.
        times_ns: of the first and the last message [ns]; None if they are not said.
        latched: topics whose publishers kept messages for late subscribers.
        custom: what the program that made the bag says of it.
    """

    files: tuple[str, ...] = ()
    storage: str = ''
    compression: str = ''
    total: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    times_ns: tuple[int, int] | None = None
    latched: frozenset[str] = frozenset()
    custom: Mapping[str, str] = field(default_factory=dict)


def read_metadata(path: Path) -> Metadata:
    """Read the file.

    Args:
        path: the metadata.yaml.

    Raises:
        Exception: it is no metadata.yaml; any error of the parser.
    """
    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)  # a split bag may have long lists
    text = path.read_text(encoding='utf-8', errors='replace')
    information = yaml.load(text, loader)['rosbag2_bagfile_information']
    counts: Counter[str] = Counter()
    latched = set()
    for topic, count, qos in _topics(information):
        counts[topic] += count
        if is_latched(qos):
            latched.add(topic)
    mode = str(information.get('compression_mode') or '').lower()
    return Metadata(
        files=tuple(_names(information)),
        storage=str(information.get('storage_identifier') or ''),
        compression=str(information.get('compression_format') or '')
        if mode in ('file', 'message')
        else '',
        total=information.get('message_count'),
        counts=counts,
        times_ns=_times(information),
        latched=frozenset(latched),
        custom={str(key): str(value) for key, value in _custom(information)},
    )


def _custom(information: Mapping[str, Any]) -> Iterable[tuple[Any, Any]]:
    found = information.get('custom_data')  # since version 6
    return found.items() if isinstance(found, dict) else ()


def _names(information: Mapping[str, Any]) -> Iterator[str]:
    # Before version 4 they include the folder; some writers put an absolute path of their machine.
    for path in information.get('relative_file_paths') or ():
        yield PurePosixPath(str(path).replace('\\', '/')).name


def _topics(information: Mapping[str, Any]) -> Iterator[tuple[str, int, Any]]:
    """Name, number of messages, and QoS profiles of each topic."""
    for entry in information.get('topics_with_message_count') or ():
        topic = entry['topic_metadata']
        yield str(topic['name']), int(entry['message_count']), topic.get('offered_qos_profiles')


def _times(information: Mapping[str, Any]) -> tuple[int, int] | None:
    if not information.get('message_count'):
        return None
    start_ns = int(information['starting_time']['nanoseconds_since_epoch'])
    return start_ns, start_ns + int(information['duration']['nanoseconds'])
