# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags without ROS."""

from __future__ import annotations

from contextlib import suppress
import errno
import tracemalloc

from bag_files import CLOUD, POINTS, TYPES, cloud_cdr, cloud_message
from kitti_folder import write_frame
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.messages.bags import (
    CloudBagWriter,
    bag_topics,
    latched_topics,
    read_clouds,
    read_messages,
)
from pointdistiller_core.messages.point_cloud2 import (
    points_from_cloud,
    records_from_cloud,
)
from pointdistiller_core.pipelines.make_bag import write_kitti_bag

STRING = 'std_msgs/msg/String'
TF = 'tf2_msgs/msg/TFMessage'
QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    QosTime(0, 0),
    QosTime(0, 0),
    QosLiveliness.AUTOMATIC,
    QosTime(0, 0),
    avoid_ros_namespace_conventions=False,
)
STAMP = 5_000_000_007


def write_bag(path, topics=('/points',), num_clouds=3):
    with CloudBagWriter(path) as writer:
        for index in range(num_clouds):
            for topic in topics:
                writer.write(topic, (index + 1) * 10**9 + 7, 'lidar', POINTS + index)
    return path


@pytest.mark.parametrize('inner', ['', 'drive.mcap'])
def test_what_is_written_is_read(tmp_path, inner):
    clouds = list(read_clouds(write_bag(tmp_path / 'drive') / inner))
    assert [cloud.stamp_ns for cloud in clouds] == [1_000_000_007, 2_000_000_007, 3_000_000_007]
    assert [cloud.time_ns for cloud in clouds] == [cloud.stamp_ns for cloud in clouds]
    assert {(cloud.topic, cloud.frame_id) for cloud in clouds} == {('/points', 'lidar')}
    for index, cloud in enumerate(clouds):
        np.testing.assert_array_equal(points_from_cloud(cloud.message), POINTS + index)


def test_extra_fields_travel(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/points', 1, 'lidar', POINTS, {'label': np.array([3, 4], np.int32)})
    (cloud,) = read_clouds(tmp_path / 'bag')
    assert [field.name for field in cloud.message.fields] == ['x', 'y', 'z', 'intensity', 'label']


def test_metadata_is_what_humble_reads(tmp_path):
    metadata = (write_bag(tmp_path / 'bag') / 'metadata.yaml').read_text(encoding='utf-8')
    assert "offered_qos_profiles: ''" in metadata  # a list from version 9 on
    assert 'storage_identifier: mcap' in metadata


def test_bag_of_no_clouds(tmp_path):
    with CloudBagWriter(tmp_path / 'bag'):
        pass
    assert bag_topics(tmp_path / 'bag') == {}
    with pytest.raises(DatasetError, match='it has no PointCloud2 topic'):
        list(read_clouds(tmp_path / 'bag'))


def test_start_skips_seconds(tmp_path):
    clouds = read_clouds(write_bag(tmp_path / 'bag'), start_s=1.5)
    assert [cloud.stamp_ns for cloud in clouds] == [3_000_000_007]


def test_duration_ends_before_the_bag_does(tmp_path):
    bag = write_bag(tmp_path / 'bag', num_clouds=4)
    clouds = read_clouds(bag, start_s=1.0, duration_s=2.0)
    assert [cloud.stamp_ns for cloud in clouds] == [2_000_000_007, 3_000_000_007]
    assert len(list(read_clouds(bag, duration_s=99.0))) == 4
    assert list(read_clouds(bag, start_s=99.0, duration_s=1.0)) == []


def test_latched_messages_from_before_the_start_are_read(tmp_path):
    types = get_typestore(Stores.LATEST)
    qos = [QOS._replace(durability=QosDurability.TRANSIENT_LOCAL)]
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for time in (1, 2, 10**9, 3 * 10**9):
            text = types.serialize_cdr(types.types[STRING](str(time)), STRING)
            writer.write_serialized('/latched', STRING, time, text, qos)
            writer.write_serialized('/text', STRING, time, text, [QOS])
    assert latched_topics(tmp_path / 'bag') == {'/latched'}
    read = read_messages(tmp_path / 'bag', ['/text', '/latched', '/absent'], start_s=1.5)
    assert [(found.topic, found.time_ns) for found in read] == [
        ('/latched', 1),
        ('/latched', 2),
        ('/latched', 10**9),
        ('/latched', 3 * 10**9),
        ('/text', 3 * 10**9),
    ]


def test_topics_and_serialized_messages(tmp_path):
    types = get_typestore(Stores.LATEST)
    text = types.serialize_cdr(types.types[STRING]('hello'), STRING)
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write_serialized('/text', STRING, 5, text)
        writer.write('/points', 6, 'lidar', POINTS)
    assert bag_topics(tmp_path / 'bag') == {'/text': STRING, '/points': CLOUD}
    with AnyReader([tmp_path / 'bag']) as reader:
        recorded = [(found.topic, time, bytes(raw)) for found, time, raw in reader.messages()]
    assert recorded[0] == ('/text', 5, bytes(text))


def test_type_that_is_not_known(tmp_path):
    with (
        CloudBagWriter(tmp_path / 'bag') as writer,
        pytest.raises(DatasetError, match='definition of my_msgs/msg/Odd is unknown'),
    ):
        writer.write_serialized('/a', 'my_msgs/msg/Odd', 0, b'')


def test_the_only_cloud_topic_is_found_among_others(tmp_path):
    write_bag(tmp_path / 'bag', topics=('/a', '/b'))
    with pytest.raises(DatasetError, match=r"topics are \['/a', '/b'\]; name the topic"):
        list(read_clouds(tmp_path / 'bag'))
    assert [cloud.topic for cloud in read_clouds(tmp_path / 'bag', '/b')] == ['/b'] * 3


def test_the_only_topic_of_a_sensor_is_chosen_and_told(tmp_path):
    ones = np.ones(2, np.float32)
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/a/boxes', 1, 'lidar', POINTS, dict.fromkeys(('dx', 'dy', 'dz'), ones))
        writer.write('/b/importance', 1, 'lidar', POINTS, {'importance': ones})
        writer.write('/c/map', 1, 'lidar', POINTS[:, :3])
        writer.write('/points', 1, 'lidar', POINTS)
    notes = []
    (cloud,) = read_clouds(tmp_path / 'bag', on_note=notes.append)
    assert cloud.topic == '/points'
    topics = "['/a/boxes', '/b/importance', '/c/map', '/points']"
    assert notes == [
        f"{tmp_path / 'bag'}: reading /points, the only one of {topics} with a sensor's fields"
    ]


def test_sensor_without_intensity_among_boxes(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/boxes', 1, 'lidar', POINTS, {'dx': np.ones(2, np.float32)})
        writer.write('/points', 1, 'lidar', POINTS[:, :3])
    notes = []
    (cloud,) = read_clouds(tmp_path / 'bag', on_note=notes.append)
    assert (cloud.topic, notes) == ('/points', [])  # boxes are no sensor's for certain


def test_bag_without_the_topic_lists_those_it_has(tmp_path):
    write_bag(tmp_path / 'bag', topics=('/a', '/b'))
    with pytest.raises(DatasetError, match=r"no PointCloud2 topic '/c'; .* \['/a', '/b'\]"):
        list(read_clouds(tmp_path / 'bag', '/c'))


def test_sqlite3_bag_without_definitions(tmp_path):
    types = get_typestore(Stores.ROS2_HUMBLE)
    with Rosbag2Writer(
        tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.SQLITE3
    ) as writer:
        connection = writer.add_connection('/points', CLOUD, typestore=types)
        writer.write(connection, 9, types.serialize_cdr(cloud_message(STAMP, types=types), CLOUD))
    (cloud,) = read_clouds(tmp_path / 'bag')
    assert (cloud.stamp_ns, cloud.time_ns) == (5_000_000_007, 9)
    np.testing.assert_array_equal(points_from_cloud(cloud.message), POINTS)


def test_ros1_bag_is_read_and_offered_as_ros2_sends_it(tmp_path):
    types, ros2_types = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.LATEST)
    with Rosbag1Writer(tmp_path / 'drive.bag') as writer:
        connection = writer.add_connection('/points', CLOUD, typestore=types)
        writer.write(
            connection, 9, types.serialize_ros1(cloud_message(STAMP, types=types, seq=3), CLOUD)
        )
    (cloud,) = read_clouds(tmp_path / 'drive.bag')
    np.testing.assert_array_equal(points_from_cloud(cloud.message), POINTS)
    sent = ros2_types.deserialize_cdr(cloud.cdr, CLOUD)
    assert (sent.header.stamp.sec, sent.header.frame_id) == (5, 'lidar')
    np.testing.assert_array_equal(points_from_cloud(sent), POINTS)


def test_transforms_of_ros1(tmp_path):
    types, ros2_types = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.LATEST)
    types.register(get_types_from_msg('geometry_msgs/TransformStamped[] transforms', TF))
    kinds = types.types
    header = kinds['std_msgs/msg/Header'](3, kinds['builtin_interfaces/msg/Time'](5, 7), 'base')
    transform = kinds['geometry_msgs/msg/Transform'](
        kinds['geometry_msgs/msg/Vector3'](1.0, 2.0, 3.0),
        kinds['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0),
    )
    stamped = kinds['geometry_msgs/msg/TransformStamped'](header, 'lidar', transform)
    raw = types.serialize_ros1(kinds[TF]([stamped]), TF)
    with Rosbag1Writer(tmp_path / 'drive.bag') as writer:
        connection = writer.add_connection('/tf_static', TF, typestore=types, latching=1)
        writer.write(connection, 9, raw)
        writer.write(writer.add_connection('/tf', TF, typestore=types), 10, raw)
    assert latched_topics(tmp_path / 'drive.bag') == {'/tf_static'}
    for found in read_messages(tmp_path / 'drive.bag', ['/tf', '/tf_static']):
        (read,) = ros2_types.deserialize_cdr(found.cdr, TF).transforms
        assert (read.header.frame_id, read.child_frame_id) == ('base', 'lidar')
        assert (read.header.stamp.sec, read.transform.translation.z) == (5, 3.0)


@pytest.mark.parametrize(
    ('storage', 'mode'),
    [
        (StoragePlugin.MCAP, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    ],
)
def test_compressed_bag(tmp_path, storage, mode):
    types = get_typestore(Stores.LATEST)
    writer = Rosbag2Writer(tmp_path / 'bag', version=8, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection('/points', CLOUD, typestore=types)
        for time in (9, 10):
            writer.write(
                connection, time, types.serialize_cdr(cloud_message(STAMP, types=types), CLOUD)
            )
    clouds = list(read_clouds(tmp_path / 'bag'))
    assert [cloud.time_ns for cloud in clouds] == [9, 10]
    for cloud in clouds:
        np.testing.assert_array_equal(points_from_cloud(cloud.message), POINTS)


@pytest.mark.parametrize('compression', Rosbag1Writer.CompressionFormat)
def test_compressed_ros1_bag(tmp_path, compression):
    types = get_typestore(Stores.ROS1_NOETIC)
    writer = Rosbag1Writer(tmp_path / 'drive.bag')
    writer.set_compression(compression)
    with writer:
        connection = writer.add_connection('/points', CLOUD, typestore=types)
        raw = types.serialize_ros1(cloud_message(STAMP, types=types, seq=3), CLOUD)
        writer.write(connection, 9, raw)
    (cloud,) = read_clouds(tmp_path / 'drive.bag')
    np.testing.assert_array_equal(points_from_cloud(cloud.message), POINTS)


def test_memory_holds_a_few_clouds_not_the_bag(tmp_path):
    points = np.zeros((50_000, 4), np.float32)  # 0.8 MB
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for time in range(40):
            writer.write('/points', time, 'lidar', points)
    clouds = read_clouds(tmp_path / 'bag')
    next(clouds)
    tracemalloc.start()
    try:
        assert sum(1 for _ in clouds) == 39
        assert tracemalloc.get_traced_memory()[1] < 10 * points.nbytes
    finally:
        tracemalloc.stop()


def read_until_error(clouds):
    """How many clouds come, and the error after them."""
    read = []
    with pytest.raises(DatasetError) as raised:
        read.extend(clouds)
    return len(read), str(raised.value)


def long_bag(path):
    """Six clouds in three chunks."""
    with CloudBagWriter(path) as writer:
        for index in range(6):
            writer.write('/points', (index + 1) * 10**9, 'lidar', np.ones((40_000, 4), np.float32))
    return path


def test_cut_off_recording_is_read_up_to_the_cut(tmp_path):
    bag = long_bag(tmp_path / 'bag')
    file = bag / 'bag.mcap'
    whole = file.read_bytes()
    (bag / 'metadata.yaml').unlink()  # a recorder that dies writes neither
    for part, expected in ((0.9, 4), (0.5, 2), (0.1, 0)):
        file.write_bytes(whole[: int(part * len(whole))])
        for path in (bag, file):
            if expected:
                count, error = read_until_error(read_clouds(path))
                assert count == expected
                assert 'was cut off while it was recorded; everything before that was' in error
            else:
                with pytest.raises(DatasetError, match='it has no PointCloud2 topic'):
                    list(read_clouds(path))


def test_cut_off_recording_that_nobody_reads_to_the_end_is_none(tmp_path):
    file = long_bag(tmp_path / 'bag') / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-1])
    assert bag_topics(file) == {'/points': CLOUD}
    assert len(list(read_clouds(file, duration_s=2.5))) == 3
    assert len(list(read_clouds(file, start_s=4.0, duration_s=0.5))) == 1
    assert read_until_error(read_clouds(file, start_s=2.0))[0] == 4


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_whole_file_without_metadata(tmp_path, storage):
    types = get_typestore(Stores.LATEST)
    with Rosbag2Writer(tmp_path / 'bag', version=8, storage_plugin=storage) as writer:
        connection = writer.add_connection('/points', CLOUD, typestore=types)
        writer.write(connection, 9, types.serialize_cdr(cloud_message(STAMP, types=types), CLOUD))
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    assert len(list(read_clouds(tmp_path / 'bag'))) == 1


def test_damaged_chunk_ends_the_reading_there(tmp_path):
    file = long_bag(tmp_path / 'bag') / 'bag.mcap'
    whole = file.read_bytes()
    begin, end = int(0.4 * len(whole)), int(0.6 * len(whole))  # inside of the second chunk
    file.write_bytes(whole[:begin] + b'\xff' * (end - begin) + whole[end:])
    count, error = read_until_error(read_clouds(file))
    assert count == 2
    assert 'is not a readable bag' in error


def test_existing_output_is_never_overwritten(tmp_path):
    (tmp_path / 'bag').write_text('precious', encoding='utf-8')
    with pytest.raises(WriteError, match='bag exists already; choose another name'):
        CloudBagWriter(tmp_path / 'bag')
    assert (tmp_path / 'bag').read_text(encoding='utf-8') == 'precious'


def test_suffix_of_ros1_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r'\.bag is the suffix of ROS 1'):
        CloudBagWriter(tmp_path / 'drive.bag')


def test_a_failure_leaves_no_half_bag(tmp_path):
    def fail_halfway():
        with CloudBagWriter(tmp_path / 'bag') as writer:
            writer.write('/points', 1, 'lidar', POINTS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert not (tmp_path / 'bag').exists()


def test_what_the_library_does_not_write(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    with pytest.raises(WriteError, match=r'link: cannot write the bag: .* exists already'):
        CloudBagWriter(tmp_path / 'link')
    writer = CloudBagWriter(tmp_path / 'bag')
    writer.write('/points', 1, 'lidar', POINTS)
    writer.close()
    with pytest.raises(WriteError, match='cannot write the bag: Bag was not opened'):
        writer.write('/points', 2, 'lidar', POINTS)


def test_full_disk(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Rosbag2Writer, 'write', fail)
    with pytest.raises(WriteError, match=r'bag: cannot be written: No space left on device'):
        write_bag(tmp_path / 'bag')
    assert not (tmp_path / 'bag').exists()


def test_folder_that_cannot_be_created(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='file/bag: cannot be written: Not a directory'):
        CloudBagWriter(tmp_path / 'file' / 'bag')


def test_missing_bag(tmp_path):
    with pytest.raises(DatasetError, match='absent: no such bag'):
        bag_topics(tmp_path / 'absent')


@pytest.mark.parametrize('suffix', ['.mcap', '.db3', '.bag', '.txt', ''])
@pytest.mark.parametrize('content', [b'', b'\x89MCAP0\r\n', b'not a bag' * 99])
def test_file_that_is_no_bag(tmp_path, suffix, content):
    path = tmp_path / f'broken{suffix}'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'broken.* is not a readable bag'):
        bag_topics(path)


def test_folder_that_is_no_bag(tmp_path):
    with pytest.raises(DatasetError, match='not a readable bag'):
        bag_topics(tmp_path)


def test_damaged_mcap_is_a_dataset_error_or_reads(tmp_path):
    whole = (write_bag(tmp_path / 'bag') / 'bag.mcap').read_bytes()
    damaged = tmp_path / 'damaged.mcap'
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 60):
        for content in (whole[:position], whole[:position] + b'\xff' * 4 + whole[position + 4 :]):
            damaged.write_bytes(content)
            with suppress(DatasetError):  # any other error fails the test
                assert len(list(read_clouds(damaged))) <= 3


def test_broken_clouds_do_not_keep_the_others_from_being_read(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for second in range(1, 7):
            writer.write('/points', second * 10**9, 'lidar', POINTS)
            if second in (1, 4):
                writer.write_serialized('/points', CLOUD, second * 10**9 + 1, bytes(8))
    count, error = read_until_error(read_clouds(tmp_path / 'bag'))
    assert count == 6
    assert '2 messages cannot be read, the first on /points at 1.000 s: ' in error
    assert 'all others were' in error


def test_topic_with_messages_of_two_types(tmp_path):
    types = get_typestore(Stores.LATEST)
    text = types.serialize_cdr(types.types[STRING]('hello'), STRING)
    with Rosbag2Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for kind, content in ((STRING, text), (CLOUD, cloud_cdr(STAMP))):
            connection = writer.add_connection('/points', kind, typestore=types)
            writer.write(connection, STAMP, content)
    notes = []
    (cloud,) = read_clouds(tmp_path / 'bag', on_note=notes.append)
    assert (cloud.stamp_ns, notes) == (STAMP, [])


def test_any_cloud_is_read_or_counted(tmp_path):
    whole = bytes(TYPES.serialize_cdr(cloud_message(STAMP), CLOUD))
    rng = np.random.default_rng(0)
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for position in rng.integers(0, len(whole), 300):
            for content in (whole[:position], whole[:position] + rng.bytes(4) + whole[position:]):
                writer.write_serialized('/points', CLOUD, int(position), content)
    count, error = read_until_error(read_clouds(tmp_path / 'bag'))
    assert f': {600 - count} messages cannot be read' in error


def test_an_error_of_the_reader_of_clouds_stays_its_own(tmp_path):
    clouds = read_clouds(write_bag(tmp_path / 'bag'))
    with pytest.raises(ZeroDivisionError):
        [1 // 0 for _ in clouds]


def kitti_folder(root, frames):
    (root / 'training' / 'velodyne').mkdir(parents=True)
    for name in frames:
        POINTS.tofile(root / 'training' / 'velodyne' / f'{name}.bin')
    return root


def test_kitti_bag(tmp_path):
    root = kitti_folder(tmp_path / 'kitti', ['000001', '000000', '000002'])
    assert write_kitti_bag(root, tmp_path / 'all', rate=5.0) == 3
    assert [cloud.stamp_ns for cloud in read_clouds(tmp_path / 'all')] == [
        1_000_000_000,
        1_200_000_000,
        1_400_000_000,
    ]
    assert write_kitti_bag(root, tmp_path / 'one', frames=['000001']) == 1
    (cloud,) = read_clouds(tmp_path / 'one')
    assert (cloud.topic, cloud.frame_id) == ('/points', 'velodyne')
    np.testing.assert_array_equal(points_from_cloud(cloud.message), POINTS)


def test_kitti_bag_with_labels(tmp_path):
    boxes = [[10, 1, 0, 4, 2, 1.5, 0.3], [20, -2, 0, 0.8, 0.6, 1.7, -1.0]]
    points = [[10, 0, 0, 0.5], [-10, 0, 0, 0.5]]  # the second is behind the camera
    write_frame(tmp_path / 'kitti', '000004', points, boxes, ['Van', 'Pedestrian'])
    write_kitti_bag(
        *(tmp_path / 'kitti', tmp_path / 'bag'),
        ground_truth=('Car', 'Pedestrian'),
        camera_view=True,
    )
    (cloud,) = read_clouds(tmp_path / 'bag', '/points')
    np.testing.assert_array_equal(points_from_cloud(cloud.message)[:, 0], [10])
    (truth,) = read_clouds(tmp_path / 'bag', '/ground_truth/boxes')
    assert (truth.stamp_ns, truth.frame_id) == (cloud.stamp_ns, 'velodyne')
    names = ('x', 'y', 'z', 'dx', 'dy', 'dz', 'yaw')
    records = records_from_cloud(truth.message, (*names, 'score', 'label'))
    found = np.stack([records[name] for name in names], axis=1)
    np.testing.assert_allclose(found, boxes, atol=0.01)  # label files have two decimals
    assert records['label'].tolist() == [-1, 1]
    assert records['score'].tolist() == [1, 1]


def test_first_frames_of_a_kitti_folder(tmp_path):
    root = kitti_folder(tmp_path / 'kitti', ['000001', '000000', '000002'])
    assert write_kitti_bag(root, tmp_path / 'bag', max_frames=2) == 2


def test_kitti_bag_of_missing_frames(tmp_path):
    root = kitti_folder(tmp_path / 'kitti', ['000001'])
    with pytest.raises(DatasetError, match=r'000009\.bin'):
        write_kitti_bag(root, tmp_path / 'bag', frames=['000001', '000009'])
    assert not (tmp_path / 'bag').exists()
    with pytest.raises(DatasetError, match=r'velodyne holds no \.bin file'):
        write_kitti_bag(tmp_path, tmp_path / 'bag')


def test_real_frames_become_a_bag(kitti_mini, tmp_path):
    write_kitti_bag(kitti_mini, tmp_path / 'bag', frames=['000008'])
    (cloud,) = read_clouds(tmp_path / 'bag')
    raw = np.fromfile(kitti_mini / 'training' / 'velodyne' / '000008.bin', np.float32)
    np.testing.assert_array_equal(points_from_cloud(cloud.message), raw.reshape(-1, 4))
