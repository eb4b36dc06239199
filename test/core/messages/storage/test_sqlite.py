# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""sqlite3 files of ROS 2's bags."""

from __future__ import annotations

from contextlib import closing
import shutil
import sqlite3

from bag_files import CLOUD, cloud_cdr, write_storage
import pytest
from rosbags.rosbag2 import StoragePlugin

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.messages.bags import bag_topics, latched_topics, read_clouds

TIMES = [second * 10**9 for second in range(1, 4)]


@pytest.fixture
def file(tmp_path):
    write_storage(tmp_path / 'bag', StoragePlugin.SQLITE3, TIMES)
    return tmp_path / 'bag' / 'bag.db3'


def times(path):
    return [cloud.time_ns for cloud in read_clouds(path)]


def change(file, *statements):
    with closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize('journal', ['WAL', 'PERSIST'])
def test_what_a_recorder_that_died_has_left_in_a_journal(file, tmp_path, journal):
    with closing(sqlite3.connect(file)) as database:
        database.execute(f'PRAGMA journal_mode={journal}')
        insert = 'INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)'
        with database:
            database.execute(insert, (9 * 10**9, cloud_cdr(9)))
        copy = shutil.copytree(file.parent, tmp_path / 'left')
    assert (copy / f'bag.db3-{"wal" if journal == "WAL" else "journal"}').stat().st_size
    assert times(copy / 'bag.db3') == [*TIMES, 9 * 10**9]


def test_names_that_mean_something_in_an_address(file, tmp_path):
    odd = tmp_path / 'a?b%41#c d.db3'
    file.rename(odd)
    assert times(odd) == TIMES


def test_first_schema_without_quality_of_service(file):
    # Its text in sqlite3 cannot drop columns everywhere: a new table is made.
    change(
        file,
        'CREATE TABLE old AS SELECT id, name, type, serialization_format FROM topics',
        'DROP TABLE topics',
        'ALTER TABLE old RENAME TO topics',
        'DROP TABLE schema',
        'DROP TABLE message_definitions',
    )
    assert times(file) == TIMES
    assert bag_topics(file) == {'/points': CLOUD}


@pytest.mark.parametrize('durability', [1, 2])
def test_latched(file, durability):
    change(file, f"UPDATE topics SET offered_qos_profiles = '- durability: {durability}'")
    assert latched_topics(file) == ({'/points'} if durability == 1 else set())


def test_other_topics_may_be_anything(file):
    change(
        file,
        "INSERT INTO message_definitions VALUES (9, 'a/msg/B', 'unknown', '', '')",
        "INSERT INTO topics VALUES (9, '/b', 'a/msg/B', 'cdr', '', '')",
        "INSERT INTO topics VALUES (10, '/c', 'a/msg/C', 'cbor', '', '')",
        "INSERT INTO messages VALUES (99, 9, 5, x'00')",
    )
    assert times(file) == TIMES
    assert bag_topics(file) == {'/points': CLOUD, '/b': 'a/msg/B'}


def test_file_that_is_no_bag(tmp_path):
    change(tmp_path / 'other.db3', 'CREATE TABLE other(id INTEGER)')
    with pytest.raises(DatasetError, match='not a readable bag: no such table: topics'):
        times(tmp_path / 'other.db3')


def test_cut_off_file(file):
    file.write_bytes(file.read_bytes()[:-4096])
    with pytest.raises(DatasetError, match='not a readable bag: database disk image is malformed'):
        times(file)


def test_nothing_is_written_beside_the_file(file):
    before = sorted(path.name for path in file.parent.iterdir())
    assert times(file) == TIMES
    assert sorted(path.name for path in file.parent.iterdir()) == before
