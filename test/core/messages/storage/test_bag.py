# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bags whose metadata.yaml is missing or wrong, and bags of many files."""

from __future__ import annotations

import os
import shutil

from bag_files import (
    CLOUD,
    TYPES,
    clouds,
    edit_metadata,
    mcap_bytes,
    write_storage,
)
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
import yaml

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.messages.bags import latched_topics, read_clouds
from pointdistiller_core.messages.storage.bag import is_bag

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
TIMES = [second * 10**9 for second in range(1, 7)]


def read(path, **choices):
    """Times of all clouds, and notes without the path."""
    notes: list[str] = []
    times = [cloud.time_ns for cloud in read_clouds(path, on_note=notes.append, **choices)]
    return times, notes


def write_splits(path, parts, plugin=MCAP, **metadata):
    """A bag of several files."""
    write_storage(path, plugin, TIMES, **metadata)
    (whole,) = (found for found in path.iterdir() if found.name != 'metadata.yaml')
    names = [f'{path.name}_{index}{whole.suffix}' for index in range(len(parts))]
    for name, times in zip(names, parts, strict=True):
        part = write_storage(path.parent / f'part_{name}', plugin, times)
        shutil.move(part / f'part_{name}{whole.suffix}', path / name)
    whole.unlink()
    edit_metadata(path, relative_file_paths=names)
    return path


def topic(count, **metadata):
    """What metadata.yaml tells of a topic."""
    names = {'name': '/points', 'type': CLOUD, 'serialization_format': 'cdr'}
    return {'topic_metadata': names | metadata, 'message_count': count}


def nanoseconds(start, duration):
    return {
        'starting_time': {'nanoseconds_since_epoch': start},
        'duration': {'nanoseconds': duration},
    }


@pytest.mark.parametrize(
    ('metadata', 'outside', 'plugin'),
    [
        (nanoseconds(TIMES[0], 0), 5, MCAP),
        (nanoseconds(TIMES[2], TIMES[5] - TIMES[2]), 2, MCAP),  # as after ros2 bag convert
        (nanoseconds(TIMES[0], TIMES[1]), 3, MCAP),  # of one split, as Humble writes it
        (nanoseconds(TIMES[0], TIMES[1]), 3, SQLITE),
        (nanoseconds(2**63 - 1, 0), 6, MCAP),
    ],
)
def test_times_in_the_metadata_bound_nothing(tmp_path, metadata, outside, plugin):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:]], plugin, **metadata)
    times, (note,) = read(bag)
    assert times == TIMES
    assert f'bag: {outside} of 6 messages on /points are outside of ' in note
    assert read(bag, start_s=1.5, duration_s=3.0) == (TIMES[2:5], [])


@pytest.mark.parametrize(
    ('metadata', 'told'),
    [
        ({'message_count': 0}, ['has 0 messages in all; 6 were read']),
        (
            {'message_count': 0, 'topics_with_message_count': [topic(0)]},
            [
                'has 0 messages in all; 6 were read',
                'has 0 messages on /points, but 6 are there and were read',
            ],
        ),
        (
            {'topics_with_message_count': [topic(7)]},
            ['has 7 messages on /points, but 6 are there and were read'],
        ),
        (
            {'topics_with_message_count': []},
            ['has 0 messages on /points, but 6 are there and were read'],
        ),
    ],
)
def test_counts_in_the_metadata_bound_nothing(tmp_path, metadata, told):
    bag = write_storage(tmp_path / 'bag', MCAP, TIMES, **metadata)
    times, notes = read(bag)
    assert times == TIMES
    assert notes == [f'{bag}: metadata.yaml {text}' for text in told]


@pytest.mark.parametrize(
    'qos',
    [
        '- history: 3\n  depth: 0\n  reliability: 1\n  durability: 2',
        [{'history': 'keep_last', 'durability': 'volatile'}],
        [{'history': 'keep_last'}],
        '- broken: [',
        '',
        None,
    ],
)
def test_quality_of_service_in_the_metadata_chooses_nothing(tmp_path, qos):
    topics = [topic(6, offered_qos_profiles=qos)]
    bag = write_storage(tmp_path / 'bag', MCAP, TIMES, topics_with_message_count=topics)
    assert read(bag) == (TIMES, [])
    assert latched_topics(bag) == set()


@pytest.mark.parametrize('qos', ['- durability: 1', [{'durability': 'transient_local'}]])
def test_latched_by_the_metadata_alone(tmp_path, qos):
    topics = [topic(6, offered_qos_profiles=qos)]
    bag = write_storage(tmp_path / 'bag', MCAP, TIMES, topics_with_message_count=topics)
    assert latched_topics(bag) == {'/points'}


@pytest.mark.parametrize('plugin', [MCAP, SQLITE])
def test_files_are_taken_by_their_content(tmp_path, plugin):
    bag = write_storage(tmp_path / 'bag', plugin, TIMES, storage_identifier='')
    assert read(bag) == (TIMES, [])
    edit_metadata(bag, storage_identifier='other')
    times, (note,) = read(bag)
    assert times == TIMES
    assert f'is {plugin.name.lower()}, not other as metadata.yaml has it' in note
    (file,) = (found for found in bag.iterdir() if found.name != 'metadata.yaml')
    assert read(shutil.copy(file, tmp_path / 'file')) == (TIMES, [])


@pytest.mark.parametrize('version', range(1, 11))
def test_any_version_of_the_metadata(tmp_path, version):
    # Before 4 without QoS and with the folder in the path, before 5 without files.
    bag = write_storage(tmp_path / 'bag', MCAP, TIMES, version=version)
    path = bag / 'metadata.yaml'
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    information = content['rosbag2_bagfile_information']
    if version < 5:
        del information['files'], information['custom_data'], information['ros_distro']
    if version < 4:
        information['relative_file_paths'] = ['recorded/bag/bag.mcap']
        information['topics_with_message_count'] = [topic(6)]
    if version < 3:
        del information['compression_format'], information['compression_mode']
    path.write_text(yaml.safe_dump(content), encoding='utf-8')
    assert read(bag) == (TIMES, [])


@pytest.mark.parametrize('text', ['', '[', 'other: 1', 'rosbag2_bagfile_information: 3', '\0'])
def test_metadata_that_cannot_be_used(tmp_path, text):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:]])
    (bag / 'metadata.yaml').write_text(text, encoding='utf-8')
    times, (note,) = read(bag)
    assert times == TIMES
    assert f'metadata.yaml of {bag} is not used: ' in note


def test_no_metadata(tmp_path):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:]])
    (bag / 'metadata.yaml').unlink()
    assert read(bag) == (TIMES, [f'{bag} has no metadata.yaml: all its files are read'])
    write_storage(tmp_path / 'other', SQLITE, TIMES)
    shutil.copy(tmp_path / 'other' / 'other.db3', bag)
    with pytest.raises(DatasetError, match=r"'other\.db3'\] and no metadata\.yaml to choose"):
        read(bag)


@pytest.mark.parametrize('plugin', [MCAP, SQLITE])
@pytest.mark.parametrize('parts', [[TIMES[::2], TIMES[1::2]], [TIMES[3:], TIMES[:3]], [TIMES, []]])
def test_files_are_merged_by_time(tmp_path, plugin, parts):
    assert read(write_splits(tmp_path / 'bag', parts, plugin)) == (TIMES, [])


def test_ways_to_name_a_bag(tmp_path, monkeypatch):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:]])
    monkeypatch.chdir(tmp_path)
    for path in (bag, bag / 'metadata.yaml', *map(type(bag), ('bag', 'bag/metadata.yaml'))):
        assert read(path) == (TIMES, [])
    monkeypatch.chdir(bag)
    assert read(type(bag)()) == (TIMES, [])
    assert read(type(bag)('metadata.yaml')) == (TIMES, [])
    assert read(bag / 'bag_1.mcap') == (TIMES[3:], [])


def test_files_that_moved(tmp_path):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:]])
    edit_metadata(bag, relative_file_paths=['/elsewhere/bag_0.mcap', 'C:\\bag\\bag_1.mcap'])
    assert read(bag) == (TIMES, [])
    for index in range(2):
        (bag / f'bag_{index}.mcap').rename(bag / f'renamed_{index}.mcap')
    times, (note,) = read(bag)
    assert times == TIMES
    assert 'names are not there; all that are there are read' in note
    (bag / 'renamed_0.mcap').rename(bag / 'bag_0.mcap')
    with pytest.raises(DatasetError, match=r"names \['bag_1\.mcap'\], which are missing"):
        read(bag)


def test_files_that_the_metadata_does_not_name(tmp_path):
    bag = write_storage(tmp_path / 'bag', MCAP, TIMES)
    shutil.copy(bag / 'bag.mcap', bag / 'copy.mcap')
    times, (note,) = read(bag)
    assert times == TIMES
    assert "['copy.mcap'] in " in note
    assert 'are not read: metadata.yaml does not name them' in note


@pytest.mark.parametrize(
    ('content', 'reason'),
    [(b'', r'bag_1\.mcap is empty'), (b'x' * 99, 'is none of mcap, sqlite3, ros1')],
)
def test_a_broken_file_does_not_keep_the_others_from_being_read(tmp_path, content, reason):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:4], TIMES[4:]])
    (bag / 'bag_1.mcap').write_bytes(content)
    found = read_clouds(bag, on_note=lambda _: None)
    assert [next(found).time_ns for _ in range(5)] == [*TIMES[:3], *TIMES[4:]]
    with pytest.raises(DatasetError, match=rf'cannot be read, all others were: .*{reason}'):
        next(found)


def test_a_split_that_was_cut_off(tmp_path):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:]])
    file = bag / 'bag_1.mcap'
    file.write_bytes(file.read_bytes()[:-20])
    found = read_clouds(bag, on_note=lambda _: None)
    assert [next(found).time_ns for _ in range(6)] == TIMES
    with pytest.raises(DatasetError, match=r'bag_1\.mcap was cut off while it was recorded'):
        next(found)
    assert read(bag, duration_s=4.5)[0] == TIMES[:5]


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compression_is_seen_without_metadata(tmp_path, mode):
    compressed = write_compressed(tmp_path / 'bag', mode)
    (compressed / 'metadata.yaml').unlink()
    assert read(compressed) == (TIMES, [])
    (file,) = compressed.iterdir()
    assert read(file) == (TIMES, [])


def write_compressed(path, mode):
    plain = write_storage(path.parent / f'plain_{path.name}', MCAP, TIMES)
    writer = Rosbag2Writer(path, version=8, storage_plugin=MCAP)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection('/points', CLOUD, typestore=TYPES)
        for cloud in read_clouds(plain):
            writer.write(connection, cloud.time_ns, cloud.cdr)
    return path


def test_compressed_files_and_what_was_made_of_them(tmp_path):
    bag = write_compressed(tmp_path / 'bag', CompressionMode.FILE)
    shutil.copy(tmp_path / 'plain_bag' / 'plain_bag.mcap', bag / 'bag.mcap')  # left by a player
    assert read(bag) == (TIMES, [])
    (bag / 'metadata.yaml').unlink()
    assert read(bag)[0] == TIMES
    (bag / 'bag.mcap').unlink()
    assert read(bag) == (TIMES, [])
    edited = write_compressed(tmp_path / 'edited', CompressionMode.FILE)
    shutil.copy(tmp_path / 'plain_bag' / 'plain_bag.mcap', edited / 'edited.mcap')
    (edited / 'edited.mcap.zstd').unlink()
    assert read(edited) == (TIMES, [])


def test_compression_that_is_not_known(tmp_path):
    metadata = {'compression_mode': 'FILE', 'compression_format': 'br9'}
    bag = write_storage(tmp_path / 'bag', MCAP, TIMES, **metadata)
    with pytest.raises(DatasetError, match='it is compressed with br9, not with zstd'):
        read(bag)


def test_what_is_taken_for_a_bag(tmp_path):
    bag = write_splits(tmp_path / 'bag', [TIMES[:3], TIMES[3:]])
    assert all(map(is_bag, (bag, bag / 'metadata.yaml', bag / 'bag_1.mcap')))
    (bag / 'metadata.yaml').unlink()
    assert is_bag(bag)
    assert is_bag(bag.rename(tmp_path / 'odd') / 'bag_0.mcap')
    assert is_bag(tmp_path / 'absent.mcap')
    (tmp_path / 'dataset' / 'training').mkdir(parents=True)
    assert not is_bag(tmp_path / 'dataset')
    assert not is_bag(tmp_path / 'absent')


def test_folder_with_the_suffix_of_ros1(tmp_path):
    assert read(write_storage(tmp_path / 'drive.bag', MCAP, TIMES)) == (TIMES, [])


@pytest.mark.parametrize('plugin', [MCAP, SQLITE])
def test_topic_without_a_message(tmp_path, plugin):
    assert read(write_storage(tmp_path / 'bag', plugin, [])) == ([], [])


def test_many_files_are_not_open_at_once(tmp_path):
    resource = pytest.importorskip('resource')
    (tmp_path / 'bag').mkdir()
    for index in range(100):
        (tmp_path / 'bag' / f'bag_{index}.mcap').write_bytes(mcap_bytes([clouds(index)]))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    unused = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
    os.close(unused)
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused + 20, before[1]))
    try:
        assert read(tmp_path / 'bag')[0] == list(range(100))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
