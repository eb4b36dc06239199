# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""ROS bags without ROS: MCAP is written; MCAP, sqlite3 and ROS 1 bags are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
import itertools
from pathlib import Path
import shutil
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, ConnectionExtRosbag1, Qos, QosDurability
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from pointdistiller_core.config import DatasetConfig
from pointdistiller_core.datasets.cut_off_mcap import CutOffMcap, is_cut_off
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.datasets.message_types import add_types
from pointdistiller_core.datasets.point_cloud2 import (
    cloud_layout,
    drop_no_returns,
    points_from_cloud,
)
from pointdistiller_core.errors import DatasetError, PointDistillerError
from pointdistiller_core.records import Frame, GroundTruth

CLOUD_TYPE = 'sensor_msgs/msg/PointCloud2'
BAG_VERSION: Literal[8] = 8  # the newest metadata that ROS 2 Humble reads, too
KITTI_TOPIC, TRUTH_TOPIC, KITTI_FRAME_ID = '/points', '/ground_truth/boxes', 'velodyne'
NANOSECONDS = 1_000_000_000


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
    with _open_bag(path) as bag:
        return {found.topic: found.msgtype for found in bag.reader.connections}


def latched_topics(path: Path) -> frozenset[str]:
    """Topics whose publishers kept messages for those that came later, as `/tf_static` is.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    with _open_bag(path) as bag:
        return frozenset(found.topic for found in bag.reader.connections if _is_latched(found))


def read_messages(
    path: Path,
    topics: Collection[str],
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> Iterator[BagMessage]:
    """Messages of some topics, in the order of recording, read as they are asked for.

    Of latched topics the messages before the start come, too: they hold from then on.

    Args:
        path: bag folder, .mcap, .db3, or ROS 1 .bag.
        topics: which topics; those that the bag does not have are left out.
        start_s: seconds of the bag to skip.
        duration_s: seconds from there to read; None is all.

    Raises:
        DatasetError: the bag is missing or broken. What comes before the broken part is read.
    """
    with _open_bag(path) as bag:
        yield from bag.messages(topics, start_s, duration_s)


def read_clouds(
    path: Path,
    topic: str | None = None,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> Iterator[BagCloud]:
    """Every PointCloud2 of one topic, in the order of recording, read as they are asked for.

    Args:
        path: bag folder, .mcap, .db3, or ROS 1 .bag.
        topic: which topic; None is the only PointCloud2 topic that the bag has.
        start_s: seconds of the bag to skip.
        duration_s: seconds from there to read; None is all.

    Raises:
        DatasetError: the bag is missing or broken, or has no such topic (or several to choose
            from); the message lists those that it has. What comes before the broken part is read.
    """
    with _open_bag(path) as bag:
        topic = _choose_topic(path, topic, bag.reader.connections)
        for found in bag.messages([topic], start_s, duration_s):
            message: Any = _types().deserialize_cdr(found.cdr, CLOUD_TYPE)
            stamp = message.header.stamp
            yield BagCloud(
                topic=topic,
                time_ns=found.time_ns,
                cdr=found.cdr,
                stamp_ns=stamp.sec * NANOSECONDS + stamp.nanosec,
                frame_id=message.header.frame_id,
                message=message,
            )


class BagFrames:
    """The clouds of a bag's only PointCloud2 topic by their number, without rays without return.

    They are read where they are asked for. In ascending order the bag is gone through once; a
    number that is not above the last one starts over.

    Args:
        bag: bag folder, .mcap, .db3, or ROS 1 .bag.
        intensity_scale: factor on the raw intensity; None is 1 for floating point and
            1 / (largest value) for integers.

    Raises:
        DatasetError: as `read_clouds`.
    """

    def __init__(self, bag: Path, *, intensity_scale: float | None = None) -> None:
        self._bag = bag
        self._scale = intensity_scale
        self._length = self._next = sum(1 for _ in read_clouds(bag))
        self._rest: Iterator[BagCloud] = iter(())

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self._length:
            raise IndexError(f'cloud {index} of {self._length} in {self._bag}')
        if index < self._next:
            self._rest, self._next = read_clouds(self._bag), 0
        cloud = next(itertools.islice(self._rest, index - self._next, None))
        self._next = index + 1
        points = drop_no_returns(points_from_cloud(cloud.message, intensity_scale=self._scale))
        return Frame(points, str(index), stamp_ns=cloud.stamp_ns)


def kitti_sweeps(root: Path) -> list[str]:
    """Names of all sweeps of a KITTI object folder.

    Raises:
        DatasetError: there is none.
    """
    folder = root / 'training' / 'velodyne'
    if names := sorted(path.stem for path in folder.glob('*.bin')):
        return names
    raise DatasetError(f'{folder} holds no .bin file')


def write_kitti_bag(
    dataset_root: Path,
    out: Path,
    rate: float = 10.0,
    frames: Sequence[str] | None = None,
    *,
    max_frames: int | None = None,
    ground_truth: Sequence[str] = (),
    camera_view: bool = False,
    intensity_scale: float = 1.0,
) -> int:
    """Turn the sweeps of a KITTI object folder into a bag: topic `/points`, frame `velodyne`.

    KITTI's object frames have no times: the first is stamped 1 s, then they follow at `rate`.

    Args:
        dataset_root: folder that holds `training/velodyne`.
        out: bag folder to create.
        rate: clouds per second [Hz].
        frames: names such as `000008`, in this order; None is all.
        max_frames: take no more than the first so many of them.
        ground_truth: names of classes; the labelled boxes then go to `/ground_truth/boxes`, a
            point for each: x, y, z, dx, dy, dz, yaw, score (1), and label, which indexes these
            names and is -1 for what is labelled as anything else.
        camera_view: drop points that the camera does not see, where nothing is labelled.
        intensity_scale: factor on the intensity of the files.

    Returns:
        Number of clouds written.

    Raises:
        DatasetError: a frame is missing or broken, or `out` exists.
    """
    names = kitti_sweeps(dataset_root) if frames is None else frames
    if not names:
        raise DatasetError(f'{out}: there are no frames to write')
    config = DatasetConfig(
        root=dataset_root, camera_view=camera_view, intensity_scale=intensity_scale
    )
    labelled, chosen = bool(ground_truth), names[:max_frames]
    dataset = KittiDataset(config, ground_truth, labelled=labelled, frame_ids=chosen)
    with CloudBagWriter(out) as writer:
        for index in range(len(dataset)):
            stamp_ns = NANOSECONDS + round(index * NANOSECONDS / rate)  # 0 means "no time" to ROS
            frame = dataset[index]
            if frame.ground_truth is not None:
                _write_truth(writer, stamp_ns, frame.ground_truth)
            writer.write(KITTI_TOPIC, stamp_ns, KITTI_FRAME_ID, frame.points)
    return len(dataset)


def _write_truth(writer: CloudBagWriter, stamp_ns: int, truth: GroundTruth) -> None:
    columns: dict[str, NDArray[Any]] = {
        name: column
        for name, column in zip(('dx', 'dy', 'dz', 'yaw'), truth.boxes[:, 3:].T, strict=True)
    }
    columns['score'] = np.ones(len(truth), np.float32)
    columns['label'] = truth.labels.astype(np.int32)
    writer.write(TRUTH_TOPIC, stamp_ns, KITTI_FRAME_ID, truth.boxes[:, :3], columns)


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


@dataclass(frozen=True)
class _Bag:
    """An open bag.

    Attributes:
        path: where it is.
        reader: what reads it.
        cut_off: whether its end is missing.
    """

    path: Path
    reader: AnyReader
    cut_off: bool

    def messages(
        self, topics: Collection[str], start_s: float, duration_s: float | None
    ) -> Iterator[BagMessage]:
        """Messages as `read_messages` returns them."""
        start_ns = self.reader.start_time + round(start_s * NANOSECONDS)
        stop_ns = self.reader.end_time
        if duration_s is not None:
            stop_ns = min(stop_ns, start_ns + round(duration_s * NANOSECONDS))
        wanted = [found for found in self.reader.connections if found.topic in topics]
        latched = [found for found in wanted if _is_latched(found)]
        yield from self._between(latched, None, start_ns)
        yield from self._between(wanted, start_ns, stop_ns)
        if self.cut_off and stop_ns >= self.reader.end_time:
            raise DatasetError(
                f'{self.path} was cut off while it was recorded; everything before that was read '
                '(ros2 bag reindex repairs the bag)'
            )

    def _between(
        self, connections: Sequence[Connection], start_ns: int | None, stop_ns: int
    ) -> Iterator[BagMessage]:
        if not connections or (start_ns is not None and stop_ns <= start_ns):
            return
        for found, time_ns, raw in self.reader.messages(connections, start_ns, stop_ns):
            yield BagMessage(found.topic, time_ns, self._to_cdr(raw, found.msgtype))

    def _to_cdr(self, raw: bytes, message_type: str) -> bytes:
        if self.reader.is2:
            return raw
        message = self.reader.deserialize(raw, message_type)
        return bytes(_types().serialize_cdr(message, message_type))


def _is_latched(connection: Connection) -> bool:
    if isinstance(connection.ext, ConnectionExtRosbag1):
        return bool(connection.ext.latching)
    offered = connection.ext.offered_qos_profiles
    return any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in offered)


@contextmanager
def _open_bag(path: Path) -> Iterator[_Bag]:
    """An open bag; whatever goes wrong inside is the bag's fault."""
    if not path.exists():
        raise DatasetError(f'{path}: no such bag')
    try:
        storage = _storage_of(path)
        cut_off = isinstance(storage, CutOffMcap)
        with AnyReader([storage], default_typestore=_types()) as reader:
            yield _Bag(path, reader, cut_off)
    except PointDistillerError:
        raise
    except Exception as error:  # a damaged file surfaces as any error of its many parsers
        reason = str(error) or type(error).__name__
        raise DatasetError(
            f'{path} is not a readable bag: {reason}; a bag is a folder with metadata.yaml, an '
            '.mcap, a .db3 or a ROS 1 .bag (a recording that was cut off: ros2 bag reindex, or '
            'rosbag reindex)'
        ) from error


def _storage_of(path: Path) -> Path:
    """The folder or file to open: a recorder that died leaves a file without end or metadata."""
    files = [path]
    if path.is_dir():
        files = [found for found in path.iterdir() if found.suffix in ('.mcap', '.db3')]
    if len(files) != 1:
        return path
    if files[0].suffix == '.mcap' and is_cut_off(files[0]):
        return CutOffMcap(files[0])
    return path if (path / 'metadata.yaml').exists() else files[0]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, WriterError) as error:
        raise DatasetError(f'{path}: cannot write the bag: {error}') from error
