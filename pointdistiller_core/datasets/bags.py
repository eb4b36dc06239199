# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""ROS bags without ROS: MCAP is written; MCAP, sqlite3 and ROS 1 bags are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import shutil
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from pointdistiller_core.datasets.kitti import read_points
from pointdistiller_core.datasets.message_types import add_types
from pointdistiller_core.datasets.point_cloud2 import cloud_layout
from pointdistiller_core.errors import DatasetError, PointDistillerError

CLOUD_TYPE = 'sensor_msgs/msg/PointCloud2'
BAG_VERSION: Literal[8] = 8  # the newest metadata that ROS 2 Humble reads, too
KITTI_TOPIC, KITTI_FRAME_ID = '/points', 'velodyne'
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class BagCloud:
    """One PointCloud2 of a bag.

    Attributes:
        topic: where it was recorded.
        stamp_ns: time in its header [ns].
        frame_id: frame in its header.
        message: the message; `points_from_cloud` reads it.
        time_ns: when it was recorded [ns].
        cdr: the message as ROS 2 sends it.
    """

    topic: str
    stamp_ns: int
    frame_id: str
    message: Any
    time_ns: int
    cdr: bytes


def _no_definition(message_type: str) -> str:
    raise DatasetError(
        f'the definition of {message_type} is unknown here; only messages of the standard ROS 2 '
        'packages can be written'
    )


class CloudBagWriter:
    """Writes an MCAP bag that ROS 2, RViz and Foxglove open.

    As a context manager it leaves a whole bag or, after an exception, none.

    Args:
        path: folder to create.
        find_definition: the text of the .msg file of a type that is not of the standard packages;
            raises DatasetError where there is none. It goes into the bag.

    Raises:
        DatasetError: `path` exists, looks like a ROS 1 bag, or cannot be written.
    """

    def __init__(self, path: Path, find_definition: Callable[[str], str] = _no_definition) -> None:
        if path.exists():
            raise DatasetError(f'{path} exists already; choose another name or remove it')
        if path.suffix == '.bag':  # readers take it for a file of ROS 1
            raise DatasetError(f'{path}: .bag is the suffix of ROS 1; choose a name without it')
        self._path, self._find_definition = path, find_definition
        self._types = get_typestore(Stores.LATEST)  # its own: it may get to know more
        self._connections: dict[str, Connection] = {}
        with _writing(path):
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
            DatasetError: the file cannot be written.
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
            DatasetError: the type has no definition, or the file cannot be written.
        """
        if topic not in self._connections:
            self._connections[topic] = self._connect(topic, message_type, offered_qos)
        with _writing(self._path):
            self._writer.write(self._connections[topic], time_ns, cdr)

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
    """Topics of a bag and their message types.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    with _open_bag(path) as reader:
        return {connection.topic: connection.msgtype for connection in reader.connections}


def read_clouds(
    path: Path, topic: str | None = None, *, start_s: float = 0.0
) -> Iterator[BagCloud]:
    """Every PointCloud2 of one topic, in the order of recording.

    Args:
        path: bag folder, .mcap, .db3, or ROS 1 .bag.
        topic: which topic; None is the only PointCloud2 topic that the bag has.
        start_s: seconds of the bag to skip.

    Raises:
        DatasetError: the bag is missing or broken, or has no such topic (or several to choose
            from); the message lists those that it has.
    """
    with _open_bag(path) as reader:
        topic = _choose_topic(path, topic, reader.connections)
        connections = [found for found in reader.connections if found.topic == topic]
        start_ns = reader.start_time + round(start_s * NANOSECONDS) if start_s else None
        for connection, time_ns, raw in reader.messages(connections, start=start_ns):
            message: Any = reader.deserialize(raw, connection.msgtype)
            stamp = message.header.stamp
            yield BagCloud(
                topic=topic,
                stamp_ns=stamp.sec * NANOSECONDS + stamp.nanosec,
                frame_id=message.header.frame_id,
                message=message,
                time_ns=time_ns,
                cdr=raw if reader.is2 else bytes(_types().serialize_cdr(message, CLOUD_TYPE)),
            )


def write_kitti_bag(
    dataset_root: Path, out: Path, rate: float = 10.0, frames: Sequence[str] | None = None
) -> int:
    """Turn the sweeps of a KITTI object folder into a bag: topic `/points`, frame `velodyne`.

    KITTI's object frames have no times: the first is stamped 1 s, then they follow at `rate`.

    Args:
        dataset_root: folder that holds `training/velodyne`.
        out: bag folder to create.
        rate: clouds per second [Hz].
        frames: names such as `000008`, in this order; None is all.

    Returns:
        Number of clouds written.

    Raises:
        DatasetError: a frame is missing or broken, or `out` exists.
    """
    folder = dataset_root / 'training' / 'velodyne'
    names = sorted(path.stem for path in folder.glob('*.bin')) if frames is None else frames
    if not names:
        raise DatasetError(f'{folder} holds no .bin file')
    with CloudBagWriter(out) as writer:
        for index, name in enumerate(names):
            stamp_ns = NANOSECONDS + round(index * NANOSECONDS / rate)  # 0 means "no time" to ROS
            points = read_points(folder / f'{name}.bin')
            writer.write(KITTI_TOPIC, stamp_ns, KITTI_FRAME_ID, points)
    return len(names)


@cache
def _types() -> Typestore:
    return get_typestore(Stores.LATEST)


def _build_cloud(stamp_ns: int, frame_id: str, layout: Mapping[str, Any]) -> Any:
    types = _types().types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, NANOSECONDS))
    fields = [types['sensor_msgs/msg/PointField'](**field) for field in layout['fields']]
    header = types['std_msgs/msg/Header'](stamp, frame_id)
    return types[CLOUD_TYPE](header=header, **{**layout, 'fields': fields})


def _choose_topic(path: Path, topic: str | None, connections: Sequence[Connection]) -> str:
    clouds = sorted({found.topic for found in connections if found.msgtype == CLOUD_TYPE})
    if topic is None and len(clouds) == 1:
        return clouds[0]
    if topic in clouds:
        return topic
    has = f'its PointCloud2 topics are {clouds}' if clouds else 'it has no PointCloud2 topic'
    if topic is None:
        raise DatasetError(f'{path}: {has}; name the topic to read')
    raise DatasetError(f'{path} has no PointCloud2 topic {topic!r}; {has}')


@contextmanager
def _open_bag(path: Path) -> Iterator[AnyReader]:
    """An open bag; whatever goes wrong inside is the bag's fault."""
    if not path.exists():
        raise DatasetError(f'{path}: no such bag')
    try:
        with AnyReader([path], default_typestore=_types()) as reader:
            yield reader
    except PointDistillerError:
        raise
    except Exception as error:  # a damaged file surfaces as any error of its many parsers
        raise DatasetError(
            f'{path} is not a readable bag: {error or type(error).__name__}; a bag is a folder '
            'with metadata.yaml, an .mcap, a .db3 or a ROS 1 .bag (a recording that was cut off: '
            'ros2 bag reindex)'
        ) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(f'{path}: cannot write the bag: {error}') from error
