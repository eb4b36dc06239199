# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""ROS bags without ROS: MCAP is written; MCAP, sqlite3 and ROS 1 bags are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
import logging
from pathlib import Path
import shutil
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from pointdistiller_core.errors import (
    DatasetError,
    PointDistillerError,
    WriteError,
    describe,
)
from pointdistiller_core.files import named_refusals
from pointdistiller_core.messages.boxes_cloud import BOX_COLUMNS
from pointdistiller_core.messages.message_types import add_types, find_layout
from pointdistiller_core.messages.point_cloud2 import (
    INTENSITY_NAMES,
    cloud_layout,
)
from pointdistiller_core.messages.storage import NANOSECONDS, Channel, StoredMessage, TimeSpan
from pointdistiller_core.messages.storage.bag import Bag

logger = logging.getLogger(__name__)

CLOUD_TYPE = 'sensor_msgs/msg/PointCloud2'
BAG_VERSION: Literal[8] = 8  # the newest metadata that ROS 2 Humble reads, too
ENCODINGS = ('cdr', 'ros1')  # of messages that are read
RENAMED_TYPES = {'tf/msg/tfMessage': 'tf2_msgs/msg/TFMessage'}  # since ROS 1
MessageT = TypeVar('MessageT')
CLASSES_KEY = 'pointdistiller/classes'  # of metadata.yaml, before a topic
BOX_FIELDS = {*BOX_COLUMNS}  # of boxes, which are no sweep
RESULT_FIELDS = {*BOX_COLUMNS[3:], 'importance'}  # of no sensor


@dataclass(frozen=True)
class BagMessage:
    """One message of a bag.

    Attributes:
        topic: where it was recorded.
        time_ns: when it was recorded [ns].
        cdr: the message as ROS 2 sends it.
    """

    topic: str
    time_ns: int
    cdr: bytes


@dataclass(frozen=True)
class BagCloud(BagMessage):
    """One PointCloud2 of a bag.

    Attributes:
        stamp_ns: time in its header [ns].
        frame_id: frame in its header.
        message: the message; `points_from_cloud` reads it.
    """

    stamp_ns: int
    frame_id: str
    message: Any


class MessageContent(NamedTuple):
    """A message of a bag, decoded.

    Attributes:
        time_ns: when it was recorded [ns].
        message_type: e.g. `vision_msgs/msg/Detection3DArray`.
        content: its fields as attributes.
    """

    time_ns: int
    message_type: str
    content: Any


def _no_definition(message_type: str) -> str:
    raise DatasetError(
        f'the definition of {message_type} is unknown here; only messages of the standard ROS 2 '
        'packages can be written'
    )


def check_new_bag(path: Path) -> None:
    """Check that a bag of this name can be made.

    Raises:
        DatasetError: it looks like a ROS 1 bag.
        WriteError: it holds something already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise WriteError(f'{path} exists already; choose another name or remove it')
    if path.suffix == '.bag':  # readers think it is a file of ROS 1
        raise DatasetError(f'{path}: .bag is the suffix of ROS 1; choose a name without it')


class CloudBagWriter:
    """Writes an MCAP bag that ROS 2, RViz and Foxglove open.

    As a context manager it leaves a complete bag or, after an exception, none.

    Args:
        path: folder to create; may exist if it is empty.
        find_definition: returns the text of the .msg file of a type outside the standard packages,
            which goes into the bag; raises DatasetError if there is none.

    Raises:
        DatasetError: `path` looks like a ROS 1 bag.
        WriteError: it holds something already, or cannot be written.
    """

    def __init__(self, path: Path, find_definition: Callable[[str], str] = _no_definition) -> None:
        check_new_bag(path)
        self._path, self._find_definition = path, find_definition
        self._types = get_typestore(Stores.LATEST)  # its own, because types may be added
        self._connections: dict[str, Connection] = {}
        with _writing(path):
            if path.exists():
                path.rmdir()  # the library wants to create it
            self._writer = Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()

    def __enter__(self) -> CloudBagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._writer.abort()
            shutil.rmtree(self._path, ignore_errors=True)

    def write(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        points: NDArray[np.float32],
        extra_fields: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Append a PointCloud2, recorded at the time of its stamp.

        Args:
            topic: topic of the cloud, e.g. `/points`.
            stamp_ns: time of the header [ns].
            frame_id: frame of the header.
            points: (N, 3) x, y, z or (N, 4) x, y, z, intensity.
            extra_fields: further columns (N,).

        Raises:
            CloudError: `extra_fields` do not fit.
            WriteError: the file cannot be written.
        """
        message = _build_cloud(stamp_ns, frame_id, cloud_layout(points, extra_fields))
        cdr = _types().serialize_cdr(message, CLOUD_TYPE)
        self.write_serialized(topic, CLOUD_TYPE, stamp_ns, cdr)

    def write_serialized(
        self,
        topic: str,
        message_type: str,
        time_ns: int,
        cdr: bytes | memoryview,
        offered_qos: Sequence[Qos] = (),
    ) -> None:
        """Append a message of any type as ROS 2 sent it.

        Args:
            topic: topic of the message.
            message_type: e.g. `visualization_msgs/msg/MarkerArray`.
            time_ns: when it was recorded [ns].
            cdr: the serialized message.
            offered_qos: of the topic's publishers, kept with its first message.

        Raises:
            DatasetError: the type has no definition.
            WriteError: the file cannot be written.
        """
        if topic not in self._connections:
            self._connections[topic] = self._connect(topic, message_type, offered_qos)
        with _writing(self._path):
            self._writer.write(self._connections[topic], time_ns, cdr)

    def name_classes(self, topic: str, names: Sequence[str]) -> None:
        """Say in metadata.yaml which classes the labels of boxes on a topic index."""
        self._writer.set_custom_data(CLASSES_KEY + topic, ','.join(names))

    def close(self) -> None:
        """Write the index; the bag is complete afterwards."""
        with _writing(self._path):
            self._writer.close()

    def _connect(self, topic: str, message_type: str, offered_qos: Sequence[Qos]) -> Connection:
        add_types(self._types, message_type, self._find_definition)
        with _writing(self._path):
            return self._writer.add_connection(
                topic, message_type, typestore=self._types, offered_qos_profiles=offered_qos
            )


def bag_topics(path: Path) -> dict[str, str]:
    """Topics of a bag that ROS nodes can read, and their message types.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    with _open_bag(path) as bag:
        return {found.topic: found.message_type for found in bag.channels if _is_readable(found)}


def latched_topics(path: Path) -> frozenset[str]:
    """Topics whose publishers kept messages for late subscribers, such as `/tf_static`.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    with _open_bag(path) as bag:
        return bag.latched


@dataclass(frozen=True)
class TopicSummary:
    """A topic of a bag.

    Attributes:
        message_type: of its messages.
        readable: whether ROS nodes can read them.
        latched: whether its publishers kept messages for late subscribers.
        count: number of messages according to the index; None without an index.
    """

    message_type: str
    readable: bool
    latched: bool
    count: int | None


@dataclass(frozen=True)
class BagSummary:
    """Content of a bag, without reading its messages.

    Attributes:
        start_ns: when its first message was recorded [ns]; 0 if there is none.
        stop_ns: when its last message was recorded [ns].
        topics: by their names.
        problems: unreadable parts, and mistakes of its index.
        class_names: classes that the labels of boxes index, by topic, where the bag says so.
    """

    start_ns: int
    stop_ns: int
    topics: Mapping[str, TopicSummary]
    problems: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def summarize_bag(path: Path) -> BagSummary:
    """Content of a bag, by its indexes.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    with _open_bag(path) as bag:
        counts = bag.counts
        topics = {
            found.topic: TopicSummary(
                found.message_type,
                _is_readable(found),
                found.topic in bag.latched,
                None if counts is None else counts.get(found.topic, 0),
            )
            for found in bag.channels
        }
        problems = (*bag.damages(TimeSpan()), *bag.notes)
        return BagSummary(bag.start_ns, bag.stop_ns, topics, problems, _class_names(bag))


def read_class_names(path: Path) -> dict[str, tuple[str, ...]]:
    """Classes that the labels of boxes index, by topic, where the bag says so.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    with _open_bag(path) as bag:
        return _class_names(bag)


def first_fields(path: Path, topic: str) -> frozenset[str]:
    """Names of the fields of the first readable cloud on a topic; empty if there is none.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    with _open_bag(path) as bag:
        return _first_fields(bag, topic)


def choose_cloud_topic(path: Path, on_note: Callable[[str], None] = logger.warning) -> str:
    """The only PointCloud2 topic of a bag, or, of several, the only one with a sensor's fields.

    Raises:
        DatasetError: the bag is missing or broken, or has none, or several to choose from.
    """
    with _open_bag(path) as bag:
        return _choose_topic(bag, None, on_note)


def read_messages(
    path: Path,
    topics: Collection[str],
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    on_note: Callable[[str], None] = logger.warning,
) -> Iterator[BagMessage]:
    """Messages of some topics, in the order of recording, read on demand.

    Of latched topics, messages before the start are included, because they still hold. Messages
    that no ROS node reads, e.g. JSON, are left out.

    Args:
        path: bag folder, its metadata.yaml, .mcap, .db3, or ROS 1 .bag.
        topics: which topics; missing ones are left out.
        start_s: seconds of the bag to skip.
        duration_s: seconds from there to read; None is all.
        on_note: called with a text for each mistake of the bag's indexes.

    Raises:
        DatasetError: the bag is missing or broken. What comes before the broken part is read.
    """
    with _open_bag(path) as bag:
        yield from _messages(
            *(bag, lambda found: found.topic in topics, start_s, duration_s),
            on_note=on_note,
            convert=_CdrConverter(),
        )


def read_contents(
    path: Path, topic: str, *, on_note: Callable[[str], None] = logger.warning
) -> Iterator[MessageContent]:
    """Messages of one topic, of any type that the bag defines or that is known here.

    Args:
        path: bag folder, its metadata.yaml, .mcap, .db3, or ROS 1 .bag.
        topic: which topic.
        on_note: called with a text for each mistake of the bag's indexes.

    Raises:
        DatasetError: the bag is missing or broken, or the type is not known. What comes before
            the broken part is read.
    """
    with _open_bag(path) as bag:
        yield from _messages(
            *(bag, lambda found: found.topic == topic),
            on_note=on_note,
            convert=_Decoder(),
        )


def read_clouds(
    path: Path,
    topic: str | None = None,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    on_note: Callable[[str], None] = logger.warning,
) -> Iterator[BagCloud]:
    """Every PointCloud2 of one topic, in the order of recording, read on demand.

    Only `start_s` and `duration_s` limit what is read: every message of the topic is returned,
    whatever the bag's indexes say. If they say something else, `on_note` is called.

    Args:
        path: bag folder, its metadata.yaml, .mcap, .db3, or ROS 1 .bag.
        topic: which topic; None is the only PointCloud2 topic of the bag, or, of several, the
            only one whose fields are a sensor's.
        start_s: seconds of the bag to skip.
        duration_s: seconds from there to read; None is all.
        on_note: called with a text for each mistake of the bag's indexes, and for the chosen
            topic.

    Raises:
        DatasetError: the bag is missing or broken, or has no such topic (or several to choose
            from); the message lists its topics. What precedes the broken part is read.
    """
    with _open_bag(path) as bag:
        topic = _choose_topic(bag, topic, on_note)
        broken = _BrokenMessages(bag.path)
        for found in _messages(
            bag,
            lambda found: found.topic == topic and found.message_type == CLOUD_TYPE,
            start_s,
            duration_s,
            on_note=on_note,
            convert=_CdrConverter(),
        ):
            try:
                cloud = parse_cloud(found)
            except Exception as error:  # of a parser whose input may be anything
                broken.add(found.topic, found.time_ns, error)
            else:
                yield cloud
        broken.check()


@cache
def _types() -> Typestore:
    return get_typestore(Stores.LATEST)


def _build_cloud(stamp_ns: int, frame_id: str, layout: Mapping[str, Any]) -> Any:
    types = _types().types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, NANOSECONDS))
    fields = [types['sensor_msgs/msg/PointField'](**field) for field in layout['fields']]
    header = types['std_msgs/msg/Header'](stamp, frame_id)
    return types[CLOUD_TYPE](header=header, **{**layout, 'fields': fields})


def _messages(
    bag: Bag,
    wanted: Callable[[Channel], bool],
    start_s: float = 0.0,
    duration_s: float | None = None,
    *,
    on_note: Callable[[str], None],
    convert: Callable[[StoredMessage], MessageT],
) -> Iterator[MessageT]:
    """Messages as `read_messages` returns them, each converted."""
    start_ns = bag.start_ns + round(start_s * NANOSECONDS) if start_s else None
    stop_ns = None
    if duration_s is not None:
        stop_ns = bag.start_ns + round((start_s + duration_s) * NANOSECONDS)
    broken = _BrokenMessages(bag.path)
    num_noted = 0

    def tell_notes() -> None:
        nonlocal num_noted
        for note in bag.notes[num_noted:]:
            on_note(note)
        num_noted = len(bag.notes)

    def read(latched_alone: bool, span: TimeSpan) -> Iterator[MessageT]:
        messages = bag.messages(
            lambda found: (
                _is_readable(found)
                and wanted(found)
                and (found.topic in bag.latched or not latched_alone)
            ),
            span,
        )
        for found in messages:
            try:
                converted = convert(found)
            except DatasetError:  # of its type, so that all messages have it
                raise
            except Exception as error:  # of a parser whose input may be anything
                broken.add(found.channel.topic, found.time_ns, error)
            else:
                yield converted

    tell_notes()
    try:
        if start_ns is not None:
            yield from read(True, TimeSpan(None, start_ns))
        yield from read(False, TimeSpan(start_ns, stop_ns))
        broken.check()
    finally:  # also before an error
        tell_notes()


def _is_readable(channel: Channel) -> bool:
    return channel.encoding in ENCODINGS and channel.message_type.count('/') == 2


def parse_cloud(found: BagMessage) -> BagCloud:
    """A message of the type `CLOUD_TYPE`.

    Raises:
        Exception: it is not of this type; any error of the parser.
    """
    message: Any = _types().deserialize_cdr(found.cdr, CLOUD_TYPE)
    stamp = message.header.stamp
    return BagCloud(
        topic=found.topic,
        time_ns=found.time_ns,
        cdr=found.cdr,
        stamp_ns=stamp.sec * NANOSECONDS + stamp.nanosec,
        frame_id=message.header.frame_id,
        message=message,
    )


class _BrokenMessages:
    """Messages that do not have their topic's type: one error after all others were read."""

    def __init__(self, path: Path) -> None:
        self._path, self._count, self._first = path, 0, ''

    def add(self, topic: str, time_ns: int, error: Exception) -> None:
        """Count one."""
        at = f'on {topic} at {time_ns / NANOSECONDS:.3f} s'
        self._first = self._first or f'{at}: {describe(error)}'
        self._count += 1

    def check(self) -> None:
        """Raise the error, if there were any."""
        if self._count:
            raise DatasetError(
                f'{self._path}: {self._count} messages cannot be read, the first {self._first}; '
                'all others were'
            )


class _Decoder:
    """Messages by the definitions of their types."""

    def __init__(self) -> None:
        self._stores: dict[Channel, Typestore] = {}

    def __call__(self, message: StoredMessage) -> MessageContent:
        channel = message.channel
        name = channel.message_type
        if channel not in self._stores:
            self._stores[channel] = _store_of(channel)
        store = self._stores[channel]
        if channel.encoding == 'ros1':
            content = store.deserialize_ros1(message.data, name)
        else:
            content = store.deserialize_cdr(message.data, name)
        return MessageContent(message.time_ns, name, content)


class _CdrConverter:
    """Messages as ROS 2 sends them."""

    def __init__(self) -> None:
        self._decode = _Decoder()

    def __call__(self, message: StoredMessage) -> BagMessage:
        channel, cdr = message.channel, message.data
        if channel.encoding != 'cdr':
            name = RENAMED_TYPES.get(channel.message_type, channel.message_type)
            cdr = bytes(_types().serialize_cdr(self._decode(message).content, name))
        return BagMessage(channel.topic, message.time_ns, cdr)


def _store_of(channel: Channel) -> Typestore:
    """The types of a channel's messages; of ROS 2, first by what the bag says."""
    if channel.encoding == 'ros1':
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(channel.definition, channel.message_type))
        return store
    store = get_typestore(Stores.LATEST)
    if channel.definition:
        found = get_types_from_msg(channel.definition, channel.message_type)
        store.register({name: own for name, own in found.items() if name not in store.fielddefs})
    add_types(store, channel.message_type, find_layout)
    return store


def _class_names(bag: Bag) -> dict[str, tuple[str, ...]]:
    return {
        key.removeprefix(CLASSES_KEY): tuple(names.split(','))
        for key, names in bag.custom.items()
        if key.startswith(CLASSES_KEY)
    }


def _choose_topic(bag: Bag, topic: str | None, on_note: Callable[[str], None]) -> str:
    clouds = sorted({found.topic for found in bag.channels if _is_cloud(found)})
    if topic in clouds:
        return topic
    if topic is None and len(clouds) == 1:
        return clouds[0]
    if topic is None:
        sweeps = [name for name in clouds if not _first_fields(bag, name) >= BOX_FIELDS]
        if len(sweeps) == 1:
            return sweeps[0]
    has = f'its PointCloud2 topics are {clouds}' if clouds else _no_cloud_topic(bag)
    if topic is not None:
        raise DatasetError(f'{bag.path} has no PointCloud2 topic {topic!r}; {has}')
    fields = {name: _first_fields(bag, name) for name in clouds}
    measured = {name: found for name, found in fields.items() if not found & RESULT_FIELDS}
    for sensor in _sensor_topics(measured):
        if len(measured) > 1:  # results of a detector, and labels, are no sensor's for certain
            on_note(
                f"{bag.path}: reading {sensor}, the only one of {clouds} with a sensor's fields"
            )
        return sensor
    raise DatasetError(f'{bag.path}: {has}; name the topic to read')


def _is_cloud(channel: Channel) -> bool:
    return channel.message_type == CLOUD_TYPE and _is_readable(channel)


def _sensor_topics(fields: Mapping[str, frozenset[str]]) -> list[str]:
    """The topic with a sensor's fields, if there is exactly one."""
    sensors = [topic for topic in fields if fields[topic] >= {'x', 'y', 'z'}]
    bright = [topic for topic in sensors if not fields[topic].isdisjoint(INTENSITY_NAMES)]
    return next((found for found in (bright, sensors) if len(found) == 1), [])


def _first_fields(bag: Bag, topic: str) -> frozenset[str]:
    """Names of the fields of the first readable cloud; empty if there is none."""
    decode = _Decoder()
    messages = bag.messages(lambda found: found.topic == topic and _is_cloud(found), TimeSpan())
    for found in messages:
        with suppress(Exception):  # of a parser whose input may be anything
            cloud: Any = decode(found).content
            return frozenset(field.name for field in cloud.fields)
    return frozenset()


def _no_cloud_topic(bag: Bag) -> str:
    """Message about the topics that exist instead."""
    others = sorted({f'{found.topic} ({_describe(found)})' for found in bag.channels})
    only = f', only {", ".join(others)}' if others else ' and no other'
    return '; '.join([f'it has no PointCloud2 topic{only}', *bag.damages(TimeSpan())])


def _describe(channel: Channel) -> str:
    kind = channel.message_type or 'no type'
    return kind if _is_readable(channel) else f'{kind} as {channel.encoding or "nothing known"}'


@contextmanager
def _open_bag(path: Path) -> Iterator[Bag]:
    """An open bag; any error within the block is reported as the bag's."""
    if not path.exists():
        raise DatasetError(f'{path}: no such bag')
    try:
        with Bag(path) as bag:
            yield bag
    except PointDistillerError:
        raise
    except Exception as error:  # a damaged file can raise any error of its parsers
        raise DatasetError(
            f'{path} is not a readable bag: {describe(error)}; a bag is a folder with '
            'metadata.yaml, an .mcap, a .db3 or a ROS 1 .bag (a recording that was cut off: '
            'ros2 bag reindex, or rosbag reindex)'
        ) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    with named_refusals(path):
        try:
            yield
        except WriterError as error:
            raise WriteError(f'{path}: cannot write the bag: {error}') from error
