# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller compare-sweeps`."""

from __future__ import annotations

import json
from pathlib import Path

from kitti_folder import write_frame, write_splits
import numpy as np
import pytest
from typer.testing import CliRunner

from pointdistiller_core.cli.app import app
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.messages.bags import CloudBagWriter

BOX = [10, 0, 0, 4, 2, 1.5, 0.3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames of the split train, one of them also of val."""
    root = tmp_path / 'data'
    for name, x in (('000003', 10), ('000007', 60)):
        write_frame(root, name, [[x, 0, 0, 0.5]], [BOX], ['Car'])
    write_splits(root, {'train': ['000003', '000007'], 'val': ['000003']})
    return root


def run(*arguments: object):
    words = ['compare-sweeps', *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_table_of_both(root):
    output = run(root, root, '--split', 'train', '--split', 'val').output
    row = next(line for line in output.splitlines() if 'beyond 50 m [%]' in line)
    assert [column.strip() for column in row.strip('│').split('│')][1:] == ['50', '0']


def test_json_of_both(root, tmp_path):
    run(root, root, '--max-frames', 1, '--class', 'Car', '--json', tmp_path / 'x.json')
    first, second = json.loads((tmp_path / 'x.json').read_text(encoding='utf-8'))
    assert first == second
    assert first['dataset'] == str(root)
    assert (first['split'], first['frames']) == ('train', 1)
    assert first['rows']['Car: a frame'] == 1
    assert first['rows']['road height [m]'] is None
    assert not [name for name in first['rows'] if name.startswith('Pedestrian')]


def test_a_bag_without_labels(root, tmp_path):
    points = np.array([[60, 0, 0, 0.5], [10, 0, 0, 0.5]], np.float32)
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/points', 1, 'velodyne', points)
    run(root, tmp_path / 'bag', '--json', tmp_path / 'x.json')
    _, bag = json.loads((tmp_path / 'x.json').read_text(encoding='utf-8'))
    assert bag['frames'] == 1
    assert bag['rows']['beyond 50 m [%]'] == 50
    assert bag['rows']['Car: a frame'] is None
    with pytest.raises(ConfigError, match='camera_view: unknown key'):
        run(tmp_path / 'bag', root, '--camera-view')


def test_one_clear_error(root):
    with pytest.raises(ConfigError, match='--split a, b, c: name one for both, or one for each'):
        run(root, root, *[word for name in 'abc' for word in ('--split', name)])
    with pytest.raises(DatasetError, match='no such file or folder'):
        run(root, root / 'nothing')
