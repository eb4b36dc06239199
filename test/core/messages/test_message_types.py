# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Message types beyond the standard packages, in bags."""

from __future__ import annotations

import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.message_types import add_types, find_layout

DEFINITIONS = {
    'my_msgs/msg/Row': 'std_msgs/Header header\nCell[] cells  # left to right\nCell[2] ends',
    'my_msgs/msg/Cell': 'uint8 FULL=1\nuint8 state\ngeometry_msgs/Point corner',
}


def test_a_type_and_those_it_is_made_of():
    store, asked = get_typestore(Stores.LATEST), []
    for _ in range(2):
        add_types(store, 'my_msgs/msg/Row', lambda name: asked.append(name) or DEFINITIONS[name])
    assert asked == ['my_msgs/msg/Row', 'my_msgs/msg/Cell']
    point = store.types['geometry_msgs/msg/Point'](1.0, 2.0, 3.0)
    cell = store.types['my_msgs/msg/Cell'](1, point)
    header = store.types['std_msgs/msg/Header'](
        store.types['builtin_interfaces/msg/Time'](4, 5), 'a'
    )
    row = store.types['my_msgs/msg/Row'](header, [cell], [cell, cell])
    read = store.deserialize_cdr(store.serialize_cdr(row, 'my_msgs/msg/Row'), 'my_msgs/msg/Row')
    assert read == row


def test_definitions_travel_in_the_bag(tmp_path):
    with CloudBagWriter(tmp_path / 'bag', DEFINITIONS.__getitem__) as writer:
        writer.write_serialized('/cell', 'my_msgs/msg/Cell', 7, bytes([0, 1, 0, 0, 1] + [0] * 31))
    with AnyReader([tmp_path / 'bag']) as reader:
        ((connection, time_ns, raw),) = reader.messages()
        assert (connection.topic, time_ns) == ('/cell', 7)
        assert reader.deserialize(raw, connection.msgtype).state == 1


def test_definition_that_is_none():
    with pytest.raises(DatasetError, match='my_msgs/msg/Cell is not readable'):
        add_types(get_typestore(Stores.LATEST), 'my_msgs/msg/Cell', lambda _: 'uint8[ state')


def test_part_without_a_definition(tmp_path):
    definitions = {'my_msgs/msg/Cell': 'Odd odd'}

    def find(name):
        if name not in definitions:
            raise DatasetError(f'no definition of {name}')
        return definitions[name]

    with (
        CloudBagWriter(tmp_path / 'bag', find) as writer,
        pytest.raises(DatasetError, match='no definition of my_msgs/msg/Odd'),
    ):
        writer.write_serialized('/cell', 'my_msgs/msg/Cell', 7, b'')


def test_detections_have_known_layouts():
    name = 'autoware_auto_perception_msgs/msg/Shape'
    assert find_layout(name) == find_layout('autoware_perception_msgs/msg/Shape')
    with pytest.raises(DatasetError, match='my_msgs/msg/Cell is unknown here and not in the bag'):
        find_layout('my_msgs/msg/Cell')
