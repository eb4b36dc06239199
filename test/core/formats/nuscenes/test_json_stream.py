# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Large JSON files a value at a time."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes import json_stream
from pointdistiller_core.formats.nuscenes.json_stream import JsonStream, open_json

VALUES = [
    {'a': [1, 2.5, -3e-7], 'b': 'ü "quoted" ]}'},
    {},
    [],
    'text',
    12,
    -0.5,
    None,
    True,
    [[{}]],
]


def stream_of(text: str) -> JsonStream:
    return JsonStream(io.StringIO(text), Path('some.json'))


def read_list(text: str) -> list[object]:
    stream = stream_of(text)
    values = list(stream.items())
    stream.end()
    return values


@pytest.fixture(params=[1, 3, 1000])
def chunk(request, monkeypatch) -> None:
    monkeypatch.setattr(json_stream, 'CHUNK', request.param)


@pytest.mark.usefixtures('chunk')
@pytest.mark.parametrize('indent', [None, 0, 2])
def test_values_of_a_list(indent):
    assert read_list(json.dumps(VALUES, indent=indent)) == VALUES


@pytest.mark.usefixtures('chunk')
def test_members_of_an_object():
    values = {f'key {number}': value for number, value in enumerate(VALUES)}
    stream = stream_of(f' {json.dumps(values)}\n')
    assert {key: stream.value() for key in stream.members()} == values
    stream.end()


@pytest.mark.usefixtures('chunk')
@pytest.mark.parametrize('text', ['[]', '[ \n]'])
def test_an_empty_list(text):
    assert read_list(text) == []


@pytest.mark.usefixtures('chunk')
@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', r'at character 0: expected \['),
        ('{}', r'at character 0: expected \['),
        ('[1 2]', 'at character 3: expected ,'),
        ('[{"a": 1}', 'at character 9: expected ,'),
        ('[{"a": }]', 'malformed at character 7: Expecting value'),
        ('[[' * 100_000, 'nested too deeply'),
        ('[{"a": 1', 'malformed at character'),
        ('[tru]', 'malformed at character 1'),
        ('[1]]', 'at character 3: expected the end'),
    ],
)
def test_what_is_malformed(text, message):
    with pytest.raises(DatasetError, match=rf'some\.json: .*{message}'):
        read_list(text)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DatasetError, match=r'no\.json: no such file'):
        open_json(tmp_path / 'no.json')
    with pytest.raises(DatasetError, match='cannot be read: Is a directory'):
        open_json(tmp_path)
    (tmp_path / 'latin.json').write_bytes(b'["\xfc"]')
    with (
        open_json(tmp_path / 'latin.json') as text,
        pytest.raises(DatasetError, match=r'latin\.json: cannot be read'),
    ):
        list(JsonStream(text, tmp_path / 'latin.json').items())
