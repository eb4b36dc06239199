# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Parameter tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from rclpy.node import Node
from rclpy.parameter import Parameter

from pointdistiller_core.errors import ConfigError
from pointdistiller_ros.parameters import (
    BagPlayerParameters,
    BagRecorderParameters,
    DetectorParameters,
    changed_parameters,
    declare_parameters,
    parameter,
)

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Wheel:
    size: float = parameter(0.5, 'of a wheel', range=(0.0, 1.0), changeable=True)
    kind: str = parameter('wide', 'of a wheel', choices=('wide', 'slim'))


@dataclass(frozen=True)
class Car:
    name: str = parameter('', 'a name')
    front: Wheel = Wheel()
    back: Wheel = Wheel(size=0.75)


@dataclass(frozen=True)
class Table:
    name: str = parameter('', 'a name', required=True)
    speed: float = parameter(1.0, 'a speed', range=(0.0, 2.0), changeable=True)
    count: int = parameter(3, 'a count', range=(1, 5))
    mode: str = parameter('slow', 'a mode', choices=('slow', 'fast'), changeable=True)
    words: tuple[str, ...] = parameter(('',), 'some words')


def declare(session, **values):
    node = session.add(partial(Node, 'node'), **values)
    return node, declare_parameters(node, Table)


def test_defaults_and_given_values(session):
    _, values = declare(session, name='x', count=5, words=['a', 'b'])
    assert values == Table(name='x', speed=1.0, count=5, mode='slow', words=['a', 'b'])


def test_tables_in_a_table_have_names_with_a_dot(session):
    node = session.add(partial(Node, 'node'), **{'front.kind': 'slim'})
    values = declare_parameters(node, Car)
    assert values == Car(front=Wheel(kind='slim'))
    assert node.get_parameter('back.size').value == 0.75
    assert node.describe_parameter('back.size').description == 'of a wheel'
    changed, answer = changed_parameters(values, [Parameter('back.size', value=0.25)])
    assert answer.successful
    assert changed == dataclasses.replace(values, back=Wheel(size=0.25))


def test_bad_value_in_a_table_in_a_table(session):
    with pytest.raises(ConfigError, match=r"parameter back\.kind is 'round'; choose from"):
        declare_parameters(session.add(partial(Node, 'node'), **{'back.kind': 'round'}), Car)


def test_descriptors_say_it_all(session):
    node, _ = declare(session, name='x')
    speed, count, mode = (node.describe_parameter(name) for name in ('speed', 'count', 'mode'))
    assert (speed.description, speed.read_only) == ('a speed', False)
    assert (count.description, count.read_only) == ('a count', True)
    assert mode.additional_constraints == 'one of slow, fast'
    (limits,) = speed.floating_point_range
    assert (limits.from_value, limits.to_value) == (0.0, 2.0)
    (limits,) = count.integer_range
    assert (limits.from_value, limits.to_value, limits.step) == (1, 5, 1)


@pytest.mark.parametrize(
    ('values', 'named'),
    [
        ({}, 'parameter name is empty; give it: a name'),
        ({'speed': 3.0}, r'parameter speed of node is 3\.0; give one from 0 to 2$'),
        ({'speed': 1}, "parameter speed .*'1' of type 'INTEGER', expecting type 'DOUBLE'"),
        ({'count': 6}, 'parameter count of node is 6; give one from 1 to 5$'),
        ({'name': 5}, 'parameter name .*INTEGER'),
        ({'mode': 'warp'}, r"parameter mode is 'warp'; choose from \['slow', 'fast'\]"),
    ],
)
def test_bad_values_are_named(session, values, named):
    with pytest.raises(ConfigError, match=named):
        declare(session, **({'name': 'x'} if values else {}) | values)


def test_changes():
    table = Table(name='x')
    changed, answer = changed_parameters(
        table, [Parameter('speed', value=2.0), Parameter('use_sim_time', value=True)]
    )
    assert answer.successful
    assert changed == dataclasses.replace(table, speed=2.0)
    assert table.speed == 1.0


def test_refused_changes_change_nothing():
    table = Table(name='x')
    changes = [Parameter('speed', value=2.0), Parameter('mode', value='warp')]
    changed, answer = changed_parameters(table, changes)
    assert changed is table
    assert not answer.successful
    assert answer.reason == "parameter mode is 'warp'; choose from ['slow', 'fast']"


@pytest.mark.parametrize('table', [DetectorParameters, BagPlayerParameters, BagRecorderParameters])
def test_every_parameter_is_described_and_numbers_have_a_range(table):
    for field in dataclasses.fields(table):
        if dataclasses.is_dataclass(field.default):
            test_every_parameter_is_described_and_numbers_have_a_range(type(field.default))
            continue
        assert field.metadata['description'], field.name
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            low, high = field.metadata['range']
            assert low <= field.default <= high, field.name


def test_shipped_yaml_holds_the_defaults():
    text = (ROOT / 'config' / 'nodes' / 'detector.yaml').read_text(encoding='utf-8')
    values = yaml.safe_load(text)['/**']['ros__parameters']
    expected = dataclasses.asdict(DetectorParameters())
    assert values == expected | {key: list(expected[key]) for key in ('points', 'ego_box')}
